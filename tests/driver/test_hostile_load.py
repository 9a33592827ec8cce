"""What one hostile validator can make others do and keep: questions, searches for bodies, evidence."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from consensus_support import real_key, sign_vote
from driver_support import Cluster, on_mock_clock

from flock_chain.codec import decode, encode
from flock_chain.consensus.events import Evidence
from flock_chain.consensus.types import Kind, Proposal, Status
from flock_chain.consensus.wire import encode_message
from flock_chain.crypto import Account
from flock_p2p.cli import find_cause
from flock_peers.driver.claims import FIRST_SILENCE_SECONDS, MAX_SILENCE_SECONDS, MAX_SOURCES, Claims
from flock_peers.driver.convictions import MAX_OFFENDERS, MAX_PAIRS_PER_OFFENDER, Convictions
from flock_peers.store.disk import DiskTrouble

EVIL = 2


@on_mock_clock
async def test_a_validator_that_boasts_without_end_is_asked_for_less_and_less(tmp_path: Path) -> None:
    """Each boast once asked everybody where they are: some fifty questions a second."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4)
        cluster.start()
        await trio.sleep(1)
        evil, victim = cluster.peers[EVIL], cluster.peers[0]
        evil.scope.cancel()
        heads: list[float] = []
        port = cluster.wires.ports[victim.account]
        ask = port.request

        async def count(account: Account, payload: bytes, timeout: float, most: int) -> bytes:
            if decode(payload) == ["head"]:
                heads.append(trio.current_time())
            return await ask(account, payload, timeout, most)

        port.request = count  # type: ignore[method-assign]
        for step in range(1_200):
            boast = encode_message(Status(1_000_000 + step, 1))
            cluster.wires.ports[evil.account].send(victim.account, boast)
            await trio.sleep(0.05)
        runs = len(heads) / 3
        assert 3 <= runs <= 60 / MAX_SILENCE_SECONDS + 8
        cluster.submit(b"transaction")
        await cluster.until(lambda: min(cluster.heights()[i] for i in (0, 1, 3)) >= 1, 30)
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_whoever_was_right_is_heard_at_once_again_and_doubts_are_bounded() -> None:
    claims, one, other = Claims(), real_key(1).account, real_key(2).account
    assert claims.take(one, 9) and claims.take(other, 5) and claims.target == 9
    assert claims.close(5) == []  # a first time may be anybody's
    assert claims.target == 0 and not claims.take(one, 9) and claims.take(other, 6)
    await trio.sleep(FIRST_SILENCE_SECONDS)
    assert claims.take(one, 9)
    assert claims.close(8) == [one]
    await trio.sleep(2 * FIRST_SILENCE_SECONDS)
    assert claims.take(one, 9) and claims.close(9) == []
    assert claims.take(one, 10)  # it was right: what was held against it is forgotten
    claims.close(9)
    await trio.sleep(FIRST_SILENCE_SECONDS)
    for number in range(2 * MAX_SOURCES):
        claims.take(number.to_bytes(20, "big"), 50)
    assert len(claims._open) <= MAX_SOURCES
    claims.close(9)
    assert len(claims._doubts) <= MAX_SOURCES and not claims._open


@on_mock_clock
async def test_blocks_that_never_come_are_searched_for_a_few_at_a_time(tmp_path: Path) -> None:
    """A search for each view went on until the height ended."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4)
        cluster.start()
        await trio.sleep(0.5)
        for index in (EVIL, 1, 3):
            cluster.peers[index].scope.cancel()
            cluster.wires.ports[cluster.peers[index].account].answer = _nothing
        driver = cluster.peers[0].driver
        assert driver is not None
        for view in range(1, 60):
            leader = cluster.validators.leader(1, view)
            index = next(i for i, peer in enumerate(cluster.peers) if peer.account == leader)
            if index:
                name = view.to_bytes(32, "big")
                proposal = Proposal(sign_vote(real_key(index), Kind.PROPOSE, 1, view, name), ())
                cluster.wires.ports[leader].send(cluster.peers[0].account, encode_message(proposal))
            for other in (1, 2, 3):
                vote = sign_vote(real_key(other), Kind.NULLIFY, 1, view)
                cluster.wires.ports[cluster.peers[other].account].send(cluster.peers[0].account, encode_message(vote))
            await trio.sleep(0.1)
        assert driver.status.view == 60
        await trio.sleep(5)
        assert driver._nursery is not None
        checks = [task for task in driver._nursery.child_tasks if task.name.endswith("BlockWork.check")]
        assert 0 < len(checks) <= 8
        nursery.cancel_scope.cancel()


async def _nothing(_account: Account, _payload: bytes) -> bytes:
    return encode(b"")


def test_no_offender_pushes_the_evidence_against_another_out() -> None:
    book = Convictions()
    one, other = ([_evidence(index, height) for height in range(1, 400)] for index in (1, 2))
    for evidence in [one[0], *other]:
        book.note(evidence)
    assert one[0] in list(book) and list(book)[1:] == other[-MAX_PAIRS_PER_OFFENDER:]
    assert len(book) == 1 + MAX_PAIRS_PER_OFFENDER
    for index in range(3, 3 + MAX_OFFENDERS):
        book.note(_evidence(index % 256, 1, index.to_bytes(20, "big")))
    assert len(book) == MAX_OFFENDERS


def _evidence(index: int, height: int, signer: bytes = b"") -> Evidence:
    votes = [sign_vote(real_key(index), Kind.NOTARIZE, height, 1, bytes([name]) * 32) for name in (1, 2)]
    return Evidence(*(replace(vote, signer=signer or vote.signer) for vote in votes))


def test_a_validator_that_cannot_read_its_chain_ends_and_says_so(tmp_path: Path) -> None:
    """It once tried to build its block for ever, with a line for nobody."""

    @on_mock_clock
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            cluster = Cluster(tmp_path, nursery, 4)

            async def refuse(*_: object) -> bytes:
                raise DiskTrouble("chain.mdb: the chain cannot be read")

            for peer in cluster.peers:
                peer.ledger.build = refuse  # type: ignore[method-assign, assignment]
            cluster.start()
            cluster.submit(b"transaction")
            await trio.sleep(30)
            nursery.cancel_scope.cancel()

    with pytest.raises(BaseExceptionGroup) as caught:
        run()
    assert isinstance(find_cause(caught.value), DiskTrouble)
