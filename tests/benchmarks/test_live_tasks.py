"""How long a benchmark waits for a live network: by what moves in it."""

import live_tasks
import pytest
from live_tasks import wait_until

from flock_chain.errors import Unavailable


class Clock:
    """In place of the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live_tasks, "time", clock)
    return clock


def test_what_moves_is_waited_for_and_what_has_stopped_is_given_up(clock: Clock) -> None:
    assert wait_until("the end", 10, lambda: clock.now >= 95, lambda: clock.now // 9)
    started = clock.now
    with pytest.raises(Unavailable, match="not within 10 s: the end"):
        wait_until("the end", 10, lambda: False, lambda: min(clock.now, started + 30) // 9)
    assert 30 < clock.now - started < 41


def test_without_a_sign_the_time_is_all_there_is_and_a_peer_that_is_away_is_told(clock: Clock) -> None:
    def check() -> bool:
        raise Unavailable("nobody answers")

    with pytest.raises(Unavailable, match="not within 10 s: a head; last answer: nobody answers"):
        wait_until("a head", 10, check)
    assert clock.now == pytest.approx(10, abs=0.2)
