"""Whether a fresh block's timestamp fits this machine's clock, and a word to the operator where it stays wrong."""

import logging
from collections.abc import Callable

import trio

from flock_chain.execution.blocks import Block
from flock_chain.parameters import Parameters

log = logging.getLogger(__name__)

WARNING_SECONDS = 10.0  # off by more, and as often, it is said; a view or two later than usual is no news


class Timeliness:
    def __init__(self, parameters: Parameters, clock: Callable[[], float]) -> None:
        self._parameters, self._clock = parameters, clock
        self._warned_at = -float("inf")

    def judge(self, block: Block) -> bool:
        """A timestamp before the parent's is for the executor to refuse: it is wrong for everybody."""
        now = self._clock()
        oldest = int(now) - self._parameters.clock_slack_behind  # whole seconds, as the timestamp is
        is_timely = oldest <= block.timestamp <= now + self._parameters.clock_slack_ahead
        if not is_timely:
            self._warn(block, block.timestamp - now)
        return is_timely

    def _warn(self, block: Block, off: float) -> None:
        """A block a moment early is ordinary; one that stays untimely means that a clock is wrong, perhaps this one."""
        now = trio.current_time()
        if abs(off) > WARNING_SECONDS and now - self._warned_at > WARNING_SECONDS:
            self._warned_at = now
            log.warning(
                "block %d of 0x%s is stamped %.0f s %s this machine's clock: not voting for it; check the clock here "
                "(is time synchronisation running?), and there if others say the same",
                *(block.height, block.proposer.hex(), abs(off), "after" if off > 0 else "before"),
            )
