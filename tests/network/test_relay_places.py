"""Places at a relay: who has one, who gives way to whom, and how networks take turns."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, Status
from network_support import GENESIS_HASH, LOOPBACK, in_trio, key, open_attacker, wait_until
from relay_support import HOP, LONELY, ask, circuit, library_of, link_from

from flock_peers.network.host import open_host
from flock_peers.network.identity import peer_id_of
from flock_peers.network.link import Link
from flock_peers.network.relay import RENEW_SECONDS
from flock_peers.network.relay_client import _AGAIN_SECONDS
from flock_peers.network.relay_places import SURE_SECONDS, Places


@in_trio()
async def test_a_place_is_nobodys_who_left_where_another_one_asks_for_it() -> None:
    """Sixteen identities, each there for a moment, kept everybody from being reachable for an hour."""
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay:
        places = library_of(relay).resource_manager
        for number in range(16):
            places.reserve(peer_id_of(key(100 + number)))
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[relay.address]) as hidden:
            await wait_until(lambda: hidden.address == circuit(relay, 2))
            assert list(places._reservations) == [peer_id_of(key(2))]


@in_trio()
async def test_who_gets_no_place_is_told_so_and_has_it_when_it_is_free() -> None:
    reserve = HopMessage(type=HopMessage.RESERVE)
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_attacker(66, relay) as second,
    ):
        library = library_of(relay)
        library._places, places = Places(1, trio.current_time, lambda _: False), library.resource_manager._reservations
        async with open_attacker(67, relay) as first:
            assert await ask(await first.open_net_stream(HOP), reserve) == Status.OK
            assert await ask(await second.open_net_stream(HOP), reserve) == Status.RESOURCE_LIMIT_EXCEEDED
            assert await ask(await first.open_net_stream(HOP), reserve) == Status.OK, "renewed"
            for holder, asker in ((67, second), (66, first)):  # who is connected, and renewed it no more
                places[peer_id_of(key(holder))].expires_at = 0
                assert await ask(await asker.open_net_stream(HOP), reserve) == Status.OK
            library._places = Places(1, trio.current_time, {key(66).account}.__contains__)
            assert await ask(await second.open_net_stream(HOP), reserve) == Status.OK
            assert list(places) == [peer_id_of(key(66))], "who is needed has it in the other's place"
            del places[peer_id_of(key(66))]
            assert await ask(await first.open_net_stream(HOP), reserve) == Status.OK
        await wait_until(lambda: library._stack.newest_link(peer_id_of(key(67))) is None)
        assert await ask(await second.open_net_stream(HOP), reserve) == Status.OK
        assert list(places) == [peer_id_of(key(66))]


@in_trio()
async def test_a_peer_asks_for_its_place_again_as_soon_as_it_is_connected_again() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[relay.address]) as hidden,
    ):
        await wait_until(lambda: hidden.address == circuit(relay, 2))
        places = library_of(relay).resource_manager._reservations
        relay.disconnect(hidden.account)
        places.clear()
        await wait_until(lambda: peer_id_of(key(2)) in places)


@in_trio()
async def test_networks_take_turns_at_the_places_of_a_running_relay() -> None:
    """Real connections from four addresses; the clock of the turns is the test's."""
    reserve, now = HopMessage(type=HopMessage.RESERVE), [0.0]
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True))
        library_of(relay)._places = Places(2, lambda: now[0], relay.book.favoured.__contains__)

        async def come(number: int, source: str) -> Any:
            link = await stack.enter_async_context(open_attacker(number, relay, source=source))

            async def reserve_one() -> bool:
                return await ask(await link.open_net_stream(HOP), reserve) == Status.OK

            return reserve_one

        crowd = [await come(number, "127.0.0.66") for number in (66, 67)]
        assert [await one() for one in crowd] == [True, True]
        second = await come(68, "127.0.0.67")
        assert await second(), "at once, of the network that has two"
        third = await come(69, "127.0.0.68")
        assert not await third() and not await crowd[1]()
        now[0] = SURE_SECONDS - 1
        assert not await third()
        now[0] = SURE_SECONDS
        assert await third()
        places = library_of(relay).resource_manager._reservations
        assert [account for account in (66, 67, 68, 69) if peer_id_of(key(account)) in places] == [68, 69]


