"""Circuits to one place: who says nothing in them, or has many, keeps nobody out who comes through the same relay."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, PeerId, Status
from libp2p.relay.circuit_v2.protocol import STOP_PROTOCOL_ID
from libp2p.relay.circuit_v2.utils import read_delimited_msg, write_delimited_msg
from network_support import GENESIS_HASH, LOOPBACK, QUICK, in_trio, key, open_attacker, wait_until
from relay_support import HOP, LONELY, ask, library_of, link_from

from flock_chain.errors import InvalidRemote
from flock_peers.network.host import open_host
from flock_peers.network.identity import peer_id_of
from flock_peers.network.link import Link
from flock_peers.network.relay import CIRCUITS, RELAY_LIMITS, _Circuit
from flock_peers.network.relay_places import (
    GREETING_BYTES,
    HOP_STREAMS_AT_ONCE,
    PATIENCE_SECONDS,
    QUIET_AT_ONCE,
    QUIET_SECONDS,
    SURE_SECONDS,
    CircuitPlaces,
)
from flock_peers.network.stack import Stack

TARGET = b"the hidden one"


class Way:
    """A circuit: its stream, and who is told from whom."""

    is_over = False

    def give_way(self, _reason: str) -> None:
        self.is_over = True


class Relay:
    """Circuits to one place, on a clock of the test's own. `is_slow`: whoever has it answers when the test says so."""

    def __init__(self, needed: frozenset[bytes] = frozenset(), *, is_slow: bool = False) -> None:
        self.now, self.is_slow = 0.0, is_slow
        self.places = CircuitPlaces(CIRCUITS, lambda: self.now, needed.__contains__)
        self.open = ExitStack()
        self.named: list[str] = []

    def lend(self, host: str, number: int, said: int = 0) -> Way | None:
        way = Way()
        tell = lambda link, _why: self.named.append(link.remote_host)  # noqa: E731
        lent = self.open.enter_context(self.places.take(TARGET, link_from(host, number), way, tell))
        if not self.is_slow:
            self.places.note_heard(way)
        self.places.note_said(way, said)
        return way if lent is not None else None


def test_of_silent_circuits_one_of_the_network_that_has_the_most_gives_way_to_who_has_fewer() -> None:
    relay = Relay()
    crowd = [relay.lend("8.8.8.8", number) for number in range(1, QUIET_AT_ONCE + 1)]
    assert all(crowd) and relay.lend("8.8.8.9", 50) is None, "no better than before"
    honest = relay.lend("1.1.1.1", 90)
    assert honest is not None and crowd[-1] is not None and crowd[-1].is_over and relay.named == ["8.8.8.8"]
    relay.now = 1.9
    assert not any(relay.lend("8.8.8.8", number) for number in range(60, 160)) and not honest.is_over


def test_who_is_silent_from_many_networks_gives_way_after_a_while_and_not_who_has_said_hello() -> None:
    relay = Relay()
    honest = relay.lend("1.1.1.1", 90, GREETING_BYTES)
    crowd = [relay.lend(f"8.8.{number}.8", number) for number in range(1, QUIET_AT_ONCE + 1)]
    assert relay.lend("1.1.2.1", 91) is None
    relay.now = QUIET_SECONDS
    assert relay.lend("1.1.2.1", 91) is not None
    assert [way.is_over for way in [honest, *crowd] if way] == [False, True] + [False] * 7


def test_of_circuits_that_are_in_use_one_gives_way_to_who_has_fewer_or_is_needed_and_to_nobody_else() -> None:
    relay = Relay(frozenset([key(92).account]))
    honest = relay.lend("1.1.1.1", 90, GREETING_BYTES)
    crowd = [relay.lend(f"8.8.{number // 2}.8", number, GREETING_BYTES) for number in range(1, CIRCUITS)]
    relay.now = SURE_SECONDS
    assert all(crowd) and relay.lend("8.8.1.8", 70, GREETING_BYTES) is None
    for number in range(7):
        assert relay.lend(f"1.2.{number}.1", 100 + number, GREETING_BYTES) is not None, "of a network that has two"
    assert relay.lend("1.3.1.1", 91) is None, "each has one"
    assert relay.lend("8.8.1.8", 92) is not None, "needed"
    assert honest is not None and not honest.is_over
    assert [way.is_over for way in crowd if way] == [False] + [False, True] * 7
    relay.open.close()
    assert not relay.places._lent and not relay.places._ways


def test_no_circuit_of_who_is_needed_gives_way_to_a_stranger() -> None:
    relay = Relay(frozenset(key(number).account for number in range(1, CIRCUITS + 1)))
    held = [relay.lend("8.8.8.8", number, GREETING_BYTES) for number in range(1, CIRCUITS + 1)]
    assert all(held) and relay.lend("1.1.1.1", 90) is None


