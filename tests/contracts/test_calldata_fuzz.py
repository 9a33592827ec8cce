"""No call of any bytes, by anybody, in any phase of a round, leaves a contract in a state that breaks an invariant.

More: python benchmarks/contract_soak.py calldata
"""

import os
from collections import Counter

import hypothesis
import pytest
from board_support import CREATOR
from calldata_support import FOUNDERS, Call
from calldata_turns_support import EXACT, call, spoilt, turn, turn_of_any_bytes
from calldata_ways_support import BACKER, LATER, SUBMITTER, programs
from calldata_worlds_support import NAMES, PHASES, check_calls
from contracts_support import ADOPT, ENDED, WAITING
from hypothesis import HealthCheck, Phase, given, settings
from machine_support import SHRINKING

EXAMPLES = int(os.environ.get("FLOCK_FUZZ_EXAMPLES", "24"))
CALLS = 40  # in one example
PAID_FROM = 20  # examples: so many and more must come to what the test names


def run_part(seed: int, examples: int) -> Counter[str]:
    """So many examples of this seed, as many in each phase; what they came to."""
    found: Counter[str] = Counter()
    for phase in PHASES:
        found.update(_run_phase(phase, seed * len(PHASES) + phase, -(-examples // len(PHASES))))
    return found


def _run_phase(phase: int, seed: int, examples: int) -> Counter[str]:
    """Left to chance, 24 examples were of eight phases, and nine of them of one."""
    found: Counter[str] = Counter()

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, *SHRINKING],
        suppress_health_check=list(HealthCheck),
    )
    @given(rows=programs(CALLS))
    def check(rows: list[Call | int]) -> None:
        found.update({"examples": 1, "calls and blocks": len(rows), f"phase {phase}": 1})
        found.update(check_calls(phase, rows))

    check()
    return found


def test_no_bytes_break_an_invariant_in_any_phase() -> None:
    """And the calls get through to many functions, and coins out in many ways: calls that revert prove little."""
    found = run_part(0, EXAMPLES)
    assert min(found[f"phase {phase}"] for phase in PHASES) > 0
    assert EXAMPLES < PAID_FROM or sum(name.startswith("paid by ") for name in found) >= 6, found
    assert EXAMPLES < PAID_FROM or sum(name.startswith("accepted ") for name in found) >= 15, found


@pytest.mark.parametrize("phase", PHASES)
def test_whoever_is_awaited_may_send_its_call_with_any_word_wrong_and_then_as_it_is_meant(phase: int) -> None:
    """Random programs hardly ever come to what takes a seat, a salt or a signature."""
    found = check_calls(phase, turn_of_any_bytes(phase))
    meant = {f"accepted {name}.{NAMES[name, data[:4]]}" for _, name, data, _ in turn(phase)}
    assert all(found[name] for name in meant), found
    assert phase != WAITING or found["accepted TaskBoard.enact_rules"], found
    assert phase != ADOPT or found["accepted TaskBoard.confirm"] == 3, found


@pytest.mark.parametrize("phase", EXACT)
def test_a_call_that_has_to_be_right_to_the_last_word_is_accepted_with_none_of_them_another(phase: int) -> None:
    exact = sender, name, data, _ = turn(phase)[0]
    assert check_calls(phase, [(sender, name, wrong, 0) for wrong in spoilt(data)])["accepted"] == 0
    assert check_calls(phase, [exact, exact])["accepted"] == 1


def test_what_evidence_of_right_bytes_takes_and_pays_breaks_no_invariant_on_any_way_out() -> None:
    """Each way out twice, and too early."""
    who = FOUNDERS[0]
    ways = [
        call(CREATOR, "Stake", "settle", who, who), call(CREATOR, "Stake", "settle", who, BACKER),
        call(who, "Stake", "withdraw"), call(SUBMITTER, "Stake", "claim_reward"),
        call(BACKER, "Stake", "withdraw_delegation", who), call(BACKER, "Stake", "claim_delegation", who),
    ]  # fmt: skip
    found = check_calls(ENDED, [*turn(ENDED), *ways, LATER, LATER, LATER, *ways, *ways])
    assert found["accepted Stake.report"] == 1 and found["accepted Stake.settle"] == 2, found
    paid = {name.removeprefix("paid by Stake."): count for name, count in found.items() if name.startswith("paid by ")}
    free_before = 1  # of the delegation; then what is left of it
    ones = dict.fromkeys(("withdraw", "claim_reward", "claim_delegation"), 1)
    assert paid == ones | {"withdraw_delegation": free_before + 1}
