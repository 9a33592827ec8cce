"""What waits for a driver that cannot go on, on a slow disk for one: bounded in bytes, over all peers together."""

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from consensus_support import real_key
from driver_support import Cluster, on_mock_clock

from flock_chain.crypto import Account
from flock_peers.driver.inbox import INBOX_INPUTS, Inbox, Packet
from flock_peers.driver.room import ALL_BYTES, PEER_BYTES, SMALL_BYTES, Room
from flock_peers.network.complaints import Tolerance
from flock_peers.ports import INBOX_MESSAGES, HostConsensus

MIB = 1 << 20
PEERS = [Account(bytes([number]) * 20) for number in range(1, 61)]
VALIDATORS = PEERS[::4]


def test_large_messages_of_one_peer_and_of_all_have_so_much_room_and_leave_as_much_as_they_took() -> None:
    room = Room()
    liars, leader = PEERS[:4], PEERS[-1]
    taken = [account for account in liars for _ in range(5) if room.take(account, MIB)]
    assert len(taken) * MIB == ALL_BYTES == room.total
    assert {taken.count(account) * MIB for account in taken} == {PEER_BYTES}
    assert room.take(liars[0], SMALL_BYTES) and room.total == ALL_BYTES
    assert room.take(leader, MIB) and not room.take(leader, SMALL_BYTES + 1)  # its first, whoever else lies
    for account in [*taken, leader]:
        room.give_back(account, MIB)
    room.give_back(liars[0], SMALL_BYTES)
    assert room.total == 0 and room.take(leader, PEER_BYTES) and not room.take(leader, SMALL_BYTES + 1)


class Wire:
    """A host on which messages only arrive."""

    def __init__(self) -> None:
        self.tallied: Counter[Account] = Counter()

    def tally(self, account: Account, _tolerance: Tolerance, _reason: str, count: int) -> None:
        self.tallied[account] += count

    def on_message(self, _protocol: str, handler: Callable[[Account, bytes], Awaitable[None]]) -> None:
        self.arrive = handler


@on_mock_clock
async def test_a_flood_of_many_peers_holds_little_keeps_out_no_vote_and_no_proposal_and_passes() -> None:
    wire: Any = Wire()
    port = HostConsensus(wire)
    await wire.arrive(PEERS[0], bytes(MIB))  # nobody reads yet, so nobody knows who is a validator
    assert port._send.statistics().current_buffer_used == 0
    assert wire.tallied == {PEERS[0]: 17}  # by its bytes, too
    heard: list[tuple[Account, int]] = []
    goes_on = trio.Event()

    async def read() -> None:
        async for account, payload in port.messages(lambda account, size: account in VALIDATORS or size <= 64):
            heard.append((account, len(payload)))
            await goes_on.wait()  # as for a slow disk

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wire.arrive(VALIDATORS[0], b"first")
        await trio.sleep(1)
        for _ in range(50):
            for account in PEERS:  # of which three in four are strangers
                await wire.arrive(account, bytes(MIB))  # at once: no stream waits, and none holds its megabyte
        for account in PEERS:
            await wire.arrive(account, b"vote")
        await wire.arrive(PEERS[1], bytes(65))
        proposals = port._room.total // MIB
        assert proposals == len(VALIDATORS)  # each has one, and room for no second is left
        assert port._send.statistics().current_buffer_used == proposals + len(PEERS)
        goes_on.set()
        await trio.sleep(1)
        assert port._room.total == 0 and len(heard) == 1 + proposals + len(PEERS)
        assert heard[1:] == [(account, MIB) for account in VALIDATORS] + [(account, 4) for account in PEERS]
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_small_messages_are_bounded_by_their_number_and_their_streams_wait() -> None:
    wire: Any = Wire()
    port = HostConsensus(wire)
    for _ in range(INBOX_MESSAGES):
        await wire.arrive(PEERS[0], bytes(SMALL_BYTES))
    with trio.move_on_after(5) as scope:
        await wire.arrive(PEERS[2], b"vote")
    assert scope.cancelled_caught
    port._is_heard = lambda _account, _size: True
    with trio.move_on_after(5) as scope:
        await wire.arrive(PEERS[1], bytes(MIB))  # it has room for its bytes, and its turn comes
    assert scope.cancelled_caught and port._room.total == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.arrive, PEERS[1], bytes(MIB))
        await trio.sleep(1)
        assert port._room.total == MIB
        heard = 0
        async for _, payload in port.messages(lambda _account, _size: True):
            heard += 1
            if len(payload) == MIB:
                break
    assert heard == INBOX_MESSAGES + 1 and port._room.total == 0


@on_mock_clock
async def test_an_inbox_that_nobody_reads_holds_as_little() -> None:
    inbox = Inbox()
    for _ in range(20):
        for account in VALIDATORS[:6]:
            await inbox.put_packet(Packet(account, bytes(MIB)))
    await inbox.put_packet(Packet(PEERS[-1], b"vote"))
    found = await inbox.next_batch()
    rows = [(item.account, len(item.payload)) for item in found if isinstance(item, Packet)]
    assert rows == [(account, MIB) for account in (*VALIDATORS[:6], *VALIDATORS[:2])] + [(PEERS[-1], 4)]
    assert inbox._room.total == 0
    for _ in range(INBOX_INPUTS):
        assert inbox.put_if_room(Packet(PEERS[0], b"vote"))
    with trio.move_on_after(5) as scope:
        await inbox.put_packet(Packet(PEERS[0], bytes(MIB)))
    assert scope.cancelled_caught and inbox._room.total == 0


@pytest.mark.parametrize("is_member", [False, True])
@on_mock_clock
async def test_what_a_stranger_sends_takes_no_room_in_the_inbox(tmp_path: Path, is_member: bool) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4, listeners=1)
        cluster.start()
        await trio.sleep(1)
        victim = cluster.peers[0]
        assert victim.driver is not None
        is_heard = cluster.wires.ports[victim.account].is_heard
        assert is_heard(real_key(1).account, MIB) and not is_heard(real_key(4).account, 65)
        assert is_heard(real_key(4).account, 64)
        kept: list[Packet] = []
        victim.driver._inbox.put_packet = _append_to(kept)  # type: ignore[method-assign]
        sender = 1 if is_member else 4
        large = bytes(MIB)
        cluster.wires.deliver(real_key(sender).account, victim.account, large)
        await trio.sleep(1)
        assert [packet.account for packet in kept if packet.payload == large] == [real_key(1).account] * is_member
        nursery.cancel_scope.cancel()


def _append_to(kept: list[Packet]) -> Callable[[Packet], Awaitable[None]]:
    async def put(packet: Packet) -> None:
        await trio.lowlevel.checkpoint()
        kept.append(packet)

    return put
