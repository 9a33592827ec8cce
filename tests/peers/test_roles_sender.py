"""The sender: nonces in order, one transaction per label, repeats with a rising tip, and what can never be paid.

Most against a fake pool; what mempools must accept against the real one.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from flock_chain.crypto import Account, Key
from flock_chain.errors import Refused, Unavailable
from flock_chain.execution.transactions import decode_transaction, sign_call
from flock_peers.mempool import Limits, Mempool
from flock_peers.roles.sender import CALL_GAS, MAX_PENDING, MAX_REFUSED, RESEND_SECONDS, Sender

KEY = Key(b"\x07" * 32)
CHAIN_ID = 7
COIN = 10**18


@dataclass(frozen=True)
class Sent:
    nonce: int
    fee: int
    tip: int
    to: bytes
    value: int
    gas: int


class FakePool:
    """Takes raw transactions; `final` and `blocks` move as blocks would move them."""

    def __init__(self) -> None:
        self.final = 0
        self.blocks = 0
        self.coins = 10 * COIN
        self.submitted: list[bytes] = []
        self.refuses = False
        self.errors: list[Exception] = []  # of the next looks at the account
        self.refused_value = -1  # what cannot be executed: the calls with this value

    async def submit(self, raw: bytes) -> bytes:
        if self.refuses or read(raw).value == self.refused_value:
            raise Refused("mempool: not now")
        self.submitted.append(raw)
        return raw

    async def nonce(self, _account: Account) -> int:
        if self.errors:
            raise self.errors.pop()
        return self.final

    async def balance(self, _account: Account) -> int:
        return self.coins

    def height(self) -> int:
        return self.blocks

    async def wait_new_head(self, height: int) -> int:
        """Blocks come in steps of a test; a standstill otherwise."""
        while self.blocks <= height:
            await trio.sleep(0.1)
        return self.blocks


def read(raw: bytes) -> Sent:
    row = decode_transaction(raw, CHAIN_ID)
    return Sent(row.nonce, row.max_fee_per_gas, row.max_priority_fee_per_gas, row.to, row.value, row.gas)


def make_sender(pool: Any, gossiped: list[bytes], base_fee: int = 1) -> Sender:
    async def gossip(raw: bytes) -> None:
        gossiped.append(raw)

    return Sender(KEY, CHAIN_ID, base_fee, pool, sign_call, gossip)


def nonces(rows: list[bytes]) -> list[int]:
    return [read(row).nonce for row in rows]


async def pass_time(pool: FakePool, sender: Sender, times: int = 1, *, blocks: int = 4) -> None:
    """Blocks come and hold nothing of ours."""
    for _ in range(times):
        await trio.sleep(RESEND_SECONDS)
        pool.blocks += blocks
        await sender.resend()


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


def test_coins_are_paid_to_an_account_with_a_transfer_s_gas_and_once_under_a_label() -> None:
    async def main() -> None:
        pool = FakePool()
        sender = make_sender(pool, [])
        assert await sender.pay("pay", Account(b"\x22" * 20), COIN)
        assert not await sender.pay("pay", Account(b"\x22" * 20), COIN)
        sent = read(pool.submitted[0])
        assert (sent.to, sent.value, sent.gas) == (b"\x22" * 20, COIN, 21_000) and len(pool.submitted) == 1
        with pytest.raises(Refused):
            await sender.pay("more than there is", Account(b"\x22" * 20), 10 * COIN)

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


def test_a_peer_without_a_part_repeats_what_is_lost_and_forgets_what_is_final_by_itself() -> None:
    async def main() -> None:
        pool, gossiped = FakePool(), list[bytes]()
        sender = make_sender(pool, gossiped)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.run)
            await sender.call("open task", "TaskBoard", "poke", 1)
            await trio.sleep(2.5 * RESEND_SECONDS)  # no block either
            assert nonces(gossiped) in ([0, 0], [0, 0, 0])
            pool.final, pool.blocks = 1, 5
            await trio.sleep(1)
            assert not sender.is_pending("open task")
            nursery.cancel_scope.cancel()

    run(main)


def test_an_account_that_cannot_be_read_now_is_looked_after_later() -> None:
    async def main() -> None:
        pool, gossiped = FakePool(), list[bytes]()
        sender = make_sender(pool, gossiped)
        await sender.call("a", "TaskBoard", "poke", 1)
        pool.errors = [Unavailable("ledger: 256 views wait already"), OSError("disk")]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.run)
            await trio.sleep(4 * RESEND_SECONDS)
            nursery.cancel_scope.cancel()
        assert not pool.errors and len(gossiped) > 1

    run(main)


def test_a_refused_transaction_leaves_no_gap_in_the_nonces() -> None:
    async def main() -> None:
        pool = FakePool()
        sender = make_sender(pool, [])
        pool.refuses = True
        with pytest.raises(Refused):
            await sender.call("a", "TaskBoard", "poke", 1)
        pool.refuses = False
        await sender.call("b", "TaskBoard", "poke", 1)
        assert nonces(pool.submitted) == [0]

    run(main)


def test_a_mempool_has_room_for_all_that_one_peer_may_have_pending() -> None:
    async def main() -> None:
        mempool = RealPool()
        sender = make_sender(mempool, [])
        sent = [await sender.call(f"poke {i}", "TaskBoard", "poke", i) for i in range(MAX_PENDING + 3)]
        assert sent == [True] * MAX_PENDING + [False] * 3
        assert len(mempool.pool) == MAX_PENDING < Limits().per_sender and sender.free_slots == 0

    run(main)


def test_a_small_tip_is_offered_and_doubled_while_blocks_pass_it_over() -> None:
    async def main() -> None:
        for base_fee in (1, 1_000):
            pool, gossiped = FakePool(), list[bytes]()
            sender = make_sender(pool, gossiped, base_fee)
            await sender.call("reveal", "TaskBoard", "poke", 1)
            await pass_time(pool, sender, 4)
            rows = [read(raw) for raw in gossiped]
            assert [row.nonce for row in rows] == [0] * 5 and rows[0].tip == max(1, base_fee // 10)
            assert all(row.fee == base_fee + row.tip for row in rows)
            for old, new in pairwise(rows):
                assert new.fee * 100 >= old.fee * (100 + Limits().bump_percent)
            assert sender.is_pending("reveal")

    run(main)


def test_no_tip_is_raised_while_the_chain_stands_still_nor_beyond_a_thousandth_of_the_coins() -> None:
    async def main() -> None:
        pool, gossiped = FakePool(), list[bytes]()
        sender = make_sender(pool, gossiped)
        await sender.call("reveal", "TaskBoard", "poke", 1)
        for _ in range(10):
            await trio.sleep(RESEND_SECONDS)
            await sender.resend()
        assert len(set(gossiped)) == 1 < len(gossiped)
        await pass_time(pool, sender, 60)
        dearest = max(read(raw).fee for raw in gossiped) * CALL_GAS
        assert pool.coins // 4_000 < dearest <= pool.coins // 1_000

    run(main)


class RealPool(FakePool):
    """A real mempool of somebody else, as gossip fills it."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self.pool = Mempool(limits or Limits(), base_fee=1, max_gas=30_000_000, max_transaction_bytes=64 << 10)

    async def submit(self, raw: bytes) -> bytes:
        row = decode_transaction(raw, CHAIN_ID)
        return self.pool.add(row, nonce=self.final, balance=self.coins, now=0.0)


