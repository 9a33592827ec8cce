# pragma version 0.4.3
"""
@title Epochs: which set serves which height, and how the next one is made
@notice An epoch lasts `epoch_blocks` blocks and `epoch_seconds` of chain time, whichever ends later. The snapshot taken
        at the end of epoch e serves epoch e + 2, so the set of the next epoch is known for a whole epoch.

        A snapshot moves each candidate's weight towards what it should be, by no more than a tenth of the whole, or by
        one candidate where that is more: the tombstoned first, then the jailed, then who leaves, then who rises or
        comes. Whoever does not fit moves by what is left of the tenth, and each epoch begins with another candidate, so
        that nobody's small changes hold up somebody else's. A single rise is at most a tenth of the whole or an average
        weight. A set is never empty: the last weight stays, whoever it belongs to.
"""

import IBeacon
import stakes

uses: stakes

RING: constant(uint256) = 4  # epochs whose sets are kept: the next, this, and two before
CHURN_DIVISOR: constant(uint256) = 10
RANKS: constant(uint256) = 3

struct ValidatorRow:
    account: address
    weight: uint256
    vrf_key: bytes32

event EpochEnded:
    epoch: indexed(uint256)
    height: uint256
    chain_time: uint256
    total: uint256

event WeightChanged:
    account: indexed(address)
    epoch: indexed(uint256)
    weight: uint256

event Restarted:
    document: indexed(bytes32)
    height: uint256
    jailed_until: uint256
    keep: DynArray[address, stakes.MAX_VALIDATORS]

epoch_blocks: public(uint256)
epoch_seconds: public(uint256)
epoch: public(uint256)
started_at: public(uint256)  # chain time
first_height_of: public(HashMap[uint256, uint256])
ended_at: public(HashMap[uint256, uint256])  # chain time
total_weight_of: public(HashMap[uint256, uint256])  # of the set of an epoch
sets: HashMap[uint256, DynArray[uint256, stakes.MAX_VALIDATORS]]  # by epoch % RING; weight << 160 | account


@view
@internal
def _account(row: uint256) -> address:
    return convert(row & (2**160 - 1), address)


@view
@internal
def _epoch_of(height: uint256) -> uint256:
    """
    @notice Of the head's height, or the one after it.
    """
    return self.epoch if height >= self.first_height_of[self.epoch] else self.epoch - 1


@view
@internal
def _is_over() -> bool:
    if block.number + 1 < self.first_height_of[self.epoch] + self.epoch_blocks:
        return False
    return stakes._now() >= self.started_at + self.epoch_seconds


@internal
def _start(rows: DynArray[uint256, stakes.MAX_VALIDATORS]):
    """
    @notice Genesis: its set serves the first two epochs.
    """
    self.sets[0] = rows
    self.sets[1] = rows
    self.total_weight_of[0] = stakes.total_staked
    self.total_weight_of[1] = stakes.total_staked
    self.started_at = stakes._now()
    self.first_height_of[0] = block.number + 1


@internal
def _end():
    ending: uint256 = self.epoch
    now: uint256 = stakes._now()
    total: uint256 = self._snapshot(ending + 2)
    self.total_weight_of[ending + 2] = total
    self.ended_at[ending] = now
    self.epoch = ending + 1
    self.first_height_of[ending + 1] = block.number + 1
    self.started_at = now
    log EpochEnded(epoch=ending, height=block.number, chain_time=now, total=total)


@view
@internal
def _rank(account: address) -> uint256:
    """
    @notice Who goes first where not all can: 0 the tombstoned, 1 the jailed, 2 the others.
    """
    if stakes.tombstoned_at[account] > 0:
        return 0
    return 1 if stakes.jailed_until[account] > 0 else 2


@pure
@internal
def _within(change: uint256, used: uint256, budget: uint256) -> uint256:
    """
    @notice How much of a change an epoch takes: the first one whole, another one by what is left.
    """
    if used == 0:
        return change
    return min(change, budget - min(used, budget))


