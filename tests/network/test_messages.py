"""Messages and requests between hosts, and what happens to those who break the rules."""

import logging

import pytest
import trio
from network_support import (
    GENESIS_HASH,
    LOOPBACK,
    PATIENCE,
    QUICK,
    Inbox,
    in_trio,
    is_healthy,
    key,
    open_attacker,
    open_hosts,
    wait_until,
)

from flock_chain.crypto import Account
from flock_chain.errors import InvalidBlock, InvalidRemote, InvalidSignature, Misuse, Refused, Unavailable
from flock_peers.network.host import open_host
from flock_peers.network.limits import Limits, TokenBucket

PROTOCOL = "/test/1"


@in_trio()
async def test_messages_arrive_whole_in_order_and_with_their_author() -> None:
    async with open_hosts(2) as (a, b):
        inbox = Inbox()
        a.on_message(PROTOCOL, inbox)
        sent = [b"", b"x", b"y" * Limits().frame_bytes, *(b"%d" % number for number in range(500))]
        for payload in sent:
            assert b.send(a.account, PROTOCOL, payload)
        await wait_until(lambda: len(inbox.received) == len(sent))
        assert inbox.received == [(b.account, payload) for payload in sent]


@in_trio()
async def test_two_protocols_to_one_peer_both_arrive_and_end_with_its_connection() -> None:
    async with open_hosts(2) as (a, b):
        inboxes = {PROTOCOL: Inbox(), "/test/2": Inbox()}
        for protocol, inbox in inboxes.items():
            a.on_message(protocol, inbox)
            b.send(a.account, protocol, protocol.encode())
        await wait_until(lambda: all(inbox.received for inbox in inboxes.values()))
        assert [inbox.payloads for inbox in inboxes.values()] == [[b"/test/1"], [b"/test/2"]]
        b.disconnect(a.account)
        await wait_until(lambda: b.account not in a.connected() and a.account not in b.connected())
        await b.wait_for_peers(1)
        for protocol in inboxes:
            b.send(a.account, protocol, b"again")
        await wait_until(lambda: all(len(inbox.received) == 2 for inbox in inboxes.values()))


@in_trio()
async def test_a_broadcast_reaches_everybody_or_those_that_are_named() -> None:
    async with open_hosts(4) as hosts:
        inboxes = [Inbox() for _ in hosts]
        for host, inbox in zip(hosts, inboxes, strict=True):
            host.on_message(PROTOCOL, inbox)
        assert hosts[0].broadcast(PROTOCOL, b"all") == 3
        assert hosts[0].broadcast(PROTOCOL, b"two", [hosts[1].account, hosts[0].account, key(77).account]) == 1
        await wait_until(lambda: [len(inbox.received) for inbox in inboxes] == [0, 2, 1, 1])
        assert hosts[0].counters.messages_dropped == 1


@in_trio()
async def test_a_message_above_the_limit_is_our_own_mistake() -> None:
    async with open_hosts(2) as (a, b):
        with pytest.raises(Misuse):
            a.send(b.account, PROTOCOL, bytes(QUICK.frame_bytes + 1))
        with pytest.raises(Misuse):
            a.publish("topic", bytes(QUICK.frame_bytes))


@in_trio()
async def test_a_slow_peer_loses_the_oldest_messages_and_they_are_counted() -> None:
    async with open_hosts(2, Limits(queue_messages=10)) as (a, b):
        for number in range(25):
            b.send(a.account, PROTOCOL, b"%d" % number)  # nobody listens yet
        assert b.counters.messages_dropped == 15
        inbox = Inbox()
        a.on_message(PROTOCOL, inbox)
        await wait_until(lambda: len(inbox.received) == 10)
        assert inbox.payloads == [b"%d" % number for number in range(15, 25)]


