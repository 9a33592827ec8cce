"""The sender against a fake pool: nonces in order, one transaction per label, repeats until final."""

from typing import Any

import trio
import trio.testing

from flock_chain.crypto import Account, Key
from flock_chain.errors import Refused
from flock_peers.roles import sender as sender_module
from flock_peers.roles.sender import MAX_PENDING, RESEND_SECONDS, Sender

KEY = Key(b"\x07" * 32)


class FakePool:
    """Takes raw transactions; `finalise` moves the account's nonce as a block would."""

    def __init__(self) -> None:
        self.final = 0
        self.submitted: list[bytes] = []
        self.refuses = False

    async def submit(self, raw: bytes) -> bytes:
        if self.refuses:
            raise Refused("mempool: full")
        self.submitted.append(raw)
        return raw

    async def nonce(self, _account: Account) -> int:
        return self.final


def sign(_key: Key, *, nonce: int, data: bytes, **_: Any) -> bytes:
    return nonce.to_bytes(4, "big") + data[:4]


def make_sender(pool: FakePool, gossiped: list[bytes]) -> Sender:
    async def gossip(raw: bytes) -> None:
        gossiped.append(raw)

    return Sender(KEY, 1, 1, pool, sign, gossip)


def nonces(rows: list[bytes]) -> list[int]:
    return [int.from_bytes(row[:4], "big") for row in rows]


def run(test: Any) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


def test_transactions_get_consecutive_nonces_and_are_gossiped() -> None:
    async def main() -> None:
        pool, gossiped = FakePool(), list[bytes]()
        sender = make_sender(pool, gossiped)
        for task in (1, 2, 3):
            assert await sender.call(f"poke {task}", "TaskBoard", "poke", task)
        assert nonces(pool.submitted) == [0, 1, 2]
        assert gossiped == pool.submitted

    run(main)


def test_a_label_that_is_under_way_is_not_sent_twice_and_is_free_again_once_final() -> None:
    async def main() -> None:
        pool = FakePool()
        sender = make_sender(pool, [])
        assert await sender.call("claim", "TaskBoard", "claim", 1, 1)
        assert not await sender.call("claim", "TaskBoard", "claim", 1, 1)
        pool.final = 1
        assert await sender.call("claim", "TaskBoard", "claim", 1, 1)
        assert nonces(pool.submitted) == [0, 1]

    run(main)


def test_what_is_not_final_is_repeated_after_a_while_and_not_before() -> None:
    async def main() -> None:
        pool, gossiped = FakePool(), list[bytes]()
        sender = make_sender(pool, gossiped)
        await sender.call("a", "TaskBoard", "poke", 1)
        await trio.sleep(RESEND_SECONDS / 2)
        await sender.resend()
        assert len(gossiped) == 1
        await trio.sleep(RESEND_SECONDS)
        pool.refuses = True  # the own mempool may refuse what the others have lost
        await sender.resend()
        assert nonces(gossiped) == [0, 0]
        pool.final = 1
        await trio.sleep(2 * RESEND_SECONDS)
        await sender.resend()
        assert len(gossiped) == 2

    run(main)


def test_a_refused_transaction_leaves_no_gap_in_the_nonces() -> None:
    async def main() -> None:
        pool = FakePool()
        sender = make_sender(pool, [])
        pool.refuses = True
        try:
            await sender.call("a", "TaskBoard", "poke", 1)
        except Refused:
            pass
        pool.refuses = False
        await sender.call("b", "TaskBoard", "poke", 1)
        assert nonces(pool.submitted) == [0]

    run(main)


def test_no_more_than_the_named_number_is_pending() -> None:
    async def main() -> None:
        pool = FakePool()
        sender = make_sender(pool, [])
        sent = [await sender.call(f"poke {i}", "TaskBoard", "poke", i) for i in range(MAX_PENDING + 3)]
        assert sent.count(True) == MAX_PENDING
        assert sender_module.MAX_PENDING == MAX_PENDING

    run(main)
