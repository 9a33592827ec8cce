"""Wrong validators that the simulator must convict, and the right one that it must not; and what a conviction shows."""

import pytest

from flock_p2p.simulate.judge import MEMORY, PROGRESS, PROPERTIES, Violation
from flock_p2p.simulate.mutants import MUTANTS, Mutant
from flock_p2p.simulate.mutation import hunt, run_mutation_campaign, scenario_for
from flock_p2p.simulate.scenario import draw_scenario
from flock_p2p.simulate.shrink import MAX_RUNS, shrink
from flock_p2p.simulate.simulator import Simulator
from flock_p2p.simulate.worlds import PRODUCT

DESIGNED = 18  # mutants that the design names, each in its own words; at least ten more are ours


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_wrong_validator_is_convicted_where_the_product_is_not(mutant: Mutant) -> None:
    verdict = hunt(mutant, 0, 150, focused=True)
    assert verdict.killed and verdict.broken in PROPERTIES
    scenario = scenario_for(mutant, verdict.seed, focused=True)
    Simulator(scenario, PRODUCT).run()


def test_there_are_the_mutants_of_the_design_and_more() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= DESIGNED + 10


def _find(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)


def test_the_campaign_tells_who_was_killed_by_what() -> None:
    steps: list[tuple[int, int]] = []
    mutants = [_find("never syncs"), _find("buffers without bound")]
    verdicts = run_mutation_campaign(0, 3, lambda done, total, _name: steps.append((done, total)), mutants)
    assert [verdict.killed for verdict in verdicts] == [True, True]
    assert verdicts[1].broken == MEMORY and verdicts[1].faults == "its own"
    assert steps == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("name", ["finalize after nullify", "replay forgets proposals"])
def test_a_violation_is_shrunk_to_a_smaller_schedule_that_breaks_the_same(name: str) -> None:
    mutant = _find(name)
    verdict = hunt(mutant, 0, 150, focused=True)
    scenario = scenario_for(mutant, verdict.seed, focused=True)
    simulator = Simulator(scenario, mutant.variant)
    with pytest.raises(Violation) as broken:
        simulator.run()
    found = shrink(scenario, broken.value, mutant.variant)
    assert found.violation.property == verdict.broken
    assert found.runs <= MAX_RUNS + 2
    assert found.faults < simulator.chance.happened / 2
    again = Simulator(found.scenario, mutant.variant, suppressed=found.suppressed, last_fault=found.last_fault)
    with pytest.raises(Violation, match=verdict.broken):
        again.run()


def test_the_mix_of_all_faults_convicts_who_lets_a_body_go_that_it_found_valid() -> None:
    """A real defect, once: its proposer pushed the body out of everybody's memory before the votes."""
    verdict = hunt(_find("what was found valid is not pinned"), 0, 60, focused=False)
    assert verdict.killed and verdict.broken == PROGRESS
    Simulator(draw_scenario(verdict.seed), PRODUCT).run()
