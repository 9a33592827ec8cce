"""The mutation campaign: how many schedules each mutant survives, and which property convicts it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flock_p2p.simulate.judge import Violation
from flock_p2p.simulate.mutants import MUTANTS, Mutant, focus
from flock_p2p.simulate.scenario import Scenario, draw_scenario
from flock_p2p.simulate.simulator import Simulator

MIX = "all"
FOCUSED = "its own"


@dataclass(frozen=True)
class Verdict:
    mutant: str
    schedules: int  # until it was killed, or tried in vain
    faults: str  # MIX: of the scenarios drawn for everybody; FOCUSED: only those that bring it out
    broken: str  # the property, "" where it survived
    seed: int
    detail: str

    @property
    def killed(self) -> bool:
        return bool(self.broken)


def scenario_for(mutant: Mutant, seed: int, *, focused: bool) -> Scenario:
    return focus(mutant, draw_scenario(seed, None, mutant.faults)) if focused else draw_scenario(seed)


def hunt(mutant: Mutant, seed: int, schedules: int, *, focused: bool) -> Verdict:
    """The first of the schedules that convicts it."""
    faults = FOCUSED if focused else MIX
    for number in range(schedules):
        try:
            Simulator(scenario_for(mutant, seed + number, focused=focused), mutant.variant).run()
        except Violation as violation:
            return Verdict(mutant.name, number + 1, faults, violation.property, seed + number, violation.detail)
    return Verdict(mutant.name, schedules, faults, "", seed, "survived")


def run_mutation_campaign(
    seed: int, schedules: int, progress: Callable[[int, int, str], None], mutants: Sequence[Mutant] = MUTANTS
) -> list[Verdict]:
    """Each against the mix of all faults; whoever survives that, against its own."""
    verdicts = []
    for number, mutant in enumerate(mutants):
        progress(number, len(mutants), mutant.name)
        verdict = hunt(mutant, seed, schedules, focused=False)
        verdicts.append(verdict if verdict.killed else hunt(mutant, seed, schedules, focused=True))
    progress(len(mutants), len(mutants), "")
    return verdicts