def find_who_gives_way(asker: Link, holders: list[Link], is_favoured: Callable[[bytes], bool]) -> Link | None:
    return Places(len(holders), lambda: 0.0, is_favoured).ask(asker, holders)[1]


def test_of_a_relays_places_the_network_that_has_the_most_gives_one_to_who_has_less() -> None:
    crowd = [link_from(f"8.8.8.{number}", number) for number in range(1, 15)]
    few = [link_from(f"9.9.9.{number}", number) for number in (50, 51)]
    nobody = frozenset[bytes]().__contains__
    assert find_who_gives_way(link_from("1.1.1.1", 90), [*crowd, *few], nobody) is crowd[-1]
    assert find_who_gives_way(link_from("8.8.8.200", 91), [*crowd, *few], nobody) is None
    assert find_who_gives_way(link_from("9.9.9.3", 92), [*crowd[:8], *few], nobody) is crowd[7]
    assert find_who_gives_way(link_from("9.9.9.3", 92), [*crowd[:3], *few], nobody) is None  # no better than before
    friends = {link.account for link in crowd}
    assert find_who_gives_way(link_from("1.1.1.1", 90), [*crowd, *few], friends.__contains__) is few[-1]
    assert find_who_gives_way(link_from("1.1.1.1", 90), crowd, friends.__contains__) is None
    needed = link_from("8.8.8.201", 93)
    assert find_who_gives_way(needed, crowd, lambda account: account == needed.account) is crowd[-1]


class Relayed:
    """A relay of sixteen places, and who asks for one when: each link from a network of its own, but where said."""

    def __init__(self, *holders: Link) -> None:
        self.now, self.holders = 0.0, list(holders)
        self.places = Places(16, lambda: self.now, frozenset[bytes]().__contains__)

    def ask(self, asker: Link) -> bool:
        if asker in self.holders:
            return True
        has_place, leaver = self.places.ask(asker, self.holders)
        if leaver is not None:
            self.holders.remove(leaver)
        if has_place:
            self.holders.append(asker)
        assert len(self.holders) <= 16
        return has_place


def test_who_has_sixteen_networks_does_not_have_all_places_of_a_relay_for_good() -> None:
    crowd, honest = [link_from(f"8.8.{number}.1", number) for number in range(1, 17)], link_from("1.1.1.1", 90)
    relay = Relayed(*crowd)
    while not relay.ask(honest):
        assert relay.now < SURE_SECONDS
        relay.now += 30.0
        first = relay.holders[0]  # in another account's name, again and again, which begins no new term
        relay.holders[0] = link_from(first.remote_host, int(relay.now) + 1_000)
    assert relay.now == SURE_SECONDS
    for _ in range(16):  # who has just lost one, and so on: the others' terms are over, too
        relay.ask(crowd[0])
        crowd.append(crowd.pop(0))
    assert honest in relay.holders


@pytest.mark.parametrize(("networks", "share"), [(16, 0.7), (40, 0.3)])
def test_networks_take_turns_at_a_relay_and_who_asks_more_often_is_not_sooner_next(
    networks: int, share: float
) -> None:  # fmt: skip
    """They ask every 15 s, for three hours; the honest peer as `RelayClient` does, which is not told."""
    crowd = [link_from(f"8.{number}.8.1", number) for number in range(1, networks + 1)]
    relay, honest, had, next_time = Relayed(*crowd[:16]), link_from("1.1.1.1", 90), 0, 0.0
    for step in range(3 * 240):
        relay.now = 15.0 * step
        for link in crowd:
            relay.ask(link)
        if relay.now >= next_time:
            next_time = relay.now + (RENEW_SECONDS if relay.ask(honest) else _AGAIN_SECONDS)
        had += honest in relay.holders
    assert had > share * 3 * 240, had / (3 * 240)
    assert len(relay.places._waiting) <= networks and len(relay.places._since) <= 32


