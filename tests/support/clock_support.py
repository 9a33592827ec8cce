"""Virtual time for tests whose code also works in threads."""

import functools
import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing


def on_stepped_clock(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test with time that jumps when everybody waits, but never while a worker thread is at work."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        clock = trio.testing.MockClock()

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_jump, clock)
                await test(*arguments, **named)
                nursery.cancel_scope.cancel()

        trio.run(main, clock=clock)

    return run


async def _jump(clock: trio.testing.MockClock) -> None:
    threads = trio.to_thread.current_default_thread_limiter()
    while True:
        await trio.testing.wait_all_tasks_blocked(0.0002)
        wait = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if not threads.borrowed_tokens and 0 < wait < math.inf:
            clock.jump(wait)
