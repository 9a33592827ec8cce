# pragma version 0.4.3
"""
@title Exits: how a bond leaves its validator, and when it is free
@notice A bond is free one unbonding delay after the last epoch that it secures. Where the validator's weight is above
        what stays bonded, the exit joins a batch, which closes with the first snapshot that has brought the weight
        down: then its last epoch is known. Later exits of others join later batches, and hold up nobody.
"""

import epochs
import stakes

uses: stakes
uses: epochs


@internal
def _start(account: address, owner: address, amount: uint256):
    """
    @notice Another call before the withdrawal starts the delay anew for all of this owner's exit.
    """
    assert amount > 0, "stake: unbond more than nothing"
    assert amount <= stakes._bonded(account, owner), "stake: more than is bonded"
    stakes._take_leave(account, amount)
    stake: uint256 = stakes.bonds[account][owner].stake - amount
    stakes.bonds[account][owner].stake = stake
    stakes.bonds[account][owner].leaving += amount
    stakes.bonds[account][owner].since = stakes._now()
    batch: uint256 = 0
    last: uint256 = stakes.last_epoch_of[account]
    if stakes.weight_of[account] > stakes.staked_with[account]:
        batch = stakes._open_batch(account)
    elif stakes.weight_of[account] > 0:
        last = max(last, max(epochs.epoch, 1))  # bonded while this epoch was secured
    stakes.bonds[account][owner].batch = batch
    stakes.bonds[account][owner].last = last
    log stakes.Unbonding(account=account, owner=owner, amount=amount, stake=stake, batch=batch, last=last)


@view
@internal
def _after(last: uint256, since: uint256) -> uint256:
    """
    @notice One delay after `since` and after the end of epoch `last`, where that is one.
    """
    if last == 0:
        return since + stakes.unbonding_delay
    if last >= epochs.epoch:
        return max_value(uint256)
    return max(since, epochs.ended_at[last]) + stakes.unbonding_delay


@view
@internal
def _free_at(account: address, bond: stakes.Bond) -> uint256:
    """
    @notice Chain time from which what is leaving secures nothing any more; max_value(uint256) while that is open.
    """
    last: uint256 = bond.last
    if bond.batch > 0:
        last = stakes.batch_last[account][bond.batch]
        if last == 0:
            return max_value(uint256)
    again: uint256 = stakes.again_batch[account]
    if again > 0 and last > 0 and last >= stakes.again_from[account]:
        closed: uint256 = stakes.batch_last[account][again]
        if closed == 0:
            return max_value(uint256)
        last = max(last, closed)
    return self._after(last, bond.since)


@view
@internal
def _held(account: address, bond: stakes.Bond) -> uint256:
    """
    @notice What of an exit a conviction of the validator holds: nothing where it was free before.
    """
    at: uint256 = stakes.tombstoned_at[account]
    if at == 0 or bond.is_settled or (bond.leaving > 0 and self._free_at(account, bond) <= at):
        return 0
    return bond.leaving


@view
@internal
def _released_from_conviction(account: address) -> uint256:
    if stakes.weight_of[account] > 0:
        return max_value(uint256)
    return self._after(stakes.last_epoch_of[account], stakes.tombstoned_at[account])


@view
@internal
def _release_at(account: address, owner: address) -> uint256:
    """
    @notice Chain time of the next withdrawal; max_value(uint256) while it cannot be named.
    """
    bond: stakes.Bond = stakes.bonds[account][owner]
    if stakes.tombstoned_at[account] == 0:
        staying: uint256 = stakes.staked_with[account] + stakes.leaving_with[account] - bond.leaving
        if stakes.weight_of[account] > staying:
            return max_value(uint256)
        return self._free_at(account, bond)
    if bond.is_settled:
        return stakes.tombstoned_at[account]
    if bond.leaving > 0 and self._held(account, bond) == 0:
        return self._free_at(account, bond)
    return self._released_from_conviction(account)
