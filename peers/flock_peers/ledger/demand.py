"""When a block is wanted: chain time, deadlines, heartbeat, and how far apart blocks are. Pure; knows no contract.

work = executable transaction | something due or a seed awaited | a deadline passed in chain time | heartbeat
"""

from dataclasses import dataclass

from flock_chain.parameters import Parameters

NOTHING_DUE = (1 << 256) - 1  # the board's word for: no deadline at all
MAX_BACKOFF = 8  # doublings of the interval while every due poke fails; the heartbeat caps it anyway


@dataclass(frozen=True)
class Moment:
    """What the final state says about the next block."""

    timestamp: int  # of the head
    chain_time: int  # as of the head
    wakeup: int  # 0: now; NOTHING_DUE; else a chain time
    failed_pokes: int  # blocks in a row in which every poke failed


def estimate_chain_time(moment: Moment, now: float, gap: int) -> float:
    """A standstill counts as `gap` seconds at most."""
    return moment.chain_time + min(max(now - moment.timestamp, 0.0), gap)


def compute_delay(moment: Moment, parameters: Parameters, *, now: float, waited: float, has_executable: bool) -> float:
    """Seconds until a block is wanted. `waited`: since the last one was stored here."""
    interval = parameters.block_interval / 1_000
    apart = max(0.0, interval - waited)
    if has_executable:
        return apart
    delay = moment.timestamp + parameters.heartbeat - now
    if moment.wakeup == 0:
        backoff = interval * ((1 << min(moment.failed_pokes, MAX_BACKOFF)) - 1)
        delay = min(delay, backoff - waited if backoff else 0.0)
    elif moment.wakeup != NOTHING_DUE and moment.wakeup - moment.chain_time <= parameters.chain_time_gap:
        delay = min(delay, moment.timestamp + moment.wakeup - moment.chain_time - now)
    return max(apart, delay)
