"""What two thirds of a round's voters may have said of its proposals, by what anybody recomputes."""

import pytest
from roles_support import DOCUMENT, make_delta

from flock_chain.aggregation import filter_bits
from flock_chain.tally import FILTER_NEAR_DUPLICATE
from flock_p2p.verify.report import VerifyReport
from flock_p2p.verify.votes import Ballot, check_filters

BALL = DOCUMENT.budget.norm_thousandths


@pytest.mark.parametrize("count", [9, 10])
def test_voters_who_call_unrelated_proposals_alike_because_one_is_four_times_as_long_are_contradicted(
    count: int,
) -> None:
    """That one moves the mean, by which all others are alike in weights; of none that is turned away is that said."""
    deltas = {index: make_delta(index, 4e-2 if index == 0 else 1e-2) for index in range(count)}
    exact = filter_bits([deltas[index] for index in range(count)], BALL)
    assert exact[0] and not any(exact[1:])
    accounts = [bytes([index]) * 20 for index in range(count)]
    result = {"proposers": accounts, "held_set": (1 << count) - 1}
    for said, is_refuted in ((0, False), (FILTER_NEAR_DUPLICATE, True)):
        ballots = [Ballot(account, [0] * count, [exact[0], said, *exact[2:]]) for account in accounts[:7]]
        report = VerifyReport("home")
        check_filters("round 3", result, ballots, deltas, (), BALL, report)
        assert bool(report.failures) is is_refuted
