"""A long run of the staking contract against its model: `python benchmarks/stake_soak.py [--examples N] [--seed S]`.

Fresh random examples at each run, unlike the few fixed ones of the test suite; the seed repeats one. Prints a table,
with `--json` one object. Exit status 1 where contract and model part, with the shortest steps that do it.
"""

import argparse
import json
import secrets
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "contracts"))

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from test_stake_machine import StakeMachine

STEPS = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    counts = {"examples": 0, "steps": 0, "convictions": 0, "delegations": 0, "payments": 0}

    class Counted(StakeMachine):
        def teardown(self) -> None:
            super().teardown()
            counts["examples"] += 1
            counts["steps"] += self.steps
            counts["convictions"] += len(self.slashed)
            counts["delegations"] += sum(where != owner for where, owner in self.model.bonds)
            counts["payments"] += self.payments
            if counts["examples"] % 50 == 0:
                seconds = time.perf_counter() - began
                done, rate = counts["examples"] / arguments.examples, counts["steps"] / seconds
                print(f"\r{done:7.2%}  {rate:,.0f} steps/s", end="", file=sys.stderr, flush=True)

    machine = hypothesis.seed(arguments.seed)(Counted)
    began = time.perf_counter()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=arguments.examples, stateful_step_count=STEPS, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        ),
    )  # fmt: skip
    print(file=sys.stderr)
    seconds = time.perf_counter() - began
    result = {"seed": arguments.seed, **counts, "seconds": seconds, "steps_per_second": counts["steps"] / seconds}
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:18} {value:,.0f}" if name != "seed" else f"{name:18} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
