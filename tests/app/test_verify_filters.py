"""What two thirds of a round's voters may have said of its proposals, by what anybody recomputes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from app_support import Game, Script, small_document
from roles_support import DOCUMENT, make_delta

from flock_chain.aggregation import Delta, filter_bits, quantise
from flock_chain.suspicion import MIN_PROPOSALS
from flock_chain.tally import FILTER_NEAR_DUPLICATE
from flock_p2p.verify import tasks
from flock_p2p.verify.home import verify_home
from flock_p2p.verify.report import VerifyReport
from flock_p2p.verify.votes import Ballot, check_filters

BALL = DOCUMENT.budget.norm_thousandths
SEATS = 10
ALIKE = (3, 6)


def check(deltas: Mapping[int, Delta], said: Mapping[int, int], *, is_first: bool = False) -> VerifyReport:
    """`deltas`: of the input set, by proposer index. `said`: by all voters, beside what is exact."""
    order, report = sorted(deltas), VerifyReport("home")
    exact = dict(zip(order, filter_bits([deltas[index] for index in order], BALL), strict=True))
    accounts = [bytes([index]) * 20 for index in range(SEATS)]
    result = {"proposers": accounts, "held_set": sum(1 << index for index in order)}
    filters = [exact.get(index, 0) | said.get(index, 0) for index in range(SEATS)]
    ballots = [Ballot(account, [0] * SEATS, filters) for account in accounts[:7]]
    check_filters("round 3", result, ballots, deltas, (), BALL, report, is_first=is_first)
    return report


def make_half_alike() -> dict[int, Delta]:
    """Nine of ten seats; two share a half of their weights."""
    deltas = {index: make_delta(index) for index in range(1, SEATS)}
    for index in ALIKE:
        vector = deltas[index].to_float32() + make_delta(77).to_float32()
        deltas[index] = quantise(vector, DOCUMENT.layout, DOCUMENT.format)
    return deltas


def test_voters_who_call_anybody_alike_where_a_norm_leaves_too_few_to_compare_are_contradicted() -> None:
    deltas = {index: delta for index, delta in make_half_alike().items() if index <= MIN_PROPOSALS}
    said = dict.fromkeys(ALIKE, FILTER_NEAR_DUPLICATE)
    assert not check(deltas, said).failures
    deltas[1] = make_delta(1, 4e-2)
    assert not check(deltas, {}).failures and check(deltas, said).failures


@pytest.mark.parametrize("count", [SEATS - 1, MIN_PROPOSALS])
def test_voters_are_believed_whom_they_call_alike_where_its_weights_are_and_a_seat_before_it_is_empty(
    count: int,
) -> None:
    deltas = dict(list(make_half_alike().items())[:count])
    report = check(deltas, dict.fromkeys(ALIKE, FILTER_NEAR_DUPLICATE))
    assert not report.failures and sum("SUSPECT" in line for line in report.remarks) == len(ALIKE)
    for other in (2, 5, 7):
        assert check(make_half_alike(), {other: FILTER_NEAR_DUPLICATE}).failures


def test_voters_who_call_anybody_alike_at_the_task_s_first_adapter_are_contradicted() -> None:
    """There all changes lie close together, so that honest voters do not ask."""
    assert check(make_half_alike(), dict.fromkeys(ALIKE, FILTER_NEAR_DUPLICATE), is_first=True).failures
    assert not check(make_half_alike(), {}, is_first=True).failures


def test_the_first_adapter_is_that_of_the_task_s_beginning_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played, asked = Game(tmp_path / "home", small_document(), Script(rounds=2)).run(), list[bool]()

    def watch(*what: Any, is_first: bool) -> None:
        asked.append(is_first)
        check_filters(*what, is_first=is_first)

    monkeypatch.setattr(tasks, "check_filters", watch)
    assert verify_home(played.home).ok and asked == [True, False]


def test_a_copy_of_an_earlier_proposal_is_exact_and_no_suspicion() -> None:
    deltas = make_half_alike() | {ALIKE[1]: make_half_alike()[ALIKE[0]]}
    report = check(deltas, {})
    assert not report.failures and not report.remarks
