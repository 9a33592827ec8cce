"""No call of any bytes, by anybody, in any phase of a round, leaves a contract in a state that breaks an invariant.

More: python benchmarks/contract_soak.py calldata
"""

import os
from collections import Counter
from functools import cache

import hypothesis
from board_support import NEW_ADAPTER, Game
from calldata_support import CALLERS, Call, calls, programs
from contracts_support import (
    ADOPT,
    AUDIT,
    AVAILABILITY,
    COMMIT,
    DRAW_PROPOSERS,
    ENDED,
    PARAMETERS,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    WAITING,
    World,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flock_contracts.addresses import BY_NAME

EXAMPLES = int(os.environ.get("FLOCK_FUZZ_EXAMPLES", "12"))
CALLS = 40  # in one example
GAS_BOUND = 3_000_000  # a tenth of a block: whatever its bytes, one call cannot fill one
# What leaves waits for its delay: without blocks between the calls no coin would ever go out.
rows_of_calls = programs(CALLS, (1, 1, 30, PARAMETERS["unbonding_delay"] + 1))
PHASES = (WAITING, DRAW_PROPOSERS, COMMIT, REVEAL, AVAILABILITY, SCORE_COMMIT, SCORE_REVEAL, TALLY, ADOPT, AUDIT, ENDED)


@cache
def worlds() -> dict[int, tuple[World, bytes]]:
    """A task with six participants in each phase of its first round, and after its end."""
    game = Game(rounds=1, extra_rounds=0, audit_rounds=1)
    found: dict[int, tuple[World, bytes]] = {}

    def keep(phase: int) -> None:
        game.until(phase, seconds=15 if phase == ENDED else 1)
        game.world.state.persist()
        found[phase] = game.world, game.world.state.state_root

    def copy() -> None:
        """Go on in a world of its own: the one that was kept stays as it is."""
        game.world = reopened(game.world, game.world.state.state_root)

    for phase in PHASES:
        if phase == REVEAL:
            for who in game.proposers:
                game.commit(who)
        elif phase == AVAILABILITY:
            for who in game.proposers:
                game.reveal(who)
        elif phase == SCORE_COMMIT:
            for who in game.voters:
                game.attest(who, 0b111)
        elif phase == SCORE_REVEAL:
            for who in game.voters:
                game.commit_scores(who, [-3, -2, -1])
        elif phase == TALLY:
            for who in game.voters:
                game.reveal_scores(who, [-3, -2, -1])
        elif phase == ADOPT:
            game.tally()
        elif phase == AUDIT:
            for who in game.voters:
                game.must(who, "attest_adoption", 1, NEW_ADAPTER)
        keep(phase)
        copy()
    return found


def reopened(world: World, root: bytes) -> World:
    other = World(world.base, root)
    other.height, other.timestamp = world.height, world.timestamp
    other.state.execution_context = world.state.execution_context
    return other


def check_money(world: World) -> None:
    """What each contract holds is what it owes, by its own totals."""
    for name in ("TaskBoard", "Stake", "Delegation"):
        contract = world.contracts[name]
        names = {entry["name"] for entry in contract.abi if entry["type"] == "function" and not entry["inputs"]}
        if "liabilities" in names:
            owed = world.view(name, "liabilities")
        else:
            owed = sum(world.view(name, total) for total in names if total.startswith("total_") or total == "burned")
        assert world.balance(BY_NAME[name]) == owed, name
    assert world.balance(BY_NAME["Faucet"]) >= world.view("Faucet", "deposits")
    assert world.balance(BY_NAME["Beacon"]) == 0


def check_rows(world: World) -> None:
    """Totals equal their rows, after everything."""
    rows = {row["account"]: row["bond"] for row in world.board("participants", 1)}
    tasks = world.board("task_count")
    others = sum(row["bond"] for task in range(2, tasks + 1) for row in world.board("participants", task))
    assert sum(rows.values()) + others == world.board("total_bonds")
    assert sum(world.board("task_view", task)["pot"] for task in range(1, tasks + 1)) == world.board("total_pots")


def check_calls(phase: int, rows: list[Call | int]) -> tuple[int, int]:
    """How many calls did something, and how many of them sent coins out; a number is a block so many seconds later.
    Raises AssertionError where one breaks an invariant, and Reverted where one stops the system's own calls."""
    world = reopened(*worlds()[phase])
    held = [*CALLERS, *BY_NAME.values()]
    coins = sum(world.balance(who) for who in held)
    seen = world.board("progress", 1)
    done = paid = 0
    for row in rows:
        if isinstance(row, int):
            world.next_block(row)
        else:
            sender, name, data, value = row
            had = world.balance(sender)
            outcome = world.call(sender, name, data, value)
            assert outcome.gas <= GAS_BOUND, (name, data.hex(), outcome.gas)
            if not outcome.ok:
                continue
            done += 1
            paid += world.balance(sender) > had
        check_money(world)
        now = world.board("progress", 1)
        assert now >= seen, "rounds and phases only move forward"
        seen = now
    check_rows(world)
    assert sum(world.balance(who) for who in held) <= coins
    return done, paid


def run_part(seed: int, examples: int) -> Counter[str]:
    """So many examples of this seed; what they came to."""
    found: Counter[str] = Counter()

    @hypothesis.seed(seed)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(phase=st.sampled_from(PHASES), rows=rows_of_calls)
    def check(phase: int, rows: list[Call | int]) -> None:
        done, paid = check_calls(phase, rows)
        found.update(
            {"examples": 1, "calls and blocks": len(rows), "accepted": done, f"phase {phase}": 1, "paid": paid}
        )

    check()
    return found


def test_no_bytes_break_an_invariant_in_any_phase() -> None:
    run_part(0, EXAMPLES)


def test_the_calls_get_through_to_many_functions() -> None:
    """Fuzzing that only reverts would prove little."""
    reached: set[tuple[str, bytes]] = set()

    @given(phase=st.sampled_from(PHASES), rows=st.lists(calls(), min_size=CALLS, max_size=CALLS))
    @settings(max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def count(phase: int, rows: list[Call]) -> None:
        world = reopened(*worlds()[phase])
        for sender, name, data, value in rows:
            if world.call(sender, name, data, value).ok:
                reached.add((name, data[:4]))

    count()
    assert len(reached) >= 8
