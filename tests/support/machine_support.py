"""How a state machine of Hypothesis runs as a test of the suite: always the same examples."""

import os
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

# A failure is made small for whoever reads it; who only counts failures (wrong contracts) has no use for that.
SHRINKING = [Phase.shrink] if os.environ.get("FLOCK_SHRINK", "1") == "1" else []


def as_test(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> Any:
    """A test case to be kept under a name that begins with "Test"; its failures stay as they are found."""
    case = machine.TestCase
    case.settings = _settings(examples, steps, [Phase.explicit, Phase.generate], derandomize=True)
    return case


def run_seeded(machine: type[RuleBasedStateMachine], *, seed: int, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        hypothesis.seed(seed)(machine), settings=_settings(examples, steps, [Phase.generate, *SHRINKING])
    )


def _settings(examples: int, steps: int, phases: list[Phase], **more: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        **more,
    )
