"""The staking contract against a plain model: every call, every epoch, every number, and what must never happen.

The people: four founders, two who may come, and one whose account is code that refuses coins or calls back. Each may be
honest, convicted, jailed, lazy, a delegator, or all of it. Together the examples must reach what REACHED names. More:
benchmarks/contract_soak.py.
"""

import os
import random
from collections import Counter

import pytest
from contracts_support import ETHER
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from machine_support import run_seeded
from stake_model import Bond, Refused
from stake_table_support import CALLS_BACK, PEOPLE, REFUSES, StakeTable

PARTS = 5  # of the run, each with a seed of its own, for several processes
EXAMPLES = int(os.environ.get("FLOCK_STAKE_EXAMPLES", "500")) // PARTS
STEPS = 20  # rules of an example
REACHED = (  # by each part of the run, as the contract's logs say it; the rest by the one script below
    "Bonded", "Unbonding", "Withdrawn", "Convicted", "Slashed", "Shared", "Rewarded", "Jailed", "Admitted",
    "WeightChanged", "EpochEnded", "Restarted", "TermsSet",
)  # fmt: skip
persons = st.sampled_from(PEOPLE)
amounts = st.sampled_from([1, 2, ETHER - 1, ETHER, 7 * ETHER + 13, 31 * ETHER, 32 * ETHER, 40 * ETHER, 80 * ETHER])


class StakeMachine(RuleBasedStateMachine):
    @initialize(is_open=st.booleans(), luck=st.integers(0, 10**6))
    def start(self, is_open: bool, luck: int) -> None:
        self.table = StakeTable(is_open)
        self.model, self.both = self.table.model, self.table.both
        self.luck = random.Random(luck)
        self.convicted: set[bytes] = set()

    @rule(who=persons, amount=amounts, other_key=st.sampled_from((False, False, True)))
    def bond(self, who: bytes, amount: int, other_key: bool) -> None:
        key = bytes([PEOPLE.index(who) + 1 + 100 * other_key]) * 32
        self.both(who, "bond_validator", key, value=amount, model=lambda: self.model.bond(who, amount, key))

    @rule(who=persons, amount=amounts, everything=st.booleans())
    def unbond(self, who: bytes, amount: int, everything: bool) -> None:
        amount = self.model.bond_of(who, who).stake if everything else amount
        self.both(who, "unbond", amount, model=lambda: self.model.unbond(who, who, amount))

    @rule(who=persons)
    def withdraw(self, who: bytes) -> None:
        self.both(who, "withdraw", model=lambda: self.model.withdraw(who, who))

    @rule(
        who=persons, commission=st.sampled_from((0, 1_000, 3_333, 10_000, 10_001)), coins=st.sampled_from((0, 70, 500))
    )
    def set_terms(self, who: bytes, commission: int, coins: int) -> None:
        def model() -> None:
            if commission > 10_000:
                raise Refused
            self.model.set_terms(who, commission, coins * ETHER)

        self.both(who, "set_terms", commission, coins * ETHER, model=model)
        assert self.table.world.view("Stake", "terms_of", who)[0] == self.model.commission_of(who)

    @rule(who=persons, where=persons, amount=amounts, opens=st.booleans())
    def delegate(self, who: bytes, where: bytes, amount: int, opens: bool) -> None:
        if opens:
            self.both(where, "set_terms", 500, 200 * ETHER, model=lambda: self.model.set_terms(where, 500, 200 * ETHER))
        self.both(who, "delegate", where, value=amount, model=lambda: self.model.delegate(who, where, amount))

    def delegation(self, who: bytes, where: bytes) -> bytes:
        """Rather one that exists than one that does not."""
        found = [v for (v, owner), bond in self.model.bonds.items() if owner == who != v and bond != Bond()]
        return found[PEOPLE.index(where) % len(found)] if found else where

    @rule(who=persons, where=persons, amount=amounts, everything=st.booleans())
    def undelegate(self, who: bytes, where: bytes, amount: int, everything: bool) -> None:
        where = self.delegation(who, where)
        amount = self.model.bond_of(where, who).stake if everything else amount
        self.both(who, "undelegate", where, amount, model=lambda: self.model.unbond(where, who, amount))

    @rule(who=persons, where=persons)
    def withdraw_delegation(self, who: bytes, where: bytes) -> None:
        where = self.delegation(who, where)
        self.both(who, "withdraw_delegation", where, model=lambda: self.model.withdraw(where, who))

    @rule(who=persons, where=persons, amount=amounts)
    def share(self, who: bytes, where: bytes, amount: int) -> None:
        self.both(who, "share_reward", where, value=amount, model=lambda: self.model.share(where, amount))

    @rule(who=persons, where=persons)
    def claim_delegation(self, who: bytes, where: bytes) -> None:
        where = self.delegation(who, where)
        self.both(who, "claim_delegation", where, model=lambda: self.model.claim_delegation(where, who))

    @rule(code=st.sampled_from((b"", REFUSES, CALLS_BACK)))
    def turn_hostile(self, code: bytes) -> None:
        self.table.turn_hostile(code)

    @rule(voters=st.sets(persons, min_size=1), who=persons, coins=st.sampled_from((0, 32, 50)))
    def admit(self, voters: set[bytes], who: bytes, coins: int) -> None:
        for voter in sorted(voters):
            weight = coins * ETHER
            self.both(voter, "admit", who, weight, model=lambda v=voter, w=weight: self.model.admit(v, who, w))

    @rule(who=persons)
    def unjail(self, who: bytes) -> None:
        self.both(who, "unjail", model=lambda: self.model.unjail(who))

    @rule(reporter=persons, who=persons, back=st.integers(-1, 4), wrong=st.sampled_from((0, 0, 0, 1)))
    def report(self, reporter: bytes, who: bytes, back: int, wrong: int) -> None:
        while self.table.world.height - back < 1:  # else most examples convict nobody: blocks come late, or never
            self.table.block(1)
        height = self.table.world.height - back
        first = [epoch for epoch, start in self.model.first_heights.items() if start <= height]
        wrong = min(wrong, max(first))
        served = [name for name, _ in self.model.sets[max(first)]]
        who = who if wrong else served[PEOPLE.index(who) % len(served)]
        self.table.report(reporter, who, height, max(first) - wrong)

    @rule(who=persons, caller=persons, owner=persons)
    def settle(self, who: bytes, caller: bytes, owner: bytes) -> None:
        convicted = [person for person in PEOPLE if self.model.of(person).tombstoned_at]
        who = convicted[PEOPLE.index(who) % len(convicted)] if convicted else who
        self.both(caller, "settle", who, owner, model=lambda: self.model.settle(who, owner))

    @rule(keep=st.sets(st.integers(0, 6), min_size=1))
    def restart(self, keep: set[int]) -> None:
        self.table.restart(keep)

    @rule(who=persons)
    def claim(self, who: bytes) -> None:
        self.both(who, "claim_reward", model=lambda: self.model.claim(who))

    @rule(seconds=st.sampled_from((0, 1, 15, 40, 90)), absent=st.sets(st.integers(0, 6)), blocks=st.integers(1, 3))
    def next_blocks(self, seconds: int, absent: set[int], blocks: int) -> None:
        for _ in range(blocks):
            self.table.block(seconds, absent)

    @invariant()
    def contract_and_model_agree(self) -> None:
        self.table.check_rows()

    @invariant()
    def whatever_secures_a_set_can_be_slashed(self) -> None:
        for epoch in (self.model.epoch, self.model.epoch + 1):
            assert self.model.sets[epoch]
            for who, weight in self.model.sets[epoch]:
                assert 0 < weight <= self.model.staked_with(who) + self.model.leaving_with(who)

    @invariant()
    def only_who_signed_against_itself_or_bonded_with_it_loses_and_for_ever(self) -> None:
        convicted = {who for who in PEOPLE if self.model.of(who).tombstoned_at}
        assert self.convicted <= convicted  # tombstones are never taken away
        self.convicted = convicted
        assert convicted or not self.model.burned
        assert all(bond.stake == 0 for who in convicted for bond in self.model.bonds_with(who))

    def teardown(self) -> None:
        if hasattr(self, "convicted"):
            self.table.check_sets()
            self.table.replay.compare()
            self.table.everybody_gets_out(self.luck.shuffle)
            self.table.check_rows()
            self.table.check_sets()
            self.table.replay.compare()


