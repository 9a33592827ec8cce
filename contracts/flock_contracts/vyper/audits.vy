# pragma version 0.4.3
"""
@title Audits: blame for what shows only over several rounds
@notice After every `audit_rounds` rounds, everybody bonded may name, once, those participants whose accepted proposals
        it found guilty. A bond has a say as far as it was there when the last round began. More than half of ALL that
        stake, or five of seven of that round's voters, suspend: no seat is drawn until an audit clears it; where that
        would leave too few for a round, all stake is heard again at once, without seats. The half also takes the
        contributions out of the task's adapter (flock_chain.audit_rule): that costs nobody its own, and a third of
        liars must not prevent it. Whom it names for three proposals in a row, each in an audit of its own, is expelled:
        it leaves by that, and never comes back to the task; its bond comes back to it, unless two thirds convict it
        before that is free. Principal goes only by two thirds of all stake, in two audits in a row, so that no
        committee and no creator can take it; it is burned. Where less than two thirds spoke nobody could be convicted,
        so their silence clears nobody: such an audit is void, and the next one counts for it, or the one after that,
        whoever is silent then. An audit looks at the rounds that fewer than two that counted have looked at. A task with
        an accepted proposal ends after two audits of it that count. A suspension, and strikes, stay with an account that
        leaves and comes back.
"""

import book
import events
import packing
import types

uses: book

SEAT: constant(uint256) = 2**192  # in `blames`: votes of seats above, stake below
MAX_VOID: constant(uint256) = 2  # in a row: bonds wait for audits, and must not do so for ever

blames: HashMap[uint256, HashMap[uint256, HashMap[address, uint256]]]  # task, audit, accused
spoken: HashMap[uint256, HashMap[uint256, HashMap[address, bool]]]


@external
def attest_guilty(task: uint256, audit: uint256, accused: DynArray[address, types.SEATS]):
    """
    @notice A participant names, once in an audit, whom it found guilty; an empty list says: nobody.
    @param accused In ascending order; none is the caller. Whom voters held no proposal of, accepted or not, since it
            joined, is passed over: who leaves during the audit (of what it showed this one sees nothing) must not make
            void what is said of others with it.
    """
    assert book.tasks[task].phase == types.AUDIT, "board: not the phase for this"
    assert audit == book.tasks[task].audits + 1, "board: not the open audit"
    assert not self.spoken[task][audit][msg.sender], "board: already attested"
    stake: uint256 = self._voice(task, msg.sender)
    assert stake > 0, "board: nothing was bonded when the round began"
    stake += book._delegated(task, msg.sender)
    self.spoken[task][audit][msg.sender] = True
    book.tasks[task].heard += 1
    book.tasks[task].heard_stake += stake
    has_seat: bool = self._has_seat(task, msg.sender)
    weight: uint256 = stake + (SEAT if has_seat else 0)
    last: uint256 = 0
    for account: address in accused:
        assert convert(account, uint256) > last, "board: not in ascending order"
        assert account != msg.sender, "board: nobody judges itself"
        last = convert(account, uint256)
        if book.members[task][account].last_held == 0:
            continue
        self.blames[task][audit][account] += weight
    log events.Blamed(
        task=task, audit=audit, account=msg.sender, stake=stake, has_seat=has_seat, accused=accused
    )


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
        heard_stake=book.tasks[task].heard_stake,
        counted=book.tasks[task].counted_audits,
        round=self._judged_round(task),
        first=book.tasks[task].audited_before + 1,
    )


