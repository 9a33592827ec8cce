"""The staking contract against a plain model: every call, every epoch, every number, and what must never happen."""

import os
from typing import Any

from contracts_support import ETHER, GENESIS_TIME, RICH, STAKING, World, build_genesis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from stake_model import Refused, StakeModel
from stake_support import make_statements, staking_key

from flock_contracts.addresses import STAKE, SYSTEM

FOUNDERS = [staking_key(index) for index in range(4)]
OTHERS = [staking_key(index) for index in range(4, 7)]
PEOPLE = [key.account for key in FOUNDERS + OTHERS]
KEYS = dict(zip(PEOPLE, FOUNDERS + OTHERS, strict=True))
STAKES = (40 * ETHER, 33 * ETHER, 64 * ETHER, 32 * ETHER)
ROWS = [(key.account, stake, bytes([index + 1]) * 32) for index, (key, stake) in enumerate(zip(FOUNDERS, STAKES))]
CHANGES: dict[str, Any] = {
    "epoch_blocks": 2, "epoch_seconds": 20, "absence_limit": 2, "jail_delay": 30, "unbonding_delay": 90,
    "evidence_window": 60,
}  # fmt: skip
BASES = {is_open: build_genesis(0, ROWS, open_staking=is_open, **CHANGES) for is_open in (False, True)}
EXAMPLES = int(os.environ.get("FLOCK_STAKE_EXAMPLES", "6"))  # more in a campaign
persons = st.sampled_from(PEOPLE)
amounts = st.integers(1, 80).map(lambda coins: coins * ETHER) | st.integers(1, 80 * ETHER)


