"""Whose turn it is: of networks one after the other; and of how many it is remembered who had one."""

import trio
import trio.testing

from flock_chain.crypto import Account
from flock_peers.network import turns as module
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
