"""The arithmetic of a pool, against exact fractions: any coins, any order, slashed at any point.

What a pool's rounding takes is never more than a wei a step, and belongs to those who stay; of pay, to the board's
rewards. No call that the board makes may fail, or its task would stand still.
"""

import os

from contracts_support import AUDIT, COMMIT, WAITING
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from machine_support import as_test
from pool_bench_support import OWNERS, RULES, Bench

owners = st.sampled_from(OWNERS)
coins = st.one_of(st.integers(1, 9), st.integers(1, 10**4), st.integers(1, 10**25))
pays = st.one_of(st.sampled_from([0, 1, 2]), st.integers(0, 10**20))
slashes = st.sampled_from([1, 10, 100, 3_333, 5_000, 9_999, 9_999])


class Arithmetic(RuleBasedStateMachine):
    @initialize(first=st.lists(coins, min_size=len(OWNERS), max_size=len(OWNERS)), lost=st.sampled_from([3_333, 1, 0]))
    def open(self, first: list[int], lost: int) -> None:
        """Most begin where a unit is worth less than a wei: what is asked for then takes a rounding."""
        self.bench = Bench()
        for owner, amount in zip(OWNERS, first):
            self.bench.enter(owner, amount)
        self.bench.slash(lost)

    @rule(owner=owners, amount=coins)
    def enters(self, owner: bytes, amount: int) -> None:
        self.bench.enter(owner, amount)

    @rule(owner=owners, parts=st.sampled_from([1, 33, 50, 100]), is_out=st.booleans())
    def leaves(self, owner: bytes, parts: int, is_out: bool) -> None:
        self.bench.turn(is_out=is_out)
        self.bench.ask(owner, parts)
        self.bench.turn()

    @rule(owner=owners, parts=st.sampled_from([50, 33, 1]), bps=slashes, other=owners, amount=coins)
    def some_leave_and_some_come_after_a_slash(
        self, owner: bytes, parts: int, bps: int, other: bytes, amount: int
    ) -> None:
        self.bench.slash(bps)
        self.bench.ask(owner, parts)
        self.bench.enter(other, amount)

    @rule(owner=owners)
    def goes(self, owner: bytes) -> None:
        self.bench.go(owner)

    @rule(owner=owners)
    def takes(self, owner: bytes) -> None:
        self.bench.withdraw(owner)
        self.bench.claim(owner)

    @rule(pay=pays, own=coins, commission=st.sampled_from([0, 0, 1, 2_500, 9_999, 10_000]))
    def a_round_passes(self, pay: int, own: int, commission: int) -> None:
        self.bench.next_round(pay, own, commission)

    @rule(bps=slashes)
    def a_slash(self, bps: int) -> None:
        self.bench.slash(bps)

    @rule(part=coins, whole=coins)
    def a_conviction(self, part: int, whole: int) -> None:
        self.bench.convict(min(part, whole), whole)

    @rule(phase=st.sampled_from([WAITING, COMMIT, COMMIT, AUDIT]))
    def another_phase(self, phase: int) -> None:
        self.bench.turn(phase=phase)

    @rule(seconds=st.sampled_from([1, 90, 90]), count=st.integers(1, 7))
    def time_passes(self, seconds: int, count: int) -> None:
        for _ in range(count):
            self.bench.block(seconds)

    @rule()
    def the_participant_comes_back(self) -> None:
        self.bench.close()

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            everything_comes_out(self.bench, rest=10**9 + 7)


def everything_comes_out(bench: Bench, rest: int) -> None:
    bench.end(rest)
    for owner in OWNERS[::2]:
        bench.ask(owner, 100)
        bench.go(owner)
    bench.close()
    for _ in range(1 + RULES["unbonding_delay"] // 90):
        bench.block(90)
    for owner in OWNERS * 2:  # who had less than a wei of a pool may have one when others went
        bench.withdraw(owner)
        bench.claim(owner)
    left = bench.world.view("Delegation", "total_unbonding")
    assert bench.world.view("Delegation", "total_delegated") == 0
    assert 0 <= left < len(OWNERS) * (bench.lives + 1), "less than a wei for each place in a pool that was slashed"
    dust = bench.given() - sum(bench.claimed.values())
    assert 0 <= dust <= 2 * len(bench.pays) + len(OWNERS), "what rounding took of pay, among the board's rewards"


TestArithmetic = as_test(Arithmetic, examples=int(os.environ.get("FLOCK_POOL_EXAMPLES", "12")), steps=25)
