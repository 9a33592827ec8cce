"""Whose turn it is: of networks one after the other; and of how many it is remembered who had one."""

from contextlib import suppress

import trio
import trio.testing

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.network import turns as module
from flock_peers.network.complaints import Tolerance
from flock_peers.network.turns import Turns

HERE, THERE = "10.1.0.1", "10.200.0.1"


class Table:
    def __init__(self) -> None:
        self.turns, self.order = Turns(1, 10.0, 30.0, lambda _account: False), list[int]()

    async def use(self, number: int, host: str) -> None:
        async with self.turns.take(Account(number.to_bytes(20, "big")), host):
            self.order.append(number)
            await trio.sleep(1)


def test_a_network_that_had_its_turn_longer_ago_is_next_whoever_of_the_other_never_had_one() -> None:
    async def main() -> list[int]:
        table = Table()
        await table.use(1, THERE)
        async with trio.open_nursery() as nursery:
            for number, host in ((2, HERE), (3, HERE), (1, THERE)):
                nursery.start_soon(table.use, number, host)
                await trio.testing.wait_all_tasks_blocked()
        return table.order

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01)) == [1, 2, 1, 3]


def test_of_networks_and_accounts_that_had_a_turn_the_oldest_are_forgotten() -> None:
    async def main() -> None:
        turns = Table().turns
        for number in range(module._REMEMBERED):
            async with turns.take(Account(number.to_bytes(20, "big")), f"2001:db8:{number:x}::1"):
                await trio.lowlevel.checkpoint()
        assert len(turns._last) == module._REMEMBERED and turns._begun in turns._last.values()

    trio.run(main)


def test_an_account_that_asks_from_several_networks_has_no_more_turns_than_one_that_asks_from_one() -> None:
    async def main() -> list[int]:
        table = Table()
        async with trio.open_nursery() as nursery:
            for number, host in [(1, f"10.3.0.{n}") for n in range(6)] + [(2, HERE)] * 3:
                nursery.start_soon(table.use, number, host)
                await trio.testing.wait_all_tasks_blocked()
        return table.order

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))[:6] == [1, 2, 1, 2, 1, 2]


def test_where_all_turns_are_taken_an_account_of_several_networks_gives_way_to_who_has_fewer() -> None:
    lost = list[int]()

    async def hold(turns: Turns, number: int, host: str) -> None:
        try:
            async with turns.take(Account(bytes([number]) * 20), host) as turn:
                with turn.at_others_pace():
                    await trio.sleep_forever()
        except Unavailable:
            lost.append(number)

    async def main() -> None:
        turns = Turns(5, 10.0, 30.0, lambda _account: False, 4)
        async with trio.open_nursery() as nursery:
            wide = ((1, "10.3.0.1"), (1, "10.3.0.2"), (1, "10.3.0.3"))
            for number, host in (*wide, (2, HERE), (3, HERE), (4, THERE)):
                nursery.start_soon(hold, turns, number, host)
                await trio.testing.wait_all_tasks_blocked()
            assert lost == [1]  # at once, although another network had two turns, of two accounts
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))


def take_nothing(count: int, each: int, *askers: tuple[str, int]) -> tuple[list[str], list[str]]:
    """One after the other, within a moment, from one network: who got a turn, and who lost it when."""
    begun, lost = list[str](), list[str]()

    async def hold(turns: Turns, name: str, number: int) -> None:
        try:
            async with turns.take(Account(bytes([number]) * 20), HERE) as turn:
                begun.append(name)
                with turn.at_others_pace():
                    await trio.sleep_forever()
        except Unavailable:
            lost.append(f"{name} {trio.current_time() - start:.0f}")

    async def main() -> None:
        nonlocal start
        turns, start = Turns(count, 10.0, 30.0, lambda _account: False, each), trio.current_time()
        async with trio.open_nursery() as nursery:
            for name, number in askers:
                nursery.start_soon(hold, turns, name, number)
                await trio.testing.wait_all_tasks_blocked()

    start = 0.0
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    return begun, lost


def test_of_one_network_the_account_that_has_the_most_gives_way_to_who_has_none() -> None:
    begun, lost = take_nothing(4, 3, ("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 2), ("f", 3))
    assert begun[:5] == ["a", "b", "c", "e", "f"]  # the fourth of one account waits, although there is room
    assert lost[0] == "a 0" and sorted(row[0] for row in lost) == list("abcdef")


def test_who_keeps_a_turn_and_takes_nothing_is_told_of_with_its_seconds() -> None:
    told = list[tuple[int, int]]()

    async def hold(turns: Turns, number: int) -> None:
        with suppress(Unavailable):
            async with turns.take(Account(bytes([number]) * 20), HERE) as turn:
                with turn.at_others_pace():
                    await trio.sleep_forever()

    def tally(account: Account, tolerance: Tolerance, _what: str, count: int) -> None:
        assert tolerance.most < 20  # seconds within a minute
        told.append((account[0], count))

    async def main() -> None:
        turns = Turns(1, 10.0, 30.0, lambda _account: False, on_lost=module.tell_untaken(tally))
        async with trio.open_nursery() as nursery:
            for number in (1, 2):
                nursery.start_soon(hold, turns, number)
                await trio.testing.wait_all_tasks_blocked()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert told == [(1, 10), (2, 30)]


def hold_for(*holders: tuple[str, float]) -> list[str]:
    """Three turns, and who wants one for how long, in order: who had it for as long as it wanted."""
    told = list[str]()

    async def hold(turns: Turns, number: int, host: str, seconds: float) -> None:
        with suppress(Unavailable):
            async with turns.take(Account(bytes([number]) * 20), host) as turn:
                with turn.at_others_pace():
                    await trio.sleep(seconds)
                told.append(f"{number} for {seconds:g}")

    async def main() -> None:
        turns = Turns(3, 10.0, 30.0, lambda _account: False)
        async with trio.open_nursery() as nursery:
            for number, (host, seconds) in enumerate(holders):
                nursery.start_soon(hold, turns, number, host, seconds)
                await trio.testing.wait_all_tasks_blocked()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    return told


def test_where_one_of_a_crowd_goes_nobody_else_has_less_time_for_it() -> None:
    """Who was before it in the order lost its turn after its sure time, though nobody waited any more."""
    found = hold_for((HERE, 25.0), (THERE, 26.0), (THERE, 27.0), ("10.4.0.1", 1.0))
    assert found == ["3 for 1", "0 for 25", "2 for 27"]


def test_who_gave_way_to_nobody_has_its_whole_time_as_soon_as_nobody_waits() -> None:
    """Whoever had come once, and had a turn that got free, cost all others theirs after their sure time."""
    found = hold_for((HERE, 25.0), (THERE, 2.0), ("10.3.0.1", 27.0), ("10.4.0.1", 1.0))
    assert found == ["1 for 2", "3 for 1", "0 for 25", "2 for 27"]


def test_who_was_to_give_way_to_one_that_waits_no_more_does_not_give_way_for_the_next() -> None:
    """The next one waits for a turn of its own network's: what others had to fear from the one before is over."""
    found = hold_for((HERE, 25.0), (THERE, 2.0), ("10.3.0.1", 27.0), ("10.4.0.1", 20.0), (HERE, 1.0))
    assert found == ["1 for 2", "4 for 1", "3 for 20", "2 for 27"]


def test_nobody_gives_way_to_who_would_have_more() -> None:
    begun, lost = take_nothing(2, 2, ("a", 1), ("b", 2), ("c", 2))
    assert begun == ["a", "b", "c"] and lost[0] == "b 10" and "a 30" in lost
