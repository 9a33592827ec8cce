# pragma version 0.4.3
"""
@title How each phase closes, and how a round is settled
@notice Nothing here needs a participant to act.
"""

import IDelegation
import accusations
import audits
import book
import duty
import events
import fallback
import packing
import paper_rule
import seating
import types

uses: (book, duty, seating, paper_rule, fallback, audits, accusations)


@internal
def _close_commit(task: uint256):
    round: uint256 = book.tasks[task].round
    if fallback._is_missing(task, round):
        fallback._fall_back(task, round)
        self._finish_round(task)
        return
    if book.rounds[task][round].committed == 0:
        self._finish_round(task)
        return
    seating._await_seed(task)
    book._enter(task, types.DRAW_VOTERS)


@internal
def _close_reveal(task: uint256):
    """
    @notice An unopened commitment costs a part of the bond.
    """
    round: uint256 = book.tasks[task].round
    unopened: uint256 = book.rounds[task][round].committed & ~book.rounds[task][round].revealed
    for index: uint256 in range(types.SEATS):
        if packing._has(unopened, index):
            slash: uint256 = book.rules[book.tasks[task].rules].missed_reveal_slash
            book._judge(task, round, index, types.UNOPENED, slash)
    if self._judged_later(task, round) == 0:
        self._finish_round(task)
    else:
        book._enter(task, types.AVAILABILITY)


@view
@internal
def _judged_later(task: uint256, round: uint256) -> uint256:
    """
    @notice Bitmap of the revealed proposals without a verdict.
    """
    revealed: uint256 = book.rounds[task][round].revealed
    verdicts: uint256 = book.rounds[task][round].verdicts
    open: uint256 = 0
    for index: uint256 in range(types.SEATS):
        if packing._has(revealed, index) and packing._nibble(verdicts, index) == types.UNJUDGED:
            open |= 1 << index
    return open


@internal
def _close_availability(task: uint256):
    """
    @notice Two thirds of all seats fix the input set, or accuse a proposal of invalid bytes; anything else is void.
    """
    round: uint256 = book.tasks[task].round
    open: uint256 = self._judged_later(task, round)
    seats: uint256 = len(book.rounds[task][round].voters)
    counts: uint256[32] = self._attestations(task, round, seats)
    held_set: uint256 = 0
    for index: uint256 in range(types.SEATS):
        if not packing._has(open, index):
            continue
        if packing._has_two_thirds(counts[index], seats):
            held_set |= 1 << index
            book.members[task][book.rounds[task][round].proposers[index]].last_held = round
        elif packing._has_two_thirds(counts[index + types.SEATS], seats):
            slash: uint256 = book.rules[book.tasks[task].rules].invalid_bytes_slash
            accusations._accuse(task, round, index, types.INVALID, slash)
        else:
            book._judge(task, round, index, types.VOID, 0)
    book.rounds[task][round].held_set = held_set
    log events.InputSet(task=task, round=round, held_set=held_set)
    if held_set == 0:
        self._finish_round(task)
    else:
        book._enter(task, types.SCORE_COMMIT)


@view
@internal
def _attestations(task: uint256, round: uint256, seats: uint256) -> uint256[32]:
    """
    @notice Votes for "held" by proposer, then votes for "invalid".
    """
    counts: uint256[32] = empty(uint256[32])
    for voter: uint256 in range(seats, bound=types.SEATS):
        attestation: uint256 = book.ballots[task][round][voter].attestation
        if attestation == 0:
            continue
        for bit: uint256 in range(32):
            counts[bit] += (attestation >> bit) & 1
    return counts


@internal
def _close_score_commit(task: uint256):
    if book.rounds[task][book.tasks[task].round].score_committed == 0:
        self._void(task)
    else:
        book._enter(task, types.SCORE_REVEAL)