@view
@external
def blame_of(task: uint256, audit: uint256, account: address) -> (uint256, uint256):
    """
    @return The stake and the voters' seats that named an account in an audit; of the zero address, which nobody can
            name: all that had a say, and the last round before the audit.
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
    """
    @notice A round's seats are heard once: otherwise they could suspend the same accounts in audit after audit.
    """
    round: uint256 = self._judged_round(task)
    if book.tasks[task].hearing_again or round <= book.tasks[task].seats_heard:
        return False
    return account in book.rounds[task][round].voters


@view
@internal
def _voice(task: uint256, account: address) -> uint256:
    """
    @notice Its own bond when the last round began; who is expelled has no say, whether it goes or not.
    """
    if book.records[task][account].strikes == types.EXPELLED:
        return 0
    return book._closed_bond(task, account)


@view
@internal
def _is_due(task: uint256) -> bool:
    every: uint256 = book.tasks[task].terms.audit_rounds
    return every > 0 and book.tasks[task].round % every == 0


@view
@internal
def _is_owed(task: uint256) -> bool:
    """
    @notice Whether the task's last accepted proposal has not seen two audits that count.
    """
    accepted: uint256 = book.tasks[task].accepted_audit
    has_audits: bool = book.tasks[task].terms.audit_rounds > 0
    return has_audits and accepted > 0 and book.tasks[task].counted_audits < accepted + 1


@view
@internal
def _is_stopped_by_suspensions(task: uint256) -> bool:
    """
    @notice Whether too few are able for a round, and enough would be if nobody were suspended.
    """
    able: uint256 = book.tasks[task].able
    needed: uint256 = max(book.tasks[task].terms.min_participants, 2)
    if able >= needed:
        return False
    for account: address in book.accounts[task]:
        if book.records[task][account].suspended and book._is_able_but_suspended(task, account):
            able += 1
    return able >= needed


@internal
def _open(task: uint256):
    """
    @notice The bonds are those with which the last round began: who comes to blame has to stay for a round first.
    """
    stake: uint256 = 0
    auditors: uint256 = 0
    delegated: DynArray[uint256, types.MAX_PARTICIPANTS] = book._all_delegated(task)
    for index: uint256 in range(len(delegated), bound=types.MAX_PARTICIPANTS):
        bond: uint256 = self._voice(task, book.accounts[task][index])
        if bond > 0:
            stake += bond + delegated[index]
            auditors += 1
    book.tasks[task].audit_stake = stake
    self.blames[task][book.tasks[task].audits + 1][empty(address)] = stake + book.tasks[task].round * SEAT
    book.tasks[task].auditors = auditors
    book.tasks[task].heard = 0
    book.tasks[task].heard_stake = 0
    log events.AuditOpened(
        task=task,
        audit=book.tasks[task].audits + 1,
        stake=stake,
        auditors=auditors,
        round=self._judged_round(task),
        again=book.tasks[task].hearing_again,
        ending=book.tasks[task].ending,
    )
    book._enter(task, types.AUDIT)


@internal
def _close(task: uint256):
    """
    @notice Suspend, clear and slash. Where too few spoke, nobody is cleared, but where the task would end for that.
    """
    audit: uint256 = book.tasks[task].audits + 1
    book.tasks[task].audits = audit
    is_void: bool = self._count(task)
    judged: uint256 = self._judged_round(task)
    seats: uint256 = len(book.rounds[task][judged].voters)
    book.tasks[task].seats_heard = judged
    clears: bool = book.tasks[task].hearing_again or not is_void
    for account: address in book.accounts[task]:
        packed: uint256 = self.blames[task][audit][account]
        if packed > 0 or (clears and book.records[task][account].suspended):
            self._judge(task, audit, account, packed, seats, clears)
        self._count_strikes(task, audit, account, packed % SEAT, is_void)
    log events.AuditClosed(task=task, audit=audit, void=is_void)


@internal
def _count(task: uint256) -> bool:
    """
    @return Whether the open audit is void.
    """
    heard: uint256 = book.tasks[task].heard_stake
    is_heard: bool = heard > 0 and packing._has_two_thirds(heard, book.tasks[task].audit_stake)
    if not is_heard and book.tasks[task].void_audits < MAX_VOID:
        book.tasks[task].void_audits += 1
        return True
    book.tasks[task].void_audits = 0
    book.tasks[task].counted_audits += 1
    book.tasks[task].audited_before = book.tasks[task].audited
    book.tasks[task].audited = book.tasks[task].round
    return False


@internal
def _judge(task: uint256, audit: uint256, account: address, packed: uint256, seats: uint256, clears: bool):
    stake: uint256 = packed % SEAT
    named: uint256 = packed // SEAT
    is_guilty: bool = stake > 0 and packing._has_two_thirds(stake, book.tasks[task].audit_stake)
    is_out: bool = 2 * stake > book.tasks[task].audit_stake
    is_suspended: bool = is_out or (named > 0 and 7 * named >= 5 * seats)
    if not clears:
        is_suspended = is_suspended or book.records[task][account].suspended
    counted: uint256 = book.tasks[task].counted_audits
    was_able: bool = book._is_able(task, account)
    book.records[task][account].suspended = is_suspended
    book._recount(task, account, was_able)
    slashed: uint256 = 0
    if is_guilty:
        blamed_before: uint256 = book.members[task][account].blamed_audit
        if blamed_before > 0 and blamed_before + 1 == counted:
            book.members[task][account].blamed_audit = 0  # two in a row make one offence
            if book.tasks[task].auditors >= types.PAID_FROM:
                slashed = book._burn(task, book.tasks[task].round, account, book.tasks[task].terms.audit_slash)
        else:
            book.members[task][account].blamed_audit = counted
    log events.Audited(
        task=task, audit=audit, account=account, guilty=is_guilty, suspended=is_suspended, slashed=slashed
    )


@internal
def _count_strikes(task: uint256, audit: uint256, account: address, stake: uint256, is_void: bool):
    """
    @notice More than half of all stake named an account: a strike, if it showed a proposal since its last one. What it
            was named for nobody says. It is the older one again only where that is still looked at when its author has
            been cleared and shown another: after a strike in a void audit, which does not move what is looked at, or
            when an audit that is heard again at once was void and cleared it. A new proposal that both audits pass
            which look at it wipes strikes out. Whoever has three asks to leave by that, and does not come back.
    """
    strikes: uint256 = book.records[task][account].strikes
    is_out: bool = 2 * stake > book.tasks[task].audit_stake
    if strikes == types.EXPELLED or not (is_out or (strikes > 0 and not is_void)):
        return
    if book.members[task][account].last_held <= book.records[task][account].struck:
        return
    if not is_out and not book.records[task][account].passing:
        book.records[task][account].passing = True
        return
    if is_out:
        if book.tasks[task].auditors < types.PAID_FROM:
            return
        book.records[task][account].struck = book.tasks[task].round
    strikes = strikes + 1 if is_out else 0
    book.records[task][account].passing = False
    book.records[task][account].strikes = strikes
    if strikes == types.EXPELLED and book.members[task][account].leaving_at == 0:
        book.members[task][account].leaving_at = block.number  # suspended just now, so not counted as able
    log events.Struck(task=task, audit=audit, account=account, strikes=strikes)
