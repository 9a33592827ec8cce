# pragma version 0.4.3
"""
@title The books of stake: what the staking contract stores, and whose money is where
@notice Knows who bonded what, who may enter a set, and what is slashed. Does not know how a set is chosen.

        balance == total_staked + total_unbonding + total_rewards + burned, to the unit (and what was sent by force).
        weight_of[a] <= stake_of[a] + unbonding_of[a]: whatever secures a set is still here to be slashed.
"""

import IBeacon

SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
BEACON: constant(address) = 0x0000000000000000000000000000000000f10c01
MAX_VALIDATORS: constant(uint256) = 150  # certificates of more signatures do not fit a message
MAX_CANDIDATES: constant(uint256) = 300  # the end of an epoch reads them all
MAX_STAKE: constant(uint256) = 2**96 - 1  # a row of a set is one word: 96 bits of weight, 160 of account

event Bonded:
    account: indexed(address)
    amount: uint256
    stake: uint256

event Unbonding:
    account: indexed(address)
    amount: uint256
    stake: uint256

event Withdrawn:
    account: indexed(address)
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
stake_of: public(HashMap[address, uint256])
allowance_of: public(HashMap[address, uint256])  # the most weight that genesis or an admission grants
weight_of: public(HashMap[address, uint256])  # in the latest snapshot, which serves the next epoch
peak_weight_of: public(HashMap[address, uint256])  # the most that it ever weighed in a set; 0: never had a seat
vrf_key: public(HashMap[address, bytes32])
unbonding_of: public(HashMap[address, uint256])
requested_at: public(HashMap[address, uint256])  # chain time of the last `unbond`
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
    weight: uint256 = self.stake_of[account]
    if not self.open_staking:
        weight = min(weight, self.allowance_of[account])
    return weight if weight >= self.min_validator_stake else 0


@internal
def _add_stake(account: address, amount: uint256):
    stake: uint256 = self.stake_of[account] + amount
    assert stake <= MAX_STAKE, "stake: more than a set can weigh"
    self.stake_of[account] = stake
    self.total_staked += amount
    log Bonded(account=account, amount=amount, stake=stake)


@internal
def _start_unbonding(account: address, amount: uint256):
    stake: uint256 = self.stake_of[account] - amount
    self.stake_of[account] = stake
    self.unbonding_of[account] += amount
    self.total_staked -= amount
    self.total_unbonding += amount
    self.requested_at[account] = self._now()
    log Unbonding(account=account, amount=amount, stake=stake)


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
