# pragma version 0.4.3
"""
@title What a seat owes its round, and what its absence costs
@notice Knows how a round ended, and nothing of verdicts. A voter accepts its seat by its first message; who stays away
        afterwards loses a small part of its bond, once a round. Who does not do its part in several seats in a row is
        drawn no more until it comes back: otherwise it would hold up every phase for ever. Whether it comes back from
        an accident or from sloth, its bond is its own.
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
    proposers: uint256 = packing._full(len(book.rounds[task][round].proposers))
    away: uint256 = proposers & ~book.rounds[task][round].revealed
    for index: uint256 in range(len(book.rounds[task][round].proposers), bound=types.SEATS):
        self._note(task, round, book.rounds[task][round].proposers[index], packing._has(away, index))
    away = self._absent_voters(task, round)
    accepted: uint256 = book.rounds[task][round].attested | book.rounds[task][round].score_committed
    unopened: uint256 = book.rounds[task][round].score_committed & ~book.rounds[task][round].score_revealed
    slashed: uint256 = away & accepted & ~unopened  # an unopened commitment was paid for when its phase ended
    slash: uint256 = book.rules[book.tasks[task].rules].seat_absence_slash
    for index: uint256 in range(len(book.rounds[task][round].voters), bound=types.SEATS):
        account: address = book.rounds[task][round].voters[index]
        if packing._has(slashed, index):
            book._slash(task, round, account, slash)
        self._note(task, round, account, packing._has(away, index))


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
