# pragma version 0.4.3
"""
@title Absence: who missed which heights, and who is jailed for it
@notice A height counts as missed where a block showed a quorum's votes of it and none of the validator's. The last 100
        heights are kept as bits, shifted only when another one is missed, so presence costs nothing.
"""

import epochs
import stakes

uses: stakes
uses: epochs

WINDOW: constant(uint256) = 100  # heights
HALF: constant(uint256) = 2**128 - 1

event Missed:
    height: indexed(uint256)
    absent: uint256  # bitmap by row of that height's set

jail_delay: public(uint256)
absence_limit: public(uint256)
history: HashMap[address, uint256]  # the last missed height << 128 | a bit for each of the 100 heights up to it


@internal
def _record(absent: uint256):
    """
    @notice Count the absent at the parent's height; bit i is row i of the set that served it.
    """
    height: uint256 = block.number - 1
    epoch: uint256 = epochs._epoch_of(height) % epochs.RING
    size: uint256 = len(epochs.sets[epoch])
    assert absent >> size == 0, "stake: absent is who is in the set"
    log Missed(height=height, absent=absent)
    for index: uint256 in range(size, bound=stakes.MAX_VALIDATORS):
        if (absent >> index) & 1 == 1:
            self._miss(epochs._account(epochs.sets[epoch][index]), height)


@internal
def _miss(account: address, height: uint256):
    packed: uint256 = self.history[account]
    passed: uint256 = height - (packed >> 128)
    bits: uint256 = 1
    if passed < WINDOW:
        bits = (((packed & HALF) << passed) | 1) & (2**WINDOW - 1)
    self.history[account] = (height << 128) | bits
    if self._count(bits) >= self.absence_limit and stakes.jailed_until[account] == 0:
        until: uint256 = stakes._now() + self.jail_delay
        stakes.jailed_until[account] = until
        log stakes.Jailed(account=account, until=until)


@internal
def _release(account: address):
    assert stakes.jailed_until[account] > 0, "stake: not jailed"
    assert stakes.tombstoned_at[account] == 0, "stake: tombstoned"
    assert stakes._now() >= stakes.jailed_until[account], "stake: still jailed"
    stakes.jailed_until[account] = 0
    self.history[account] = 0
    stakes._enlist(account)
    log stakes.Unjailed(account=account)


@pure
@internal
def _count(bits: uint256) -> uint256:
    """
    @notice The number of ones in 128 bits: sums of pairs, of fours, of bytes, then all bytes by a multiplication.
    """
    x: uint256 = bits - ((bits >> 1) & (HALF // 3))  # 0x5555...
    x = (x & (HALF // 5)) + ((x >> 2) & (HALF // 5))  # 0x3333...
    x = (x + (x >> 4)) & (HALF // 17)  # 0x0f0f...
    return ((x * (HALF // 255)) & HALF) >> 120  # 0x0101...


@view
@external
def missed(account: address) -> uint256:
    """
    @notice How many of the 100 heights up to its last missed one the account missed.
    """
    return self._count(self.history[account] & HALF)
