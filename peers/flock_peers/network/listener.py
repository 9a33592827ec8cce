"""The listening socket. Opened by us, without SO_REUSEPORT, so that a port that is taken is an error with advice."""

import errno
import socket

import trio

from flock_chain.errors import Unavailable

_BACKLOG = 128
_PROBE_SECONDS = 1.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


async def open_listener(host: str, port: int) -> trio.SocketListener:
    """Port 0: any free one. Raises Unavailable naming the port and what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port and await _somebody_answers(_ANY.get(host, host), port):
        # A socket with SO_REUSEPORT, or one on another address of this machine, would share the port in silence.
        raise _port_taken(host, port)
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for TIME_WAIT
        await sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise _port_taken(host, port) from error
        raise Unavailable(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    return trio.SocketListener(sock)


async def check_listener(host: str, port: int) -> None:
    """Raises what `open_listener` would raise now, and listens to nobody."""
    (await open_listener(host, port)).socket.close()


def _port_taken(host: str, port: int) -> Unavailable:
    return Unavailable(
        f"port {port} on {host} is taken: another program (or another peer) listens there; "
        "stop it or choose another port"
    )


async def _somebody_answers(host: str, port: int) -> bool:
    with trio.move_on_after(_PROBE_SECONDS):
        try:
            stream = await trio.open_tcp_stream(host, port)
        except OSError:
            return False
        await stream.aclose()
        return True
    return False
