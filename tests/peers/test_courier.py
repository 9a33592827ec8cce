"""How transactions travel: direct between validators, by gossip for everybody else, and what senders are blamed for."""

from collections.abc import Awaitable, Callable, Iterable

import pytest
import trio

from flock_chain.codec import encode
from flock_chain.crypto import Account
from flock_chain.errors import InvalidEncoding, InvalidSignature, Refused
from flock_peers.courier import (
    MAX_MESSAGE_BYTES,
    REFUSED,
    TRANSACTIONS_PROTOCOL,
    Courier,
    decode_transaction_message,
    encode_transaction_message,
    gossip_topic,
)
from flock_peers.network.complaints import Tolerance

ME, A, B, STRANGER = (Account(bytes([number]) * 20) for number in (1, 2, 3, 9))
TOPIC = gossip_topic(bytes(32))


class FakeHost:
    def __init__(self, connected: Iterable[Account]) -> None:
        self.account, self.connected = ME, set(connected)
        self.direct: list[tuple[Account, bytes]] = []
        self.gossip: list[bytes] = []
        self.handlers: dict[str, Callable[[Account, bytes], Awaitable[None]]] = {}
        self.tallied: list[Account] = []

    def tally(self, account: Account, tolerance: Tolerance, _reason: str) -> None:
        assert tolerance is REFUSED
        self.tallied.append(account)

    def on_message(self, protocol: str, handler: Callable[[Account, bytes], Awaitable[None]]) -> None:
        self.handlers[protocol] = handler

    def subscribe(self, topic: str, _validator: object, handler: Callable[[Account, bytes], Awaitable[None]]) -> None:
        self.handlers[topic] = handler

    def broadcast(self, protocol: str, payload: bytes, accounts: Iterable[Account]) -> int:
        assert protocol == TRANSACTIONS_PROTOCOL
        reached = [account for account in accounts if account in self.connected]
        self.direct += [(account, payload) for account in reached]
        return len(reached)

    def publish(self, topic: str, payload: bytes) -> bool:
        assert topic == TOPIC
        self.gossip.append(payload)
        return True


class Pool:
    def __init__(self, error: Exception | None = None) -> None:
        self.got: list[bytes] = []
        self.error = error

    async def __call__(self, raw: bytes) -> None:
        self.got.append(raw)
        if self.error:
            raise self.error


def make(host: FakeHost, pool: Pool, validators: tuple[Account, ...]) -> Courier:
    async def members() -> tuple[Account, ...]:
        return validators

    return Courier(host, bytes(32), submit=pool, is_plausible=bool, validators=members)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("validators", "connected", "direct", "gossips"),
    [
        ((ME, A, B), (A, B, STRANGER), {A, B}, False),
        ((ME, A, B), (A,), {A}, True),
        ((A, B), (A, B), set(), True),
        ((ME,), (STRANGER,), set(), False),
    ],
    ids=["a validator connected to all", "one that misses another", "no validator", "the only validator"],
)
def test_who_hears_a_transaction_and_how(
    validators: tuple[Account, ...], connected: tuple[Account, ...], direct: set[Account], gossips: bool
) -> None:
    host = FakeHost(connected)
    trio.run(make(host, Pool(), validators).send, b"raw")
    assert {account for account, _ in host.direct} == direct
    assert all(decode_transaction_message(payload) == b"raw" for _, payload in host.direct)
    assert host.gossip == [b"raw"] * gossips


def test_what_arrives_either_way_is_submitted() -> None:
    host, pool = FakeHost(()), Pool()
    make(host, pool, (ME, A))
    trio.run(host.handlers[TRANSACTIONS_PROTOCOL], A, encode_transaction_message(b"direct"))
    trio.run(host.handlers[TOPIC], STRANGER, b"gossiped")
    assert pool.got == [b"direct", b"gossiped"]


def test_a_direct_sender_is_blamed_for_what_breaks_a_rule_and_not_for_what_is_only_late() -> None:
    for error, is_blamed in ((InvalidSignature("forged"), True), (Refused("mempool: nonce is used"), False)):
        host = FakeHost(())
        make(host, Pool(error), (ME, A))
        if is_blamed:
            with pytest.raises(InvalidSignature):
                trio.run(host.handlers[TRANSACTIONS_PROTOCOL], A, encode_transaction_message(b"raw"))
        else:
            trio.run(host.handlers[TRANSACTIONS_PROTOCOL], A, encode_transaction_message(b"raw"))
        assert host.tallied == ([] if is_blamed else [A])  # named only where it is much
        trio.run(host.handlers[TOPIC], A, b"raw")  # whoever passed it on in gossip was judged by the validator there


@pytest.mark.parametrize(
    ("payload", "check"),
    [
        (encode([2, b"raw"]), "version 2, this peer speaks 1"),
        (encode([True, b"raw"]), "starts with its version"),
        (encode([]), "starts with its version"),
        (encode({}), "starts with its version"),
        (encode([1]), "one transaction's bytes"),
        (encode([1, "raw"]), "one transaction's bytes"),
        (encode([1, b"raw", b"raw"]), "one transaction's bytes"),
        (encode([1, bytes(MAX_MESSAGE_BYTES)]), "at most"),
        (b"\xc1", "codec"),
    ],
)
def test_other_messages_are_refused_by_name_and_reach_no_pool(payload: bytes, check: str) -> None:
    host, pool = FakeHost(()), Pool()
    make(host, pool, (ME, A))
    with pytest.raises(InvalidEncoding, match=check):
        trio.run(host.handlers[TRANSACTIONS_PROTOCOL], A, payload)
    assert pool.got == []
