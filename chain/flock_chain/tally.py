"""The tally of a round in Python: the contract's rule, recomputed by `verify`. Pure; knows no storage.

Lower medians throughout (the element at (n - 1) // 2 in order), because they are somebody's measurement and a claim
of one is checked by counting. 1.4826, which makes a median absolute deviation comparable to a standard deviation,
is 7413/5000; thresholds cross-multiply.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from flock_chain.errors import Misuse

SEATS_MAX = 16  # proposers, and voters, of a round
SCORE_LIMIT = 10**9  # |score| in millionths: a loss a thousand times the previous one
FILTER_NORM_REJECT = 1  # norm above twice the lower median
FILTER_NORM_SLASH = 2  # norm above three times the lower median, and outside the task's ball
NORM_BITS = FILTER_NORM_REJECT | FILTER_NORM_SLASH
FILTER_NEAR_DUPLICATE = 4  # of an earlier proposal of the round
FILTER_NO_SCORE = 8  # the voter could not score this proposal; its score is ignored
MIN_SPREAD = 3  # medians; the lower median deviation of one or two is 0 by construction, and says nothing
_MAD_NUMERATOR, _MAD_DENOMINATOR = 7413, 5000


class Verdict(IntEnum):
    NONE = 0
    ACCEPTED = 1
    REJECTED_LOSS = 2
    REJECTED_NORM = 3
    ACCUSED_NORM = 4  # by the committee; its bond is taken only where more than half of all stake confirms it
    DUPLICATE = 5
    VOID = 6
    INVALID = 7  # likewise
    UNOPENED = 8
    REJECTED_AGGREGATE = 9  # with all others of its round: the paper's rule


@dataclass(frozen=True)
class Tally:
    medians: tuple[int, ...]  # by proposer index, SEATS_MAX long, 0 where there is none
    center: int
    mad: int
    verdicts: tuple[Verdict, ...]  # by proposer index, SEATS_MAX long; NONE outside the input set
    is_void: bool  # nobody could be accepted: no scores, or more than half rejected by loss


def compute_lower_median(values: Sequence[int]) -> int:
    if not values:
        raise Misuse("median of nothing")
    return sorted(values)[(len(values) - 1) // 2]


def compute_mad(values: Sequence[int], center: int) -> int:
    """Lower median of the distances to the center."""
    return compute_lower_median([abs(value - center) for value in values])


def is_rejected_by_loss(
    median: int, *, center: int, mad: int, loss_limit: int, mad_multiple: int, scored: int = MIN_SPREAD
) -> bool:
    """Above max(0, center + mad_multiple x 1.4826 x mad), or above the limit. Millionths, positive is worse.

    `scored`: how many proposals have a median; below MIN_SPREAD the limit alone decides.
    """
    outlier = scored >= MIN_SPREAD and _MAD_DENOMINATOR * (median - center) > mad_multiple * _MAD_NUMERATOR * mad
    return (median > 0 and outlier) or median > loss_limit


def has_two_thirds(count: int, seats: int) -> bool:
    return 3 * count >= 2 * seats


def compute_tally(
    scores_by_voter: Sequence[Sequence[int]],
    filters_by_voter: Sequence[Sequence[int]],
    input_set: int,
    loss_limit: int,
    mad_multiple: int,
) -> Tally:
    """From the revealed scores (rows of SEATS_MAX, one for each voter that revealed) and the input set's bitmap.

    A proposal that at most half of the voters could score is VOID; one that nobody could has no median, takes no part
    in center and mad, and counts in the size of the input set. Norm verdicts and near duplicates hold in a void round.
    """
    _check_rows(scores_by_voter, filters_by_voter, input_set)
    voters = len(scores_by_voter)
    members = [index for index in range(SEATS_MAX) if input_set >> index & 1]
    scored: dict[int, int] = {}
    well_scored: set[int] = set()
    for index in members:
        values = [
            scores[index]
            for scores, filters in zip(scores_by_voter, filters_by_voter, strict=True)
            if not filters[index] & FILTER_NO_SCORE
        ]
        if values:
            scored[index] = compute_lower_median(values)
        if 2 * len(values) > voters:
            well_scored.add(index)
    center = compute_lower_median(list(scored.values())) if scored else 0
    mad = compute_mad(list(scored.values()), center) if scored else 0
    rejected = {
        index
        for index, median in scored.items()
        if is_rejected_by_loss(
            median, center=center, mad=mad, loss_limit=loss_limit, mad_multiple=mad_multiple, scored=len(scored)
        )
    }
    is_void = voters == 0 or not scored or 2 * len(rejected) > len(members)
    verdicts = [Verdict.NONE] * SEATS_MAX
    for index in members:
        verdict = _compute_filter_verdict([filters[index] for filters in filters_by_voter])
        if verdict is Verdict.NONE:
            verdict = Verdict.REJECTED_LOSS if index in rejected else Verdict.ACCEPTED
            verdict = Verdict.VOID if is_void or index not in well_scored else verdict
        verdicts[index] = verdict
    medians = tuple(scored.get(index, 0) for index in range(SEATS_MAX))
    return Tally(medians, center, mad, tuple(verdicts), is_void)


def _compute_filter_verdict(filters: Sequence[int]) -> Verdict:
    """The gravest filter that two thirds of the revealed seats report."""
    for bit, verdict in (
        (FILTER_NORM_SLASH, Verdict.ACCUSED_NORM),
        (FILTER_NORM_REJECT, Verdict.REJECTED_NORM),
        (FILTER_NEAR_DUPLICATE, Verdict.DUPLICATE),
    ):
        count = sum(1 for value in filters if value & bit)
        if count and has_two_thirds(count, len(filters)):
            return verdict
    return Verdict.NONE


def _check_rows(scores: Sequence[Sequence[int]], filters: Sequence[Sequence[int]], input_set: int) -> None:
    if len(scores) != len(filters) or len(scores) > SEATS_MAX:
        raise Misuse(f"tally: {len(scores)} rows of scores, {len(filters)} of filters, at most {SEATS_MAX}")
    if any(len(row) != SEATS_MAX for row in (*scores, *filters)):
        raise Misuse(f"tally: a row has {SEATS_MAX} entries")
    if not 0 <= input_set < 1 << SEATS_MAX:
        raise Misuse("tally: input set is a bitmap of proposers")
