"""An eclipse on one machine: a crowd of identities takes all places and fills the book. Whom we need comes back."""

from contextlib import AsyncExitStack
from dataclasses import replace

import trio
from network_support import GENESIS_HASH, LOOPBACK, PATIENCE, QUICK, in_trio, key, open_attacker, wait_until

from flock_peers.network.hello import HELLO, VERSION, Hello, encode_addresses
from flock_peers.network.host import Host, open_host
from flock_peers.network.identity import make_address, peer_id_of
from flock_peers.network.link import Link


async def _claim(link: Link, number: int) -> None:
    """Says hello as one of the crowd, with as many addresses as one may have; nobody answers at any of them."""
    listen = tuple(str(make_address("127.0.0.1", port, peer_id_of(key(number)))) for port in (9, 11, 13, 15))
    stream = await link.open(HELLO)
    await stream.write_frame(Hello(VERSION, GENESIS_HASH, bytes(32), listen).encode())
    assert await stream.read_frame(4_096, PATIENCE) is not None
    link.admitted.set()


async def _fill(stack: AsyncExitStack, victim: Host, crowd: int, staying: int) -> list[Link]:
    links = []
    for number in range(100, 100 + crowd):
        async with open_attacker(number, victim, hello=False) as link:
            await _claim(link, number)
    for number in range(100 + crowd, 100 + crowd + staying):
        link = await stack.enter_async_context(open_attacker(number, victim, hello=False))
        await _claim(link, number)
        links.append(link)
    return links


@in_trio()
async def test_a_validator_comes_back_although_a_crowd_has_the_places_and_the_book() -> None:
    limits = replace(QUICK, known_peers=12, max_inbound=4, max_outbound=4, reserved_outbound=2, parallel_dials=2)
    async with AsyncExitStack() as stack:
        victim = await stack.enter_async_context(open_host(key(1), LOOPBACK, GENESIS_HASH, limits))
        victim.book.favour([key(2).account])
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as validator:
            port = int(validator.address.split("/")[4])
            await validator.connect(victim.address)
            await wait_until(lambda: victim.is_connected(validator.account))
        await wait_until(lambda: not victim.is_connected(key(2).account))
        links = await _fill(stack, victim, crowd=30, staying=4)
        assert len(victim.book.entries) <= 12 and key(2).account in victim.book.entries
        async with open_host(key(2), ("127.0.0.1", port), GENESIS_HASH, QUICK) as validator:
            await wait_until(lambda: victim.is_connected(validator.account))  # by our dial, from a kept place
            assert sum(not link.closed.is_set() for link in links) >= 3
        assert not victim.counters.restarts


@in_trio()
async def test_what_one_peer_tells_of_others_fills_an_eighth_of_the_book() -> None:
    limits = replace(QUICK, known_peers=32)
    lies = [make_address("127.0.0.1", 9, peer_id_of(key(number))) for number in range(200, 264)]

    async with (
        open_host(key(1), LOOPBACK, GENESIS_HASH, limits) as victim,
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as liar,
    ):

        async def lie(_asker: bytes, _payload: bytes) -> bytes:
            return encode_addresses(lies)

        liar._handlers.pop("/flock/peers/1")
        liar.on_request("/flock/peers/1", lie)  # type: ignore[arg-type]
        await liar.connect(victim.address)
        await wait_until(lambda: len(victim.book.entries) > 1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert sum(entry.is_hearsay for entry in victim.book.entries.values()) <= 32 // 8
