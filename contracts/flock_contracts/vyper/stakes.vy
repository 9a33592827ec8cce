# pragma version 0.4.3
"""
@title The books of stake: what the staking contract stores, and whose money is where
@notice Knows who bonded what with whom, who may enter a set, and what is leaving. Does not know how a set is chosen.
        A validator's own stake is its bond with itself; a delegator's is its bond with the validator.

        balance == total_staked + total_unbonding + total_rewards + burned, to the unit (and what was sent by force).
        weight_of[a] <= staked_with[a] + leaving_with[a]: whatever secures a set is still here to be slashed.

        A conviction turns all that is bonded with the validator into what is leaving: at once in the sums, and in a
        bond when it is settled, so that nobody loops over delegators.
"""

import IBeacon

SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
BEACON: constant(address) = 0x0000000000000000000000000000000000f10c01
MAX_VALIDATORS: constant(uint256) = 150  # certificates of more signatures do not fit a message
MAX_CANDIDATES: constant(uint256) = 300  # the end of an epoch reads them all
MAX_STAKE: constant(uint256) = 2**96 - 1  # a row of a set is one word: 96 bits of weight, 160 of account

struct Bond:
    stake: uint256
    leaving: uint256
    since: uint256  # chain time of the last request to leave
    batch: uint256  # the batch of exits that it waits with; 0: it waits for nobody
    last: uint256  # the last epoch that it secures, where it waits with no batch; 0: none
    is_settled: bool  # the penalty for the validator's conviction is taken
    index: uint256  # of the validator's rewards, up to which this bond has its part (see rewards.vy)
    fraction: uint256  # of a unit that it has earned besides

event Bonded:
    account: indexed(address)
    owner: indexed(address)
    amount: uint256
    stake: uint256

event KeySet:
    account: indexed(address)
    vrf_key: bytes32

event Unbonding:
    account: indexed(address)
    owner: indexed(address)
    amount: uint256
    stake: uint256
    batch: uint256  # that it waits with; 0: with none
    last: uint256  # the last epoch that it secures, where it waits with none; 0: none

event Withdrawn:
    account: indexed(address)
    owner: indexed(address)
    amount: uint256

event Jailed:
    account: indexed(address)
    until: uint256

event Unjailed:
    account: indexed(address)

event Admitted:
    account: indexed(address)
    weight: uint256

initialized: public(bool)
min_validator_stake: public(uint256)
unbonding_delay: public(uint256)
open_staking: public(bool)

candidates: DynArray[address, MAX_CANDIDATES]  # in the order of their coming
is_candidate: public(HashMap[address, bool])
bonds: HashMap[address, HashMap[address, Bond]]  # validator, owner
staked_with: public(HashMap[address, uint256])  # a validator's own and what others bonded with it
leaving_with: public(HashMap[address, uint256])
batch_of: HashMap[address, uint256]  # the batch that exits join, from 1 on; 0: none is open
batch_count: HashMap[address, uint256]
batch_last: HashMap[address, HashMap[uint256, uint256]]  # the last epoch that a closed batch secures; 0: open
again_from: HashMap[address, uint256]  # who left when this or a later epoch was its last is needed again,
again_batch: HashMap[address, uint256]  # until this batch closes; 0: no restart gave weight back
allowance_of: public(HashMap[address, uint256])  # the most weight that genesis or an admission grants
weight_of: public(HashMap[address, uint256])  # in the latest snapshot, which serves the next epoch
peak_weight_of: public(HashMap[address, uint256])  # the most that it ever weighed in a set; 0: never had a seat
vrf_key: public(HashMap[address, bytes32])
last_epoch_of: public(HashMap[address, uint256])  # the last epoch that a weight above the present one serves; 0: none
jailed_until: public(HashMap[address, uint256])  # chain time; 0: not jailed
tombstoned_at: public(HashMap[address, uint256])  # chain time of a proved offence; 0: none

total_staked: public(uint256)
total_unbonding: public(uint256)
total_rewards: public(uint256)
burned: public(uint256)


@view
@internal
def _now() -> uint256:
    return staticcall IBeacon(BEACON).chain_time()