@in_trio()
async def test_an_invalid_message_costs_the_connection_and_is_logged_by_account(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(_account: Account, _payload: bytes) -> None:
        raise InvalidBlock("wrong state root")

    async with open_hosts(2) as (a, b):
        a.on_message(PROTOCOL, refuse)
        with caplog.at_level(logging.WARNING):
            b.send(a.account, PROTOCOL, b"block")
            await wait_until(lambda: a.counters.peers_misbehaved == 1)
        assert b.account.hex() in caplog.text and "wrong state root" in caplog.text
        await b.wait_for_peers(1)  # it may come back


@in_trio()
async def test_a_bad_signature_is_banned() -> None:
    async def refuse(_account: Account, _payload: bytes) -> None:
        raise InvalidSignature("vote")

    async with open_hosts(2) as (a, b):
        a.on_message(PROTOCOL, refuse)
        b.send(a.account, PROTOCOL, b"vote")
        await wait_until(lambda: not a.is_connected(b.account) and not b.is_connected(a.account))
        with pytest.raises(Unavailable, match="banned"):
            await a.connect(b.address)


@in_trio()
async def test_a_handler_with_a_bug_does_not_take_the_host_down() -> None:
    inbox = Inbox()

    async def fail_once(account: Account, payload: bytes) -> None:
        if payload == b"0":
            raise ZeroDivisionError("a bug")
        await inbox(account, payload)

    async with open_hosts(2) as (a, b):
        a.on_message(PROTOCOL, fail_once)
        for number in range(10):
            b.send(a.account, PROTOCOL, b"%d" % number)
        await wait_until(lambda: b"9" in inbox.payloads)
        assert a.is_connected(b.account)


@in_trio()
async def test_a_frame_above_the_limit_costs_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with open_hosts(1) as (a,):
        a.on_message(PROTOCOL, Inbox())
        async with open_attacker(50, a) as link:
            stream = await link.open(PROTOCOL)
            with caplog.at_level(logging.WARNING):
                await stream.write((QUICK.frame_bytes + 1).to_bytes(4, "big") + b"x")
                with trio.fail_after(PATIENCE):
                    await link.closed.wait()
        assert key(50).account.hex() in caplog.text
        assert await is_healthy(a)


@in_trio()
async def test_a_frame_that_never_ends_costs_the_connection() -> None:
    async with open_hosts(1, Limits(frame_seconds=0.3)) as (a,):
        a.on_message(PROTOCOL, Inbox())
        async with open_attacker(50, a) as link:
            stream = await link.open(PROTOCOL)
            await stream.write((100).to_bytes(4, "big") + b"only this")
            with trio.fail_after(PATIENCE):
                await link.closed.wait()


@in_trio()
async def test_who_sends_above_the_rate_is_read_more_slowly() -> None:
    async with open_hosts(2, Limits(message_rate=20, message_burst=5)) as (a, b):
        inbox = Inbox()
        a.on_message(PROTOCOL, inbox)
        started = trio.current_time()
        for number in range(15):
            b.send(a.account, PROTOCOL, b"%d" % number)
        await wait_until(lambda: len(inbox.received) == 15)
        assert trio.current_time() - started > 0.3  # 5 at once, the others at 20 per second
        assert inbox.payloads == [b"%d" % number for number in range(15)]


def test_a_token_bucket_refills_with_time_up_to_its_burst() -> None:
    now = [0.0]
    bucket = TokenBucket(10, 20, lambda: now[0])
    assert all(bucket.take() for _ in range(20)) and not bucket.take()
    now[0] = 0.5
    assert all(bucket.take() for _ in range(5)) and not bucket.take()
    now[0] = 100.0
    assert bucket.take(20) and not bucket.take()
    assert bucket.debit(5) == pytest.approx(0.5)


@in_trio()
async def test_a_request_is_answered_declined_or_unavailable() -> None:
    async def answer(_account: Account, payload: bytes) -> bytes:
        if payload == b"slow":
            await trio.sleep(5)
        if payload == b"no":
            raise Refused("not today")
        return payload * 2

    async with open_hosts(2) as (a, b):
        a.on_request("/ask/1", answer)
        assert await b.request(a.account, "/ask/1", b"ab") == b"abab"
        assert await b.request(a.account, "/ask/1", b"") == b""
        half = b"z" * (QUICK.frame_bytes // 2)
        assert await b.request(a.account, "/ask/1", half) == half * 2
        with pytest.raises(Unavailable, match="declines: 'not today'"):
            await b.request(a.account, "/ask/1", b"no")
        with pytest.raises(Unavailable, match=r"did not answer within 0\.2 s"):
            await b.request(a.account, "/ask/1", b"slow", 0.2)
        with pytest.raises(Unavailable, match="does not speak"):
            await b.request(a.account, "/other/1", b"")
        with pytest.raises(Unavailable, match="not connected"):
            await b.request(key(9).account, "/ask/1", b"")


@in_trio()
async def test_many_requests_at_once_are_all_answered() -> None:
    async def answer(_account: Account, payload: bytes) -> bytes:
        await trio.sleep(0.01)
        return payload

    async with open_hosts(2) as (a, b):
        a.on_request("/ask/1", answer)
        answers: list[bytes] = []

        async def ask(number: int) -> None:
            answers.append(await b.request(a.account, "/ask/1", b"%d" % number))

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(ask, number)
        assert sorted(answers) == sorted(b"%d" % number for number in range(60))


@in_trio()
async def test_a_request_whose_caller_is_cancelled_leaves_the_connection_intact() -> None:
    async def never(_account: Account, _payload: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def echo(_account: Account, payload: bytes) -> bytes:
        return payload

    async with open_hosts(2) as (a, b):
        a.on_request("/never/1", never)
        a.on_request("/echo/1", echo)
        for _ in range(20):
            with trio.move_on_after(0.02):
                await b.request(a.account, "/never/1", bytes(300_000))
        assert await b.request(a.account, "/echo/1", b"still") == b"still"
        assert len(a.connected()) == 1


@in_trio()
async def test_a_protocol_has_one_handler() -> None:
    async with open_host(key(1), LOOPBACK, GENESIS_HASH, QUICK) as a:
        a.on_message(PROTOCOL, Inbox())
        with pytest.raises(Misuse):
            a.on_message(PROTOCOL, Inbox())


@in_trio()
async def test_an_answer_and_a_request_have_the_size_that_their_protocol_has_and_no_more() -> None:
    async def give(_account: Account, payload: bytes) -> bytes:
        if not payload:
            raise Unavailable("r" * 300)
        return payload * 200

    async with open_hosts(2) as (a, b):
        a.on_request("/small/1", give, most=2)
        assert await b.request(a.account, "/small/1", b"12", PATIENCE, 400) == b"12" * 200
        with pytest.raises(InvalidRemote, match="frame of 401 bytes, at most 400 allowed"):
            await b.request(a.account, "/small/1", b"12", PATIENCE, 399)
        with pytest.raises(Unavailable, match="rrr"):  # a reason has its place, however short an answer is
            await b.request(a.account, "/small/1", b"", PATIENCE, 2)
        assert a.is_connected(b.account)
        with pytest.raises(Unavailable):
            await b.request(a.account, "/small/1", b"123", PATIENCE)
        await wait_until(lambda: a.counters.peers_misbehaved)
