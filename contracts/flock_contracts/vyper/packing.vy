# pragma version 0.4.3
"""
@title Bitmaps, packed scores and the check of a claimed median
@notice Pure functions. A score takes 32 bits (|score| <= 10**9), a filter result or a verdict 4, a seat in a bitmap 1.
"""

SEATS: constant(uint256) = 16
SCORE_LIMIT: constant(int256) = 10**9  # millionths: a loss a thousand times the previous one
SCORE_OFFSET: constant(int256) = 2**31
SCORE_BITS: constant(uint256) = 32
NIBBLE_BITS: constant(uint256) = 4


@pure
@internal
def _has(bitmap: uint256, index: uint256) -> bool:
    return (bitmap >> index) & 1 == 1


@pure
@internal
def _count(bitmap: uint256) -> uint256:
    """
    @notice The ones in a bitmap of 16, added pairwise.
    """
    x: uint256 = bitmap - ((bitmap >> 1) & 21_845)
    x = (x & 13_107) + ((x >> 2) & 13_107)
    x = (x + (x >> 4)) & 3_855
    return (x + (x >> 8)) & 31


@pure
@internal
def _full(seats: uint256) -> uint256:
    """
    @notice The bitmap in which every seat has a one.
    """
    return (1 << seats) - 1


@pure
@internal
def _has_two_thirds(count: uint256, seats: uint256) -> bool:
    return 3 * count >= 2 * seats


@pure
@internal
def _nibble(packed: uint256, index: uint256) -> uint256:
    return (packed >> (NIBBLE_BITS * index)) & 15


@pure
@internal
def _with_nibble(packed: uint256, index: uint256, nibble: uint256) -> uint256:
    """
    @notice Sets an entry that is 0 so far.
    """
    return packed | (nibble << (NIBBLE_BITS * index))


@pure
@internal
def _pack_scores(scores: int256[SEATS]) -> uint256[2]:
    """
    @notice Entries 0-7 in the first word, 8-15 in the second.
    """
    words: uint256[2] = [0, 0]
    for index: uint256 in range(SEATS):
        assert scores[index] <= SCORE_LIMIT and scores[index] >= -SCORE_LIMIT, "board: a score is out of range"
        entry: uint256 = convert(scores[index] + SCORE_OFFSET, uint256)
        words[index >> 3] |= entry << (SCORE_BITS * (index & 7))
    return words


@pure
@internal
def _score(words: uint256[2], index: uint256) -> int256:
    entry: uint256 = (words[index >> 3] >> (SCORE_BITS * (index & 7))) & (2**32 - 1)
    return convert(entry, int256) - SCORE_OFFSET


@pure
@internal
def _pack_filters(filters: uint256[SEATS]) -> uint256:
    packed: uint256 = 0
    for index: uint256 in range(SEATS):
        assert filters[index] <= 15, "board: an unknown filter bit"
        packed |= filters[index] << (NIBBLE_BITS * index)
    return packed


@pure
@internal
def _is_lower_median(values: DynArray[int256, SEATS], claim: int256) -> bool:
    """
    @notice Whether the claim is the element at (n - 1) // 2 in ascending order; by counting, not by sorting.
    """
    below: uint256 = 0
    up_to: uint256 = 0
    for value: int256 in values:
        if value < claim:
            below += 1
        if value <= claim:
            up_to += 1
    if len(values) == 0:
        return claim == 0
    middle: uint256 = (len(values) - 1) // 2
    return below <= middle and up_to > middle
