# pragma version 0.4.3
"""
@title Admission: weight that two thirds of the serving set grant, where coins alone buy none
@notice On a network with a faucet coins cost nothing, so weight comes from genesis and from here. Each admission is a
        ballot of its own; an approval counts while its author is in the serving set, for one unbonding delay.
"""

import epochs
import stakes

uses: stakes
uses: epochs

event Approved:
    voter: indexed(address)
    account: indexed(address)
    weight: uint256

ballot_of: HashMap[address, uint256]
approved_at: HashMap[bytes32, HashMap[address, uint256]]  # chain time; 0: not


@internal
def _approve(voter: address, account: address, weight: uint256):
    assert epochs._weight_in(epochs.epoch, voter) > 0, "stake: only the serving set admits"
    assert weight <= stakes.MAX_STAKE, "stake: more than a set can weigh"
    ballot: bytes32 = keccak256(abi_encode(account, weight, self.ballot_of[account]))
    now: uint256 = stakes._now()
    self.approved_at[ballot][voter] = now
    log Approved(voter=voter, account=account, weight=weight)
    total: uint256 = 0
    agreed: uint256 = 0
    for row: uint256 in epochs.sets[epochs.epoch % epochs.RING]:
        total += row >> 160
        approved_at: uint256 = self.approved_at[ballot][epochs._account(row)]
        if approved_at > 0 and approved_at + stakes.unbonding_delay >= now:
            agreed += row >> 160
    if 3 * agreed > 2 * total:
        self.ballot_of[account] += 1
        stakes.allowance_of[account] = weight
        stakes._enlist(account)
        log stakes.Admitted(account=account, weight=weight)
