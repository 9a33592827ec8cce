"""The mempool: limits, future nonces, order, and how long a transaction may wait."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from execution_support import CHAIN_ID, ETHER, KEYS, USERS, make_genesis

from flock_chain.crypto import Account, Key, keccak256
from flock_chain.errors import Refused
from flock_chain.execution.transactions import Transaction, decode_transaction, sign_call
from flock_peers.ledger import open_ledger
from flock_peers.mempool import Limits, Mempool

ALICE, BOB, CAROL, _ = USERS
TO = KEYS[0].account
EVERYBODY = [key.account for key in USERS]


def make_pool(own: Account | None = None, **changes: int) -> Mempool:
    limits = replace(Limits(), **changes)
    return Mempool(limits, base_fee=1, max_gas=30_000_000, max_transaction_bytes=32 << 10, own=own)


def make(key: Key, nonce: int, *, fee: int = 10, tip: int = 0, data: bytes = b"", gas: int = 100_000) -> Transaction:
    raw = sign_call(key, chain_id=CHAIN_ID, nonce=nonce, to=TO, fee=fee, tip=tip, data=data, gas=gas)
    return decode_transaction(raw, CHAIN_ID)


def add(pool: Mempool, *transactions: Transaction, nonce: int = 0, balance: int = ETHER) -> None:
    for transaction in transactions:
        pool.add(transaction, nonce=nonce, balance=balance, now=0.0)


def take(pool: Mempool, count: int = 1_000) -> list[Transaction]:
    return pool.take(max_count=count, max_bytes=1 << 20)


def pass_block(pool: Mempool, *included: Transaction, gas_left: int = 30_000_000) -> list[float]:
    nonces = {row.sender: row.nonce + 1 for row in included}
    return pool.on_block({row.hash for row in included}, nonces, gas_left=gas_left, bytes_left=1 << 20)


def test_a_future_nonce_waits_until_its_gap_is_closed() -> None:
    pool = make_pool()
    zero, one, two = (make(ALICE, nonce) for nonce in range(3))
    add(pool, two, one)
    assert take(pool) == [] and not pool.has_executable() and len(pool) == 2
    add(pool, zero)
    assert take(pool) == [zero, one, two] and pool.has_executable()
    pass_block(pool, zero)
    assert take(pool) == [one, two]


def test_who_has_sent_something_for_an_address_is_who_has_something_executable_for_it() -> None:
    pool = make_pool()
    elsewhere = sign_call(CAROL, chain_id=CHAIN_ID, nonce=0, to=CAROL.account, fee=10, tip=0, data=b"", gas=100_000)
    add(pool, make(ALICE, 0), make(BOB, 1), decode_transaction(elsewhere, CHAIN_ID))
    assert pool.find_senders(TO, EVERYBODY) == {ALICE.account}
    assert pool.find_senders(CAROL.account, EVERYBODY) == {CAROL.account}
    add(pool, make(BOB, 0))
    assert pool.find_senders(TO, EVERYBODY) == {ALICE.account, BOB.account}
    assert pool.find_senders(TO, [BOB.account, CAROL.account]) == {BOB.account}


def test_what_is_here_already_changes_nothing() -> None:
    pool = make_pool()
    zero = make(ALICE, 0)
    add(pool, zero, zero)
    assert len(pool) == 1 and pool.get_known(zero.raw) is zero and zero.hash in pool


def test_used_nonces_far_nonces_and_senders_without_funds_are_refused() -> None:
    pool = make_pool()
    for transaction, nonce, balance, rule in [
        (make(ALICE, 4), 5, ETHER, "is used"),
        (make(ALICE, 64), 0, ETHER, "too far ahead"),
        (make(ALICE, 0), 0, 999_999, "999999 wei"),
        (make(ALICE, 0, fee=0), 0, ETHER, "base fee"),
        (make(ALICE, 0, gas=30_000_001), 0, ETHER, "above 30000000 gas"),
        (make(ALICE, 0, data=bytes(33 << 10), gas=30_000_000), 0, ETHER, "32768 bytes"),
    ]:
        with pytest.raises(Refused, match=rule):
            pool.add(transaction, nonce=nonce, balance=balance, now=0.0)
    assert len(pool) == 0


def test_what_exactly_meets_a_limit_is_accepted() -> None:
    pool = make_pool()
    add(pool, make(ALICE, 0, gas=30_000_000), make(ALICE, 63), make(BOB, 0, fee=1))
    size = 32 << 10
    exact = next(row for row in (make(CAROL, 0, data=bytes(size - n), gas=30_000_000) for n in range(150)) if
                 len(row.raw) == size)  # fmt: skip
    add(pool, exact, balance=exact.gas * exact.max_fee_per_gas)
    assert len(pool) == 4


def test_what_is_replaced_counts_no_more_against_its_senders_limits() -> None:
    big = {"data": bytes(31 << 10), "gas": 2_000_000}
    pool = make_pool(per_sender=4, sender_bytes=(31 << 12) + 1_000)
    rows = [make(ALICE, nonce, fee=10, **big) for nonce in range(4)]  # type: ignore[arg-type]
    add(pool, *rows)
    dearer = make(ALICE, 2, fee=11, **big)  # type: ignore[arg-type]
    cost = 2_000_000 * (10 * 3 + 11)
    with pytest.raises(Refused, match="the sender has"):
        add(pool, dearer, balance=cost - 1)
    add(pool, dearer, balance=cost)
    assert take(pool) == [*rows[:2], dearer, rows[3]]


def test_what_was_used_meanwhile_is_no_cost_any_more() -> None:
    pool = make_pool()
    add(pool, make(ALICE, 0))
    add(pool, make(ALICE, 1), nonce=1, balance=1_000_000)  # the first is final; its block is on the way here
    assert take(pool) == [pool.get_known(make(ALICE, 1).raw)]


def test_a_block_without_room_in_bytes_does_not_count_as_passing_over() -> None:
    pool = make_pool()
    large = make(ALICE, 0, data=bytes(5_000), gas=200_000)
    add(pool, large)
    for _ in range(10):
        pool.on_block(set(), {}, gas_left=30_000_000, bytes_left=len(large.raw) - 1)
    assert take(pool) == [large]
    for _ in range(3):
        assert len(pool) == 1
        pool.on_block(set(), {}, gas_left=30_000_000, bytes_left=len(large.raw))
    assert len(pool) == 0


def test_a_sender_has_a_limit_of_its_own() -> None:
    pool = make_pool(per_sender=4)
    add(pool, *(make(ALICE, nonce) for nonce in range(4)))
    with pytest.raises(Refused, match="too far ahead"):
        add(pool, make(ALICE, 4))
    add(pool, make(BOB, 0))
    assert len(pool) == 5


def test_a_full_pool_gives_up_what_cannot_be_executed_and_nothing_else() -> None:
    pool = make_pool(total=4)
    add(pool, make(ALICE, 1), make(ALICE, 2), make(BOB, 0), make(BOB, 1))
    with pytest.raises(Refused, match="full"):
        add(pool, make(CAROL, 3))  # not executable itself: no better than what is here
    carol = make(CAROL, 0)
    add(pool, carol)
    assert len(pool) == 4 and carol in take(pool)
    zero = make(ALICE, 0)
    add(pool, zero)  # at the cost of its own sender's farthest
    assert len(pool) == 4 and {row.sender for row in take(pool)} == {ALICE.account, BOB.account, CAROL.account}


def test_bytes_are_limited() -> None:
    pool = make_pool(bytes=10_000)
    add(pool, make(ALICE, 0, data=bytes(9_000), gas=200_000))
    with pytest.raises(Refused, match="full"):
        add(pool, make(BOB, 0, data=bytes(2_000)))
    with pytest.raises(Refused, match="full"):
        add(pool, make(ALICE, 0, data=bytes(9_990), gas=200_000, fee=20))
    add(pool, make(BOB, 0))


def test_a_replacement_must_offer_more() -> None:
    pool = make_pool()
    old, same, more = make(ALICE, 0, fee=100), make(ALICE, 0, fee=109), make(ALICE, 0, fee=110)
    add(pool, old)
    with pytest.raises(Refused, match="10 % more"):
        add(pool, same)
    add(pool, more)
    assert take(pool) == [more] and len(pool) == 1 and pool.get_known(old.raw) is None


def test_the_highest_tip_goes_first_and_a_senders_own_stay_in_order() -> None:
    pool = make_pool()
    low, high = make(ALICE, 0, tip=1), make(ALICE, 1, tip=9)
    middle, first = make(BOB, 0, tip=5), make(CAROL, 0, tip=1)
    add(pool, low, high, first, middle)
    assert take(pool) == [middle, low, high, first]
    assert take(pool, count=2) == [middle, low]
    assert pool.take(max_count=10, max_bytes=len(middle.raw)) == [middle]


def test_what_passes_over_three_blocks_with_room_is_dropped() -> None:
    pool = make_pool()
    stuck, other = make(ALICE, 0), make(BOB, 0)
    add(pool, stuck, other)
    assert pass_block(pool, other) == [0.0]
    pass_block(pool)
    assert pool.has_executable()
    pass_block(pool)
    assert not pool.has_executable() and len(pool) == 0


def test_a_block_without_room_does_not_count() -> None:
    pool = make_pool()
    stuck = make(ALICE, 0)
    add(pool, stuck)
    for _ in range(10):
        pass_block(pool, gas_left=50_000)
    assert take(pool) == [stuck]


def test_what_no_block_has_room_for_does_not_keep_the_chain_awake_for_ever() -> None:
    pool = make_pool(waiting_heights=5)
    add(pool, make(ALICE, 0))
    for _ in range(4):
        pass_block(pool, gas_left=50_000)
        assert pool.has_executable()
    pass_block(pool, gas_left=50_000)
    assert not pool.has_executable() and len(pool) == 0


def test_what_waits_for_a_predecessor_that_never_comes_is_dropped() -> None:
    pool = make_pool(waiting_heights=5)
    add(pool, make(ALICE, 1))
    for _ in range(5):
        pass_block(pool)
    assert len(pool) == 0


def test_a_transaction_that_another_one_replaced_in_a_block_is_gone() -> None:
    pool = make_pool()
    ours, theirs, following = make(ALICE, 0), make(ALICE, 0, fee=99), make(ALICE, 1)
    add(pool, ours, following)
    assert pass_block(pool, theirs) == []
    assert take(pool) == [following]


def test_all_counts_return_to_zero() -> None:
    pool = make_pool()
    rows = [make(Key(keccak256(bytes([index]))), nonce) for index in range(5) for nonce in (0, 1, 3)]
    add(pool, *rows)
    for _ in range(Limits().waiting_heights + 3):
        pass_block(pool)
    assert len(pool) == 0 and pool._bytes == 0 and pool._queues == {} and pool._by_raw == {}


def test_the_bytes_of_one_sender_are_limited() -> None:
    pool = make_pool()
    big = {"data": bytes(31 << 10), "gas": 2_000_000}
    add(pool, *(make(ALICE, nonce, **big) for nonce in range(4)))  # type: ignore[arg-type]
    with pytest.raises(Refused, match="131072 bytes of this sender"):
        add(pool, make(ALICE, 4, **big))  # type: ignore[arg-type]
    with pytest.raises(Refused, match="131072 bytes of this sender"):
        add(pool, make(ALICE, 4, data=bytes(5 << 10), gas=2_000_000))
    add(pool, make(ALICE, 4))
    add(pool, make(BOB, 0, **big))  # type: ignore[arg-type]


def test_a_full_pool_gives_up_the_lowest_tip_for_a_higher_one() -> None:
    pool = make_pool(total=4)
    low, lowest, behind, high = make(ALICE, 0, tip=2), make(BOB, 0, tip=1), make(BOB, 1, tip=9), make(CAROL, 0, tip=5)
    add(pool, low, lowest, behind, high)
    dave, erin = USERS[3], KEYS[0]
    with pytest.raises(Refused, match="offer a higher tip"):
        add(pool, make(dave, 0, tip=1))
    add(pool, make(dave, 0, tip=2))  # what waits behind a low tip goes before it: no gap is left
    assert behind.hash not in pool and lowest.hash in pool and len(pool) == 4
    add(pool, make(erin, 0, tip=2))
    assert lowest.hash not in pool and {low.hash, high.hash} <= set(pool._by_hash) and len(pool) == 4


def test_who_takes_anothers_place_offers_a_tenth_more_and_is_worth_no_more_than_what_goes_before_it() -> None:
    pool = make_pool(total=2)
    dear = make(ALICE, 0, fee=100, tip=20)
    add(pool, dear, make(BOB, 0, fee=100, tip=30))
    with pytest.raises(Refused, match="full"):
        add(pool, make(CAROL, 0, fee=100, tip=21))
    add(pool, make(CAROL, 0, fee=100, tip=22))
    assert dear.hash not in pool
    with pytest.raises(Refused, match="full"):
        add(pool, make(CAROL, 1, fee=100, tip=90))  # it has to wait for the one with 22


def test_a_larger_replacement_never_costs_its_sender_what_follows_it() -> None:
    pool = make_pool(bytes=5_000)
    rows = make(ALICE, 0, tip=1), make(ALICE, 1, tip=9, data=bytes(4_500), gas=200_000)
    add(pool, *rows)
    with pytest.raises(Refused, match="full"):
        add(pool, make(ALICE, 0, fee=20, tip=15, data=bytes(1_000), gas=200_000))
    assert take(pool) == list(rows)


def test_a_block_that_is_reported_late_takes_no_sender_back() -> None:
    pool = make_pool()
    two = make(ALICE, 2)
    add(pool, two, nonce=2)
    pool.on_block(set(), {ALICE.account: 1}, gas_left=10**6, bytes_left=1 << 20)
    assert take(pool) == [two]


def test_a_large_one_that_finds_too_little_room_costs_nobody_anything() -> None:
    pool = make_pool(bytes=12_000)
    small, dear = make(ALICE, 0), make(BOB, 0, tip=9, data=bytes(9_000), gas=200_000)
    add(pool, small, dear)
    with pytest.raises(Refused, match="full"):
        add(pool, make(CAROL, 0, tip=5, data=bytes(9_000), gas=200_000))
    assert set(take(pool)) == {small, dear}
    add(pool, make(CAROL, 0, tip=5, data=bytes(2_750), gas=200_000))
    assert small.hash not in pool and dear.hash in pool


def test_a_tip_above_the_fee_does_not_count_and_what_cannot_be_paid_together_is_refused() -> None:
    pool = make_pool()
    pretends, pays = make(ALICE, 0, fee=3, tip=3), make(BOB, 0, fee=10, tip=3)
    add(pool, pretends, pays)
    assert take(pool) == [pays, pretends]
    add(pool, make(CAROL, 0), balance=1_500_000)
    with pytest.raises(Refused, match="waits already 1000000"):
        add(pool, make(CAROL, 1), balance=1_500_000)


def test_own_transactions_are_admitted_kept_and_taken_first_whatever_others_offer() -> None:
    pool = make_pool(own=CAROL.account, total=3)
    add(pool, *(make(ALICE, nonce, tip=9) for nonce in range(3)))
    own = [make(CAROL, 0), make(CAROL, 1, tip=9), make(CAROL, 3)]
    add(pool, *own)
    with pytest.raises(Refused, match="full"):
        add(pool, make(BOB, 0, tip=9))
    assert all(row.hash in pool for row in own) and take(pool)[:2] == own[:2]


def test_a_ledger_admits_the_transactions_of_its_own_account_to_a_full_pool(tmp_path: Path) -> None:
    async def main() -> None:
        own = KEYS[0]
        async with open_ledger(make_genesis(), tmp_path, key=own) as ledger:
            ledger.mempool._limits = replace(Limits(), total=1)
            await ledger.submit(make(ALICE, 0, tip=5).raw)
            with pytest.raises(Refused, match="full"):
                await ledger.submit(make(BOB, 0).raw)
            assert await ledger.submit(make(own, 0).raw) in ledger.mempool

    trio.run(main)


def test_four_accounts_cannot_keep_a_reveal_out_of_a_pool() -> None:
    limits = replace(Limits(), bytes=15 << 20)
    pool = Mempool(limits, base_fee=1, max_gas=30_000_000, max_transaction_bytes=64 << 10)
    for key in KEYS[:4]:
        for nonce in range(64):
            try:
                add(pool, make(key, nonce, fee=2, tip=1, data=bytes(60 << 10), gas=3_000_000))
            except Refused:
                break
    add(pool, make(ALICE, 0, fee=2, tip=1))
    assert pool._bytes < 1 << 20