@internal
def _close_score_reveal(task: uint256):
    round: uint256 = book.tasks[task].round
    revealed: uint256 = book.rounds[task][round].score_revealed
    unopened: uint256 = book.rounds[task][round].score_committed & ~revealed
    for index: uint256 in range(types.SEATS):
        if packing._has(unopened, index):
            slash: uint256 = book.rules[book.tasks[task].rules].missed_reveal_slash
            book._slash(task, round, book.rounds[task][round].voters[index], slash)
    if book.tasks[task].terms.voting_rule == types.RULE_PAPER:
        paper_rule._decide(task, round)
        self._finish_round(task)
    elif revealed == 0:
        self._void(task)
    else:
        book._enter(task, types.TALLY)


@internal
def _void(task: uint256):
    """
    @notice Nobody measured, or nobody claimed the tally: no proposal is judged and nobody is paid.
    """
    round: uint256 = book.tasks[task].round
    held_set: uint256 = book.rounds[task][round].held_set
    for index: uint256 in range(types.SEATS):
        if packing._has(held_set, index):
            book._judge(task, round, index, types.VOID, 0)
    self._finish_round(task)


@internal
def _close_adopt(task: uint256):
    """
    @notice One adapter needs two thirds of the revealed seats and half of all voters' seats.
    """
    round: uint256 = book.tasks[task].round
    votes: uint256 = book.rounds[task][round].leading_votes
    revealed: uint256 = packing._count(book.rounds[task][round].score_revealed)
    if packing._has_two_thirds(votes, revealed) and 2 * votes >= len(book.rounds[task][round].voters):
        book._adopt(task, round, book.rounds[task][round].leading)
    self._finish_round(task)


@internal
def _finish_round(task: uint256):
    """
    @notice Look who did not do its part, settle, then audit, start the next round, wait for participants, or end.
    """
    round: uint256 = book.tasks[task].round
    last: uint256 = book.tasks[task].terms.rounds + book.tasks[task].terms.extra_rounds
    if not fallback._is_missing(task, round):
        duty._close_seats(task, round)
    self._settle(task, round, last - round + 1)
    if not self._is_over(task) and audits._is_due(task):
        audits._open(task)
    else:
        self._go_on(task)


@internal
def _close_audit(task: uint256):
    audits._close(task)
    self._go_on(task)


@view
@internal
def _is_over(task: uint256) -> bool:
    last: uint256 = book.tasks[task].terms.rounds + book.tasks[task].terms.extra_rounds
    return book.tasks[task].ending or book.tasks[task].stopped or book.tasks[task].round >= last


@internal
def _go_on(task: uint256):
    was_heard_again: bool = book.tasks[task].hearing_again
    book.tasks[task].hearing_again = False
    if self._is_over(task):
        self._end(task)
        return
    if not was_heard_again and audits._is_stopped_by_suspensions(task):
        book.tasks[task].hearing_again = True
        audits._open(task)
        return
    book.tasks[task].round += 1
    if book._has_enough(task):
        seating._start_round(task)
    else:
        book._enter(task, types.WAITING)


