"""Agents of the economy: the model and the compiled board agree on every token, and whose deeds cost whom."""

from pathlib import Path

import pytest
from board_support import FEE
from economy_sight_support import Looks, Measured
from economy_support import TOKEN, Economy

from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM
from flock_chain.paper_rule import RULE_PAPER, RULE_PROPOSALS

DETECTION = Path(__file__).parents[2] / "benchmarks" / "detection_reference.json"
AUDITORS = 10


def sees(found_by: int, value: int) -> list[Looks]:
    """So many of ten auditors find it, in any context; no voter does before it is adopted."""
    values: list[int | None] = [value if auditor < found_by else GUILTY_FROM - 1 for auditor in range(AUDITORS)]
    return [Looks([0] * AUDITORS, [values, values])]


def invented(poison_found_by: int, honest_found_by: int = 0, value: int = CONVICT_FROM) -> Measured:
    """`value`: where they find anything."""
    measured = Measured(DETECTION, "matched")
    measured.looks = {"honest": {0: sees(honest_found_by, value)}, "matched": {0: sees(poison_found_by, value)}}
    return measured


@pytest.mark.parametrize("rule", [RULE_PAPER, RULE_PROPOSALS])
def test_the_compiled_board_and_its_model_agree_on_every_token_of_an_economy(rule: int) -> None:
    economy = Economy(
        Measured(DETECTION), rule=rule, malicious=4, seed=3, rounds=4, participants=12, voters=5, pot=100, contract=True
    )
    seen = economy.run()  # compares after every round
    assert economy.model.number == 4 and len(seen.wealth) == 4


def test_the_compiled_board_and_its_model_agree_on_who_loses_its_bond_to_audits() -> None:
    economy = Economy(
        invented(AUDITORS), rule=RULE_PROPOSALS, malicious=2, seed=3, rounds=5, participants=12, voters=5, contract=True
    )
    seen = economy.run()
    assert seen.malicious_slashed_by_audits == 2 and seen.honest_slashes == 0


def test_without_a_pot_no_token_is_made_and_the_paper_s_rule_loses_none() -> None:
    economy = Economy(Measured(DETECTION), rule=RULE_PAPER, malicious=15, seed=1, rounds=60)
    economy.run()
    total = sum(economy.wealth(who) for who in economy.number) + economy.model.burned + economy.model.carried
    assert total == 50 * 64 * TOKEN + FEE, "what opening the task cost was the creator's"


@pytest.mark.parametrize("malicious", [5, 15])
def test_ours_costs_no_honest_participant_a_token_and_unseats_whoever_boosts_its_poison(malicious: int) -> None:
    economy = Economy(Measured(DETECTION), rule=RULE_PROPOSALS, malicious=malicious, seed=1, rounds=120, audit_rounds=0)
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
    """Without audits it keeps its seat and its bond."""
    economy = Economy(
        Measured(DETECTION, "matched"), rule=RULE_PROPOSALS, malicious=5, seed=1, rounds=60, audit_rounds=0
    )
    economy.run()
    assert economy.seated_malicious() == 5 and set(economy.wealths(True)) == {64.0}


def test_what_all_honest_auditors_find_costs_the_poisoners_everything_where_they_are_less_than_a_third() -> None:
    economy = Economy(invented(AUDITORS), rule=RULE_PROPOSALS, malicious=15, seed=1, rounds=40)
    seen = economy.run()
    assert economy.seated_malicious() == 0 and max(economy.wealths(True)) < 64
    assert seen.malicious_slashed_by_audits > 0 and min(economy.wealths(False)) == 64


def test_liars_with_more_than_a_third_are_expelled_by_the_half_and_keep_their_bonds_while_they_are_so_many() -> None:
    """Two thirds of all stake slash, more than half suspends, and after three proposals in a row expels."""
    economy = Economy(invented(AUDITORS), rule=RULE_PROPOSALS, malicious=20, seed=1, rounds=20)
    seen = economy.run()
    assert seen.malicious_slashed_by_audits == 0 and seen.malicious_suspended > 0 and set(economy.wealths(True)) == {64}
    assert 0 < economy.expelled(True) == 20 - economy.seated_malicious()
    economy = Economy(invented(AUDITORS), rule=RULE_PROPOSALS, malicious=20, seed=1, rounds=100)
    seen = economy.run()
    assert economy.seated_malicious() == 0 and economy.expelled(False) == seen.honest_slashes == 0
    assert min(seen.malicious_slashed_by_audits, economy.expelled(True)) > 0, "some, when they are less than a third"


def test_what_no_auditor_finds_stays() -> None:
    economy = Economy(invented(0), rule=RULE_PROPOSALS, malicious=5, seed=1, rounds=20)
    seen = economy.run()
    assert economy.seated_malicious() == 5 and seen.malicious_suspended == 0


def test_the_honest_lose_their_bonds_where_liars_and_mistaken_auditors_together_are_two_thirds() -> None:
    """What remains: with 40 per cent of liars, half of the honest auditors mistaken about an honest proposal, twice."""
    economy = Economy(invented(0, honest_found_by=5), rule=RULE_PROPOSALS, malicious=20, seed=1, rounds=8)
    assert economy.run().honest_slashed_by_audits > 0
    few = Economy(invented(0, honest_found_by=5), rule=RULE_PROPOSALS, malicious=5, seed=1, rounds=8)
    assert few.run().honest_slashed_by_audits == 0


def test_what_is_found_but_is_not_worth_a_bond_expels_and_costs_no_token() -> None:
    """More than half takes it out each time; that this comes again is what puts its author out."""
    found = invented(AUDITORS, value=CONVICT_FROM - 1)
    economy = Economy(found, rule=RULE_PROPOSALS, malicious=10, seed=1, rounds=120)
    seen = economy.run()
    assert economy.expelled(True) == 10 and economy.seated_malicious() == 0
    assert seen.malicious_slashed_by_audits == seen.honest_slashes == 0 and set(economy.wealths(True)) == {64.0}
