"""The exhaustive check of the abstract protocol: safe with the right rules, refuted with each wrong one."""

import pytest

from flock_p2p.simulate.proof import WRONG_RULES, find_fork, max_byzantine, prove


def test_every_claim_comes_out_as_it_must() -> None:
    claims = prove(largest=25, weighted=5, heaviest=4)
    assert [claim.text for claim in claims if not claim.holds] == []
    assert all(claim.cases for claim in claims)
    assert {claim.safe for claim in claims} == {True, False}


@pytest.mark.parametrize("n", [4, 7, 10, 13])
def test_one_byzantine_validator_too_many_is_unsafe_and_one_fewer_is_not(n: int) -> None:
    f = max_byzantine(n)
    assert find_fork((1,) * (n - f), f, n - f) is None
    assert find_fork((1,) * (n - f - 1), f + 1, n - f) is not None


def test_unequal_weights_are_safe_by_weight_and_unsafe_by_heads() -> None:
    assert find_fork((4, 4), 2, 10 - max_byzantine(10)) is None  # two light ones of four misbehave
    assert find_fork((1, 1), 2, 4 - max_byzantine(4)) is not None  # counted by heads


@pytest.mark.parametrize("wrong", WRONG_RULES)
def test_a_missing_rule_is_refuted_by_a_run_that_can_be_read(wrong: str) -> None:
    path = find_fork((1, 1, 2), 1, 4, wrong)
    assert path is not None and not path[0].final_x
    assert path[-1].final_x and path[-1].final_y
    assert len(path) == len(set(path))
