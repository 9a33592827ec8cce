"""Delegators with the participants of one task: pools, pay, slashes and exits against the twin, to the unit."""

import os

from machine_support import as_test
from market_machine_support import Market


class Delegators(Market):
    TASKS = 1


TestDelegators = as_test(Delegators, examples=int(os.environ.get("FLOCK_DELEGATION_EXAMPLES", "8")), steps=20)
