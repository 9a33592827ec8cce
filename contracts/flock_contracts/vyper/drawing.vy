# pragma version 0.4.3
"""
@title The stake-weighted draw without replacement
@notice A pure function of seed and weights; flock_contracts.draw is its twin in Python.
"""

MAX_ROWS: constant(uint256) = 64
MAX_SEATS: constant(uint256) = 16


@pure
@internal
def _draw(seed: bytes32, weights: DynArray[uint256, MAX_ROWS], count: uint256) -> DynArray[uint256, MAX_SEATS]:
    """
    @notice Indices of `count` rows, or of all rows with weight where there are fewer; a row of weight 0 is never drawn.
    """
    left: DynArray[uint256, MAX_ROWS] = weights
    total: uint256 = 0
    for weight: uint256 in weights:
        total += weight
    drawn: DynArray[uint256, MAX_SEATS] = []
    for k: uint256 in range(count, bound=MAX_SEATS):
        if total == 0:
            break
        ticket: uint256 = convert(keccak256(concat(seed, convert(k, bytes32))), uint256) % total
        index: uint256 = 0
        for weight: uint256 in left:
            if ticket < weight:
                break
            ticket -= weight
            index += 1
        total -= left[index]
        left[index] = 0
        drawn.append(index)
    return drawn
