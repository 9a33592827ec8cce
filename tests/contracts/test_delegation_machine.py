"""Delegators with the participants of one task: pools, pay, slashes and exits against the twin, to the unit."""

import os
from collections import Counter

from machine_support import as_test
from market_machine_support import Market, run_part_of

STEPS = 20  # rules of an example


class Delegators(Market):
    TASKS = 1


TestDelegators = as_test(Delegators, examples=int(os.environ.get("FLOCK_DELEGATION_EXAMPLES", "8")), steps=STEPS)


def run_part(seed: int, examples: int) -> Counter[str]:
    """For benchmarks/contract_soak.py."""
    return run_part_of(Delegators, seed, examples, STEPS)