# Where that one is slow


def test_who_waits_for_a_slow_answer_keeps_its_circuit_and_who_then_says_nothing_does_not() -> None:
    """The time ran from when a circuit was asked for: of a slow one everybody's was over before he could speak."""
    relay = Relay(is_slow=True)
    ways = [relay.lend(f"1.{number}.1.1", number) for number in range(1, QUIET_AT_ONCE + 1)]
    relay.now = 3.0
    assert relay.lend("2.1.1.1", 50) is None, "nobody could speak yet"
    for way in ways:
        assert way is not None
        relay.places.note_heard(way)  # it agrees, after three seconds
    for way in ways[:2]:
        assert way is not None
        relay.places.note_said(way, 100)
    relay.now = 3.0 + QUIET_SECONDS + 2.9
    assert relay.lend("2.1.1.1", 50) is None, "its answer may take as long"
    assert ways[0] is not None
    relay.places.note_heard(ways[0])
    relay.now = 3.0 + QUIET_SECONDS + 3.0
    assert [relay.lend(f"2.{number}.1.1", 50 + number) is not None for number in range(6)] == [True] * 6
    assert [way.is_over for way in ways if way] == [False, False] + [True] * 6, "first those whose turn it was"


def test_a_circuit_that_nobody_answers_is_given_to_another_one_when_no_dialer_waits_any_more() -> None:
    relay = Relay(is_slow=True)
    ways = [relay.lend(f"1.{number}.1.1", number) for number in range(1, QUIET_AT_ONCE + 1)]
    relay.now = QUIET_SECONDS + PATIENCE_SECONDS - 0.1
    assert relay.lend("2.1.1.1", 50) is None
    relay.now = QUIET_SECONDS + PATIENCE_SECONDS
    assert relay.lend("2.1.1.1", 50) is not None and ways[0] is not None and ways[0].is_over


def test_a_silent_stranger_who_goes_on_speaking_byte_by_byte_has_no_longer_time() -> None:
    relay = Relay()
    ways = [relay.lend(f"8.8.{number}.1", number) for number in range(1, QUIET_AT_ONCE + 1)]
    for tenth in range(1, 20):
        relay.now = tenth / 10
        for way in ways:
            assert way is not None
            relay.places.note_said(way, 1)
    relay.now = QUIET_SECONDS
    assert relay.lend("2.1.1.1", 50) is not None


# At whom they are lent to


