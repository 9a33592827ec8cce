"""What a stranger's least costs a peer, and what an honest peer's most comes to: the figures behind the limits of
connections and of frames (`limits`, `yamux`). Two processes on loopback; CPU is of the peer that is attacked, alone.

    python benchmarks/wire_costs.py [--count 300] [--seconds 10] [--json]

"handshake": a connection whose identity is proved, and that ends then; "hello": that also says hello. "stream": opened
and reset in one go. "frame": 12 bytes that say nothing, in packets of many. "circuit": asked for at a relay, given, and
ended at once. "busy": frames a second that no KiB pays for, opening a stream counted as ten of them, of an honest peer
that asks, sends and gossips at all its limits at once, each message in a packet of its own; the other does the same.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import trio
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, PeerId, Status
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID as HOP
from libp2p.relay.circuit_v2.utils import read_delimited_msg, write_delimited_msg
from transport_kinds import GENESIS_HASH

from flock_chain.crypto import Account, Key
from flock_chain.errors import Unavailable
from flock_peers.network import relay_places, yamux
from flock_peers.network.hello import HELLO, VERSION, Hello
from flock_peers.network.host import Host, open_host
from flock_peers.network.identity import parse_address, peer_id_of
from flock_peers.network.limits import Limits, TokenBucket
from flock_peers.network.link import Link
from flock_peers.network.stack import Stack
from flock_peers.network.yamux import Muxer
from flock_peers.network.yamux_frame import RST, SYN, WINDOW, pack_header

LISTEN = ("127.0.0.1", 0)
MESSAGES, QUESTIONS, TOPIC = "/benchmark/messages/1", "/benchmark/questions/1", "benchmark"
PAYLOAD = bytes(200)  # about a vote
OPEN = replace(Limits(), accept_rate=1e9, accept_burst=1e9, accept_rate_of_all=1e9, accept_burst_of_all=1e9)
Work = Callable[[Stack, str, int], Awaitable[None]]


class Charges:
    """Adds up what is charged to connections, and holds up none."""

    def __init__(self) -> None:
        self.total = 0
        yamux.FRAMES_PER_SECOND = yamux.FRAMES_AT_ONCE = 1e12
        self._charge = Muxer._charge
        setattr(Muxer, "_charge", lambda muxer, frames: self._add(muxer, frames))  # noqa: B010 - mypy binds it anew

    def _add(self, muxer: Muxer, frames: TokenBucket) -> float:
        below = muxer.session.below
        traffic = (below.bytes_in + below.bytes_out) // yamux._PAID_BYTES
        self.total += max(0, muxer._cost - (traffic - muxer._traffic))
        return self._charge(muxer, frames)


def _key(number: int) -> Key:
    return Key((2_000 + number).to_bytes(32, "big"))


def _follow(host: Host) -> list[int]:
    """Counts what comes of others: messages, questions and gossip."""
    came = [0, 0, 0]

    async def take(_account: Account, _payload: bytes) -> None:
        came[0] += 1

    async def answer(_account: Account, payload: bytes) -> bytes:
        came[1] += 1
        return payload

    async def hear(account: Account, _payload: bytes) -> None:
        came[2] += account != host.account

    host.on_message(MESSAGES, take)
    host.on_request(QUESTIONS, answer)
    host.subscribe(TOPIC, lambda _account, _payload: True, hear)
    return came


async def _talk(host: Host, other: Account) -> None:
    """At all limits at once, evenly."""
    x, start, counts = host.limits, trio.current_time(), [0, 0, 0]

    async def ask() -> None:
        with suppress(Unavailable):  # at the end, when the other one has gone
            await host.request(other, QUESTIONS, PAYLOAD)

    async with trio.open_nursery() as nursery:
        while True:
            passed = trio.current_time() - start
            for kind, rate in enumerate((x.request_rate, x.message_rate, 0.8 * x.gossip_rate)):  # more it never sends
                if counts[kind] < passed * rate:
                    counts[kind] += 1
                    if kind == 0:
                        nursery.start_soon(ask)
                    elif kind == 1:
                        host.send(other, MESSAGES, PAYLOAD)
                    else:
                        host.publish(TOPIC, b"%d" % counts[kind] + PAYLOAD)
            await trio.sleep(0.001)


async def _serve() -> None:
    """Says where it listens; then for each line that comes in its CPU seconds, what was charged to its peers, and what
    came of them."""
    charges = Charges()
    relay_places.HOP_STREAMS_PER_MINUTE = relay_places.HOP_STREAMS_PER_MINUTE_OF_NETWORK = 10**9
    async with open_host(_key(0), LISTEN, GENESIS_HASH, OPEN, is_relay=True) as host, trio.open_nursery() as nursery:
        came = _follow(host)
        print(host.address, flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            if line.strip() == "talk":
                nursery.start_soon(_talk, host, host.connected()[0])
            print(json.dumps([time.process_time(), charges.total, *came]), flush=True)
        nursery.cancel_scope.cancel()


class Server:
    def __init__(self) -> None:
        command = [sys.executable, __file__, "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self._read().strip()

    def _read(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("the server ended")
        return line

    def tell(self, word: str = "") -> list[float]:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._read()))

    def stop(self) -> None:
        self._process.communicate("")


async def _dial(stack: Stack, address: str, *, hello: bool) -> Link:
    link = await stack.dial(parse_address(address))
    if hello:
        stream = await link.open(HELLO)
        await stream.write_frame(Hello(VERSION, GENESIS_HASH, bytes(32), ()).encode())
        assert await stream.read_frame(4_096, 30) is not None
        await stream.close()
    return link


async def shake_hands(stack: Stack, address: str, count: int) -> None:
    for _ in range(count):
        (await _dial(stack, address, hello=False)).abort()
        await trio.sleep(0.005)  # until the other side has seen the end


async def say_hello(stack: Stack, address: str, count: int) -> None:
    for _ in range(count):
        (await _dial(stack, address, hello=True)).abort()
        await trio.sleep(0.005)


async def _put(link: Link, data: bytes) -> None:
    muxed = link.swarm_conn.muxed_conn
    while muxed.outgoing.control_bytes > 128 << 10:
        await trio.sleep(0.001)
    muxed.outgoing.add_control(data)
    muxed.wake_writer()


async def open_and_reset(stack: Stack, address: str, count: int) -> None:
    """No more at once than are taken."""
    link = await _dial(stack, address, hello=True)
    for number in range(1_001, 1_001 + 2 * count, 2):
        await _put(link, pack_header(WINDOW, SYN, number, 0) + pack_header(WINDOW, RST, number, 0))
        if number % 32 == 1:
            await trio.sleep(0.01)
    await trio.sleep(0.5)
    link.abort()


async def say_nothing(stack: Stack, address: str, count: int) -> None:
    link = await _dial(stack, address, hello=True)
    for _ in range(count // 1_000):
        await _put(link, pack_header(WINDOW, 0, 9_999, 0) * 1_000)
    await trio.sleep(0.5)
    link.abort()


async def be_busy(server: Server, seconds: float) -> dict[str, float]:
    """A second: frames that were charged, and what came."""
    async with open_host(_key(1), LISTEN, GENESIS_HASH) as host, trio.open_nursery() as nursery:
        _follow(host)
        other = await host.connect(server.address)
        await trio.sleep(2)  # they know of each other's topics
        server.tell("talk")
        nursery.start_soon(_talk, host, other)
        await trio.sleep(2)
        before, start = server.tell(), time.perf_counter()
        await trio.sleep(seconds)
        after, end = server.tell(), time.perf_counter()
        nursery.cancel_scope.cancel()
    rates = [(new - old) / (end - start) for new, old in zip(after, before, strict=True)]
    return dict(zip(("busy", "messages", "questions", "gossip"), rates[1:], strict=True))


async def ask_for_circuits(stack: Stack, address: str, count: int) -> None:
    async with open_host(_key(3), LISTEN, GENESIS_HASH, OPEN, via=[address]) as hidden:
        while "p2p-circuit" not in hidden.address:
            await trio.sleep(0.01)
        link = await _dial(stack, address, hello=True)
        request = HopMessage(type=HopMessage.CONNECT, peer=PeerId(id=peer_id_of(_key(3)).to_bytes()))
        for _ in range(count):
            stream = await link.open_net_stream(str(HOP))
            await write_delimited_msg(stream, request)
            assert (await read_delimited_msg(stream, HopMessage)).status == Status.OK
            await stream.reset()
            await trio.sleep(0.005)
        link.abort()


KINDS: dict[str, tuple[Work, int]] = {  # and how many of it, for one of `--count`
    "handshake": (shake_hands, 1),
    "hello": (say_hello, 1),
    "stream": (open_and_reset, 10),
    "frame": (say_nothing, 1_000),
    "circuit": (ask_for_circuits, 1),
}


async def _measure(server: Server, work: Work, count: int) -> float:
    """Microseconds of the other side's CPU for one."""

    async def on_link(link: Link) -> None:
        await link.closed.wait()

    stack = Stack(_key(2), OPEN, announce=[], protocols={}, open_protocols=frozenset(), on_link=on_link)
    async with stack.run(None):
        await work(stack, server.address, max(1, count // 10))  # what is done once, is done
        before = server.tell()[0]
        await work(stack, server.address, count)
        after = server.tell()[0]
    return (after - before) / count * 1e6


async def _run(options: argparse.Namespace) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        server = Server()
        stack.callback(server.stop)
        rows = {name: await _measure(server, work, times * options.count) for name, (work, times) in KINDS.items()}
        return rows | await be_busy(server, options.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(_serve)
        return
    rows = trio.run(_run, options)
    if options.json:
        print(json.dumps(rows))
        return
    for name in KINDS:
        print(f"{name}: {rows[name]:.1f} us of a core")
    said = ", ".join(f"{rows[name]:.0f} {name}" for name in ("messages", "questions", "gossip"))
    print(f"busy: {rows['busy']:.0f} frames a second, with {said}")


if __name__ == "__main__":
    main()
