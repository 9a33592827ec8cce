"""Hosts come back: on the port and with the addresses of their last run, and after a failure of libp2p."""

from contextlib import AsyncExitStack
from pathlib import Path

from network_support import GENESIS_HASH, LOOPBACK, QUICK, Inbox, in_trio, key, open_hosts, wait_until

from flock_peers.network.host import Host, open_host


@in_trio()
async def test_a_host_that_restarts_on_its_port_is_connected_again_by_the_others() -> None:
    async with (
        open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK) as b,
        open_host(key(3), LOOPBACK, GENESIS_HASH, QUICK) as c,
    ):
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
            await b.connect(a.address)
            await c.connect(a.address)
            port = int(a.address.split("/")[4])
        await wait_until(lambda: key(1).account not in b.connected() + c.connected())
        async with open_host(key(1), ("127.0.0.1", port), GENESIS_HASH, QUICK) as a:
            inbox = Inbox()
            a.on_message("/test/1", inbox)
            await a.wait_for_peers(2)
            for host in (b, c):
                await wait_until(lambda host=host: host.is_connected(a.account))
                host.send(a.account, "/test/1", b"again")
            await wait_until(lambda: len(inbox.received) == 2)


@in_trio()
async def test_known_addresses_are_kept_on_disk(tmp_path: Path) -> None:
    book = tmp_path / "peers.json"
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as b:
            await b.connect(a.address)
        async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as b:
            await b.wait_for_peers(1)


@in_trio()
async def test_a_network_that_was_stopped_as_a_whole_finds_itself_again_without_a_bootstrap_peer(
    tmp_path: Path,
) -> None:
    """With any free port for each: it was another one at each start, and nobody's book was of use."""
    books = {number: tmp_path / f"{number}.json" for number in (1, 2, 3)}
    async with AsyncExitStack() as stack:
        hosts = []
        for number, book in books.items():
            bootstrap = [hosts[0].address] if hosts else []
            host = open_host(key(number), LOOPBACK, GENESIS_HASH, QUICK, bootstrap=bootstrap, known_peers=book)
            hosts.append(await stack.enter_async_context(host))
        for host in hosts:
            await host.wait_for_peers(2)
    async with AsyncExitStack() as stack:
        again = [
            await stack.enter_async_context(open_host(key(number), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book))
            for number, book in books.items()
        ]
        assert [host.address for host in again] == [host.address for host in hosts]
        for host in again:
            await host.wait_for_peers(2)


@in_trio()
async def test_a_port_of_the_last_run_that_is_taken_is_given_up(tmp_path: Path) -> None:
    book = tmp_path / "peers.json"
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as a:
        port = int(a.address.split("/")[4])
    async with (
        open_host(key(2), ("127.0.0.1", port), GENESIS_HASH, QUICK),
        open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as a,
    ):
        assert int(a.address.split("/")[4]) != port


@in_trio()
async def test_a_damaged_address_book_is_no_reason_not_to_start(tmp_path: Path) -> None:
    book = tmp_path / "peers.json"
    book.write_bytes(b"\xff not json")
    async with open_host(key(2), LOOPBACK, GENESIS_HASH, QUICK, known_peers=book) as b:
        assert b.connected() == []


async def _break(host: Host) -> None:
    stack = host._stack
    assert stack is not None

    async def fail() -> None:
        raise RuntimeError("a bug in libp2p")

    stack._nursery.start_soon(fail)
    await wait_until(lambda: host._stack is not stack and host._stack is not None)


@in_trio()
async def test_a_stack_that_dies_is_started_again_with_all_handlers() -> None:
    async with open_hosts(2) as (a, b):
        inbox, heard = Inbox(), Inbox()
        a.on_message("/test/1", inbox)
        a.subscribe("topic", lambda _account, _payload: True, heard)
        b.subscribe("topic", lambda _account, _payload: True, Inbox())
        await _break(a)
        assert a.counters.restarts == 1
        await a.wait_for_peers(1)
        await b.wait_for_peers(1)
        b.send(a.account, "/test/1", b"hello again")
        await wait_until(lambda: inbox.payloads == [b"hello again"])
        await wait_until(lambda: a.account in b.topic_peers("topic"))
        b.publish("topic", b"news")
        await wait_until(lambda: heard.payloads == [b"news"])