class FromRelay:
    """A stream of a relay's, at the peer that it serves; says nothing, or ends at once."""

    def __init__(self, *, is_silent: bool = False) -> None:
        self.is_silent, self.is_over = is_silent, False
        link = Link(peer_id_of(key(1)), SimpleNamespace(closed=trio.Event(), remote=None), QUICK, outbound=True)  # type: ignore[arg-type]
        self.muxed_conn = SimpleNamespace(link=link)
        self.muxed_stream = SimpleNamespace(carry_circuit=lambda: None)

    async def read(self, _most: int = 0) -> bytes:
        await (trio.sleep_forever() if self.is_silent else trio.lowlevel.checkpoint())
        return b""

    async def write(self, _data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        self.is_over = True

    reset = close


@asynccontextmanager
async def serve_circuits() -> AsyncIterator[_Circuit]:
    """Of a peer without a place for any connection."""

    async def on_link(_link: Link) -> None:
        pass

    limits = replace(QUICK, max_inbound_per_ip=0)
    stack = Stack(key(2), limits, announce=[], protocols={}, open_protocols=frozenset(), on_link=on_link)
    async with stack.run(None):
        yield _Circuit(stack, allow_hop=False, is_own_relay=lambda _who: True, is_favoured=lambda _who: False)


@in_trio()
async def test_a_relay_has_so_many_circuits_at_once_to_a_peer_and_each_is_given_back() -> None:
    most = RELAY_LIMITS.max_circuit_conns
    async with serve_circuits() as circuits, trio.open_nursery() as nursery:
        for _ in range(most + 1):
            await circuits._handle_stop_stream(stream := FromRelay())
            assert stream.muxed_conn.link.streams_in == 0
        for _ in range(most):
            nursery.start_soon(circuits._handle_stop_stream, FromRelay(is_silent=True))
        await trio.testing.wait_all_tasks_blocked()
        refused = ""
        try:
            await circuits._handle_stop_stream(FromRelay())
        except InvalidRemote as error:
            refused = str(error)
        nursery.cancel_scope.cancel()
    assert refused == f"more than {most} circuits at once to this peer"


@in_trio()
async def test_whom_a_relay_names_is_told_with_the_relay_whatever_it_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    relay = f"relayed by 0x{key(1).account.hex()}, circuit of"
    async with serve_circuits() as circuits:
        for said in (b"nobody", b"x" * 1_000, peer_id_of(key(3)).to_bytes()):
            await circuits.handle_incoming_connection(FromRelay(), said)
    assert f"{relay} the peer {b'nobody'.hex()}: refused" in caplog.text
    assert f"{relay} the peer {(b'x' * 40).hex()}: refused" in caplog.text
    assert f"{relay} 0x{key(3).account.hex()}: refused" in caplog.text


@in_trio()
async def test_silent_strangers_behind_a_relay_keep_out_nobody_and_are_named_not_the_relay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They took the relay's sixteen streams, it was named for them, and who came then got in half of the time."""
    caplog.set_level("INFO")
    connect = HopMessage(type=HopMessage.CONNECT, peer=PeerId(id=peer_id_of(key(2)).to_bytes()))
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True))
        hidden = await stack.enter_async_context(
            open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[relay.address])
        )  # fmt: skip
        await wait_until(lambda: "p2p-circuit" in hidden.address)
        for number in (66, 67, 68):
            crowd = await stack.enter_async_context(open_attacker(number, relay, source="127.0.0.66"))
            for _ in range(HOP_STREAMS_AT_ONCE):
                stream = await crowd.open_net_stream(HOP)
                assert await ask(stream, connect) == (
                    Status.OK if number == 66 else Status.RESOURCE_LIMIT_EXCEEDED
                )  # fmt: skip
        caller = await stack.enter_async_context(open_host(key(3), LOOPBACK, GENESIS_HASH, LONELY))
        assert await caller.connect(hidden.address) == hidden.account
        assert f"0x{key(66).account.hex()} at 127.0.0.66: a circuit that says nothing gives way" in caplog.text
        await wait_until(lambda: f"circuit of 0x{key(66).account.hex()}: handshake failed" in caplog.text)
        (lent,) = (x for x in library_of(relay)._lent._ways.values() if x.dialer.account == caller.account)
        await wait_until(lambda: lent.said >= GREETING_BYTES)  # so it gives way to no silent one
        link = hidden._table.newest_link(relay.account)
        assert link is not None and link.streams_in <= 2 and "streams at once" not in caplog.text
        assert hidden.is_connected(caller.account) and hidden.is_connected(relay.account)
        assert await hidden.request(relay.account, "/flock/peers/1", b"") is not None


@in_trio()
async def test_a_running_relay_sees_when_a_slow_peer_agrees_to_a_circuit_and_when_it_answers_in_it() -> None:
    """The clock of the circuits is the test's."""
    connect, now = HopMessage(type=HopMessage.CONNECT, peer=PeerId(id=peer_id_of(key(2)).to_bytes())), [0.0]
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True))
        library_of(relay)._lent = lent = CircuitPlaces(CIRCUITS, lambda: now[0], lambda _who: False)
        hidden = await stack.enter_async_context(
            open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[relay.address])
        )  # fmt: skip
        await wait_until(lambda: "p2p-circuit" in hidden.address)
        asked, agrees = trio.Event(), trio.Event()

        async def agree_late(stream: Any) -> None:
            asked.set()
            await agrees.wait()
            await library_of(hidden)._handle_stop_stream(stream)

        assert hidden._stack is not None
        hidden._stack.host.set_stream_handler(STOP_PROTOCOL_ID, agree_late)
        caller = await stack.enter_async_context(open_attacker(66, relay))
        stream = await caller.open_net_stream(HOP)
        await write_delimited_msg(stream, connect)
        await asked.wait()
        (circuit,) = lent._ways.values()
        assert circuit.agreed_after is None
        now[0] = 3.0
        agrees.set()
        assert (await read_delimited_msg(stream, HopMessage)).status == Status.OK
        assert (circuit.agreed_after, circuit.heard) == (3.0, 3.0)
        now[0] = 4.0
        await stream.write(b"\x13/multistream/1.0.0\n\x06/none\n")
        await wait_until(lambda: circuit.said and not circuit.is_answer_due)
        assert (circuit.agreed_after, circuit.heard) == (3.0, 4.0)


@in_trio()
async def test_circuits_that_have_given_way_and_did_not_end_yet_keep_nobody_out() -> None:
    """The library counts each until both of its directions have ended."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True))
        hidden = await stack.enter_async_context(
            open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[relay.address])
        )  # fmt: skip
        await wait_until(lambda: "p2p-circuit" in hidden.address)
        library_of(relay).resource_manager.get_reservation(peer_id_of(key(2))).active_connections = CIRCUITS
        caller = await stack.enter_async_context(open_host(key(3), LOOPBACK, GENESIS_HASH, LONELY))
        assert await caller.connect(hidden.address) == hidden.account
