"""How a state machine of Hypothesis runs as a test of the suite: always the same examples, none of them shrunk."""

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine


def as_test(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> Any:
    """A test case to be kept under a name that begins with "Test"."""
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    return case
