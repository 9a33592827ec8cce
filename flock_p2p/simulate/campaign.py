"""Many schedules, one after the other or on several cores. Counts what happened; stops at the first violation."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256

from flock_p2p.simulate.judge import Violation
from flock_p2p.simulate.scenario import FAULTS, Scenario, draw_scenario
from flock_p2p.simulate.simulator import Outcome, Simulator
from flock_p2p.simulate.worlds import PRODUCT, Variant

REPEAT_EVERY = 10  # schedules; that one runs twice, and both runs must be equal
CHUNK = 50  # schedules that a worker process runs at a time
EXECUTOR_HEIGHTS = 4  # of a schedule with the real executor: each costs seconds, so it should see some blocks
SAME_SEED = "the same seed gives the same run"


@dataclass(frozen=True)
class Plan:
    seed: int
    schedules: int
    validators: int | None = None
    faults: frozenset[str] | None = None
    executor: bool = False
    variant: Variant = PRODUCT

    def scenario(self, number: int) -> Scenario:
        scenario = draw_scenario(self.seed + number, self.validators, self.faults)
        if self.executor:
            scenario = replace(scenario, executor=True, heights=EXECUTOR_HEIGHTS, flush=False)  # bodies cost seconds
        return scenario


@dataclass
class Tally:
    """What a campaign saw. `digest` is over all runs in their order."""

    schedules: int = 0
    heights: int = 0
    crashes: int = 0
    events: int = 0
    accused: int = 0
    forks: int = 0
    repeated: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # schedules in which each was on
    digest: str = ""

    def add(self, scenario: Scenario, outcome: Outcome, repeated: bool) -> None:
        self.schedules += 1
        self.heights += outcome.heights
        self.crashes += outcome.crashes
        self.events += outcome.events
        self.accused += outcome.accused
        self.forks += bool(outcome.convicted)
        self.repeated += repeated
        self.faults.update(_active(scenario))
        self.digest = sha256((self.digest + outcome.digest).encode()).hexdigest()


@dataclass(frozen=True)
class Broken:
    scenario: Scenario
    violation: Violation


Row = tuple[Scenario, Outcome, bool]


def _active(scenario: Scenario) -> list[str]:
    """Bad blocks and too many bodies are made by the misbehaving alone."""
    some = bool(scenario.byzantine or scenario.colluders)
    names = [fault.name for fault in FAULTS if getattr(scenario, fault.field) != fault.off]
    return [*(name for name in names if some or name not in ("bad-blocks", "flush")), *([scenario.sin] if some else [])]


def run_schedule(scenario: Scenario, variant: Variant = PRODUCT, *, twice: bool) -> Outcome:
    """Raises Violation."""
    outcome = Simulator(scenario, variant).run()
    if twice and Simulator(scenario, variant).run() != outcome:
        raise Violation(SAME_SEED, f"seed {scenario.seed}")
    return outcome


def _run_chunk(plan: Plan, start: int, end: int) -> tuple[list[Row], tuple[Scenario, str, str] | None]:
    """In a worker process too, so errors travel as text."""
    rows: list[Row] = []
    for number in range(start, end):
        scenario, twice = plan.scenario(number), number % REPEAT_EVERY == 0
        try:
            rows.append((scenario, run_schedule(scenario, plan.variant, twice=twice), twice))
        except Violation as violation:
            return rows, (scenario, violation.property, violation.detail)
    return rows, None


def run_campaign(plan: Plan, progress: Callable[[Tally], None], jobs: int = 1) -> tuple[Tally, Broken | None]:
    tally, broken = Tally(), None
    for rows, error in _chunks(plan, jobs):
        for row in rows:
            tally.add(*row)
        progress(tally)
        if error is not None:
            scenario, name, detail = error
            broken = Broken(scenario, Violation(name, detail))
            break
    return tally, broken


def _chunks(plan: Plan, jobs: int) -> Iterator[tuple[list[Row], tuple[Scenario, str, str] | None]]:
    size = 1 if plan.executor else CHUNK
    bounds = [(start, min(start + size, plan.schedules)) for start in range(0, plan.schedules, size)]
    if jobs == 1:
        for start, end in bounds:
            yield _run_chunk(plan, start, end)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(_run_chunk, [plan] * len(bounds), *zip(*bounds, strict=True))
        finally:
            pool.shutdown(cancel_futures=True)
