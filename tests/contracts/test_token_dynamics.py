"""Agents of the economy: the model and the compiled board agree on every token, and whose deeds cost whom."""

from pathlib import Path

import pytest
from board_support import FEE
from economy_support import TOKEN, Economy, Measured

from flock_chain.paper_rule import RULE_PAPER, RULE_PROPOSALS

DETECTION = Path(__file__).parents[2] / "benchmarks" / "detection.json"


@pytest.mark.parametrize("rule", [RULE_PAPER, RULE_PROPOSALS])
def test_the_compiled_board_and_its_model_agree_on_every_token_of_an_economy(rule: int) -> None:
    economy = Economy(
        Measured(DETECTION), rule=rule, malicious=4, seed=3, rounds=4, participants=12, voters=5, pot=100, contract=True
    )
    seen = economy.run()  # compares after every round
    assert economy.model.number == 4 and len(seen.wealth) == 4
    assert seen.malicious_slashed > 0


def test_without_a_pot_no_token_is_made_and_the_paper_s_rule_loses_none() -> None:
    economy = Economy(Measured(DETECTION), rule=RULE_PAPER, malicious=15, seed=1, rounds=60)
    economy.run()
    total = sum(economy.wealth(who) for who in economy.number) + economy.model.burned + economy.model.carried
    assert total == 50 * 64 * TOKEN + FEE, "what opening the task cost was the creator's"


@pytest.mark.parametrize("malicious", [5, 10, 15])
def test_ours_costs_no_honest_participant_a_token_and_unseats_whoever_boosts_its_poison(malicious: int) -> None:
    for seed in (1, 2):
        economy = Economy(Measured(DETECTION), rule=RULE_PROPOSALS, malicious=malicious, seed=seed, rounds=120)
        seen = economy.run()
        assert seen.honest_slashes == 0 and min(economy.wealths(False)) >= 64
        assert economy.seated_malicious() == 0 and max(economy.wealths(True)) < 64


def test_the_paper_s_rule_slashes_honest_proposers_with_the_guilty() -> None:
    """A defect of the original, measured: the honest pay for the company that the draw gave them."""
    economy = Economy(Measured(DETECTION), rule=RULE_PAPER, malicious=10, seed=1, rounds=120)
    seen = economy.run()
    assert seen.rejected_rounds > 0 and seen.honest_verdicts["REJECTED_AGGREGATE"] > 0
    assert seen.honest_slashed > 0


def test_norm_matched_poison_is_not_found_by_the_votes_on_single_proposals() -> None:
    """What remains: the defence sees nothing wrong with it, so it keeps its seat and its bond."""
    economy = Economy(Measured(DETECTION, "matched"), rule=RULE_PROPOSALS, malicious=5, seed=1, rounds=60)
    economy.run()
    assert economy.seated_malicious() == 5 and set(economy.wealths(True)) == {64.0}
