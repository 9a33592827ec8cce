# pragma version 0.4.3
"""
@title When a phase ends
@notice Views on the state and on chain time; they change nothing.
"""

import IBeacon
import book
import fallback
import packing
import types

uses: (book, fallback)


@view
@internal
def _is_due(task: uint256, now: uint256) -> bool:
    phase: uint256 = book.tasks[task].phase
    if phase == types.DRAW_PROPOSERS or phase == types.DRAW_VOTERS:
        height: uint256 = book.tasks[task].seed_height
        return block.number > height or staticcall IBeacon(types.BEACON).has_mix(height)
    if self._has_everybody_acted(task, phase):
        return True
    old_enough: bool = block.number >= book.tasks[task].phase_block + book.rules[book.tasks[task].rules].phase_min_blocks
    return old_enough and now >= self._deadline(task)


@view
@internal
def _has_everybody_acted(task: uint256, phase: uint256) -> bool:
    round: uint256 = book.tasks[task].round
    if phase == types.WAITING:
        return book._has_enough(task)
    if phase == types.COMMIT and fallback._is_missing(task, round):
        return True
    if phase == types.COMMIT:
        return book.rounds[task][round].committed == packing._full(len(book.rounds[task][round].proposers))
    if phase == types.REVEAL:
        return book.rounds[task][round].revealed == book.rounds[task][round].committed
    if phase == types.AVAILABILITY:
        return book.rounds[task][round].attested == packing._full(len(book.rounds[task][round].voters))
    if phase == types.SCORE_COMMIT:
        return book.rounds[task][round].score_committed == packing._full(len(book.rounds[task][round].voters))
    if phase == types.SCORE_REVEAL:
        return book.rounds[task][round].score_revealed == book.rounds[task][round].score_committed
    if phase == types.ADOPT:
        return book.rounds[task][round].adoption_votes == book.rounds[task][round].score_revealed
    if phase == types.AUDIT:
        return book.tasks[task].heard == book.tasks[task].auditors
    return False


@view
@internal
def _deadline(task: uint256) -> uint256:
    """
    @notice Chain time at which the phase ends; its start where it awaits a seed; 0 after the end.
    """
    phase: uint256 = book.tasks[task].phase
    started: uint256 = book.tasks[task].phase_started
    if phase == types.WAITING:
        return started + book.tasks[task].terms.wait_seconds
    if phase == types.COMMIT:
        return started + book.tasks[task].terms.commit_seconds
    if phase == types.REVEAL:
        return started + book.tasks[task].terms.reveal_seconds
    if phase == types.AVAILABILITY:
        return started + book.tasks[task].terms.availability_seconds
    if phase == types.SCORE_COMMIT:
        return started + book.tasks[task].terms.score_commit_seconds
    if phase == types.SCORE_REVEAL:
        return started + book.tasks[task].terms.score_reveal_seconds
    if phase == types.TALLY:
        return started + book.tasks[task].terms.tally_seconds
    if phase == types.ADOPT:
        return started + book.tasks[task].terms.adopt_seconds
    if phase == types.AUDIT:
        return started + book.tasks[task].terms.audit_seconds
    return started if phase != types.ENDED else 0


@view
@external
def due_tasks() -> DynArray[uint256, types.MAX_POKES]:
    """
    @notice The tasks that `poke` can advance in this block, in the order of (deadline, task); the first 16.
    """
    now: uint256 = book._now()
    tasks: DynArray[uint256, types.MAX_POKES] = []
    keys: DynArray[uint256, types.MAX_POKES] = []
    for task: uint256 in book.live:
        if not self._is_due(task, now):
            continue
        key: uint256 = (self._deadline(task) << 128) | task
        at: uint256 = len(keys)
        if at < types.MAX_POKES:
            keys.append(key)
        elif key < keys[types.MAX_POKES - 1]:
            at = types.MAX_POKES - 1
        else:
            continue
        for _: uint256 in range(types.MAX_POKES):
            if at == 0 or keys[at - 1] < key:
                break
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key
    for key: uint256 in keys:
        tasks.append(key & (2**128 - 1))
    return tasks


@view
@external
def wakeup() -> uint256:
    """
    @notice 0 where blocks are needed now (something is due, a seed is awaited, or a phase past its deadline is too few
            blocks old); else the chain time of the earliest deadline; max_value(uint256) where nothing runs.
    """
    now: uint256 = book._now()
    earliest: uint256 = max_value(uint256)
    for task: uint256 in book.live:
        phase: uint256 = book.tasks[task].phase
        deadline: uint256 = self._deadline(task)  # of a phase that awaits a seed: its start
        if now >= deadline or self._has_everybody_acted(task, phase):
            return 0
        earliest = min(earliest, deadline)
    return earliest