@pytest.mark.parametrize(("way", "seconds"), [("move", SURE_SECONDS), ("meet", SURE_SECONDS), ("leave", 300.0)])
def test_who_changes_networks_before_its_time_is_over_has_no_more_time_at_a_relay(way: str, seconds: float) -> None:
    """Each change began a new term: twice sixteen networks kept everybody else out for good."""
    crowd = [[link_from(f"8.{n}.{m}.1", m + 20 * n * (way == "leave")) for m in range(1, 17)] for n in (1, 2)]
    relay, honest, first = Relayed(*crowd[0]), link_from("1.1.1.1", 90), crowd[0][0]
    while not relay.ask(honest):
        relay.now += 30.0
        assert relay.now <= SURE_SECONDS
        if relay.now % 300 == 0:
            crowd.reverse()
            if way == "meet":  # all of them in one network, and nobody asks but one more from there
                relay.holders = [link_from("8.9.9.1", m) for m in range(1, 17)][:: 1 if crowd[0][0] == first else -1]
                assert not relay.ask(link_from("8.9.9.1", 80))
            relay.holders = [] if way == "leave" else [*crowd[0]]  # of other accounts, or with other connections
            for link in crowd[0]:
                relay.ask(link)
    assert relay.now == seconds


def test_a_place_that_is_free_is_for_who_has_waited_for_it_and_for_anybody_when_nobody_does() -> None:
    crowd = [link_from(f"8.8.{number}.1", number) for number in range(1, 17)]
    relay, first, second, third = Relayed(*crowd), *(link_from(f"1.1.{n}.1", 90 + n) for n in range(3))
    assert not relay.ask(first) and not relay.ask(second)
    del relay.holders[3]
    sibling, other = (link_from(crowd[0].remote_host, number) for number in (50, 51))
    assert [relay.ask(link) for link in (third, sibling, second, first)] == [False, False, False, True]
    del relay.holders[3:6]
    assert [relay.ask(link) for link in (sibling, other, second, third)] == [True, False, True, True]
    relay.holders.remove(sibling)
    relay.holders.append(link_from("1.1.8.1", 98))
    assert not relay.ask(link_from("1.1.9.1", 99))
    del relay.holders[3]
    assert not relay.ask(other)
    relay.now += 76.0  # nobody asked again
    assert relay.ask(other)


def test_who_is_favoured_takes_a_place_that_is_free_and_nobody_gives_way_for_it() -> None:
    places = Places(2, lambda: 0.0, {key(9).account}.__contains__)
    holder = link_from("8.8.8.1", 1)
    assert not places.ask(link_from("1.1.1.1", 3), [holder, link_from("8.8.9.1", 2)])[0], "it waits"
    assert places.ask(link_from("9.9.9.1", 9), [holder]) == (True, None)
    assert places.ask(link_from("9.9.9.1", 9), [holder, link_from("8.8.9.1", 2)])[1] is not None


def test_who_waited_once_and_left_keeps_nobody_else_waiting_for_a_place() -> None:
    relay = Relayed(*(link_from(f"8.8.{number}.1", number) for number in range(1, 17)))
    assert not relay.ask(link_from("9.9.9.9", 80))
    relay.now = SURE_SECONDS
    for number in range(2_000):
        relay.ask(link_from(f"9.{number % 200}.{number // 200}.1", 100 + number))
    assert len(relay.places._waiting) <= 1_024 and len(relay.holders) == 16
    relay.now += SURE_SECONDS
    assert relay.ask(link_from("1.1.1.1", 90))
