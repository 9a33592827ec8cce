"""Leaders that give bodies to some, or take them away again: a block that is voted for can always be had."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from consensus_support import real_key, sign_vote
from driver_support import Cluster, on_mock_clock

from flock_chain.codec import decode, encode
from flock_chain.consensus.types import Kind, Proposal
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_message
from flock_chain.crypto import Account
from flock_peers.driver.attendance import VoteBook

EVIL = 2  # leads height 1, views 1, 5, 9...
HONEST = (0, 1, 3)


@asynccontextmanager
async def cluster_with_a_hostile_leader(path: Path) -> AsyncIterator[Cluster]:
    """Four validators, of whom one is only a port that the test speaks through."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(path, nursery, 4)
        cluster.start()
        await trio.sleep(0.5)
        cluster.peers[EVIL].scope.cancel()
        await trio.sleep(0.5)
        yield cluster
        nursery.cancel_scope.cancel()


def make_proposal(view: int, name: bytes) -> tuple[Proposal, bytes]:
    key = real_key(EVIL)
    body = encode([1, view, bytes(32), key.account, [name]])
    return Proposal(sign_vote(key, Kind.PROPOSE, 1, view, Cluster.block_id(body)), ()), body


@on_mock_clock
async def test_a_leader_cannot_flush_the_body_out_that_others_are_checking(tmp_path: Path) -> None:
    """What was voted for lay in nobody's memory then, and the chain stood still for ever."""
    async with cluster_with_a_hostile_leader(tmp_path) as cluster:
        port, others = cluster.wires.ports[cluster.peers[EVIL].account], [cluster.peers[i].account for i in HONEST]
        port.answer = _silence
        proposal, block = make_proposal(1, b"wanted")
        port.broadcast(encode_message(proposal, block), others)
        for step in range(50):
            for view in (5, 9, 13, 17):
                port.broadcast(encode_message(*make_proposal(view, b"%d" % step)), others)
            await trio.sleep(0.001)
        await cluster.until(lambda: min(cluster.heights()[i] for i in HONEST) >= 1, 30)
        assert cluster.peers[0].ledger.transactions() == [b"wanted"]


@on_mock_clock
async def test_a_leader_that_keeps_a_body_back_from_one_delays_nobody(tmp_path: Path) -> None:
    """Who lacked it once asked the silent leader alone, for ten seconds of each height that it led."""
    async with cluster_with_a_hostile_leader(tmp_path) as cluster:
        port, accounts = cluster.wires.ports[cluster.peers[EVIL].account], [peer.account for peer in cluster.peers]
        port.answer = _silence
        proposal, block = make_proposal(1, b"half told")
        port.broadcast(encode_message(proposal, block), accounts[:2])
        port.broadcast(encode_message(proposal), accounts[3:])
        for kind in (Kind.NOTARIZE, Kind.FINALIZE):
            vote = sign_vote(real_key(EVIL), kind, 1, 1, proposal.block_id)
            port.broadcast(encode_message(vote), [accounts[i] for i in HONEST])
        cluster.submit(b"next")
        assert await cluster.until(lambda: min(cluster.heights()[i] for i in HONEST) >= 2, 30) < 3
        cluster.assert_agreement()


async def _silence(_account: Account, _payload: bytes) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


@on_mock_clock
async def test_votes_that_come_while_a_block_is_stored_are_shown_in_the_block_after_the_next(tmp_path: Path) -> None:
    """A leader with a slow disk once named everybody absent whose vote was not in the certificate."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4, heartbeat=0.3)
        slow = cluster.peers[3]  # leads heights 2, 6, 10
        shown: dict[int, set[bytes]] = {}
        commit, build = slow.ledger.commit, slow.ledger.build

        async def commit_late(block: bytes, certificate: bytes) -> None:
            if decode(block)[0] == 4:
                await trio.sleep(1)
            await commit(block, certificate)

        async def build_and_note(height: int, view: int, votes: Any) -> bytes:
            shown[height] = {vote.signer for vote in votes()}
            return await build(height, view, votes)

        slow.ledger.commit, slow.ledger.build = commit_late, build_and_note  # type: ignore[method-assign]
        cluster.start()
        await cluster.until(lambda: min(cluster.heights()) >= 7, 30)
        assert shown[6] >= {cluster.peers[i].account for i in range(3)}
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_a_leader_that_has_just_started_names_nobody_absent(tmp_path: Path) -> None:
    """It once showed the certificate's votes, the first quorum's: with many restarts honest validators were jailed."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4, heartbeat=0.3)
        restarted = cluster.peers[3]  # leads heights 2, 6, 10
        shown: dict[int, set[bytes]] = {}
        build = restarted.ledger.build

        async def build_and_note(height: int, view: int, votes: Any) -> bytes:
            shown[height] = {vote.signer for vote in votes()}
            return await build(height, view, votes)

        restarted.ledger.build = build_and_note  # type: ignore[method-assign]
        cluster.start()
        await cluster.until(lambda: restarted.ledger.height() == 4, 30)
        restarted.stop()
        await trio.sleep(0.01)
        restarted.start()
        await cluster.until(lambda: min(cluster.heights()) >= 11, 60)
        assert shown[6] == set()
        assert shown[10] >= {cluster.peers[i].account for i in range(3)}
        nursery.cancel_scope.cancel()


def test_of_a_height_that_a_peer_came_into_late_it_shows_nothing() -> None:
    book, members = VoteBook(), ValidatorSet(((real_key(0).account, 1), (real_key(1).account, 1)))
    for height, is_shown in ((5, False), (6, True), (7, True), (20, False), (21, True)):
        book.start_height(height)
        book.note(sign_vote(real_key(0), Kind.NULLIFY, height, 1), height, members)
        assert bool(book.votes(height)) == is_shown
