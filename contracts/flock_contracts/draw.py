"""The draw as a pure function: the slow, obvious twin of TaskBoard's. Knows no task, no phase and no account."""

from collections.abc import Sequence

import sha3


def draw(seed: bytes, weights: Sequence[int], count: int) -> list[int]:
    """Indices of `count` rows drawn without replacement, each time in proportion to the weights left.

    For draw k: keccak256(seed | uint256(k)) modulo the total weight left, walked along the rows in order. A row of
    weight 0 is never drawn. Raises ValueError where fewer than `count` rows have weight.
    """
    if len(seed) != 32:
        raise ValueError("draw: a seed is 32 bytes")
    left = list(weights)
    if any(weight < 0 for weight in left) or not 0 <= count <= sum(weight > 0 for weight in left):
        raise ValueError("draw: weights are not negative, and at least as many rows as are drawn have weight")
    return [_take(seed, k, left) for k in range(count)]


def _take(seed: bytes, k: int, left: list[int]) -> int:
    digest = sha3.keccak_256(seed + k.to_bytes(32, "big")).digest()
    ticket = int.from_bytes(digest, "big") % sum(left)
    for index, weight in enumerate(left):
        if ticket < weight:
            left[index] = 0
            return index
        ticket -= weight
    raise AssertionError("draw: a ticket is below the total weight")
