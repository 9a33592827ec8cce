"""Upgrades in blocks: from an epoch's first height on, for builders and judges alike; unknown rules stop a peer."""

from pathlib import Path

import pytest
import trio
import trio.testing
from execution_support import GENESIS_TIME, VALIDATORS, Chain, make_genesis, with_parameters

from flock_chain.errors import InvalidBlock, Refused
from flock_chain.execution.executor import Executor
from flock_chain.upgrades import KNOWN_RULES, Schedule, Step
from flock_p2p.verify.chain import replay
from flock_p2p.verify.report import VerifyReport
from flock_peers.ledger import open_ledger

GENESIS = make_genesis(with_parameters(epoch_blocks=3, epoch_seconds=0))
NEXT_RULES = max(KNOWN_RULES) + 1
LESS_GAS = Schedule(GENESIS.hash, (Step(1, 1, (("block_gas_limit", 20_000_000), ("block_interval", 400))),))
NEW_RULES = Schedule(GENESIS.hash, (Step(1, NEXT_RULES),))


def open_chain(schedule: Schedule | None) -> Chain:
    chain = Chain(GENESIS)
    chain.executor = Executor(GENESIS, chain.store, upgrades=schedule)
    return chain


def advance_to_last_block_of_epoch_0(chain: Chain) -> None:
    while chain.executor.served().epoch == 0:
        chain.add()


def test_a_number_changes_with_the_first_block_of_its_epoch() -> None:
    chain = open_chain(LESS_GAS)
    limits = []
    for _ in range(6):
        epoch = chain.executor.served().epoch
        limits.append((epoch, chain.add().block.header.gas_limit))
    assert limits == [(0, 30_000_000)] * 3 + [(1, 20_000_000)] * 3


def test_a_peer_without_the_schedule_refuses_the_first_block_under_it_by_the_field() -> None:
    upgraded, other = open_chain(LESS_GAS), open_chain(None)
    while upgraded.executor.served().epoch == 0:
        block = upgraded.add()
        other.commit(other.executor.verify(block.block.encoded))
    with pytest.raises(InvalidBlock, match="gas_limit is not what executing it gives"):
        other.executor.verify(upgraded.build().block.encoded)
    with pytest.raises(InvalidBlock, match="gas_limit"):
        upgraded.executor.verify(other.build().block.encoded)


def test_a_block_of_unknown_rules_is_neither_built_nor_judged() -> None:
    plain, stopping = open_chain(None), open_chain(NEW_RULES)
    while plain.executor.served().epoch == 0:
        stopping.commit(stopping.executor.verify(plain.add().block.encoded))
    for use in (stopping.build, lambda: stopping.executor.verify(plain.build().block.encoded)):
        with pytest.raises(Refused, match=f"from epoch 1 on .* rules version {NEXT_RULES}.*newer release"):
            use()


def test_verify_replays_an_upgraded_chain_only_with_its_schedule() -> None:
    chain = open_chain(LESS_GAS)
    for _ in range(5):
        chain.add()
    for schedule, found in ((LESS_GAS, []), (None, ["block 4: block: gas_limit"])):
        report = VerifyReport("home")
        replay(GENESIS, chain.store, report, lambda *_: None, upgrades=schedule)
        failures = [text for text in report.failures if "no finality certificate" not in text]
        assert len(failures) == len(found) and all(map(str.startswith, failures, found))


def test_a_ledger_stops_after_the_last_block_that_it_knows_the_rules_of(tmp_path: Path) -> None:
    """What was final stays final and readable, and the next start says the same before anything runs."""
    chain = open_chain(None)
    blocks = []
    while chain.executor.served().epoch == 0:
        blocks.append(chain.add().block)

    async def main() -> None:
        async with open_ledger(GENESIS, tmp_path, clock=lambda: GENESIS_TIME + 9.0, upgrades=NEW_RULES) as ledger:
            for block in blocks[:-1]:
                await ledger.adopt(block.encoded, b"certificate")
            with pytest.raises(Refused, match="from epoch 1 on"):
                await ledger.adopt(blocks[-1].encoded, b"certificate")
            assert ledger.block_bytes(len(blocks)) == blocks[-1].encoded
        with pytest.raises(Refused, match="from epoch 1 on"):
            async with open_ledger(GENESIS, tmp_path, clock=lambda: GENESIS_TIME + 9.0, upgrades=NEW_RULES):
                pass
        async with open_ledger(GENESIS, tmp_path, clock=lambda: GENESIS_TIME + 9.0) as newer:
            assert newer.height() == len(blocks) and newer.epoch == 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_ledger_follows_its_schedule_in_what_it_builds_and_takes(tmp_path: Path) -> None:
    async def main() -> None:
        now = [GENESIS_TIME + 9.0]
        async with open_ledger(GENESIS, tmp_path, key=VALIDATORS[0], clock=lambda: now[0], upgrades=LESS_GAS) as ledger:
            while ledger.epoch == 0:
                now[0] += 1
                await ledger.commit(await ledger.build(ledger.height() + 1, 1), b"certificate")
            assert ledger.parameters.block_interval == 400 and ledger.mempool._max_gas == 19_500_000
            await ledger.commit(await ledger.build(ledger.height() + 1, 1), b"certificate")
            assert ledger.block(ledger.height()).header.gas_limit == 20_000_000

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
