# pragma version 0.4.3
"""
@title Audits: blame for what shows only over several rounds
@notice After every `audit_rounds` rounds, everybody bonded may name, once, those participants whose accepted proposals
        it found guilty. Five of seven of the last round's voters suspend: no seat is drawn until an audit clears it.
        Principal goes only by two thirds of ALL bonded stake, in two audits in a row, so that no committee and no
        creator can take it; it is burned. A task with an accepted proposal ends after two audits of it.
"""

import book
import events
import packing
import types

uses: book

SEAT: constant(uint256) = 2**192  # in `blames`: votes of seats above, stake below

blames: HashMap[uint256, HashMap[uint256, HashMap[address, uint256]]]  # task, audit, accused
spoken: HashMap[uint256, HashMap[uint256, HashMap[address, bool]]]


@external
def attest_guilty(task: uint256, audit: uint256, accused: DynArray[address, types.SEATS]):
    """
    @notice A participant names, once in an audit, whom it found guilty; an empty list says: nobody.
    @param accused In ascending order; each had a proposal accepted, none is the caller.
    """
    assert book.tasks[task].phase == types.AUDIT, "board: not the phase for this"
    assert audit == book.tasks[task].audits + 1, "board: not the open audit"
    assert not self.spoken[task][audit][msg.sender], "board: already attested"
    stake: uint256 = book._closed_bond(task, msg.sender)
    assert stake > 0, "board: nothing was bonded when the audit began"
    self.spoken[task][audit][msg.sender] = True
    book.tasks[task].heard += 1
    weight: uint256 = stake + (SEAT if self._has_seat(task, msg.sender) else 0)
    last: uint256 = 0
    for account: address in accused:
        assert convert(account, uint256) > last, "board: not in ascending order"
        assert account != msg.sender, "board: nobody judges itself"
        assert book.members[task][account].last_accepted > 0, "board: nothing of it was accepted"
        last = convert(account, uint256)
        self.blames[task][audit][account] += weight
    log events.Blamed(task=task, audit=audit, account=msg.sender, stake=stake, accused=accused)


@view
@external
def audit_view(task: uint256) -> types.AuditView:
    """
    @notice The open audit, or the next one.
    """
    return types.AuditView(
        number=book.tasks[task].audits + 1,
        stake=book.tasks[task].audit_stake,
        auditors=book.tasks[task].auditors,
        heard=book.tasks[task].heard,
        round=self._judged_round(task),
    )


@view
@external
def blame_of(task: uint256, audit: uint256, account: address) -> (uint256, uint256):
    """
    @return The stake and the voters' seats that named an account in an audit.
    """
    packed: uint256 = self.blames[task][audit][account]
    return packed % SEAT, packed // SEAT


@view
@internal
def _judged_round(task: uint256) -> uint256:
    """
    @notice The last round with voters drawn is the running one, or where that has none, the one before.
    """
    round: uint256 = book.tasks[task].round
    return round if len(book.rounds[task][round].voters) > 0 or round == 0 else round - 1


@view
@internal
def _has_seat(task: uint256, account: address) -> bool:
    return account in book.rounds[task][self._judged_round(task)].voters


@view
@internal
def _is_due(task: uint256) -> bool:
    every: uint256 = book.tasks[task].terms.audit_rounds
    return every > 0 and book.tasks[task].round % every == 0


@view
@internal
def _is_owed(task: uint256) -> bool:
    """
    @notice Whether the task's last accepted proposal has not seen two audits.
    """
    accepted: uint256 = book.tasks[task].accepted_audit
    return book.tasks[task].terms.audit_rounds > 0 and accepted > 0 and book.tasks[task].audits < accepted + 1


@internal
def _open(task: uint256):
    """
    @notice Close the bonds: what comes later has no say in this audit.
    """
    book.tasks[task].close_height = block.number
    stake: uint256 = 0
    for account: address in book.accounts[task]:
        stake += book.members[task][account].bond
    book.tasks[task].audit_stake = stake
    book.tasks[task].auditors = len(book.accounts[task])
    book.tasks[task].heard = 0
    book._enter(task, types.AUDIT)


@internal
def _note_late(task: uint256, amount: uint256, is_new: bool):
    """
    @notice What is bonded in the very block in which an audit began has a say, so it counts among all stake.
    """
    if book.tasks[task].phase == types.AUDIT and book.tasks[task].close_height == block.number:
        book.tasks[task].audit_stake += amount
        if is_new:
            book.tasks[task].auditors += 1


@internal
def _close(task: uint256):
    """
    @notice Suspend, clear and slash.
    """
    audit: uint256 = book.tasks[task].audits + 1
    book.tasks[task].audits = audit
    seats: uint256 = len(book.rounds[task][self._judged_round(task)].voters)
    for account: address in book.accounts[task]:
        packed: uint256 = self.blames[task][audit][account]
        if packed > 0 or book.members[task][account].suspended:
            self._judge(task, audit, account, packed, seats)
    log events.AuditClosed(task=task, audit=audit)


@internal
def _judge(task: uint256, audit: uint256, account: address, packed: uint256, seats: uint256):
    stake: uint256 = packed % SEAT
    named: uint256 = packed // SEAT
    is_guilty: bool = stake > 0 and packing._has_two_thirds(stake, book.tasks[task].audit_stake)
    is_suspended: bool = is_guilty or (named > 0 and 7 * named >= 5 * seats)
    was_able: bool = book._is_able(task, account)
    book.members[task][account].suspended = is_suspended
    book._recount(task, account, was_able)
    slashed: uint256 = 0
    if is_guilty:
        blamed_before: uint256 = book.members[task][account].blamed_audit
        if blamed_before > 0 and blamed_before + 1 == audit:
            book.members[task][account].blamed_audit = 0  # two in a row make one offence
            if book.tasks[task].auditors >= types.PAID_FROM:
                slashed = book._burn(task, book.tasks[task].round, account, book.tasks[task].terms.audit_slash)
        else:
            book.members[task][account].blamed_audit = audit
    log events.Audited(
        task=task, audit=audit, account=account, guilty=is_guilty, suspended=is_suspended, slashed=slashed
    )
