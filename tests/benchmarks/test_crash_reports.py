"""What peers called final, against homes that lost it: each home here is damaged in one way, and it is found."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crash_oracle import Statements
from crash_reports import ENOUGH_POWER_LOSSES, Reports, find_gaps
from execution_support import USERS, VALIDATORS, Chain

from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.digest import make_domain
from flock_chain.consensus.types import Kind
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_certificate
from flock_chain.execution import records
from flock_peers.home import Home
from flock_peers.store.chain_store import ChainStore

BLOCKS = 3
PEER = "peer 0"


class Made:
    """A home of three certified blocks with a transfer each, as a stopped peer leaves it."""

    def __init__(self, home: Path) -> None:
        self.home, chain = home, Chain()
        self.domain = make_domain(chain.genesis)
        self.set = ValidatorSet(tuple((row.account, row.stake) for row in chain.genesis.validators))
        home.mkdir()
        Home(home).store_genesis(chain.genesis.encode())
        self.heads: list[tuple[int, str, str]] = []
        self.receipts: list[tuple[str, int]] = []
        with ChainStore(home / "chain") as store:
            store.commit(dict(chain.store.rows))
            for height in range(1, BLOCKS + 1):
                transfer = chain.call(USERS[0], USERS[1].account, value=1, gas=21_000)
                candidate = chain.add(transfer)
                certificate = self.certify(height, candidate.block.id)
                store.commit({**candidate.writes, records.certificate_key(height): certificate})
                self.heads.append((height, candidate.block.id.hex(), candidate.block.header.state_root.hex()))
                self.receipts.append((transfer.hash.hex(), height))
            self.state_root = candidate.block.header.state_root

    def certify(self, height: int, block: bytes, signers: int = 3) -> bytes:
        digest = self.domain.digest(Kind.FINALIZE, height, 1, block, 0)
        signatures = {key.account: key.sign(digest) for key in VALIDATORS[:signers]}
        return encode_certificate(make_certificate(Kind.FINALIZE, height, 1, block, signatures, self.set))

    def damage(self, key: bytes, value: bytes | None) -> None:
        with ChainStore(self.home / "chain") as store:
            assert store.get(key) is not None, "nothing is damaged"
            store.commit({key: value})

    def check(self, reports: Reports) -> int:
        return reports.check_home(PEER, self.home, Statements(self.domain, self.set))

    def reported(self) -> Reports:
        reports = Reports()
        for head in self.heads:
            reports.head(PEER, *head)
        for transaction, height in self.receipts:
            reports.receipt(PEER, transaction, height)
        return reports


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("crash") / "home")


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Iterator[Made]:
    """A copy that the test may damage."""
    kept, original.home = original.home, tmp_path / "home"
    shutil.copytree(kept, original.home)
    yield original
    original.home = kept


def test_a_home_that_holds_all_that_it_reported_is_in_order(made: Made) -> None:
    reports = made.reported()
    assert made.check(reports) == BLOCKS and not reports.violations
    reports.check_reach([BLOCKS, BLOCKS - 1])
    assert not reports.violations and reports.top == BLOCKS


def test_a_last_block_that_was_reported_and_is_gone_is_found(made: Made) -> None:
    reports = made.reported()
    reports.head(PEER, BLOCKS + 1, "ab" * 32, "cd" * 32)
    made.check(reports)
    assert reports.violations == [f"{PEER}: called height 4 final, its chain ends at 3"]
    by_receipt = made.reported()
    by_receipt.receipt(PEER, "ab" * 32, BLOCKS + 1)
    made.check(by_receipt)
    assert by_receipt.violations == reports.violations


def test_a_block_that_only_a_lost_peer_reported_is_beyond_every_chain(made: Made) -> None:
    reports = made.reported()
    reports.head("peer 1", BLOCKS + 1, "ab" * 32, "cd" * 32)
    reports.check_reach([made.check(reports)])
    assert reports.violations == ["height 4 was reported final, no chain reaches beyond 3"]


@pytest.mark.parametrize("what", ["block", "state"])
def test_two_blocks_or_two_states_at_one_height_are_found(made: Made, what: str) -> None:
    height, block, root = made.heads[1]
    other = (height, "ab" * 32, root) if what == "block" else (height, block, "ab" * 32)
    reports = Reports()
    reports.head("peer 1", *other)
    made.check(reports)
    assert (
        len(reports.violations) == 1 and f"height {height}" in reports.violations[0] and PEER in reports.violations[0]
    )


@pytest.mark.parametrize(("transaction", "height"), [("ab" * 32, 2), (None, 2)])
def test_a_transaction_that_was_reported_and_is_not_there_is_found(
    made: Made, transaction: str | None, height: int
) -> None:
    reports = Reports()
    transaction = transaction or made.receipts[0][0]  # which is in block 1
    reports.receipt("peer 1", transaction, height)
    made.check(reports)
    assert reports.violations == [f"{PEER}: transaction {transaction}, reported final at 2, is lost"]
    reports.receipt(PEER, transaction, height + 1)
    assert len(reports.violations) == 2


def test_a_certificate_that_is_missing_below_the_quorum_or_of_another_block_is_found(made: Made) -> None:
    block = bytes.fromhex(made.heads[1][1])
    for value in (None, made.certify(2, block, signers=2), made.certify(2, b"\x07" * 32)):
        made.damage(records.certificate_key(2), value)
        reports = made.reported()
        made.check(reports)
        assert reports.violations and "block 2" in reports.violations[0]
        with ChainStore(made.home / "chain") as store:
            store.commit({records.certificate_key(2): made.certify(2, block)})


def test_a_block_in_the_middle_or_a_node_of_the_state_that_is_gone_is_found(made: Made) -> None:
    made.damage(made.state_root, None)
    reports = made.reported()
    made.check(reports)
    assert reports.violations == [
        f"{PEER}: state: state node {made.state_root.hex()} is missing in the store, or not what the replay gives"
    ]
    made.damage(records.block_key(bytes.fromhex(made.heads[1][1])), None)
    reports = made.reported()
    made.check(reports)
    assert any("block 2 is not" in text for text in reports.violations)


QUIET: dict[str, Any] = {"unheard": [], "kills": 9, "recoveries": 9, "power_losses": 0, "bytes_lost": 0}


def test_a_campaign_in_which_nothing_happened_proves_nothing() -> None:
    busy = Reports()
    busy.receipt(PEER, "ab" * 32, 1)
    assert find_gaps(reports=busy, **QUIET) == []
    assert len(find_gaps(reports=Reports(), **QUIET)) == 2
    silent = Reports(receipts={"ab" * 32: 1})
    assert find_gaps(reports=silent, **QUIET) == ["no peer reported a head"]
    assert len(find_gaps(reports=busy, **QUIET | {"recoveries": 0})) == 1
    assert len(find_gaps(reports=busy, **QUIET | {"power_losses": ENOUGH_POWER_LOSSES})) == 1
    assert find_gaps(reports=busy, **QUIET | {"unheard": ["a", "b"]}) == ["a", "b"]
