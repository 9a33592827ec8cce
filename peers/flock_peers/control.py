"""Local control of a running peer: one JSON line in, one JSON line out, over a Unix socket in its home.

Only the home's owner can open the socket (mode 0600). Knows no method's meaning.
"""

import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from flock_chain.bounded_json import loads
from flock_chain.errors import FlockError, Misuse, Unavailable
from flock_peers.declined import Declined, name_kind

log = logging.getLogger(__name__)

CONTROL_VERSION = 1
MAX_LINE_BYTES = 1 << 20  # a status with the longest log of a demo takes a few hundred KB
MAX_DEPTH = 8  # of a request: parameters, terms, and room to grow
BACKLOG = 64  # commands that wait while the peer's loop is busy; the next ones wait in the kernel, see _connect
REQUEST_SECONDS = 30.0  # a view on a busy machine; longer work answers at once and is watched by status


Method = Callable[[Mapping[str, Any]], Awaitable[Any]]


def encode_request(method: str, params: Mapping[str, Any]) -> bytes:
    return json.dumps({"version": CONTROL_VERSION, "method": method, "params": params}).encode() + b"\n"


def encode_answer(answer: Mapping[str, Any]) -> bytes:
    """`answer`: a `result`, or an `error` in words and its `kind`."""
    return json.dumps(answer).encode() + b"\n"


async def serve_control(path: Path, methods: Mapping[str, Method], task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled. Whoever holds the home's lock owns the socket, so a leftover one is removed.

    A socket's file is there before anybody listens: it gets its name only then, so who sees the name can connect."""
    path.unlink(missing_ok=True)
    unnamed = path.with_suffix(".new")  # no longer than the name: the system bounds a socket's path
    unnamed.unlink(missing_ok=True)
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        await listener.bind(str(unnamed))
        unnamed.chmod(0o600)  # before anybody listens; a umask is of all threads, and new folders could not be entered
        listener.listen(BACKLOG)
        unnamed.rename(path)
        task_status.started()
        try:
            await trio.serve_listeners(_handler(methods), [trio.SocketListener(listener)])
        finally:
            path.unlink(missing_ok=True)


def _handler(methods: Mapping[str, Method]) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def handle(stream: trio.SocketStream) -> None:
        try:
            with trio.move_on_after(REQUEST_SECONDS):
                answer = await _answer(methods, loads(await _read_line(stream), depth=MAX_DEPTH))
                await stream.send_all(encode_answer(answer))
        except (trio.BrokenResourceError, trio.ClosedResourceError, ValueError) as error:
            log.debug("control: %s", error)
        except Exception:
            log.exception("control: a request failed")
        finally:
            await stream.aclose()

    return handle


async def _answer(methods: Mapping[str, Method], request: Any) -> dict[str, Any]:
    request = request if isinstance(request, dict) else {}
    if request.get("version") != CONTROL_VERSION:
        return {"error": f"control version {request.get('version')!r:.20}, the running peer speaks {CONTROL_VERSION}"}
    name = request.get("method")
    if not isinstance(name, str) or name not in methods:
        return {"error": f"no method {name!r}", "kind": Misuse.__name__}
    parameters = request.get("params") or {}
    if not isinstance(parameters, dict):
        return {"error": f"{name}: bad parameters: not an object", "kind": Misuse.__name__}
    try:
        return {"result": await methods[name](parameters)}
    except FlockError as error:
        return {"error": str(error), "kind": name_kind(error)}
    except (KeyError, TypeError, ValueError) as error:
        return {"error": f"{name}: bad parameters: {error!r}", "kind": Misuse.__name__}
    except Exception as error:
        log.exception("control: %s failed", name)
        return {"error": f"{name}: {error!r}; see the log"}


async def _read_line(stream: trio.SocketStream) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        part = await stream.receive_some(65536)
        if not part or len(line) + len(part) > MAX_LINE_BYTES:
            raise ValueError("control: no complete line")
        line += part
    return bytes(line)


def request_control(path: Path, method: str, timeout: float = REQUEST_SECONDS, **params: Any) -> Any:
    """Ask a running peer from another process (no trio needed); raises Unavailable where none runs, Declined where it
    says no."""
    try:
        found = path.stat()
        if not stat.S_ISSOCK(found.st_mode):
            raise Unavailable(f"{path} is no socket")
        if found.st_uid != os.getuid():  # one of a long home lies where others can put one of the same name
            raise Unavailable(f"{path} is another user's; ask as the user whose peer it is")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            _connect(client, path, timeout)
            client.sendall(encode_request(method, params))
            with client.makefile("rb") as reader:
                if not (line := reader.readline(MAX_LINE_BYTES)):
                    raise Unavailable(f"the peer at {path.parent} ended before it answered")
                answer = json.loads(line)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise Unavailable(
            f"no peer answers at {path}: none runs with this home; start it (`python -m flock_p2p join --home ...`)"
        ) from error
    except BlockingIOError as error:
        raise Unavailable(
            f"the peer at {path.parent} is busy: more than {BACKLOG} commands wait for it already; try again"
        ) from error
    except (OSError, ValueError) as error:
        raise Unavailable(f"no peer answers at {path.parent}: {error}") from error
    if "error" in answer:
        raise Declined(answer["error"], str(answer.get("kind")))
    return answer["result"]


def _connect(client: socket.socket, path: Path, seconds: float) -> None:
    """Where so many wait already that the queue is full, wait for a place; raises BlockingIOError where none comes.

    A socket with a timeout of Python's does not wait: it is told at once that the queue is full.
    """
    whole = int(seconds)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", whole, int((seconds - whole) * 1e6)))
    client.settimeout(None)
    client.connect(str(path))
    client.settimeout(seconds)
