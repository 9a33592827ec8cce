"""How late a loop is: counted by how late, on the clock and as far as its own work held it up."""

import time

import pytest
import trio
from trio.testing import MockClock

from flock_peers.loop_lag import BOUNDS, TICK_SECONDS, LoopLag, find_percentile


def test_a_percentile_is_the_bound_that_so_many_ticks_kept() -> None:
    counts = [0] * len(BOUNDS)
    assert find_percentile(counts, 0.99) == 0
    counts[0], counts[5] = 98, 1
    assert find_percentile(counts, 0.5) == BOUNDS[0] and find_percentile(counts, 0.99) == BOUNDS[5]
    counts[-1] = 2
    assert find_percentile(counts, 0.99) == BOUNDS[-1]


@pytest.mark.parametrize(
    ("late", "worked", "on_clock", "own"),
    [
        (0.0, 0.001, 0.002, 0.002),
        (0.4, 0.4, 0.5, 0.5),
        (0.4, 0.01, 0.5, 0.01),  # other programs had the processors
        (0.001, 0.3, 0.002, 0.002),  # its threads worked beside the loop, which was in time
        (99.0, 99.0, 10.0, 10.0),
    ],
)
def test_what_was_late_is_its_own_fault_as_far_as_it_worked_meanwhile(
    late: float, worked: float, on_clock: float, own: float
) -> None:
    lag = LoopLag()
    lag.note(late, worked)
    read = lag.read()
    assert read["on_clock"][BOUNDS.index(on_clock)] == sum(read["on_clock"]) == 1
    assert read["own"][BOUNDS.index(own)] == sum(read["own"]) == 1
    assert read["p99_seconds"] == on_clock


def test_a_step_that_holds_up_the_loop_is_seen_and_rest_is_not() -> None:
    async def main() -> LoopLag:
        lag = LoopLag()
        with trio.move_on_after(10 * TICK_SECONDS + 0.01):
            await lag.run()
        return lag

    lag = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert sum(lag.on_clock) == lag.on_clock[0] == 10

    async def hold_up() -> LoopLag:
        lag = LoopLag()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lag.run)
            await trio.sleep(TICK_SECONDS / 5)  # it has begun
            end = time.thread_time() + 0.3 + 2 * TICK_SECONDS
            while time.thread_time() < end:
                pass
            while not sum(lag.own):
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        return lag

    lag = trio.run(hold_up)
    assert sum(lag.own[BOUNDS.index(0.3) :]) >= 1