def test_a_repeated_reveal_takes_its_place_in_a_pool_that_is_full_of_tips() -> None:
    async def main() -> None:
        mempool = RealPool(Limits(total=4))
        for index in range(4):
            spam = sign_call(
                Key(bytes([index + 1]) * 32), chain_id=CHAIN_ID, nonce=0, to=bytes(20), gas=21_000, fee=10, tip=3
            )
            await mempool.submit(spam)
        own, reached = FakePool(), list[bool]()

        async def gossip(raw: bytes) -> None:
            try:
                await mempool.submit(raw)
                reached.append(True)
            except Refused:
                reached.append(False)

        sender = Sender(KEY, CHAIN_ID, 1, own, sign_call, gossip)
        await sender.call("reveal", "TaskBoard", "poke", 1)
        await pass_time(own, sender, 3)
        assert reached == [False, False, True, True]  # tips 1, 2, 4, and 8 in place of 4
        first = mempool.pool.take(max_count=1, max_bytes=1 << 20)[0]
        assert (first.sender, first.max_priority_fee_per_gas) == (KEY.account, 8)

    run(main)


def test_a_transaction_that_can_never_be_executed_gives_its_nonce_and_its_label_up() -> None:
    async def main() -> None:
        pool, gossiped = FakePool(), list[bytes]()
        sender = make_sender(pool, gossiped)
        await sender.call("stuck", "TaskBoard", "poke", 1, value=COIN)
        await sender.call("next", "TaskBoard", "poke", 2)
        pool.refused_value = COIN
        await pass_time(pool, sender, MAX_REFUSED - 1)
        assert sender.is_pending("stuck")
        await pass_time(pool, sender)
        filler = [read(raw) for raw in pool.submitted if read(raw).to == KEY.account]
        assert [(row.nonce, row.value, row.gas) for row in filler] == [(0, 0, 21_000)]
        assert filler[0].fee > max(read(raw).fee for raw in gossiped if read(raw).value == COIN)
        assert not sender.is_pending("stuck") and sender.is_pending("next")
        pool.refused_value = -1
        assert await sender.call("stuck", "TaskBoard", "poke", 1, value=COIN)
        assert read(pool.submitted[-1]).nonce == 2

    run(main)