@internal
def _snapshot(epoch: uint256) -> uint256:
    """
    @notice Make the set of `epoch` from the latest one; returns its total weight.
    """
    accounts: DynArray[address, stakes.MAX_CANDIDATES] = stakes.candidates
    count: uint256 = len(accounts)
    old: DynArray[uint256, stakes.MAX_CANDIDATES] = []
    new: DynArray[uint256, stakes.MAX_CANDIDATES] = []
    targets: DynArray[uint256, stakes.MAX_CANDIDATES] = []
    total: uint256 = 0
    members: uint256 = 0
    for account: address in accounts:
        weight: uint256 = stakes.weight_of[account]
        old.append(weight)
        new.append(weight)
        targets.append(stakes._target(account))
        total += weight
        members += 1 if weight > 0 else 0
    budget: uint256 = total // CHURN_DIVISOR
    step: uint256 = max(budget, total // members)
    used: uint256 = 0
    for rank: uint256 in range(RANKS):
        for offset: uint256 in range(count, bound=stakes.MAX_CANDIDATES):
            index: uint256 = (epoch + offset) % count
            if targets[index] >= old[index] or self._rank(accounts[index]) != rank:
                continue
            fall: uint256 = self._within(old[index] - targets[index], used, budget)
            if fall == 0 or fall == total:
                continue
            used += fall
            total -= fall
            new[index] = old[index] - fall
            members -= 1 if new[index] == 0 else 0
    for offset: uint256 in range(count, bound=stakes.MAX_CANDIDATES):
        index: uint256 = (epoch + offset) % count
        if targets[index] <= old[index]:
            continue
        rise: uint256 = self._within(min(targets[index] - old[index], step), used, budget)
        if rise == 0:
            continue
        if old[index] == 0:
            if members == stakes.MAX_VALIDATORS:
                continue
            members += 1
        used += rise
        total += rise
        new[index] = old[index] + rise
    self._store(epoch, accounts, old, new)
    return total


@internal
def _store(
    epoch: uint256,
    accounts: DynArray[address, stakes.MAX_CANDIDATES],
    old: DynArray[uint256, stakes.MAX_CANDIDATES],
    new: DynArray[uint256, stakes.MAX_CANDIDATES],
):
    """
    @notice Write the set of `epoch`, each weight that changed, and the candidates that are left.
    """
    rows: DynArray[uint256, stakes.MAX_VALIDATORS] = []
    kept: DynArray[address, stakes.MAX_CANDIDATES] = []
    for index: uint256 in range(len(accounts), bound=stakes.MAX_CANDIDATES):
        account: address = accounts[index]
        weight: uint256 = new[index]
        if weight != old[index]:
            stakes.weight_of[account] = weight
            if weight < old[index]:
                stakes.last_epoch_of[account] = epoch - 1
            elif weight > stakes.peak_weight_of[account]:
                stakes.peak_weight_of[account] = weight
            log WeightChanged(account=account, epoch=epoch, weight=weight)
        stakes._close_batch(account, epoch - 1)
        if weight > 0:
            rows.append((weight << 160) | convert(account, uint256))
        if weight > 0 or stakes._target(account) > 0:
            kept.append(account)
        else:
            stakes.is_candidate[account] = False
    self.sets[epoch % RING] = rows
    if len(kept) < len(accounts):
        stakes.candidates = kept


@internal
def _restart(document: bytes32, keep: DynArray[address, stakes.MAX_VALIDATORS], jail_until: uint256):
    """
    @notice The set of this epoch and of the next becomes what is left of it; the others are jailed.
    """
    rows: DynArray[uint256, stakes.MAX_VALIDATORS] = []
    candidates: DynArray[address, stakes.MAX_CANDIDATES] = []
    total: uint256 = 0
    last: uint256 = max(self.epoch, 1)  # 0 would say: none, and leave an exit open for ever
    for row: uint256 in self.sets[self.epoch % RING]:
        account: address = self._account(row)
        if account in keep:
            rows.append(row)
            candidates.append(account)
            total += row >> 160
            if row >> 160 > max(stakes.weight_of[account], stakes.staked_with[account]):
                stakes._need_again(account, self.epoch)
            stakes.weight_of[account] = row >> 160
            stakes.is_candidate[account] = True
    assert len(rows) == len(keep) and len(rows) > 0, "stake: a restart keeps members of the set alone"
    for account: address in stakes.candidates:
        if account in keep:
            continue
        if stakes.weight_of[account] > 0:
            stakes.weight_of[account] = 0
            stakes.last_epoch_of[account] = last
            stakes.jailed_until[account] = jail_until
            stakes._close_batch(account, last)
            log stakes.Jailed(account=account, until=jail_until)
        if stakes._target(account) > 0 and len(candidates) < stakes.MAX_CANDIDATES:
            candidates.append(account)
        else:
            stakes.is_candidate[account] = False
    stakes.candidates = candidates
    for epoch: uint256 in range(self.epoch, self.epoch + 2, bound=2):
        self.sets[epoch % RING] = rows
        self.total_weight_of[epoch] = total
    log Restarted(document=document, height=block.number, jailed_until=jail_until, keep=keep)


@view
@internal
def _weight_in(epoch: uint256, account: address) -> uint256:
    for row: uint256 in self.sets[epoch % RING]:
        if self._account(row) == account:
            return row >> 160
    return 0


@view
@internal
def _rows(epoch: uint256) -> DynArray[ValidatorRow, stakes.MAX_VALIDATORS]:
    rows: DynArray[ValidatorRow, stakes.MAX_VALIDATORS] = []
    for row: uint256 in self.sets[epoch % RING]:
        account: address = self._account(row)
        rows.append(ValidatorRow(account=account, weight=row >> 160, vrf_key=stakes.vrf_key[account]))
    return rows


@view
@external
def validators() -> DynArray[ValidatorRow, stakes.MAX_VALIDATORS]:
    """
    @notice The set that serves the height after the head.
    """
    return self._rows(self.epoch)


@view
@external
def validators_of(epoch: uint256) -> DynArray[ValidatorRow, stakes.MAX_VALIDATORS]:
    """
    @notice The set of an epoch: the next one, this one, or one of the two before.
    """
    assert epoch <= self.epoch + 1 and epoch + 2 >= self.epoch, "stake: the set of this epoch is not here"
    return self._rows(epoch)


@view
@external
def epoch_state() -> (uint256, uint256):
    """
    @notice The epoch that serves the height after the head, and its first height.
    """
    return self.epoch, self.first_height_of[self.epoch]


@view
@external
def is_epoch_over() -> bool:
    """
    @notice Whether this block is the last of its epoch.
    """
    return self._is_over()
