"""The real driver, core, signer and logs over a network in memory and a ledger without an EVM."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from consensus_support import DOMAIN, real_key, sign_vote
from driver_support import Cluster, on_mock_clock

from flock_chain.codec import decode, encode
from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.types import Certificate, Kind, Proposal, Status
from flock_chain.consensus.wire import decode_message, encode_certificate, encode_message
from flock_chain.errors import InvalidEncoding, Unavailable


@asynccontextmanager
async def cluster_of(path: Path, validators: int, **options: Any) -> AsyncIterator[Cluster]:
    async with trio.open_nursery() as nursery:
        yield Cluster(path, nursery, validators, **options)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("validators", [1, 4, 6, 7])
@on_mock_clock
async def test_a_transaction_is_final_everywhere_within_half_a_second(tmp_path: Path, validators: int) -> None:
    async with cluster_of(tmp_path, validators) as cluster:
        cluster.start()
        await trio.sleep(1)
        for number in range(5):
            cluster.submit(b"transaction %d" % number)
            took = await cluster.until(lambda: not any(peer.ledger.pending for peer in cluster.peers), 5)
            assert took < 0.5
        cluster.assert_agreement()
        assert cluster.peers[0].ledger.transactions() == [b"transaction %d" % number for number in range(5)]


@on_mock_clock
async def test_a_busy_network_decides_five_heights_a_second_and_relays_no_certificate(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 6, heartbeat=0.2) as cluster:
        cluster.start()
        await trio.sleep(10)
        heights = min(cluster.heights())
        assert heights >= 30
        per_height = len(cluster.wires.sent) / heights
        assert per_height < 6 * 5 * 2 + 5 + 6  # two votes from each to each, a proposal, statuses
        cluster.assert_agreement()


@on_mock_clock
async def test_who_leads_a_height_and_nobody_else_may_hurry_and_sees_who_voted_on_the_last(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4, heartbeat=0.2) as cluster:
        cluster.start()
        await cluster.until(lambda: min(cluster.heights()) >= 12, 10)
        for height in range(3, 12):
            leader = cluster.validators.leader(height, 1)
            seen = {peer.account: peer.ledger.shown[height] for peer in cluster.peers if height in peer.ledger.shown}
            assert seen == {leader: set(cluster.validators.accounts)}


@on_mock_clock
async def test_an_idle_network_sends_only_statuses(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4) as cluster:
        cluster.start()
        await trio.sleep(120)
        kinds = {type(decode_message(payload, source)[0]) for _, source, _, payload in cluster.wires.sent}
        assert kinds == {Status}
        assert len(cluster.wires.sent) <= 4 * 3 * 14


@on_mock_clock
async def test_a_dead_leader_costs_a_view(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 6) as cluster:
        cluster.start(0, 1, 2, 4, 5)
        for number in range(8):
            cluster.submit(b"%d" % number)
            took = await cluster.until(
                lambda: not any(cluster.peers[index].ledger.pending for index in (0, 1, 2, 4, 5)), 10
            )
            assert took < 3.5
        cluster.assert_agreement()


@on_mock_clock
async def test_a_healed_partition_goes_on_within_ten_seconds(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 6, heartbeat=0.5) as cluster:
        cluster.start()
        await trio.sleep(3)
        accounts = [peer.account for peer in cluster.peers]
        cluster.wires.groups = [set(accounts[:3]), set(accounts[3:])]
        await trio.sleep(2)
        height = max(cluster.heights())
        await trio.sleep(120)
        assert max(cluster.heights()) == height
        cluster.wires.groups = None
        await cluster.until(lambda: min(cluster.heights()) > height + 1, 10)
        cluster.assert_agreement()


@on_mock_clock
async def test_a_minority_catches_up_after_a_partition(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4, heartbeat=0.5) as cluster:
        cluster.start()
        accounts = [peer.account for peer in cluster.peers]
        cluster.wires.groups = [set(accounts[:3]), set(accounts[3:])]
        await trio.sleep(60)
        assert cluster.heights()[3] == 0 and cluster.heights()[0] > 10
        cluster.wires.groups = None
        await cluster.until(lambda: cluster.heights()[3] >= cluster.heights()[0] - 1, 5)
        cluster.assert_agreement()


@on_mock_clock
async def test_the_whole_cluster_stops_in_the_middle_of_heights_and_goes_on_from_its_logs(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4, heartbeat=0.2) as cluster:
        cluster.start()
        for round_ in range(12):
            await trio.sleep(1 + 0.013 * round_)
            for peer in cluster.peers:
                peer.stop()
            await trio.sleep(0.1)
            height = max(cluster.heights())
            cluster.start()
            await cluster.until(lambda height=height: min(cluster.heights()) > height, 30)
        cluster.assert_agreement()
        assert not any(peer.driver.evidence for peer in cluster.peers if peer.driver)


@on_mock_clock
async def test_a_late_joiner_that_is_no_validator_follows_through_certificates(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4, listeners=1, heartbeat=0.5) as cluster:
        cluster.start(0, 1, 2, 3)
        await trio.sleep(60)
        assert cluster.heights()[0] > 80
        cluster.start(4)
        await cluster.until(lambda: cluster.heights()[4] >= cluster.heights()[0] - 1, 5)
        sent = [payload for _, source, _, payload in cluster.wires.sent if source == cluster.peers[4].account]
        assert sent == []
        before = cluster.heights()[0]
        await cluster.until(lambda: cluster.heights()[4] > before + 3, 5)
        cluster.assert_agreement()


@on_mock_clock
async def test_a_validator_without_its_signer_file_waits_for_two_heights(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4, heartbeat=0.5) as cluster:
        cluster.start()
        await cluster.until(lambda: min(cluster.heights()) > 5, 20)
        cluster.peers[3].stop()
        await trio.sleep(5)
        (tmp_path / "3" / "signer.log").unlink()
        before = len(cluster.wires.sent)
        cluster.peers[3].start()
        ahead = max(cluster.heights())
        await cluster.until(lambda: cluster.heights()[3] > ahead + 4, 20)
        voted = [
            message.height
            for _, source, _, payload in cluster.wires.sent[before:]
            if source == cluster.peers[3].account
            and not isinstance(message := decode_message(payload, source)[0], Status)
        ]
        assert min(voted) >= ahead + 2
        cluster.assert_agreement()


@on_mock_clock
async def test_a_validator_with_a_damaged_log_follows_and_signs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster_of(tmp_path, 4, heartbeat=0.5) as cluster:
        cluster.start()
        await cluster.until(lambda: min(cluster.heights()) > 5, 20)
        cluster.peers[3].stop()
        await trio.sleep(0.1)
        path = tmp_path / "3" / "wal.log"
        data = bytearray(path.read_bytes())
        data[20] ^= 1
        path.write_bytes(data)
        before = len(cluster.wires.sent)
        cluster.peers[3].start()
        height = cluster.heights()[3]
        await cluster.until(lambda: cluster.heights()[3] > height + 5, 40)
        assert "only follows" in caplog.text and "move" in caplog.text
        own = [payload for _, source, _, payload in cluster.wires.sent[before:] if source == cluster.peers[3].account]
        assert {type(decode_message(payload, cluster.peers[3].account)[0]) for payload in own} <= {Status, Certificate}


@on_mock_clock
async def test_bad_messages_are_named_dropped_and_do_not_stop_the_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with cluster_of(tmp_path, 4, heartbeat=0.5) as cluster:
        cluster.start(0, 1, 2)
        await trio.sleep(1)
        evil = cluster.peers[3]
        evil.start()
        evil.scope.cancel()  # its port stays: somebody else speaks through it
        await trio.sleep(0.1)
        port = cluster.wires.ports[evil.account]
        key = real_key(3)
        height = cluster.heights()[0] + 1
        stolen = sign_vote(real_key(1), Kind.NOTARIZE, height, 1, bytes([1]) * 32)
        certificate = make_certificate(
            Kind.FINALIZE, height, 1, bytes([1]) * 32, {stolen.signer: stolen.signature}, cluster.validators
        )
        proposal = Proposal(sign_vote(key, Kind.PROPOSE, height, 1, bytes([2]) * 32), ())
        payloads = [
            b"",
            b"\xff" * 100,
            encode([9, 1]),
            encode([1, 1, 2]),
            encode([2, 4, height, 1]),
            encode_message(stolen),
            encode_message(certificate),
            encode_message(proposal, encode([1, 2, 3])),
            encode_message(proposal, encode([height, 1, bytes(32), key.account, []])),
            encode_message(Status(1 << 40, 1)),
        ]
        for payload in payloads * 40:
            port.broadcast(payload, [peer.account for peer in cluster.peers[:3]])
        port.answer = _answer_rubbish
        before = cluster.heights()[0]
        await cluster.until(lambda: min(cluster.heights()[:3]) > before + 3, 30)
        assert evil.account.hex() in caplog.text and "ignored" in caplog.text
        assert caplog.text.count("dropped a message") < 20
        cluster.assert_agreement()


async def _answer_rubbish(_account: bytes, _payload: bytes) -> bytes:
    return encode([[b"no block", encode([1])]])


@on_mock_clock
async def test_a_forged_certificate_makes_nothing_final_at_a_listener(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4, listeners=1) as cluster:
        cluster.start(4)
        cluster.start(0)
        block = encode([1, 1, bytes(32), real_key(0).account, []])
        vote = sign_vote(real_key(0), Kind.FINALIZE, 1, 1, cluster.peers[0].ledger.block_id(block))
        forged = make_certificate(Kind.FINALIZE, 1, 1, vote.block_id, {vote.signer: vote.signature}, cluster.validators)

        asked: list[object] = []

        async def answer(_account: bytes, payload: bytes) -> bytes:
            asked.append(decode(payload)[0])
            return encode([1, 1] if asked[-1] == "head" else [[block, encode_certificate(forged)]])

        cluster.wires.ports[cluster.peers[0].account].answer = answer
        await trio.sleep(30)
        assert cluster.heights()[4] == 0 and "range" in asked


@on_mock_clock
async def test_a_missing_body_is_asked_for_by_its_id(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4) as cluster:
        cluster.start()
        await trio.sleep(1)
        for port in cluster.wires.ports.values():
            port.broadcast = _without_bodies(port)  # type: ignore[method-assign]
        cluster.submit(b"transaction")
        await cluster.until(lambda: min(cluster.heights()) == 1, 1.5)
        assert cluster.peers[2].ledger.transactions() == [b"transaction"]


def _without_bodies(port: Any) -> Any:
    def broadcast(payload: bytes, accounts: Any) -> None:
        message, _ = decode_message(payload, port.account)
        for account in accounts:
            port.send(account, encode_message(message))

    return broadcast


@on_mock_clock
async def test_an_invalid_block_is_complained_about_at_once(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4) as cluster:
        cluster.start()
        await trio.sleep(1)
        leader = cluster.validators.leader(1, 1)
        for peer in cluster.peers:
            peer.ledger.refuse = lambda block: leader in block
        cluster.submit(b"transaction")
        took = await cluster.until(lambda: min(cluster.heights()) == 1, 5)
        assert took < 1  # not a view's timeout


@on_mock_clock
async def test_two_votes_of_one_validator_are_kept_as_evidence(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4) as cluster:
        cluster.start(0, 1, 2)
        evil = cluster.peers[3]
        evil.start()
        evil.scope.cancel()
        await trio.sleep(1)
        for name in (1, 2):
            vote = sign_vote(real_key(3), Kind.NOTARIZE, 1, 1, bytes([name]) * 32)
            cluster.wires.ports[evil.account].broadcast(encode_message(vote), [cluster.peers[0].account])
        await trio.sleep(1)
        driver = cluster.peers[0].driver
        assert driver is not None
        assert [pair.first.signer for pair in driver.evidence] == [evil.account]
        assert driver.status.evidence == 1 and driver.status.is_signing


@on_mock_clock
async def test_a_malformed_sync_request_is_refused(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4) as cluster:
        cluster.start(0)
        await trio.sleep(0.1)
        driver = cluster.peers[0].driver
        assert driver is not None
        for request in (["range", 0, 1, 0], ["range", 1, 1], ["body", 1, b"short"], [], 7):
            with pytest.raises(InvalidEncoding):
                await driver.answer_sync(real_key(9).account, encode(request))
        with pytest.raises(Unavailable):
            await cluster.wires.ports[cluster.peers[0].account].request(real_key(9).account, b"", 1, 1_000)
        assert DOMAIN.chain_id == 7