@internal
def _settle(task: uint256, round: uint256, rounds_left: uint256):
    """
    @notice Set the round's pay aside. What does not divide, and what nobody earned, stays in the pot. A round
            that the paper's rule accepted gives first what that rule took in rounds before.
    """
    book.rounds[task][round].settled = True
    share: uint256 = 0
    per_proposer: uint256 = 0
    per_voter: uint256 = 0
    if book.rounds[task][round].tallied and book.rounds[task][round].candidates >= types.PAID_FROM:
        proposers: uint256 = book.rounds[task][round].accepted_count
        carried: uint256 = book.rounds[task][round].carried
        share = book.tasks[task].pot // rounds_left + carried
        voters: uint256 = packing._count(book.rounds[task][round].earning)
        proposers_part: uint256 = share * book.tasks[task].terms.proposer_share // types.BPS
        if proposers > 0:
            per_proposer = proposers_part // proposers
        if voters > 0:
            per_voter = (share - proposers_part) // voters
        owed: uint256 = per_proposer * proposers + per_voter * voters
        from_carried: uint256 = min(owed, carried)
        book.tasks[task].carried -= from_carried
        book.total_carried -= from_carried
        book.tasks[task].pot -= owed - from_carried
        book.total_pots -= owed - from_carried
        book.total_rewards += owed
        book.tasks[task].paid_seats += proposers + voters
        if proposers + voters > 0:
            book.tasks[task].paid_rounds += 1
        book.rounds[task][round].share = share
        book.rounds[task][round].per_proposer = per_proposer
        book.rounds[task][round].per_voter = per_voter
        self._credit_delegators(task, round, per_proposer, per_voter)
    log events.Settled(
        task=task,
        round=round,
        share=share,
        per_proposer=per_proposer,
        per_voter=per_voter,
        earning=book.rounds[task][round].earning,
        carried=book.rounds[task][round].carried,
        pot=book.tasks[task].pot,
    )


@internal
def _credit_delegators(task: uint256, round: uint256, per_proposer: uint256, per_voter: uint256):
    """
    @notice Who has bonded with those that are paid has its part of it.
    """
    paid: DynArray[address, types.SEATS] = []
    verdicts: uint256 = book.rounds[task][round].verdicts
    for index: uint256 in range(len(book.rounds[task][round].proposers), bound=types.SEATS):
        if packing._nibble(verdicts, index) == types.ACCEPTED:
            paid.append(book.rounds[task][round].proposers[index])
    extcall IDelegation(types.DELEGATION).credit(task, round, paid, per_proposer)
    paid = []
    earning: uint256 = book.rounds[task][round].earning
    for index: uint256 in range(len(book.rounds[task][round].voters), bound=types.SEATS):
        if packing._has(earning, index):
            paid.append(book.rounds[task][round].voters[index])
    extcall IDelegation(types.DELEGATION).credit(task, round, paid, per_voter)


@internal
def _share_rest(task: uint256):
    """
    @notice Set aside what the creator's terms leave to those who were paid, the same for each seat that was; what does
            not divide is the creator's. In proportion to the guaranteed rounds that were paid: otherwise who works one
            round and goes, so that the task ends for want of participants, would take the pay of all the others.
    """
    seats: uint256 = book.tasks[task].paid_seats
    if seats == 0:
        return
    rounds: uint256 = book.tasks[task].terms.rounds
    earned: uint256 = book.tasks[task].pot * min(book.tasks[task].paid_rounds, rounds) // rounds
    per_seat: uint256 = earned * book.tasks[task].terms.rest_share // types.BPS // seats
    owed: uint256 = per_seat * seats
    book.tasks[task].rest_per_seat = per_seat
    book.tasks[task].pot -= owed
    book.total_pots -= owed
    book.total_rewards += owed


@internal
def _end(task: uint256):
    """
    @notice Not before the last accepted proposal has seen two audits. What the paper's rule took and no round could get is burned: a creator must not gain by rejections.
    """
    if audits._is_owed(task):
        book.tasks[task].ending = True
        audits._open(task)
        return
    carried: uint256 = book.tasks[task].carried
    if carried > 0:
        book.tasks[task].carried = 0
        book.total_carried -= carried
        book.burned += carried
        log events.CarriedBurned(task=task, amount=carried)
    self._share_rest(task)
    count: uint256 = len(book.live)
    for index: uint256 in range(count, bound=types.MAX_TASKS):
        if book.live[index] == task:
            book.live[index] = book.live[count - 1]
            book.live.pop()
            break
    book._enter(task, types.ENDED)
    log events.TaskEnded(
        task=task,
        round=book.tasks[task].round,
        pot=book.tasks[task].pot,
        rest_per_seat=book.tasks[task].rest_per_seat,
    )