def run_part(seed: int, examples: int, steps: int = STEPS) -> Counter[str]:
    """So many examples of this seed; what they reached."""
    found: Counter[str] = Counter()

    class Counted(StakeMachine):
        def teardown(self) -> None:
            super().teardown()
            if hasattr(self, "convicted"):
                found.update(self.table.reached())

    run_seeded(Counted, seed=seed, examples=examples, steps=steps)
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_the_staking_contract_does_what_its_twin_does(part: int) -> None:
    found = run_part(part, EXAMPLES)
    assert EXAMPLES < 100 or not [name for name in REACHED if not found[name]], found


def test_a_delegator_a_hostile_receiver_and_the_jailed_are_all_reached() -> None:
    """What random examples come to seldom: the machine's means do come to it."""
    table = StakeTable(is_open=True)
    model, (first, second, *_, hostile) = table.model, PEOPLE
    table.both(first, "set_terms", 500, 200 * ETHER, model=lambda: model.set_terms(first, 500, 200 * ETHER))
    for who in (second, hostile):
        table.both(who, "delegate", first, value=9 * ETHER, model=lambda w=who: model.delegate(w, first, 9 * ETHER))
    table.both(second, "share_reward", first, value=ETHER, model=lambda: model.share(first, ETHER))
    table.turn_hostile(REFUSES)
    table.both(hostile, "claim_delegation", first, model=lambda: model.claim_delegation(first, hostile))
    table.turn_hostile(CALLS_BACK)
    table.both(hostile, "claim_delegation", first, model=lambda: model.claim_delegation(first, hostile))
    for _ in range(12):
        table.block(15, [1])
        table.check_rows()
    table.both(second, "unjail", model=lambda: model.unjail(second))
    height = table.world.height
    table.report(second, first, height, max(e for e, start in model.first_heights.items() if start <= height))
    table.everybody_gets_out(random.Random(7).shuffle)
    found = table.reached()
    wanted = ("payment refused by its receiver", "Jailed", "Unjailed", "Convicted", "delegator slashed", "Rewarded")
    assert not [name for name in wanted if not found[name]], found
