"""Places for incoming connections: by address, by group, by rate; and who gives way in a crowd."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_peers.network.limits import Limits
from flock_peers.network.slots import GiveWay, Slots, find_crowd, group_of

LIMITS = Limits(accept_rate=1e9, accept_burst=1e9, accept_rate_of_all=1e9, accept_burst_of_all=1e9)


@pytest.mark.parametrize(
    ("ip", "group"),
    [
        ("8.8.4.7", "8.8.4.0/24"),
        ("::ffff:8.8.4.7", "8.8.4.0/24"),
        ("2606:4700:10:77::1", "2606:4700:10::/48"),
        ("192.168.1.9", "192.168.1.9"),
        ("10.0.0.9", "10.0.0.9"),
        ("127.0.0.1", "127.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("no address", "no address"),
    ],
)
def test_a_group_is_a_network_of_the_internet_and_one_address_at_home(ip: str, group: str) -> None:
    assert group_of(ip) == group


def test_handshakes_are_bounded_for_one_address_and_for_all() -> None:
    slots = Slots(replace(LIMITS, max_handshakes=4, max_handshakes_per_ip=2), lambda: 0.0)
    assert [slots.begin("10.0.0.1") != "" for _ in range(3)] == [False, False, True]
    assert not slots.begin("10.0.0.2") and not slots.begin("10.0.0.3") and slots.begin("10.0.0.4")
    slots.end_handshake("10.0.0.1")
    assert not slots.begin("10.0.0.4")


def test_one_network_of_the_internet_has_a_share_and_a_local_one_is_not_held_to_it() -> None:
    slots = Slots(replace(LIMITS, max_inbound_per_group=3, max_handshakes=99), lambda: 0.0)
    assert [slots.begin(f"8.8.4.{n}") != "" for n in range(5)] == [False, False, False, True, True]
    assert not any(slots.begin(f"192.168.1.{n}") for n in range(9))
    slots.end_handshake("8.8.4.0")
    slots.end("8.8.4.0")
    assert not slots.begin("8.8.4.9")


def test_new_connections_of_an_address_have_a_rate_and_others_do_not_wait_for_it() -> None:
    now = [0.0]
    slots = Slots(replace(LIMITS, accept_rate=2, accept_burst=3), lambda: now[0])

    def come(ip: str) -> bool:
        if slots.begin(ip):
            return False
        slots.end_handshake(ip)
        slots.end(ip)
        return True

    assert [come("10.0.0.1") for _ in range(5)] == [True, True, True, False, False]
    assert come("10.0.0.2")
    now[0] = 0.6
    assert come("10.0.0.1") and not come("10.0.0.1")


def test_addresses_of_one_owner_share_a_rate() -> None:
    slots = Slots(replace(LIMITS, accept_rate=1, accept_burst=3, max_inbound_per_group=99), lambda: 0.0)
    assert [slots.begin(f"2606:4700:10:{n}::1") == "" for n in range(5)] == [True, True, True, False, False]
    assert not slots.begin("2606:4700:11::1") and not slots.begin("192.168.1.1")


def test_a_crowd_of_networks_has_a_rate_together_and_neither_peers_that_are_needed_nor_who_comes_seldom_wait() -> None:
    """Each handshake takes up to 8 ms of a core: four networks at their own rates took half of it."""
    now = [0.0]
    limits = replace(LIMITS, accept_rate=1, accept_burst=20, accept_rate_of_all=2, accept_burst_of_all=6,
                     max_inbound_per_group=999, max_inbound_per_ip=999, max_handshakes=999)  # fmt: skip
    slots = Slots(limits, lambda: now[0], lambda ip: ip == "9.9.9.9")
    taken = [slots.begin(f"8.8.{n % 4}.1") == "" for n in range(40)]
    assert sum(taken) == 6 and not any(taken[6:])
    for _ in range(9):
        assert not slots.begin("9.9.9.9")
    assert not slots.begin("1.1.1.1") and slots.begin("1.1.1.1")
    now[0] = 0.5
    assert not slots.begin("8.8.0.1") and slots.begin("8.8.1.1")


def come_and_go(slots: Slots, ip: str) -> bool:
    """Whether it was let into a handshake, which ends at once."""
    if slots.begin(ip):
        return False
    slots.end_handshake(ip)
    slots.end(ip)
    return True


def test_who_has_more_networks_than_are_remembered_has_a_rate_too_and_of_one_range_takes_nobody_elses() -> None:
    """Each connection came from a network that was new, or forgotten, and had no bound: up to 8 ms of a core each."""
    now, taken, x = [0.0], 0, Limits()
    slots = Slots(x, lambda: now[0])
    for number in range(10_000):  # for 10 s, of a /32, which has 65,536 networks
        now[0] = number / 1_000
        taken += come_and_go(slots, f"2606:4700:{number % 5_000:x}::1")
        assert number % 1_000 or come_and_go(slots, f"1.{number // 1_000}.1.1")
    assert taken <= x.accept_burst_of_all + x.accept_burst_of_range + 10 * (
        x.accept_rate_of_all + x.accept_rate_of_range
    )
    assert len(slots._networks._buckets) <= x.tracked_peers


def test_who_has_thousands_of_networks_everywhere_keeps_nobody_out_for_good() -> None:
    """Nobody is told from others by his network there, so it is a draw among all who come: 400 a second."""
    now, asked, got, taken, x, chance = [0.0], 0, 0, 0, Limits(), random.Random(5)
    slots = Slots(x, lambda: now[0])
    for number in range(12_000):
        now[0] += chance.expovariate(400)
        taken += come_and_go(slots, f"{5 + number % 89}.{number % 251}.{number % 241}.1")
        if number >= 4_000 and chance.random() < 1 / 200:
            now[0] += chance.expovariate(400)
            asked, got = asked + 1, got + come_and_go(slots, "198.40.1.1")
    bursts = x.accept_burst_of_all + x.accept_burst_of_first
    assert taken + got <= bursts + now[0] * (x.accept_rate_of_all + x.accept_rate_of_first)
    assert got >= asked / 10 > 3


def test_who_is_silent_in_a_handshake_gives_way_to_whoever_has_fewer() -> None:
    """32 of two addresses kept everybody out, for as long as they opened new ones."""
    now, gone = [0.0], list[str]()
    slots = Slots(replace(LIMITS, max_handshakes=4), lambda: now[0])

    def begin(name: str, ip: str) -> GiveWay | None:
        def give_way() -> None:
            gone.append(name)

        return None if slots.begin(ip, give_way) else give_way

    ways = [begin(name, f"10.0.0.{number}") for number, name in enumerate("abcd")]
    assert all(ways) and begin("e", "10.0.0.9") is None and not gone  # no fewer than each of them would have
    now[0] = 2.0
    assert begin("f", "10.0.0.9") and gone == ["a"] and slots.connected == 0
    slots.end_handshake("10.0.0.0", ways[0])
    assert slots.connected == 1 and slots._handshakes == {f"10.0.0.{number}": 1 for number in (1, 2, 3, 9)}
    slots = Slots(replace(LIMITS, max_handshakes=4, max_handshakes_per_ip=4), lambda: now[0])
    assert all(begin(name, "10.0.0.1") for name in "ghi") and begin("j", "10.0.0.2")
    assert begin("k", "10.0.0.3") and gone == ["a", "g"]  # at once, of who has three
    assert begin("l", "10.0.0.1") is None and begin("m", "10.0.0.2") is None


def test_behind_a_relay_who_has_the_most_handshakes_gives_way_or_after_a_while_the_oldest() -> None:
    """The relay says who dials; all that come by it were one address, and whoever was there first stayed."""
    now, gone, relay = [0.0], list[str](), "relayed by 0x01"
    slots = Slots(replace(LIMITS, max_handshakes_per_relay=4), lambda: now[0])

    def begin(name: str, dialer: str, place: str = relay) -> bool:
        return not slots.begin(place, lambda: gone.append(name), dialer=dialer)

    assert all(begin(name, "crowd") for name in "abcd") and not begin("e", "crowd")
    assert begin("f", "honest") and gone == ["a"], "at once"
    assert all(begin(name, "flood", "relayed by 0x02") for name in "ghkl"), "another relay's are apart"
    assert begin("h", "third") and begin("i", "fourth") and gone == ["a", "b", "c"] and not begin("j", "fifth")
    now[0] = 2.0
    assert begin("j", "fifth") and gone == ["a", "b", "c", "d"]
    assert slots._handshakes == {relay: 4, "relayed by 0x02": 4}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["begin", "proved", "end"]), st.integers(0, 5)), max_size=120))
def test_every_place_is_given_back_whatever_the_order(steps: list[tuple[str, int]]) -> None:
    slots = Slots(replace(LIMITS, max_inbound_per_ip=3, max_handshakes_per_ip=2), lambda: 0.0)
    shaking: list[str] = []
    proved: list[str] = []
    for step, number in steps:
        ip = f"8.8.{number // 3}.{number}"
        if step == "begin" and not slots.begin(ip):
            shaking.append(ip)
        elif step == "proved" and shaking:
            proved.append(shaking.pop(number % len(shaking)))
            slots.end_handshake(proved[-1])
        elif step == "end" and proved:
            slots.end(proved.pop(number % len(proved)))
        assert slots.connected == len(proved)
        assert all((shaking + proved).count(ip) <= 3 and shaking.count(ip) <= 2 for ip in shaking)
    for ip in shaking:
        slots.end_handshake(ip)
    for ip in shaking + proved:
        slots.end(ip)
    assert slots.connected == 0 and not slots._open and not slots._groups and not slots._handshakes


def test_the_crowd_is_the_largest_group_and_its_last_comer_goes() -> None:
    rows = ["8.8.4.1", "9.9.9.9", "8.8.4.2", "1.1.1.1", "8.8.4.3", "5.5.5.5"]
    assert find_crowd(rows, lambda row: row) == "8.8.4.3"
    assert find_crowd([], lambda row: row) is None
