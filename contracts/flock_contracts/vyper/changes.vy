# pragma version 0.4.3
"""
@title How the board's numbers change
@notice Two thirds of the serving validators agree on a whole new set of numbers, as they do on admissions. It holds
        after `rules_delay`, when anybody enacts it, and for the rounds that begin then: who takes part has the time to
        leave, and a running round keeps what it began with.
"""

import ILimits
import IStake
import book
import events
import types

uses: book

agreements: public(uint256)  # so far; an approval before one says nothing about the next
approved_at: HashMap[bytes32, HashMap[address, uint256]]  # chain time; 0: not
next_rules: public(types.Rules)
enact_at: public(uint256)  # chain time; 0: nothing is agreed


@external
def approve_rules(rules: types.Rules):
    """
    @notice Agree, as a member of the serving set, to these numbers. What is agreed on later replaces what waits. An
            approval counts for one unbonding delay, and while its author serves.
    """
    assert staticcall ILimits(types.LIMITS).takes_rules(rules), "board: rules"
    now: uint256 = book._now()
    ballot: bytes32 = keccak256(abi_encode(rules, self.agreements))
    self.approved_at[ballot][msg.sender] = now
    lasts: uint256 = book.rules[book.rules_version].unbonding_delay
    serves: bool = False
    total: uint256 = 0
    agreed: uint256 = 0
    rows: DynArray[IStake.ValidatorRow, types.MAX_VALIDATORS] = staticcall IStake(types.STAKE).validators()
    for row: IStake.ValidatorRow in rows:
        total += row.weight
        at: uint256 = self.approved_at[ballot][row.account]
        if at > 0 and at + lasts >= now:
            agreed += row.weight
        if row.account == msg.sender:
            serves = True
    assert serves, "board: only the serving set changes the numbers"
    log events.RulesApproved(account=msg.sender, ballot=ballot)
    if 3 * agreed > 2 * total:
        self.agreements += 1
        self.next_rules = rules
        self.enact_at = now + book.rules[book.rules_version].rules_delay
        log events.RulesAgreed(ballot=ballot, enact_at=self.enact_at, rules=rules)


@external
def enact_rules():
    """
    @notice Put in force what was agreed on, when its time has come; anybody may.
    """
    assert self.enact_at > 0, "board: nothing is agreed"
    assert book._now() >= self.enact_at, "board: not yet"
    self.enact_at = 0
    book.rules_version += 1
    book.rules[book.rules_version] = self.next_rules
    log events.RulesEnacted(version=book.rules_version)
