# pragma version 0.4.3
"""
@title What a seat owes its round, and what its absence costs
@notice Knows how a round ended, and nothing of verdicts. Who is away in a phase holds it up to its deadline, for
        everybody: that costs a small part of its bond, once a round, whether it ever came or not. Were it free before
        the first message, one minimum bond could hold up the rounds of a task for ever. Who does not do its part in
        several seats in a row is drawn no more until it comes back, so that an accident takes no more than those parts.
"""

import book
import events
import packing
import types

uses: book


@internal
def _close_seats(task: uint256, round: uint256):
    """
    @notice Called once a round, in the phase in which it ends, before anything of the next round.
    """
    proposers: DynArray[address, types.SEATS] = book.rounds[task][round].proposers
    away: uint256 = packing._full(len(proposers)) & ~book.rounds[task][round].revealed
    # an unopened commitment was paid for when its phase ended
    self._note_all(task, round, proposers, away, away & ~book.rounds[task][round].committed)
    absent: uint256 = self._absent_voters(task, round)
    unopened: uint256 = book.rounds[task][round].score_committed & ~book.rounds[task][round].score_revealed
    self._note_all(task, round, book.rounds[task][round].voters, absent, absent & ~unopened)
    log events.SeatsClosed(task=task, round=round, proposers=away, voters=absent)


@internal
def _note_all(task: uint256, round: uint256, seats: DynArray[address, types.SEATS], away: uint256, slashed: uint256):
    slash: uint256 = book.rules[book.tasks[task].rules].seat_absence_slash
    for index: uint256 in range(len(seats), bound=types.SEATS):
        if packing._has(slashed, index):
            book._slash(task, round, seats[index], slash)
        self._note(task, round, seats[index], packing._has(away, index))


@view
@internal
def _absent_voters(task: uint256, round: uint256) -> uint256:
    """
    @notice Bitmap of the voters that missed a phase of this round; phases that it did not come to ask for nothing.
    """
    phase: uint256 = book.tasks[task].phase
    present: uint256 = packing._full(len(book.rounds[task][round].voters))
    everybody: uint256 = present
    if phase >= types.AVAILABILITY:
        present &= book.rounds[task][round].attested
    if phase >= types.SCORE_COMMIT:
        present &= book.rounds[task][round].score_committed
    if phase >= types.SCORE_REVEAL:
        present &= book.rounds[task][round].score_revealed
    if phase == types.ADOPT:
        present &= book.rounds[task][round].adoption_votes
    return everybody & ~present


@internal
def _note(task: uint256, round: uint256, account: address, was_away: bool):
    missed: uint256 = book.members[task][account].missed
    if not was_away:
        if missed > 0:
            book.members[task][account].missed = 0
        return
    book.members[task][account].missed = missed + 1
    if missed + 1 < book.rules[book.tasks[task].rules].seat_absence_limit:
        return
    if book._is_able(task, account):
        book.tasks[task].able -= 1
    book.members[task][account].unseated = True
    log events.Unseated(task=task, round=round, account=account)
