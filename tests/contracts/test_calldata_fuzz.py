"""No call of any bytes, by anybody, in any phase of a round, leaves a contract in a state that breaks an invariant.

More: python benchmarks/contract_soak.py calldata
"""

import os
from collections import Counter

import hypothesis
from calldata_support import Call
from calldata_ways_support import programs
from calldata_worlds_support import PHASES, check_calls
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from machine_support import SHRINKING

EXAMPLES = int(os.environ.get("FLOCK_FUZZ_EXAMPLES", "24"))
CALLS = 40  # in one example
PAID_FROM = 20  # examples: so many and more must come to what the test names


def run_part(seed: int, examples: int) -> Counter[str]:
    """So many examples of this seed; what they came to."""
    found: Counter[str] = Counter()

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, *SHRINKING],
        suppress_health_check=list(HealthCheck),
    )
    @given(phase=st.sampled_from(PHASES), rows=programs(CALLS))
    def check(phase: int, rows: list[Call | int]) -> None:
        found.update({"examples": 1, "calls and blocks": len(rows), f"phase {phase}": 1})
        found.update(check_calls(phase, rows))

    check()
    return found


def test_no_bytes_break_an_invariant_in_any_phase() -> None:
    """And the calls get through to many functions, and coins out in many ways: calls that revert prove little."""
    found = run_part(0, EXAMPLES)
    assert EXAMPLES < PAID_FROM or sum(name.startswith("paid by ") for name in found) >= 6, found
    assert EXAMPLES < PAID_FROM or sum(name.startswith("accepted ") for name in found) >= 15, found
