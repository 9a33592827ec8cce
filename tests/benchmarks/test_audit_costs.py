"""What a look costs is the sum of its parts, each the middle one of its turns, beside both trainings."""

import pytest
from audit_costs import TRAININGS, Costs


def test_a_look_is_the_sum_of_its_parts_by_proposal_and_no_training_is_one_of_them() -> None:
    now = [0.0]

    def take(seconds: float) -> float:
        now[0] += seconds
        return seconds

    costs = Costs(lambda: now[0])
    for seconds in (1.0, 8.0, 3.0):
        assert costs.measure("one", lambda each=seconds: take(each), 4) == seconds  # type: ignore[misc]
        costs.measure("other", lambda each=seconds: take(each))  # type: ignore[misc]
    for name, seconds in zip(TRAININGS, (5.0, 1.5), strict=True):
        costs.measure(name, lambda each=seconds: take(each))  # type: ignore[misc]
    found = costs.summarise()
    assert (found["one"], found["other"], found["a look"]) == (0.75, 3.0, 3.75)
    assert [found[f"a look / {name}"] for name in TRAININGS] == pytest.approx([0.75, 2.5])
