"""What a validator signs after a start with an old, a new or a copied home: nothing that it may have signed before."""

import shutil
from dataclasses import replace
from pathlib import Path

import trio
from consensus_support import certify, real_key
from driver_support import Cluster, heard_from, on_mock_clock, slashable_pairs

from flock_chain.codec import decode, encode
from flock_chain.consensus.types import Kind
from flock_chain.consensus.wire import encode_message
from flock_chain.crypto import Account
from flock_peers.driver.journal import OLD_MEMORY_HEIGHTS


async def _decide(cluster: Cluster, count: int, name: str) -> None:
    for number in range(count):
        cluster.submit(f"{name} {number}".encode())
        height = max(cluster.heights())
        await cluster.until(lambda height=height: max(cluster.heights()) > height, 30)  # type: ignore[misc]


@on_mock_clock
async def test_a_key_in_a_new_home_fetches_the_chain_before_it_signs_and_then_waits(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4)
        cluster.start()
        await _decide(cluster, 5, "before")
        lost = cluster.peers[3]
        lost.stop()
        await trio.sleep(1)
        head = max(cluster.heights())
        shutil.rmtree(tmp_path / "3")
        lost.ledger.chain.clear()
        sent = len(cluster.wires.sent)
        lost.start()
        await cluster.until(lambda: lost.ledger.height() >= head, 30)
        await _decide(cluster, OLD_MEMORY_HEIGHTS + 4, "after")
        await trio.sleep(5)
        assert min(vote.height for vote in heard_from(cluster.wires, lost.account, since=sent)) > head + 2
        assert slashable_pairs(heard_from(cluster.wires, lost.account)) == []
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_a_home_from_an_old_copy_notices_its_own_later_votes_and_waits(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4)
        cluster.start()
        await _decide(cluster, 3, "before")
        peer = cluster.peers[3]
        peer.stop()
        await trio.sleep(1)
        shutil.copytree(tmp_path / "3", tmp_path / "copy")
        old_chain = list(peer.ledger.chain)
        peer.start()
        await _decide(cluster, 5, "between")
        peer.stop()
        await trio.sleep(1)
        head = max(cluster.heights())
        shutil.rmtree(tmp_path / "3")
        (tmp_path / "copy").rename(tmp_path / "3")
        peer.ledger.chain[:] = old_chain
        sent = len(cluster.wires.sent)
        peer.start()
        await cluster.until(lambda: peer.ledger.height() >= head, 30)
        await _decide(cluster, OLD_MEMORY_HEIGHTS + 4, "after")
        await trio.sleep(5)
        fresh = heard_from(cluster.wires, peer.account, since=sent)
        assert min(vote.height for vote in fresh) > head + OLD_MEMORY_HEIGHTS
        assert slashable_pairs(heard_from(cluster.wires, peer.account)) == []
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_an_ordinary_restart_far_behind_signs_at_once(tmp_path: Path) -> None:
    """Waiting is for doubt only: where many wait at a time, nothing would become final without them."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4)
        cluster.start()
        await _decide(cluster, 2, "before")
        cluster.peers[3].stop()
        await _decide(cluster, 5, "while away")
        head = max(cluster.heights())
        cluster.peers[3].start()
        await cluster.until(lambda: cluster.peers[3].ledger.height() >= head, 30)
        cluster.submit(b"next")
        await cluster.until(lambda: max(cluster.heights()) > head, 30)
        await trio.sleep(2)
        assert any(vote.height == head + 1 for vote in heard_from(cluster.wires, cluster.peers[3].account))
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_a_whole_network_that_restarts_is_level_at_once(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4)
        cluster.start()
        await _decide(cluster, 2, "before")
        for peer in cluster.peers:
            peer.stop()
        await trio.sleep(1)
        cluster.start(0, 1, 2)
        head = max(cluster.heights())
        cluster.submit(b"again")
        assert await cluster.until(lambda: max(cluster.heights()) > head, 30) < 5
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_votes_of_a_running_copy_stop_the_signer_with_a_message(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4)
        cluster.start()
        await _decide(cluster, 4, "before")
        peer = cluster.peers[3]
        assert peer.driver is not None
        height = peer.driver.status.height
        copy = [real_key(index) for index in (0, 1, 3)]
        foreign = certify(copy, cluster.validators, Kind.NULLIFY, height, 1, bytes(32))
        cluster.wires.deliver(cluster.peers[0].account, peer.account, encode_message(foreign))
        await trio.sleep(1)
        assert not peer.driver.status.is_signing
        assert "stop the copy of this home" in peer.driver.status.not_signing
        before = len(heard_from(cluster.wires, peer.account))
        await _decide(cluster, 4, "after")  # three of four go on
        assert len(heard_from(cluster.wires, peer.account)) == before
        assert peer.ledger.height() == max(cluster.heights())  # and it follows
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_nobody_can_stop_a_signer_with_a_certificate_that_it_did_not_sign(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4)
        cluster.start()
        await _decide(cluster, 2, "before")
        peer = cluster.peers[3]
        assert peer.driver is not None
        height = peer.driver.status.height
        three = [real_key(index) for index in (0, 1, 3)]
        true = certify(three, cluster.validators, Kind.NULLIFY, height, 1, bytes(32))
        forged = replace(true, signatures=tuple(bytes([number]) * 65 for number in range(3)))
        shifted = replace(true, signatures=(*true.signatures[1:], true.signatures[0]))
        too_long = replace(true, bitmap=true.bitmap + b"\0")
        for certificate in (forged, shifted, too_long):
            cluster.wires.deliver(cluster.peers[0].account, peer.account, encode_message(certificate))
        await trio.sleep(1)
        assert peer.driver.status.is_signing and peer.driver.status.not_signing == ""
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_one_validator_that_boasts_and_serves_nothing_does_not_delay_who_starts(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 4)
        cluster.start(1, 2, 3)
        await trio.sleep(1)
        liar = cluster.wires.ports[cluster.peers[3].account]

        async def boast(_account: Account, payload: bytes) -> bytes:
            if decode(payload) == ["head"]:
                return encode([1, 1 << 40])
            await trio.sleep_forever()
            raise AssertionError

        liar.answer = boast
        cluster.start(0)
        driver = cluster.peers[0].driver
        assert driver is not None
        assert await cluster.until(lambda: driver.status.is_signing, 60) < 2
        nursery.cancel_scope.cancel()
