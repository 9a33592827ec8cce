# pragma version 0.4.3
"""
@title From revealed scores to verdicts
@notice Medians are claimed by a caller and checked by counting: sorting on chain costs too much.
"""

import accusations
import book
import packing
import types

uses: (book, accusations)


@pure
@internal
def _is_work(held_set: uint256, scores: int256[types.SEATS], filters: uint256[types.SEATS]) -> bool:
    """
    @notice Whether at least one proposal is scored, and not all alike where there are several.
    """
    scored: uint256 = 0
    first: int256 = 0
    differ: bool = False
    for index: uint256 in range(types.SEATS):
        if not packing._has(held_set, index) or filters[index] & types.FILTER_NO_SCORE != 0:
            continue
        if scored == 0:
            first = scores[index]
        elif scores[index] != first:
            differ = True
        scored += 1
    return differ or (scored == 1 and packing._count(held_set) == 1)


@view
@internal
def _check_claims(task: uint256, round: uint256, claims: types.Claims) -> types.Sheet:
    """
    @notice Reverts unless every claimed median is one.
    """
    held_set: uint256 = book.rounds[task][round].held_set
    cast: DynArray[types.Ballot, types.SEATS] = self._revealed_ballots(task, round)
    sheet: types.Sheet = empty(types.Sheet)
    found: DynArray[int256, types.SEATS] = []
    for index: uint256 in range(types.SEATS):
        values: DynArray[int256, types.SEATS] = []
        if packing._has(held_set, index):
            filters: uint256[3] = [0, 0, 0]
            for ballot: types.Ballot in cast:
                bits: uint256 = packing._nibble(ballot.filters, index)
                filters[0] += bits & 1
                filters[1] += (bits >> 1) & 1
                filters[2] += (bits >> 2) & 1
                if bits & types.FILTER_NO_SCORE == 0:
                    values.append(packing._score(ballot.scores, index))
            sheet.filters[index] = self._filter_verdict(filters, len(cast))
            sheet.counts[index] = len(values)
        assert packing._is_lower_median(values, claims.medians[index]), "board: not the median of a proposal"
        if len(values) > 0:
            found.append(claims.medians[index])
    self._check_center(found, claims.center, claims.mad)
    sheet.rejected = self._rejected_by_loss(task, sheet.counts, claims)
    return sheet


@view
@internal
def _revealed_ballots(task: uint256, round: uint256) -> DynArray[types.Ballot, types.SEATS]:
    revealed: uint256 = book.rounds[task][round].score_revealed
    cast: DynArray[types.Ballot, types.SEATS] = []
    for index: uint256 in range(types.SEATS):
        if packing._has(revealed, index):
            ballot: types.Ballot = empty(types.Ballot)
            ballot.scores = book.ballots[task][round][index].scores
            ballot.filters = book.ballots[task][round][index].filters
            cast.append(ballot)
    return cast


@pure
@internal
def _filter_verdict(counts: uint256[3], voters: uint256) -> uint256:
    """
    @notice The gravest filter result that two thirds of the revealed voters report.
    """
    if packing._has_two_thirds(counts[1], voters):
        return types.ACCUSED_NORM
    if packing._has_two_thirds(counts[0], voters):
        return types.REJECTED_NORM
    if packing._has_two_thirds(counts[2], voters):
        return types.DUPLICATE
    return types.UNJUDGED


@pure
@internal
def _check_center(medians: DynArray[int256, types.SEATS], center: int256, mad: int256):
    distances: DynArray[int256, types.SEATS] = []
    assert packing._is_lower_median(medians, center), "board: not the center of the medians"
    for median: int256 in medians:
        distances.append(abs(median - center))
    assert packing._is_lower_median(distances, mad), "board: not the median deviation"


@view
@internal
def _rejected_by_loss(task: uint256, counts: uint256[types.SEATS], claims: types.Claims) -> uint256:
    """
    @notice Above max(0, center + mad_multiple * 1.4826 * mad), or above the limit. Fewer than three medians have no
            spread (their deviation is 0 by construction), so there the limit alone decides.
    """
    limit: int256 = convert(book.tasks[task].terms.loss_limit, int256)
    band: int256 = convert(book.tasks[task].terms.mad_multiple, int256) * types.MAD_NUMERATOR * claims.mad
    scored: uint256 = 0
    for count: uint256 in counts:
        if count > 0:
            scored += 1
    rejected: uint256 = 0
    for index: uint256 in range(types.SEATS):
        median: int256 = claims.medians[index]
        if counts[index] == 0:
            continue
        is_outlier: bool = scored >= types.MIN_SPREAD and types.MAD_DENOMINATOR * (median - claims.center) > band
        if (median > 0 and is_outlier) or median > limit:
            rejected |= 1 << index
    return rejected


@internal
def _judge_all(task: uint256, round: uint256, sheet: types.Sheet) -> uint256:
    """
    @notice Verdicts of the input set; where more than half of it is rejected by loss, nobody is accepted.
    @return How many are accepted.
    """
    held_set: uint256 = book.rounds[task][round].held_set
    voters: uint256 = packing._count(book.rounds[task][round].score_revealed)
    is_void: bool = 2 * packing._count(sheet.rejected) > packing._count(held_set)
    accepted: uint256 = 0
    for index: uint256 in range(types.SEATS):
        if not packing._has(held_set, index):
            continue
        verdict: uint256 = sheet.filters[index]
        if verdict == types.ACCUSED_NORM:
            slash: uint256 = book.rules[book.tasks[task].rules].norm_slash
            accusations._accuse(task, round, index, verdict, slash)
            continue
        if verdict == types.UNJUDGED:
            if is_void or 2 * sheet.counts[index] <= voters:
                verdict = types.VOID
            elif packing._has(sheet.rejected, index):
                verdict = types.REJECTED_LOSS
            else:
                verdict = types.ACCEPTED
                accepted += 1
        book._judge(task, round, index, verdict, 0)
    return accepted
