# pragma version 0.4.3
"""
@title Rewards of validators and their delegators, and the terms of delegation
@notice What is paid in for a validator is shared by stake; of the delegators' part the validator keeps its commission.
        One index per validator grows with each payment, a bond's part is its stake times the growth: no loops. A change
        of the commission holds one unbonding delay later, so that who disagrees can leave before.
"""

import stakes

uses: stakes

ONE: constant(uint256) = 10**18  # of the index: parts of a unit. 2**96 of stake times a supply below 2**100 fits
BPS: constant(uint256) = 10_000

struct Terms:
    is_set: bool
    limit: uint256  # the most that delegators may have bonded
    commission: uint256  # bps
    next_commission: uint256
    next_at: uint256  # chain time from which the next commission holds

event TermsSet:
    account: indexed(address)
    limit: uint256
    commission: uint256
    at: uint256

event Shared:
    account: indexed(address)
    amount: uint256
    delegators: uint256
    growth: uint256  # of what a unit of delegated stake has earned: parts of 10**18 of one

event Accrued:
    account: indexed(address)
    owner: indexed(address)
    amount: uint256

terms: HashMap[address, Terms]
index_of: HashMap[address, uint256]
reward_of: public(HashMap[address, uint256])


@view
@internal
def _commission(account: address) -> uint256:
    terms: Terms = self.terms[account]
    return terms.next_commission if stakes._now() >= terms.next_at else terms.commission


@internal
def _set_terms(account: address, commission: uint256, limit: uint256):
    assert commission <= BPS, "stake: a commission above the whole"
    now: uint256 = stakes._now()
    present: uint256 = self._commission(account)
    at: uint256 = now
    if self.terms[account].is_set and commission != present:
        at = now + stakes.unbonding_delay
    self.terms[account] = Terms(is_set=True, limit=limit, commission=present, next_commission=commission, next_at=at)
    log TermsSet(account=account, limit=limit, commission=commission, at=at)


@internal
def _check_room(account: address, owner: address, amount: uint256):
    assert owner != account, "stake: a validator bonds with bond_validator"
    assert stakes.tombstoned_at[account] == 0, "stake: tombstoned"
    delegated: uint256 = stakes.staked_with[account] - stakes.bonds[account][account].stake
    assert delegated + amount <= self.terms[account].limit, "stake: the validator takes no more delegations"


@internal
def _accrue(account: address, owner: address):
    """
    @notice Give a bond its part so far; before each change of its stake.
    """
    if owner == account:
        return
    index: uint256 = self.index_of[account]
    bond: stakes.Bond = stakes.bonds[account][owner]
    earned: uint256 = bond.fraction + bond.stake * (index - bond.index)
    stakes.bonds[account][owner].index = index
    stakes.bonds[account][owner].fraction = earned % ONE
    self.reward_of[owner] += earned // ONE
    log Accrued(account=account, owner=owner, amount=earned // ONE)


@internal
def _share(account: address, amount: uint256):
    assert amount > 0, "stake: share more than nothing"
    total: uint256 = stakes.staked_with[account]
    assert total > 0, "stake: nothing is bonded there"
    delegated: uint256 = total - stakes.bonds[account][account].stake
    part: uint256 = amount * delegated // total
    part -= part * self._commission(account) // BPS
    step: uint256 = 0
    if delegated > 0:
        step = part * ONE // delegated
        part = (step * delegated + ONE - 1) // ONE  # what the step does not reach stays with the validator
        self.index_of[account] += step
    self.reward_of[account] += amount - part
    stakes.total_rewards += amount
    log Shared(account=account, amount=amount, delegators=part, growth=step)


@internal
def _grant(account: address, amount: uint256):
    if amount > 0:
        self.reward_of[account] += amount
        stakes.total_rewards += amount


@view
@external
def terms_of(account: address) -> (uint256, uint256, uint256, uint256):
    """
    @notice Commission now in bps, the most that delegators may have bonded, the next commission, and when it holds.
    """
    terms: Terms = self.terms[account]
    return self._commission(account), terms.limit, terms.next_commission, terms.next_at


@view
@external
def delegation_reward_of(account: address, owner: address) -> uint256:
    """
    @notice What a bond with a validator has earned since its last change.
    """
    bond: stakes.Bond = stakes.bonds[account][owner]
    return (bond.fraction + bond.stake * (self.index_of[account] - bond.index)) // ONE if owner != account else 0
