"""Peers that nobody can dial are reached through a third one, which sees sealed bytes alone."""

import pytest
import trio
from network_support import GENESIS_HASH, LOOPBACK, QUICK, Inbox, in_trio, key, wait_until

from flock_chain.errors import InvalidEncoding, Unavailable
from flock_peers.network.host import Host, open_host
from flock_peers.network.identity import parse_address, peer_id_of

LONELY = type(QUICK)(**{**vars(QUICK), "exchanged_addresses": 0})


def circuit(relay: Host, target: int) -> str:
    return f"{relay.address}/p2p-circuit/p2p/{peer_id_of(key(target))}"


def test_the_address_of_a_circuit_names_both() -> None:
    text = f"/ip4/203.0.113.7/tcp/4001/p2p/{peer_id_of(key(1))}/p2p-circuit/p2p/{peer_id_of(key(2))}"
    address = parse_address(text)
    assert str(address) == text and address.account == key(2).account
    assert address.relay_address.account == key(1).account and address.relay_address.port == 4001
    for wrong in (
        text + "/p2p-circuit",
        text.replace("p2p-circuit", "p2p"),
        text.replace(str(peer_id_of(key(1))), str(peer_id_of(key(2)))),
    ):
        with pytest.raises(InvalidEncoding):
            parse_address(wrong)


@in_trio()
async def test_two_peers_talk_through_a_relay_and_prove_their_keys_to_each_other() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[relay.address]) as hidden,
        open_host(key(3), LOOPBACK, GENESIS_HASH, LONELY) as caller,
    ):
        await wait_until(lambda: hidden.address == circuit(relay, 2))  # reserved
        inbox = Inbox()
        hidden.on_message("/test/1", inbox)
        assert await caller.connect(circuit(relay, 2)) == hidden.account
        assert hidden.is_connected(caller.account)
        for number in range(20):
            caller.send(hidden.account, "/test/1", bytes([number]) * 50_000)
        await wait_until(lambda: len(inbox.received) == 20)
        lost = trio.Event()

        async def on_disconnected(_account: bytes) -> None:
            lost.set()

        hidden.on_disconnected(on_disconnected)
        relay.disconnect(caller.account)
        await lost.wait()  # nothing else was between them
        await wait_until(lambda: hidden.is_connected(caller.account))  # and it is made again


@in_trio()
async def test_a_relay_that_was_not_asked_to_be_one_lends_nothing() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY) as plain,
        open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, via=[plain.address]) as hidden,
        open_host(key(3), LOOPBACK, GENESIS_HASH, LONELY) as caller,
    ):
        await wait_until(lambda: plain.is_connected(hidden.account))
        with pytest.raises(Unavailable, match="relays nothing"):
            await caller.connect(circuit(plain, 2))
        await trio.sleep(0.2)
        assert "p2p-circuit" not in hidden.address


@in_trio()
async def test_nobody_is_reached_who_did_not_ask_for_it() -> None:
    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, LONELY, is_relay=True) as relay,
        open_host(key(2), LOOPBACK, GENESIS_HASH, LONELY, bootstrap=[relay.address]) as silent,
        open_host(key(3), LOOPBACK, GENESIS_HASH, LONELY) as caller,
    ):
        await wait_until(lambda: relay.is_connected(silent.account))
        with pytest.raises(Unavailable, match="declines"):
            await caller.connect(circuit(relay, 2))
        assert not silent.is_connected(caller.account)
