"""Hosts over real loopback sockets, waits with deadlines, and peers that misbehave on purpose."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from libp2p.network.connection.raw_connection import RawConnection

from flock_chain.crypto import Account, Key
from flock_chain.errors import Unavailable
from flock_peers.network.hello import HELLO, VERSION, Hello
from flock_peers.network.host import Host, open_host
from flock_peers.network.identity import Address, parse_address
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link
from flock_peers.network.stack import Stack

GENESIS_HASH = b"g" * 32
LOOPBACK = ("127.0.0.1", 0)
# Deadlines against hangs alone: what takes milliseconds takes seconds where other tests have the processors. A test
# that waits for a deadline of the product makes that one short by itself.
PATIENCE = 60.0
QUICK = Limits(
    handshake_seconds=15.0, hello_seconds=15.0, dial_seconds=30.0,
    courtesy_seconds=0.3, redial_seconds=0.1, redial_seconds_max=0.5,
)  # fmt: skip


def key(number: int) -> Key:
    return Key(number.to_bytes(32, "big"))


def in_trio(seconds: float = 2 * PATIENCE) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run an async test, with a deadline that turns a hang into a failure."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            async def main() -> None:
                with trio.fail_after(seconds):
                    await test(**fixtures)

            trio.run(main)

        return run

    return decorate


async def wait_until(is_true: Callable[[], object], seconds: float = PATIENCE) -> None:
    with trio.fail_after(seconds):
        while not is_true():
            await trio.sleep(0.01)


@asynccontextmanager
async def open_hosts(count: int, limits: Limits = QUICK, **options: Any) -> AsyncIterator[list[Host]]:
    """Hosts 1..count; the first is the bootstrap of the others. Returns once all see all."""
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(open_host(key(1), LOOPBACK, GENESIS_HASH, limits, **options))]
        for number in range(2, count + 1):
            next_one = open_host(key(number), LOOPBACK, GENESIS_HASH, limits, bootstrap=[hosts[0].address], **options)
            hosts.append(await stack.enter_async_context(next_one))
        with trio.fail_after(PATIENCE):
            for host in hosts:
                await host.wait_for_peers(count - 1)
        yield hosts


class Inbox:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.received: list[tuple[Account, bytes]] = []

    async def __call__(self, account: Account, payload: bytes) -> None:
        self.received.append((account, payload))

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.received]


async def _dial(stack: Stack, address: Address, source: str) -> Link:
    below = stack._adopt(await trio.open_tcp_stream(address.host, address.port, local_address=source))
    with trio.fail_after(PATIENCE):
        conn = await stack.swarm.upgrade_outbound_raw_conn(RawConnection(below, True), address.peer_id)
    return stack._register(conn)


@asynccontextmanager
async def open_attacker(
    number: int, victim: Host, *, hello: bool = True, source: str = "127.0.0.1"
) -> AsyncIterator[Link]:  # fmt: skip
    """An authenticated connection whose bytes the test writes itself. `source`: the address that it comes from; each
    of this machine's counts as a network of its own."""

    async def on_link(link: Link) -> None:
        await link.closed.wait()

    stack = Stack(key(number), QUICK, announce=[], protocols={}, open_protocols=frozenset(), on_link=on_link)
    async with stack.run(None):
        link = await _dial(stack, parse_address(victim.address), source)
        if hello:
            stream = await link.open(HELLO)
            await stream.write_frame(Hello(VERSION, victim.genesis_hash, bytes(32), ()).encode())
            assert await stream.read_frame(4096, PATIENCE) is not None
            link.admitted.set()
        yield link


async def connect_in_time(friend: Host, victim: Host) -> Account:
    """Some victims have little patience with handshakes, and a busy machine may take longer over an honest one."""
    until = trio.current_time() + PATIENCE
    while True:
        try:
            return await friend.connect(victim.address)
        except Unavailable:
            if trio.current_time() >= until:
                raise
            await trio.sleep(0.05)


async def is_healthy(victim: Host, number: int = 99) -> bool:
    """A newcomer can connect and gets an answer."""
    async with open_host(key(number), LOOPBACK, victim.genesis_hash, QUICK) as friend:
        account = await connect_in_time(friend, victim)
        return bool(await friend.request(account, "/flock/peers/1", b"", PATIENCE))


def accounts(hosts: Sequence[Host]) -> set[Account]:
    return {host.account for host in hosts}
