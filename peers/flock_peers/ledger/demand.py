"""When a block is wanted: chain time, deadlines, heartbeat, and how far apart blocks are. Pure; knows no contract.

work = executable transaction | something due or a seed awaited | a deadline passed in chain time | heartbeat
"""

from collections.abc import Set
from dataclasses import dataclass

from flock_chain.crypto import Account
from flock_chain.parameters import Parameters

NOTHING_DUE = (1 << 256) - 1  # the board's word for: no deadline at all
EARLY_SHARE = 1 / 4  # of the interval: so soon may a block follow that nobody can be in want of time before
MAX_BACKOFF = 8  # doublings of the interval while every due poke fails; the heartbeat caps it anyway


@dataclass(frozen=True)
class Moment:
    """What the final state says about the next block."""

    timestamp: int  # of the head
    chain_time: int  # as of the head
    wakeup: int  # 0: now; NOTHING_DUE; else a chain time
    failed_pokes: int  # blocks in a row in which every poke failed
    is_due: bool = False  # the next block ends a phase or draws, and the last one did not


@dataclass(frozen=True)
class Awaited:
    """What a task's phase still waits for, as of the head."""

    stage: tuple[int, int]  # round and phase
    accounts: frozenset[Account]  # who may act
    enough: int  # of them; 0: for blocks alone, as a draw does for its seed


def is_all_here(awaited: Awaited, senders: Set[Account]) -> bool:
    """`senders`: whose transactions a block would include now. A wrong guess costs an early block, no more."""
    return len(awaited.accounts & senders) >= awaited.enough


def estimate_chain_time(moment: Moment, now: float, gap: int) -> float:
    """A standstill counts as `gap` seconds at most."""
    return moment.chain_time + min(max(now - moment.timestamp, 0.0), gap)


def compute_interval(
    moment: Moment, parameters: Parameters, *, have_all_voted: bool, is_complete: bool = False
) -> float:
    """Seconds between the last block and the next one, at least: less where it ends what is over, and where it has all
    that a phase waits for, for then nobody can be in want of time.

    Only as a round gets on: the second kind comes once for those who are awaited, so nobody who sends something else
    makes block after block come faster.
    `have_all_voted`: on the last block, as far as this peer knows; who has not would look absent.
    `is_complete`: a task's phase has all that it waits for with the next block (`is_all_here`).
    """
    interval = parameters.block_interval / 1_000
    return interval * EARLY_SHARE if can_hurry(moment, is_complete=is_complete) and have_all_voted else interval


def can_hurry(moment: Moment, *, is_complete: bool = False) -> bool:
    return (moment.is_due or is_complete) and moment.failed_pokes == 0


def compute_delay(
    moment: Moment,
    parameters: Parameters,
    *,
    now: float,
    waited: float,
    has_executable: bool,
    have_all_voted: bool = False,
    is_complete: bool = False,
) -> float:
    """Seconds until a block is wanted. `waited`: since the last one was stored here."""
    interval = parameters.block_interval / 1_000
    least = compute_interval(moment, parameters, have_all_voted=have_all_voted, is_complete=is_complete)
    apart = max(0.0, least - waited)
    if has_executable:
        return apart
    delay = moment.timestamp + parameters.heartbeat - now
    if moment.wakeup == 0:
        backoff = interval * ((1 << min(moment.failed_pokes, MAX_BACKOFF)) - 1)
        delay = min(delay, backoff - waited if backoff else 0.0)
    elif moment.wakeup != NOTHING_DUE and moment.wakeup - moment.chain_time <= parameters.chain_time_gap:
        delay = min(delay, moment.timestamp + moment.wakeup - moment.chain_time - now)
    return max(apart, delay)