def test_refusals_that_are_not_in_a_row_do_not_add_up() -> None:
    async def main() -> None:
        pool = FakePool()
        sender = make_sender(pool, [])
        await sender.call("a", "TaskBoard", "poke", 1)
        for _ in range(MAX_REFUSED):
            pool.refuses = True
            await pass_time(pool, sender, MAX_REFUSED - 1, blocks=0)
            pool.refuses = False
            await pass_time(pool, sender, blocks=0)
        assert sender.is_pending("a")

    run(main)


def test_where_even_nothing_cannot_be_paid_all_that_follows_is_forgotten() -> None:
    async def main() -> None:
        pool = FakePool()
        sender = make_sender(pool, [])
        for task in (1, 2):
            await sender.call(f"poke {task}", "TaskBoard", "poke", task)
        pool.refuses = True
        await pass_time(pool, sender, MAX_REFUSED)
        assert sender.free_slots == MAX_PENDING
        pool.refuses = False
        assert await sender.call("poke 1", "TaskBoard", "poke", 1) and read(pool.submitted[-1]).nonce == 0

    run(main)


def test_coins_that_pending_transactions_may_take_are_not_spent_twice() -> None:
    async def main() -> None:
        pool = FakePool()
        sender = make_sender(pool, [])
        await sender.call("bond", "TaskBoard", "poke", 1, value=6 * COIN)
        with pytest.raises(Refused, match="left beside what is pending"):
            await sender.call("pot", "TaskBoard", "poke", 2, value=6 * COIN)
        assert not sender.is_pending("pot") and nonces(pool.submitted) == [0]
        left = await sender.spendable()
        assert left == 4 * COIN - 2 * CALL_GAS
        assert await sender.call("rest", "TaskBoard", "poke", 2, value=left - CALL_GAS)  # all, so without a tip
        assert (read(pool.submitted[-1]).tip, await sender.spendable()) == (0, 0)

    run(main)
