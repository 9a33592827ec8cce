"""The connector in virtual time, over a made network that answers or does not."""

from itertools import pairwise

import trio
from network_support import key
from trio.testing import MockClock

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.network.addresses import AddressBook
from flock_peers.network.connector import Connector
from flock_peers.network.hello import encode_addresses
from flock_peers.network.identity import Address, make_address, peer_id_of
from flock_peers.network.limits import Limits

ME = bytes(20)


def address(number: int) -> Address:
    return make_address("10.0.0.1", number, peer_id_of(key(number)))


class World:
    """Who answers, who is connected, and when each was dialed."""

    def __init__(self, limits: Limits) -> None:
        self.book = AddressBook(ME, limits, None)
        self.up: set[Account] = set()
        self.connected: dict[Account, None] = {}
        self.dials: dict[Account, list[float]] = {}
        self.at_once = self.most_at_once = self.most_connected = 0
        self.tells: list[Address] = []
        self.connector = Connector(
            self.book, limits, is_connected=self.connected.__contains__, dial=self.dial, ask_peers=self.ask,
            connected=lambda: list(self.connected), count_outbound=lambda: len(self.connected),
            keeps_loopback=lambda _told_by: True,
        )  # fmt: skip

    async def dial(self, target: Address) -> None:
        self.dials.setdefault(target.account, []).append(trio.current_time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(1)
            if target.account not in self.up:
                raise Unavailable("nobody there")
            self.connected[target.account] = None
            self.most_connected = max(self.most_connected, len(self.connected))
        finally:
            self.at_once -= 1

    async def ask(self, _account: Account) -> bytes:
        return encode_addresses(self.tells)

    def lose(self, account: Account) -> None:
        self.connected.pop(account, None)
        self.up.discard(account)
        self.book.on_lost(account, trio.current_time())
        self.connector.wake()


def run_for(world: World, *changes: tuple[float, object]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.connector.run)
            for seconds, change in changes:
                await trio.sleep(seconds)
                if callable(change):
                    change()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_the_users_own_peer_is_dialed_for_ever_and_every_fifteen_seconds_at_the_latest() -> None:
    world = World(Limits())
    world.book.add(address(2), is_bootstrap=True)
    run_for(world, (7_200, None), (0, lambda: world.up.add(key(2).account)), (20, None))
    dials = world.dials[key(2).account]
    assert key(2).account in world.connected
    assert max(later - sooner for sooner, later in pairwise(dials)) <= 15 + 1 + 0.1
    assert len(dials) < 7_200 / 7


def test_a_peer_that_was_known_is_tried_less_often_but_never_given_up() -> None:
    world = World(Limits())
    world.book.add(address(2), is_confirmed=True)
    run_for(world, (7_200, None), (0, lambda: world.up.add(key(2).account)), (301, None))
    assert key(2).account in world.connected
    assert 7_200 / 302 < len(world.dials[key(2).account]) < 7_200 / 150 + 20


def test_hearsay_that_never_answers_is_forgotten() -> None:
    world = World(Limits())
    run_for(world, (0, lambda: world.connector.hear([address(2)], b"somebody")), (3_600, None))
    assert not world.book.entries and len(world.dials[key(2).account]) == Limits().forget_after_failures


def test_a_crowd_that_answers_leaves_places_for_the_users_peers_anchors_and_validators() -> None:
    limits = Limits(max_outbound=10, reserved_outbound=3, known_peers=128)
    world = World(limits)
    wanted = {key(number).account for number in (2, 3, 4)}
    world.book.add(address(2), is_bootstrap=True)
    world.book.add(address(3), is_confirmed=True)
    world.book.entries[key(3).account].is_anchor = True
    world.book.favour([key(4).account])
    world.book.add(address(4), is_confirmed=True)

    def crowd() -> None:
        for number in range(100, 140):
            world.up.add(key(number).account)
            world.connector.hear([address(number)], bytes([number]))

    def come_back() -> None:
        assert len(world.connected) == 7 and not wanted & set(world.connected)
        world.up.update(wanted)

    run_for(world, (0, crowd), (3_600, come_back), (301, None))
    assert wanted <= set(world.connected)
    assert world.most_connected == 10


def test_few_are_dialed_at_once_and_an_answer_of_another_makes_place() -> None:
    world = World(Limits(parallel_dials=3))
    for number in range(2, 22):
        world.book.add(address(number), is_confirmed=True)
        world.up.add(key(number).account)
    run_for(world, (9, None))
    assert world.most_at_once == 3 and len(world.connected) == 20


def test_a_lost_connection_is_made_again_at_once_when_it_had_lasted() -> None:
    world = World(Limits())
    world.book.add(address(2), is_confirmed=True)
    world.up.add(key(2).account)

    def lose() -> None:
        world.lose(key(2).account)
        world.up.add(key(2).account)

    run_for(world, (60, lose), (2, None))
    assert key(2).account in world.connected and len(world.dials[key(2).account]) == 2


def test_who_is_connected_is_asked_whom_it_knows() -> None:
    world = World(Limits())
    world.book.add(address(2), is_bootstrap=True)
    world.up.update({key(2).account, key(3).account})
    world.tells = [address(3)]
    run_for(world, (40, None))
    assert key(3).account in world.connected