class StakeMachine(RuleBasedStateMachine):
    @initialize(is_open=st.booleans())
    def start(self, is_open: bool) -> None:
        self.world = World(*BASES[is_open])
        for person in PEOPLE:
            self.world.state.set_balance(person, RICH)
        table = STAKING | CHANGES
        self.model = StakeModel(
            table["min_validator_stake"], table["unbonding_delay"], table["evidence_window"], table["epoch_blocks"],
            table["epoch_seconds"], table["absence_limit"], table["jail_delay"], is_open, now=GENESIS_TIME,
        )  # fmt: skip
        self.model.start(ROWS)
        self.steps = 0

    def both(self, sender: bytes, function: str, *args: Any, model: Any, value: int = 0) -> None:
        """The contract does it exactly where the model does."""
        try:
            model()
            expected = True
        except Refused:
            expected = False
        outcome = self.world.act(sender, "Stake", function, *args, value=value)
        assert outcome.ok == expected, (function, outcome.reason)
        assert outcome.ok or outcome.reason.startswith("stake: "), outcome.reason

    @rule(who=persons, amount=amounts, other_key=st.booleans())
    def bond(self, who: bytes, amount: int, other_key: bool) -> None:
        index = PEOPLE.index(who)
        key = bytes([index + 1 + 100 * other_key]) * 32
        self.both(who, "bond_validator", key, value=amount, model=lambda: self.model.bond(who, amount, key))

    @rule(who=persons, amount=amounts, everything=st.booleans())
    def unbond(self, who: bytes, amount: int, everything: bool) -> None:
        amount = self.model.of(who).stake if everything else amount
        self.both(who, "unbond", amount, model=lambda: self.model.unbond(who, amount))

    @rule(who=persons)
    def withdraw(self, who: bytes) -> None:
        before = self.world.balance(who)
        paid = self.model.paid
        self.both(who, "withdraw", model=lambda: self.model.withdraw(who))
        assert self.world.balance(who) - before == self.model.paid - paid

    @rule(voters=st.sets(persons, min_size=1), who=persons, coins=st.sampled_from((0, 32, 50)))
    def admit(self, voters: set[bytes], who: bytes, coins: int) -> None:
        for voter in sorted(voters):
            weight = coins * ETHER
            self.both(voter, "admit", who, weight, model=lambda v=voter, w=weight: self.model.admit(v, who, w))

    @rule(who=persons)
    def unjail(self, who: bytes) -> None:
        self.both(who, "unjail", model=lambda: self.model.unjail(who))

    @rule(reporter=persons, who=persons, back=st.integers(-1, 4), epochs_back=st.integers(0, 1))
    def report(self, reporter: bytes, who: bytes, back: int, epochs_back: int) -> None:
        height, epoch = self.world.height - back, self.model.epoch - epochs_back
        if height < 1 or epoch < 0:
            return
        pair = make_statements(KEYS[who], height)
        self.both(reporter, "report", *pair, epoch, model=lambda: self.model.report(reporter, who, height, epoch))

    @rule(who=persons, caller=persons)
    def settle(self, who: bytes, caller: bytes) -> None:
        self.both(caller, "settle", who, model=lambda: self.model.settle(who))

    @rule(who=persons)
    def claim(self, who: bytes) -> None:
        self.both(who, "claim_reward", model=lambda: self.model.claim(who))

    @rule(seconds=st.sampled_from((0, 1, 15, 40, 90)), absent=st.sets(st.integers(0, 6)), blocks=st.integers(1, 3))
    def next_blocks(self, seconds: int, absent: set[int], blocks: int) -> None:
        for _ in range(blocks):
            weights = {who: self.model.of(who).weight for who in self.model.candidates}
            epoch = self.model.epoch
            size = len(self.model.set_of(self.model.height))  # of the parent of the block to come
            self.model.height += 1
            self.model.now += seconds
            if self.model.is_over():
                self.model.end_epoch()
            self.world.next_block(seconds, pokes=False)
            if self.model.epoch > epoch:
                self.check_churn(weights)
            elif self.model.height > 1:
                rows = [index for index in sorted(absent) if index < size]
                self.model.miss(rows)
                self.world.must(SYSTEM, "Stake", "on_attendance", sum(1 << index for index in rows), b"")

    def check_churn(self, before: dict[bytes, int]) -> None:
        after = {who: self.model.of(who).weight for who in self.model.accounts}
        changes = [abs(after[who] - before.get(who, 0)) for who in after if after[who] != before.get(who, 0)]
        assert len(changes) <= 1 or sum(changes) <= sum(before.values()) // 10

    @invariant()
    def contract_and_model_agree(self) -> None:
        view, model = self.world.view, self.model
        assert view("Stake", "epoch") == model.epoch
        self.steps += 1  # not everything in every step: a step that differs goes on to differ
        epoch = max(0, model.epoch + 1 - self.steps % 4)
        rows = view("Stake", "validators_of", epoch)
        assert [(row["account"], row["weight"]) for row in rows] == model.sets[epoch]
        assert rows and all(row["vrf_key"] == model.of(row["account"]).vrf_key for row in rows)
        who = PEOPLE[self.steps % len(PEOPLE)]
        row = model.of(who)
        for name, value in (
            ("stake_of", row.stake), ("unbonding_of", row.unbonding), ("weight_of", row.weight),
            ("jailed_until", row.jailed_until), ("tombstoned_at", row.tombstoned_at), ("reward_of", row.reward),
        ):  # fmt: skip
            assert view("Stake", name, who) == value, (name, who)

    @invariant()
    def no_coin_is_made_or_lost(self) -> None:
        held = self.world.balance(STAKE)
        totals = [
            self.world.view("Stake", name) for name in ("total_staked", "total_unbonding", "total_rewards", "burned")
        ]
        assert held == sum(totals) == self.model.liabilities() == self.model.received - self.model.paid

    @invariant()
    def whatever_secures_a_set_can_be_slashed(self) -> None:
        for epoch in (self.model.epoch, self.model.epoch + 1):
            for who, weight in self.model.sets[epoch]:
                row = self.model.of(who)
                assert weight <= row.stake + row.unbonding


TestStakeMachine = StakeMachine.TestCase
TestStakeMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