@view
@internal
def _target(account: address) -> uint256:
    """
    @notice The weight that the account is to have in a set, were there no bound on change.
    """
    if self.jailed_until[account] > 0 or self.tombstoned_at[account] > 0:
        return 0
    if self.bonds[account][account].stake < self.min_validator_stake:
        return 0
    weight: uint256 = self.staked_with[account]
    if not self.open_staking:
        weight = min(weight, self.allowance_of[account])
    return weight if weight >= self.min_validator_stake else 0


@view
@internal
def _bonded(account: address, owner: address) -> uint256:
    """
    @notice Of a bond, what is not leaving.
    """
    return 0 if self.tombstoned_at[account] > 0 else self.bonds[account][owner].stake


@view
@internal
def _leaving(account: address, owner: address) -> uint256:
    leaving: uint256 = self.bonds[account][owner].leaving
    return leaving + self.bonds[account][owner].stake if self.tombstoned_at[account] > 0 else leaving


@view
@external
def stake_of(account: address) -> uint256:
    """
    @notice A validator's own stake.
    """
    return self._bonded(account, account)


@view
@external
def unbonding_of(account: address) -> uint256:
    return self._leaving(account, account)


@view
@external
def delegation_of(account: address, owner: address) -> (uint256, uint256):
    """
    @notice What somebody has bonded with a validator, and what of it is leaving.
    """
    return self._bonded(account, owner), self._leaving(account, owner)


@internal
def _add_stake(account: address, owner: address, amount: uint256):
    pool: uint256 = self.staked_with[account] + amount
    assert pool <= MAX_STAKE, "stake: more than a set can weigh"
    stake: uint256 = self.bonds[account][owner].stake + amount
    self.bonds[account][owner].stake = stake
    self.staked_with[account] = pool
    self.total_staked += amount
    log Bonded(account=account, owner=owner, amount=amount, stake=stake)


@internal
def _take_leave(account: address, amount: uint256):
    """
    @notice In the sums: so much of what is bonded with the account is leaving.
    """
    self.staked_with[account] -= amount
    self.leaving_with[account] += amount
    self.total_staked -= amount
    self.total_unbonding += amount


@internal
def _take_out(account: address, amount: uint256):
    """
    @notice In the sums: so much of what is leaving is gone.
    """
    self.leaving_with[account] -= amount
    self.total_unbonding -= amount


@internal
def _close_batch(account: address, last: uint256):
    """
    @notice The weight is down to what is bonded: those who left until now secure epoch `last` at the latest.
    """
    batch: uint256 = self.batch_of[account]
    if batch > 0 and self.weight_of[account] <= self.staked_with[account]:
        self.batch_last[account][batch] = last
        self.batch_of[account] = 0


@internal
def _open_batch(account: address) -> uint256:
    batch: uint256 = self.batch_of[account]
    if batch == 0:
        batch = self.batch_count[account] + 1
        self.batch_count[account] = batch
        self.batch_of[account] = batch
    return batch


@internal
def _need_again(account: address, epoch: uint256):
    """
    @notice A restart in `epoch` gave back weight that is no longer bonded: whoever secured it until now still does.
    """
    batch: uint256 = self.again_batch[account]
    closed: uint256 = self.batch_last[account][batch]
    if batch == 0 or (closed > 0 and closed < epoch):
        self.again_from[account] = epoch
    self.again_batch[account] = self._open_batch(account)


@internal
def _enlist(account: address):
    """
    @notice Let the end of the epoch consider the account. In a full list it replaces whoever waits with the least.
    """
    if self.is_candidate[account] or self._target(account) == 0:
        return
    if len(self.candidates) == MAX_CANDIDATES:
        at: uint256 = MAX_CANDIDATES
        least: uint256 = self._target(account)
        for index: uint256 in range(MAX_CANDIDATES):
            other: address = self.candidates[index]
            if self.weight_of[other] == 0 and self._target(other) < least:
                at = index
                least = self._target(other)
        assert at < MAX_CANDIDATES, "stake: the list of candidates is full of larger stakes"
        self.is_candidate[self.candidates[at]] = False
        self.candidates[at] = account
    else:
        self.candidates.append(account)
    self.is_candidate[account] = True
