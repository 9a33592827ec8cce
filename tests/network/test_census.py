"""Who is connected, as `peers` tells it."""

from network_support import in_trio, open_hosts, wait_until

from flock_chain.crypto import Account
from flock_chain.errors import InvalidContent
from flock_peers.network.census import MAX_BLAMED, Misdeeds


@in_trio()
async def test_both_ends_tell_direction_age_and_traffic_of_one_connection() -> None:
    async with open_hosts(2) as (first, second):
        await second.connect(first.address)
        await wait_until(lambda: first.list_peers() and second.list_peers())

        async def echo(_account: Account, payload: bytes) -> bytes:
            return payload

        first.on_request("/test/echo/1", echo)
        before = second.list_peers()[0]
        assert await second.request(first.account, "/test/echo/1", bytes(50_000)) == bytes(50_000)
        (ours,), (theirs,) = second.list_peers(), first.list_peers()
        assert (ours.account, theirs.account) == (first.account, second.account)
        assert ours.is_outgoing and not theirs.is_outgoing
        assert ours.address.rpartition(":")[2] == first.address.split("/")[4]
        for row in (ours, theirs):
            assert row.bytes_in > 50_000 and row.bytes_out > 50_000 and row.connections >= 1 and row.misdeeds == 0
        assert ours.bytes_in - before.bytes_in >= 50_000 and ours.seconds >= before.seconds >= 0
        second.disconnect(first.account)
        await wait_until(lambda: not second.list_peers())


@in_trio()
async def test_who_sends_what_breaks_a_rule_is_told_with_how_often() -> None:
    async with open_hosts(2) as (first, second):

        async def refuse(_account: Account, _payload: bytes) -> bytes:
            raise InvalidContent("not allowed")

        first.on_request("/test/refuse/1", refuse)
        await second.connect(first.address)
        await wait_until(lambda: first.is_connected(second.account))
        first._conduct.blame(second.account, "/test/refuse/1", InvalidContent("not allowed"))
        await wait_until(lambda: not second.is_connected(first.account))
        await second.connect(first.address)
        await wait_until(lambda: any(row.misdeeds for row in first.list_peers()))
        assert first.list_peers()[0].misdeeds == 1 and second.list_peers()[0].misdeeds == 0


def test_only_so_many_are_remembered() -> None:
    misdeeds = Misdeeds()
    accounts = [Account(number.to_bytes(20, "big")) for number in range(MAX_BLAMED + 5)]
    for account in (accounts[0], *accounts):
        misdeeds.note(account)
    assert misdeeds.of(accounts[-1]) == 1 and misdeeds.of(accounts[1]) == 0
