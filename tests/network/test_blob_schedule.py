"""Which chunks are asked of whom: nothing is forgotten, nothing is asked twice without need, the slow are overtaken."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flock_chain.crypto import Account
from flock_peers.network.blob_schedule import MAX_COPIES, Schedule

A, B, C, D = (Account(bytes([n]) * 20) for n in range(1, 5))


def _ask_all(schedule: Schedule, provider: Account) -> list[tuple[int, int]]:
    found = []
    while (row := schedule.ask(provider)) is not None:
        found.append(row)
    return found


def test_neighbours_are_asked_for_together_and_two_ranges_are_in_flight() -> None:
    schedule = Schedule([*range(20), 30, 31, 40], 8, 2)
    assert _ask_all(schedule, A) == [(0, 8), (8, 8)]
    assert _ask_all(schedule, B) == [(16, 4), (30, 2), (40, 1)]
    for index in range(8):
        assert schedule.on_verified(A, index)
    assert schedule.left == 15


def test_what_a_lost_provider_owes_comes_first() -> None:
    schedule = Schedule(range(32), 8, 2)
    _ask_all(schedule, A)
    schedule.on_verified(A, 0)
    schedule.give_up(A)
    assert _ask_all(schedule, B) == [(1, 8), (9, 8)]


def test_an_idle_provider_overtakes_a_slow_one_from_its_end_a_chunk_at_a_time() -> None:
    schedule = Schedule(range(10), 8, 2)
    assert _ask_all(schedule, A) == [(0, 8), (8, 2)]
    assert schedule.has_work(B)
    for expected in (9, 8, 7):
        assert _ask_all(schedule, B) == [(expected, 1)]
        assert schedule.on_verified(B, expected)
    assert not schedule.is_needed(9) and schedule.left == 7
    for index in range(7):
        schedule.on_verified(A, index)
    assert not schedule.left and not schedule.has_work(B)
    assert not schedule.on_verified(A, 7)  # it came, and was not needed


def test_nobody_is_asked_for_what_another_was_asked_for_just_now() -> None:
    """A small file comes from one provider, once; when that one is late, the next may overtake it, and then a third."""
    now = 10.0
    schedule = Schedule(range(3), 8, 2, 1.0, lambda: now)
    assert _ask_all(schedule, A) == [(0, 3)]
    assert not schedule.has_work(B) and _ask_all(schedule, B) == []
    now = 10.9
    schedule.on_verified(A, 0)
    assert not schedule.has_work(B)
    now = 11.0
    assert schedule.has_work(B) and _ask_all(schedule, B) == [(2, 1)]
    assert _ask_all(schedule, C) == [(1, 1)] and not schedule.has_work(D)
    now = 12.0
    assert _ask_all(schedule, D) != []
    schedule.give_up(A)
    schedule.give_up(B)
    schedule.give_up(C)
    schedule.give_up(D)
    assert sorted(_ask_all(schedule, B)) == [(1, 1), (2, 1)]  # what nobody owes waits for nothing


def test_one_chunk_is_asked_of_three_at_most_and_every_other_before_it_is_asked_again() -> None:
    schedule = Schedule(range(2), 8, 2)
    assert _ask_all(schedule, A) == [(0, 2)]
    assert [_ask_all(schedule, other) for other in (B, C)] == [[(1, 1)], [(0, 1)]]
    assert _ask_all(schedule, D) == [(1, 1)]
    fifth, sixth = Account(bytes([5]) * 20), Account(bytes([6]) * 20)
    assert _ask_all(schedule, fifth) == [(0, 1)]
    assert not schedule.has_work(sixth) and _ask_all(schedule, sixth) == []
    schedule.give_up(B)
    assert schedule.has_work(sixth)


def test_a_chunk_that_another_still_owes_is_not_given_back() -> None:
    schedule = Schedule(range(1), 8, 2)
    _ask_all(schedule, A)
    _ask_all(schedule, B)
    schedule.give_up(A)
    assert not schedule._todo
    schedule.give_up(B)
    assert _ask_all(schedule, C) == [(0, 1)]


class Machine(RuleBasedStateMachine):
    """Providers ask, deliver in order, and vanish, in any order."""

    @initialize(
        missing=st.sets(st.integers(0, 40), max_size=40), chunks=st.integers(1, 8), ranges=st.integers(1, 3)
    )  # fmt: skip
    def begin(self, missing: set[int], chunks: int, ranges: int) -> None:
        self.missing, self.chunks, self.ranges = sorted(missing), chunks, ranges
        self.schedule = Schedule(self.missing, chunks, ranges)
        self.owed: dict[Account, list[int]] = {}
        self.verified: set[int] = set()

    @rule(provider=st.sampled_from([A, B, C, D]))
    def ask(self, provider: Account) -> None:
        before = self.owed.setdefault(provider, [])
        others = [index for other, owed in self.owed.items() if other != provider for index in owed]
        might = self.schedule.has_work(provider)
        found = self.schedule.ask(provider)
        assert found is None or might
        if not before:
            assert (found is not None) == might
        if found is not None:
            rows = list(range(found[0], sum(found)))
            assert len(rows) <= self.chunks and not set(rows) & (self.verified | set(before))
            if set(rows) & set(others):
                assert len(rows) == 1 and not before  # overtaking
                assert set(self.missing) - self.verified == (set(self.missing) - self.verified) & set(others)
            before += rows

    @rule(provider=st.sampled_from([A, B, C, D]), count=st.integers(1, 9))
    def deliver(self, provider: Account, count: int) -> None:
        for _ in range(count):
            owed = self.owed.get(provider, [])
            if not owed:
                return
            index = owed.pop(0)
            assert self.schedule.is_needed(index) == (index not in self.verified)
            assert self.schedule.on_verified(provider, index) == (index not in self.verified)
            self.verified.add(index)

    @rule(provider=st.sampled_from([A, B, C, D]))
    def vanish(self, provider: Account) -> None:
        self.schedule.give_up(provider)
        self.owed.pop(provider, None)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if not hasattr(self, "schedule"):
            return
        flying = [index for owed in self.owed.values() for index in owed]
        todo = [index for index in self.schedule._todo if self.schedule.is_needed(index)]
        assert len(set(todo)) == len(todo) and not set(todo) & set(flying)
        assert set(todo) | {i for i in flying if i not in self.verified} == set(self.missing) - self.verified
        assert self.schedule.left == len(self.missing) - len(self.verified)
        assert all(flying.count(index) <= MAX_COPIES for index in flying)
        assert all(len(owed) <= self.chunks * self.ranges for owed in self.owed.values())


TestSchedule = Machine.TestCase
TestSchedule.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
