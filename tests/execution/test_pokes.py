"""The board's deadlines as system calls: prescribed, ordered, bounded, and unable to halt the chain."""

from dataclasses import replace

import pytest
from execution_support import ETHER, KEYS, USERS, Chain, make_genesis, with_parameters

from flock_chain.errors import InvalidBlock
from flock_chain.execution import schedule
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.blocks import Block
from flock_chain.execution.transactions import SYSTEM_TYPE, decode_system_transaction
from flock_contracts import loader
from flock_contracts.addresses import BOARD

BOARD_CONTRACT = loader.load("TaskBoard")
WAITING, DRAW_PROPOSERS, COMMIT = range(3)
TERMS = {
    "rounds": 2,
    "extra_rounds": 0,
    "proposers": 2,
    "voters": 3,
    "min_participants": 4,
    "min_bond": ETHER,
    "proposer_share": 5_000,
    "commit_seconds": 30,
    "reveal_seconds": 10,
    "availability_seconds": 10,
    "score_commit_seconds": 10,
    "score_reveal_seconds": 10,
    "tally_seconds": 10,
    "adopt_seconds": 10,
    "loss_limit": 20_000,
    "mad_multiple": 12,
    "wait_seconds": 3_600,
    "tolerance": 50_000,
    "voting_rule": 0,
    "rule_slash": 0,
    "rest_share": 0,
    "audit_rounds": 0,
    "audit_seconds": 60,
    "audit_slash": 0,
}


def open_tasks(chain: Chain, count: int = 1, participants: int = 6) -> None:
    """Tasks 1 to `count`, each with its participants, in two blocks."""
    creator, data = KEYS[7], BOARD_CONTRACT.encode("open_task", b"d" * 32, b"a" * 32, TERMS)
    chain.add(*(chain.call(creator, BOARD, data, value=2 * ETHER, gas=2_000_000) for _ in range(count)))
    for task in range(1, count + 1):
        join = BOARD_CONTRACT.encode("join_task", task, b"domain".ljust(32))
        chain.add(*(chain.call(key, BOARD, join, value=ETHER) for key in KEYS[:participants]))


def pokes(candidate: Candidate) -> list[int]:
    calls = [decode_system_transaction(raw) for raw in candidate.block.transactions if raw[0] == SYSTEM_TYPE]
    return [int.from_bytes(call.data[4:], "big") for call in calls if call.to == BOARD]


def phase(chain: Chain, task: int = 1) -> int:
    progress = chain.executor.view("TaskBoard", "progress", task)
    assert isinstance(progress, tuple)
    return int(progress[1])


def test_a_round_is_drawn_by_pokes_alone() -> None:
    chain = Chain()
    open_tasks(chain)
    seen = [phase(chain)]
    poked = 0
    while phase(chain) != COMMIT:
        built = chain.build()
        chain.commit(chain.executor.verify(built.block.encoded))
        poked += len(pokes(built))
        assert all(row.status for row in built.receipts), [row.reason for row in built.receipts]
        seen.append(phase(chain))
        assert len(seen) < 20
    assert sorted(set(seen)) == [WAITING, DRAW_PROPOSERS, COMMIT] and poked == 2
    drawn = chain.executor.view("TaskBoard", "round_view", 1)
    assert isinstance(drawn, dict) and len(drawn["proposers"]) == 2


def test_a_deadline_is_poked_in_the_first_block_whose_chain_time_reached_it() -> None:
    chain = Chain()
    open_tasks(chain)
    while phase(chain) != COMMIT:
        chain.add()
    deadline = chain.executor.view("TaskBoard", "wakeup")
    assert isinstance(deadline, int)
    for _ in range(4):
        assert pokes(chain.add(after=0)) == []
    head = chain.executor.head.timestamp
    assert pokes(chain.build(after=deadline - head - 1)) == []
    assert pokes(chain.add(after=deadline - head)) == [1]
    assert phase(chain) != COMMIT


def test_a_block_that_leaves_out_or_adds_a_poke_is_refused() -> None:
    chain = Chain()
    open_tasks(chain)
    while not pokes(built := chain.build()):
        chain.commit(built)
    beacon, poke = built.block.transactions
    call = decode_system_transaction(poke)
    again = replace(call, index=2)
    other = replace(call, data=BOARD_CONTRACT.encode("poke", 2))
    for raws in ((beacon,), (beacon, poke, again.raw), (beacon, other.raw), (poke, beacon)):
        with pytest.raises(InvalidBlock, match=r"transactions|randomness"):
            chain.executor.verify(Block(built.block.header, raws).encoded)


def test_pokes_that_find_no_gas_wait_for_the_next_block(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 16_000_000
    monkeypatch.setattr(schedule, "POKE_GAS_MIN", limit - 200_000)  # so that one fits a block
    chain = Chain(make_genesis(with_parameters(block_gas_limit=limit)))
    open_tasks(chain, count=3)
    for _ in range(20):
        built = chain.build()
        chain.commit(chain.executor.verify(built.block.encoded))
        assert len(pokes(built)) <= 1 and all(row.status for row in built.receipts)
    assert [phase(chain, task) for task in (1, 2, 3)] == [COMMIT, COMMIT, COMMIT]


def test_a_failing_poke_gets_a_failed_receipt_and_users_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "POKE_GAS", 30_000)
    chain = Chain()
    open_tasks(chain)
    while not pokes(chain.build()):
        chain.add()
    for _ in range(3):
        transfer = chain.call(USERS[0], USERS[1].account, value=1, gas=21_000)
        built = chain.build([transfer])
        assert [row.status for row in built.receipts] == [True, False, True]
        chain.commit(chain.executor.verify(built.block.encoded))
    assert phase(chain) == WAITING


def test_a_board_that_does_not_answer_gets_no_pokes(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain()
    open_tasks(chain)
    monkeypatch.setattr(schedule, "VIEW_GAS", 1_000)
    for _ in range(5):
        built = chain.add()
        assert pokes(built) == [] and [row.status for row in built.receipts] == [True]


def test_asking_for_due_tasks_leaves_no_trace_in_the_state() -> None:
    one, two = Chain(), Chain()
    for chain in (one, two):
        open_tasks(chain)
    for _ in range(5):
        one.executor.view("TaskBoard", "due_tasks")
        assert one.add().block == two.add().block
