"""From a schedule that breaks a property to a small one that breaks the same: fewer kinds of fault, fewer faults.

Deterministic and bounded: it tries at most MAX_RUNS schedules.
"""

from dataclasses import dataclass, replace

from flock_p2p.simulate.judge import Violation
from flock_p2p.simulate.scenario import FAULTS, Scenario
from flock_p2p.simulate.simulator import Simulator
from flock_p2p.simulate.worlds import PRODUCT, Variant

MAX_RUNS = 300  # of one shrinking: some seconds
SMALLER = {
    "n": (4, 5), "weights": (None,), "byzantine": (0, 1), "heights": (1,), "gst": (500, 1_000, 2_000),
    "after": (20_000,), "executor": (False,),
}  # fmt: skip


@dataclass(frozen=True)
class Counterexample:
    scenario: Scenario
    violation: Violation
    suppressed: frozenset[int]
    last_fault: int | None
    runs: int
    faults: int  # that are left
    log: tuple[tuple[int, str], ...]


class Shrinker:
    def __init__(self, scenario: Scenario, violation: Violation, variant: Variant = PRODUCT) -> None:
        self._scenario, self._violation, self._variant = scenario, violation, variant
        self._suppressed: frozenset[int] = frozenset()
        self._last: int | None = None
        self.runs = 0

    def shrink(self) -> Counterexample:
        while self._simplify():
            pass
        total = self._count_faults()
        self._cut_tail(total)
        self._drop_chunks(total if self._last is None else self._last)
        simulator, violation = self._run(self._scenario, self._suppressed, self._last, record=True)
        return Counterexample(
            self._scenario, violation or self._violation, self._suppressed, self._last, self.runs,
            simulator.chance.happened, tuple(simulator.log or ()),
        )  # fmt: skip

    # ---------------------------------------------------------------- one try

    def _run(
        self, scenario: Scenario, suppressed: frozenset[int], last: int | None, *, record: bool = False
    ) -> tuple[Simulator, Violation | None]:
        self.runs += 1
        simulator = Simulator(scenario, self._variant, suppressed=suppressed, last_fault=last, record=record)
        try:
            simulator.run()
        except Violation as violation:
            return simulator, violation
        return simulator, None

    def _still_breaks(self, scenario: Scenario, suppressed: frozenset[int], last: int | None) -> bool:
        if self.runs >= MAX_RUNS:
            return False
        _, violation = self._run(scenario, suppressed, last)
        return violation is not None and violation.property == self._violation.property

    # ---------------------------------------------------------------- fewer kinds

    def _simplify(self) -> bool:
        """Whether one of the fields could be made smaller."""
        done = False
        for field, values in {**SMALLER, **{fault.field: (fault.off,) for fault in FAULTS}}.items():
            for value in values:
                now = getattr(self._scenario, field)
                if now == value or (field in ("n", "gst", "after", "byzantine", "heights") and now < value):
                    continue
                simpler = replace(self._scenario, **{field: value})
                if field == "n" and simpler.weights:
                    simpler = replace(simpler, weights=simpler.weights[: simpler.n])
                if self._still_breaks(simpler, frozenset(), None):
                    self._scenario, done = simpler, True
                    break
        return done

    # ---------------------------------------------------------------- fewer faults

    def _count_faults(self) -> int:
        return self._run(self._scenario, frozenset(), None)[0].chance.count

    def _cut_tail(self, total: int) -> None:
        low, high = 0, total
        while low < high:
            middle = (low + high) // 2
            if self._still_breaks(self._scenario, frozenset(), middle):
                high, self._last = middle, middle
            else:
                low = middle + 1

    def _drop_chunks(self, total: int) -> None:
        """Delta debugging: halves, quarters, ... single faults."""
        size = max(1, total // 2)
        while size and self.runs < MAX_RUNS:
            for start in range(1, total + 1, size):
                chunk = frozenset(range(start, min(start + size, total + 1))) - self._suppressed
                if chunk and self._still_breaks(self._scenario, self._suppressed | chunk, self._last):
                    self._suppressed |= chunk
            size //= 2


def shrink(scenario: Scenario, violation: Violation, variant: Variant = PRODUCT) -> Counterexample:
    return Shrinker(scenario, violation, variant).shrink()
