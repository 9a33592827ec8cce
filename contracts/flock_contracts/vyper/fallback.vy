# pragma version 0.4.3
"""
@title The way back from an adapter that is nowhere
@notice Voters adopt an id; nothing proves that anybody will serve its bytes. Where two thirds of the stake that is
        eligible in a round say, while it trains, that they cannot get the adapter it begins with, the round ends, pays
        and slashes nobody, and the next one begins with the adapter before. A round's committee alone can neither
        force this nor prevent it. The first adapter follows from the task's document, so it can always be had.
"""

import book
import events
import packing
import types

uses: book


@external
def attest_missing(task: uint256, round: uint256):
    """
    @notice A participant says, once, that it cannot get the adapter with which the running round begins.
    """
    book._check_running(task)
    assert book.tasks[task].round == round, "board: not the running round"
    assert book.tasks[task].phase == types.COMMIT, "board: not the phase for this"
    assert book.tasks[task].adopted > 0, "board: the first adapter follows from the document"
    assert not book.misses[task][round][msg.sender], "board: already said"
    weight: uint256 = book._weight(task, msg.sender)
    assert weight > 0, "board: not eligible in this round"
    weight += book._delegated(task, msg.sender)
    book.misses[task][round][msg.sender] = True
    book.rounds[task][round].missing += weight
    log events.ParentMissing(task=task, round=round, account=msg.sender, stake=weight)


@view
@external
def missing_stake(task: uint256, round: uint256) -> (uint256, uint256):
    """
    @return The stake that said so, and all that was eligible in the round.
    """
    return book.rounds[task][round].missing, book.rounds[task][round].stake


@view
@internal
def _is_missing(task: uint256, round: uint256) -> bool:
    missing: uint256 = book.rounds[task][round].missing
    return missing > 0 and packing._has_two_thirds(missing, book.rounds[task][round].stake)


@internal
def _fall_back(task: uint256, round: uint256):
    given_by: uint256 = book.tasks[task].adopted
    adapter: bytes32 = book.rounds[task][given_by].adapter_before
    book.tasks[task].adopted = book.rounds[task][given_by].adopted_before
    book.tasks[task].adapter = adapter
    book.rounds[task][round].adapter_after = adapter
    log events.FellBack(task=task, round=round, adapter=adapter)
