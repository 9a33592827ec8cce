"""The ledger service: builds, checks, stores, syncs, and says when a block is wanted. Own clocks throughout."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from execution_support import CHAIN_ID, ETHER, GENESIS_TIME, USERS, VALIDATORS, make_genesis

from flock_chain.consensus.types import Kind, Vote
from flock_chain.crypto import Key
from flock_chain.errors import InvalidBlock, InvalidEncoding, Misuse, Refused, Unavailable
from flock_chain.execution.blocks import Block
from flock_chain.execution.executor import CallReverted
from flock_chain.execution.schedule import ON_BLOCK_GAS
from flock_chain.execution.transactions import sign_call
from flock_chain.genesis import Genesis
from flock_contracts import loader
from flock_contracts.addresses import BOARD, FAUCET
from flock_peers.driver.ports import BlockVerdict
from flock_peers.ledger import Ledger, open_ledger
from flock_peers.ledger.candidates import MAX_CANDIDATES

ALICE, BOB, _, _ = USERS
LEADER, SECOND = VALIDATORS[:2]


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now = GENESIS_TIME + 10.0

    def __call__(self) -> float:
        return self.now


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.trio_clock = folder, Clock(), trio.testing.MockClock()

    @asynccontextmanager
    async def open(self, name: str, key: Key | None = LEADER, genesis: Genesis | None = None) -> AsyncIterator[Ledger]:
        async with open_ledger(genesis or make_genesis(), self.folder / name, key=key, clock=self.clock) as ledger:
            yield ledger

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.trio_clock.jump(seconds)

    async def add_block(self, *ledgers: Ledger, certificate: bytes = b"certificate") -> bytes:
        """The first builds; the others check; all commit."""
        self.pass_time(1)
        first = ledgers[0]
        block = await first.build(first.height() + 1, 1)
        for ledger in ledgers:
            assert await ledger.check(block) is BlockVerdict.VALID
            await ledger.commit(block, certificate)
        return block


def run(folder: Path, test: Callable[[Bench], Awaitable[None]]) -> None:
    bench = Bench(folder)

    async def main() -> None:
        await test(bench)

    trio.run(main, clock=bench.trio_clock)


def transfer(nonce: int, *, key: Key = ALICE, fee: int = 10) -> bytes:
    return sign_call(key, chain_id=CHAIN_ID, nonce=nonce, to=BOB.account, value=1, gas=21_000, fee=fee)


def test_two_peers_keep_one_chain(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one, bench.open("two", SECOND) as two:
            assert one.head == two.head and one.height() == 0
            for nonce in range(3):
                digest = await one.submit(transfer(nonce))
                assert await one.receipt(digest) is None
                await bench.add_block(one, two)
                receipt = await two.receipt(digest)
                assert receipt is not None and receipt.status and receipt.height == nonce + 1
            assert one.head == two.head and two.head.height == 3
            assert await two.balance(BOB.account) == 1_000 * ETHER + 3
            assert await two.nonce(ALICE.account) == 3

    run(tmp_path, test)


def test_a_newcomer_syncs_from_stored_blocks_and_certificates(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one, bench.open("newcomer", None) as newcomer:
            for nonce in range(3):
                await one.submit(transfer(nonce))
                await bench.add_block(one, certificate=b"certificate %d" % nonce)
            bench.pass_time(10_000)  # old blocks are not judged by this clock
            assert await one.block_and_certificate(0) is None and await one.block_and_certificate(4) is None
            for height in (1, 2, 3):
                found = await one.block_and_certificate(height)
                assert found is not None and found[1] == b"certificate %d" % (height - 1)
                await newcomer.commit(*found)
            assert newcomer.head == one.head

    run(tmp_path, test)


def test_a_restarted_peer_has_what_it_had(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            block = await bench.add_block(one)
            head = one.head
        async with bench.open("one") as again:
            assert again.head == head
            assert (again.block_bytes(1), again.certificate_bytes(1)) == (block, b"certificate")
            await bench.add_block(again)
        with pytest.raises(Misuse, match="another genesis"):
            async with bench.open("one", genesis=make_genesis(timestamp=GENESIS_TIME + 1)):
                pass
        async with bench.open("one"):
            with pytest.raises(Unavailable, match="in use by another process"):
                async with bench.open("one"):
                    pass

    run(tmp_path, test)


def test_verdicts_follow_clock_content_and_height(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one, bench.open("two", SECOND) as two:
            block = await one.build(1, 1)
            bench.clock.now -= 3  # its timestamp is three seconds ahead of this clock now
            assert await two.check(block) is BlockVerdict.LATER
            assert await two.check(block, fresh=False) is BlockVerdict.VALID
            bench.clock.now += 2
            assert await two.check(block) is BlockVerdict.VALID
            bench.clock.now += 6.75  # five seconds and a part: whole seconds count, as in the timestamp
            assert await two.check(block) is BlockVerdict.VALID
            bench.clock.now += 0.25
            assert await two.check(block) is BlockVerdict.LATER
            bench.clock.now -= 6
            assert await two.check(block, proposer=LEADER.account) is BlockVerdict.VALID
            assert await two.check(block, proposer=SECOND.account) is BlockVerdict.INVALID
            assert await two.check(block[:-1]) is BlockVerdict.INVALID
            await bench.add_block(one, two)
            assert await two.check(block) is BlockVerdict.LATER

    run(tmp_path, test)


def test_a_clock_that_is_wrong_is_said_once_in_a_while_and_a_block_a_moment_early_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            block = await one.build(1, 1)
            bench.clock.now -= 9
            assert await one.check(block) is BlockVerdict.LATER and not caplog.messages
            bench.clock.now -= 11
            for _ in range(2):
                assert await one.check(block) is BlockVerdict.LATER
            assert len(caplog.messages) == 1 and "stamped 20 s after this machine's clock" in caplog.messages[0]
            bench.trio_clock.jump(11)
            bench.clock.now += 60
            assert await one.check(block) is BlockVerdict.LATER
            assert len(caplog.messages) == 2 and "stamped 40 s before" in caplog.messages[1]

    with caplog.at_level("WARNING"):
        run(tmp_path, test)


def test_a_false_body_under_a_true_id_spoils_nothing(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one, bench.open("two", SECOND) as two:
            await one.submit(transfer(0))
            data = await one.build(1, 1)
            block = Block(one._candidates.get(data).block.header, ())  # type: ignore[union-attr]
            with pytest.raises(InvalidBlock, match="not those of its header"):
                two.block_id(block.encoded)
            with pytest.raises(InvalidEncoding):
                two.block_id(b"nothing")
            for _ in range(2):
                assert await two.check(block.encoded) is BlockVerdict.INVALID
            assert two.block_id(data) == two.block_id(data) == one.block_id(data)
            assert await two.check(data) is BlockVerdict.VALID

    run(tmp_path, test)


def test_a_block_is_executed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one, bench.open("two", SECOND) as two:
            executed: list[int] = []
            for ledger in (one, two):
                original = ledger.executor.execute

                def count(*args: object, original: Callable[..., object] = original, **options: object) -> object:
                    executed.append(1)
                    return original(*args, **options)

                monkeypatch.setattr(ledger.executor, "execute", count)
            await bench.add_block(one, two)
            assert len(executed) == 2  # built by one, verified by the other
            bench.pass_time(1)
            built = await one.build(2, 1)
            candidate = one._candidates.get(built)
            assert candidate is not None
            header = replace(candidate.block.header, state_root=bytes(32))
            for _ in range(3):
                assert await two.check(Block(header, candidate.block.transactions).encoded) is BlockVerdict.INVALID
            assert len(executed) == 4  # an invalid one once too

    run(tmp_path, test)


def test_candidates_are_bounded(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            for view in range(MAX_CANDIDATES + 3):
                bench.clock.now += 1
                await one.build(1, view)
                one._candidates.add_fault(b"block %d" % view, "why")
            held = one._candidates
            assert (len(held._valid), len(held._invalid)) == (MAX_CANDIDATES, MAX_CANDIDATES)
            assert held.get_fault(b"block 0") is None and held.get_fault(b"block %d" % (MAX_CANDIDATES + 2)) == "why"

    run(tmp_path, test)


def test_only_a_validator_builds_and_only_the_next_height(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one", ALICE) as outsider, bench.open("two", None) as observer, bench.open("3") as third:
            for ledger in (outsider, observer):
                with pytest.raises(Unavailable, match="no validator"):
                    await ledger.build(1, 1)
            for height in (0, 2):
                with pytest.raises(Unavailable, match="cannot be built"):
                    await third.build(height, 1)

    run(tmp_path, test)


def test_blocks_keep_their_distance(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            await bench.add_block(one)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.build, 2, 1)
                await trio.testing.wait_all_tasks_blocked()
                assert len(one._candidates._valid) == 0  # the interval is not over
                bench.pass_time(0.2)
            assert len(one._candidates._valid) == 1

    run(tmp_path, test)


def test_a_head_that_moves_while_a_build_waits_for_its_time_ends_that_build(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one, bench.open("two", SECOND) as two:
            await bench.add_block(one, two)
            two._pacing._committed_at = -float("inf")
            other = await two.build(2, 2)

            async def build() -> None:
                with pytest.raises(Unavailable, match="block 2 cannot be built on the head at 2"):
                    await one.build(2, 1)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(build)
                await trio.testing.wait_all_tasks_blocked()
                await one.commit(other, b"certificate")
                bench.pass_time(0.2)

    run(tmp_path, test)


def test_a_block_checked_while_another_of_its_height_becomes_final_is_not_called_invalid(
    tmp_path: Path,
) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one, bench.open("two", SECOND) as two:
            first, other = await one.build(1, 1), await two.build(1, 2)
            verdicts: list[BlockVerdict] = []

            async def check() -> None:
                verdicts.append(await one.check(other))

            gate = threading.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one._evm.run, gate.wait)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(one.commit, first, b"certificate")
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(check)
                await trio.testing.wait_all_tasks_blocked()
                gate.set()
            assert verdicts == [BlockVerdict.LATER] and one.height() == 1

    run(tmp_path, test)


def test_a_transaction_that_asks_for_more_gas_than_any_block_has_left_is_refused(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            limit = one.parameters.block_gas_limit
            whole = sign_call(ALICE, chain_id=CHAIN_ID, nonce=0, to=BOB.account, gas=limit, fee=10)
            with pytest.raises(Refused, match="gas"):
                await one.submit(whole)
            fits = sign_call(ALICE, chain_id=CHAIN_ID, nonce=0, to=BOB.account, gas=limit - ON_BLOCK_GAS, fee=10)
            digest = await one.submit(fits)
            await bench.add_block(one)
            assert await one.receipt(digest) is not None

    run(tmp_path, test)


def test_work_is_heartbeat_until_a_transaction_arrives(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            await bench.add_block(one)
            now = bench.clock()
            assert await one.work(now) == one.head.timestamp + 60 - now
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.wait_work)
                await trio.testing.wait_all_tasks_blocked()
                await one.submit(transfer(0))
            assert await one.work(now) == pytest.approx(0.2)  # the interval after the last block
            bench.pass_time(1)
            assert await one.work(bench.clock()) == 0.0
            await bench.add_block(one)
            delay = await one.work(bench.clock())
            assert delay is not None and delay > 50

    run(tmp_path, test)


def test_the_leader_wants_a_block_early_once_all_that_a_phase_waits_for_is_here(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            await bench.add_block(one)
            votes = [Vote(Kind.FINALIZE, 1, 1, one.head.id, 0, key.account, bytes(65)) for key in VALIDATORS]
            one.expect(1, (1, 2), [BOB.account], 1)

            async def ask() -> float | None:
                return await one.work(bench.clock(), lambda: votes)

            await one.submit(transfer(0))  # by another, and not for the board
            assert await ask() == pytest.approx(0.2)
            await one.submit(sign_call(BOB, chain_id=CHAIN_ID, nonce=0, to=BOARD, gas=100_000, fee=10))
            assert await ask() == pytest.approx(0.01)  # until it looks again
            bench.trio_clock.jump(0.05)
            assert await ask() == 0
            votes.pop()  # whose vote is not here yet would look absent
            assert await ask() == pytest.approx(0.01)
            bench.trio_clock.jump(0.145)
            assert await ask() == pytest.approx(0.005)

    run(tmp_path, test)


def test_a_transaction_that_arrives_while_nobody_waits_is_not_missed(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            await one.work(bench.clock())
            await one.submit(transfer(0))
            await one.wait_work()

    run(tmp_path, test)


def test_a_transaction_that_no_block_takes_stops_waking_the_chain(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one, bench.open("two", SECOND) as two:
            await two.submit(transfer(0))  # only two has it, and one proposes
            for _ in range(3):
                assert await two.work(bench.clock()) == 0.0 or two.height() == 0
                bench.pass_time(1)
                await bench.add_block(one, two)
                bench.pass_time(1)
            delay = await two.work(bench.clock())
            assert delay is not None and delay > 50 and len(two.mempool) == 0

    run(tmp_path, test)


def test_finality_is_measured_from_acceptance(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            await one.submit(transfer(0))
            bench.pass_time(0.5)
            await bench.add_block(one)
            assert list(one.finality) == [1.5]

    run(tmp_path, test)


def test_heads_can_be_waited_for(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            await one.wait_for_height(0)
            heads: list[int] = []

            async def wait() -> None:
                heads.append(await one.wait_new_head(0))
                await one.wait_for_height(2)
                heads.append(one.height())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await bench.add_block(one)
                await trio.testing.wait_all_tasks_blocked()
                await bench.add_block(one)
            assert heads == [1, 2]

    run(tmp_path, test)


def test_a_refused_transaction_says_why(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            digest = await one.submit(transfer(0))
            assert await one.submit(transfer(0)) == digest
            with pytest.raises(Refused, match="10 % more"):
                await one.submit(transfer(0, fee=9))
            with pytest.raises(InvalidBlock, match="0x7e"):
                await one.submit(b"\x7e\xc0")
            await bench.add_block(one)
            with pytest.raises(Refused, match="is used"):
                await one.submit(transfer(0, fee=99))

    run(tmp_path, test)


def test_views_calls_and_reverts_speak_the_contracts_words(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            assert await one.view("TaskBoard", "task_count") == 0
            assert await one.view("TaskBoard", "due_tasks") == []
            with pytest.raises(CallReverted, match="beacon: no mix"):
                await one.view("Beacon", "mix", 7)
            with pytest.raises(Misuse, match="no contract"):
                await one.view("Casino", "spin")
            await bench.add_block(one)
            assert await one.view("Beacon", "chain_time") == one.head.timestamp
            assert await one.view("Beacon", "chain_time", height=0) == GENESIS_TIME
            bench.pass_time(1_000)
            assert await one.chain_time() == one.head.timestamp + 90
            assert len((await one.validators()).rows) == 4

    run(tmp_path, test)


def test_the_faucet_serves_a_newcomer_through_a_block(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one:
            newcomer = b"\x77" * 20
            data = loader.load("Faucet").encode("drip", newcomer)
            deposit = one.genesis.parameters.faucet_deposit
            raw = sign_call(ALICE, chain_id=CHAIN_ID, nonce=0, to=FAUCET, data=data, value=deposit, fee=1)
            digest = await one.submit(raw)
            await bench.add_block(one)
            receipt = await one.receipt(digest)
            assert receipt is not None and receipt.status, receipt
            assert await one.balance(newcomer) == one.genesis.parameters.faucet_amount

    run(tmp_path, test)


def test_an_invalid_block_is_never_stored(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        async with bench.open("one") as one, bench.open("two", SECOND) as two:
            data = await one.build(1, 1)
            candidate = one._candidates.get(data)
            assert candidate is not None
            header = replace(candidate.block.header, state_root=bytes(32))
            with pytest.raises(InvalidBlock, match="state_root"):
                await two.commit(Block(header, candidate.block.transactions).encoded, b"certificate")
            assert two.height() == 0 and two.block_bytes(1) is None

    run(tmp_path, test)
