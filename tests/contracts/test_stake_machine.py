"""The staking contract against a plain model: every call, every epoch, every number, and what must never happen.

The people: four founders, two who may come, and one whose account is code that refuses coins or calls back. Each may be
honest, convicted, jailed, lazy, a delegator, or all of it; a campaign of any length is FLOCK_STAKE_EXAMPLES.
"""

import os
from collections.abc import Callable
from typing import Any

from contracts_support import CHAIN_ID, ETHER, GENESIS_HASH, GENESIS_TIME, RICH, STAKING, build_genesis
from fast_world_support import FastWorld, Known
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from stake_model import ONE, Bond, Refused, StakeModel
from stake_support import make_statements, staking_key

from flock_chain.consensus.digest import ChainDomain
from flock_contracts.addresses import STAKE, SYSTEM
from flock_contracts.loader import load

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
KNOWN = {is_open: Known(base) for is_open, (base, _) in BASES.items()}
EXAMPLES = int(os.environ.get("FLOCK_STAKE_EXAMPLES", "6"))  # more in a campaign
HOSTILE = PEOPLE[6]
ANCHOR = staking_key(7).account  # comes at the end, so that the last of the others can leave
MAX_RESTARTS = 16
REFUSES = bytes.fromhex("5f5ffd")
CALLS_BACK = bytes.fromhex(f"63{load('Stake').encode('withdraw').hex()}60e01b5f525f5f60045f5f73{STAKE.hex()}5af100")
NEVER = (1 << 256) - 1
PAYING = ("withdraw", "withdraw_delegation", "claim_reward", "claim_delegation")
persons = st.sampled_from(PEOPLE)
amounts = st.integers(1, 80).map(lambda coins: coins * ETHER) | st.integers(1, 80 * ETHER)


class StakeMachine(RuleBasedStateMachine):
    @initialize(is_open=st.booleans())
    def start(self, is_open: bool) -> None:
        self.world = FastWorld(*BASES[is_open], KNOWN[is_open])
        for person in PEOPLE:
            self.world.state.set_balance(person, RICH)
        table = STAKING | CHANGES
        self.model = StakeModel(
            table["min_validator_stake"], table["unbonding_delay"], table["evidence_window"], table["epoch_blocks"],
            table["epoch_seconds"], table["absence_limit"], table["jail_delay"], is_open, now=GENESIS_TIME,
        )  # fmt: skip
        self.model.start(ROWS)
        self.steps = 0
        self.payments = 0
        self.refuses = False
        self.domain = ChainDomain(CHAIN_ID, GENESIS_HASH)
        self.slashed: set[bytes] = set()

    def both(self, sender: bytes, function: str, *args: Any, model: Any, value: int = 0) -> None:
        """The contract does it exactly where the model does, and each pays the sender the same."""
        paid, before = self.model.paid, self.world.balance(sender)
        if self.refuses and sender == HOSTILE and function in PAYING:
            assert not self.world.act(sender, "Stake", function, *args, value=value).ok
            return
        try:
            model()
            expected = True
        except Refused:
            expected = False
        outcome = self.world.act(sender, "Stake", function, *args, value=value)
        gained = self.model.paid - paid - (value if outcome.ok else 0)
        assert self.world.balance(sender) - before == gained, function
        self.payments += outcome.ok and function in PAYING
        assert outcome.ok == expected, (function, outcome.reason)
        assert outcome.ok or outcome.reason.startswith("stake: "), outcome.reason

    @rule(who=persons, amount=amounts, other_key=st.booleans())
    def bond(self, who: bytes, amount: int, other_key: bool) -> None:
        index = PEOPLE.index(who)
        key = bytes([index + 1 + 100 * other_key]) * 32
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
        assert self.world.view("Stake", "terms_of", who)[0] == self.model.commission_of(who)

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
        self.world.state.set_code(HOSTILE, code)
        self.refuses = code == REFUSES

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
        pair = make_statements(KEYS[who], height, self.domain)
        self.both(reporter, "report", *pair, epoch, model=lambda: self.model.report(reporter, who, height, epoch))

    @rule(who=persons, caller=persons, owner=persons)
    def settle(self, who: bytes, caller: bytes, owner: bytes) -> None:
        convicted = [person for person in PEOPLE if self.model.of(person).tombstoned_at]
        who = convicted[PEOPLE.index(who) % len(convicted)] if convicted else who
        self.both(caller, "settle", who, owner, model=lambda: self.model.settle(who, owner))

    @rule(keep=st.sets(st.integers(0, 6), min_size=1))
    def restart(self, keep: set[int]) -> None:
        names = {row for index, (row, _) in enumerate(self.model.sets[self.model.epoch]) if index in keep}
        self.model.height += 1
        is_over, self.model.height = self.model.is_over(), self.model.height - 1
        if not names or is_over or len(self.domain.restarts) == MAX_RESTARTS:
            return
        document = bytes([len(self.domain.restarts) + 1]) * 32
        self.domain = ChainDomain(CHAIN_ID, GENESIS_HASH, (*self.domain.restarts, (self.model.height, document)))
        self.model.height += 1
        self.world.next_block(0, pokes=False)
        self.model.restart(names)
        self.world.must(SYSTEM, "Stake", "on_restart", document, sorted(names))

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
        """A part of it in each step: a step that differs goes on to differ, and the last part is asked at the end."""
        self.steps += 1
        part = self.steps % len(self.parts)
        self.parts[part]()

    @property
    def parts(self) -> tuple[Callable[[], None], ...]:
        return self.no_coin_is_made_or_lost, self.check_sets, self.check_account, self.check_bond

    def check_sets(self) -> None:
        assert self.world.stored("Stake", "epoch") == self.model.epoch
        epoch = max(0, self.model.epoch + 1 - self.steps // 4 % 4)
        rows = self.world.stored("Stake", "validators_of", epoch)
        assert [(row["account"], row["weight"]) for row in rows] == self.model.sets[epoch]
        assert rows and all(row["vrf_key"] == self.model.of(row["account"]).vrf_key for row in rows)

    def check_account(self) -> None:
        who = PEOPLE[self.steps // 4 % len(PEOPLE)]
        row = self.model.of(who)
        for name, value in (
            ("weight_of", row.weight), ("jailed_until", row.jailed_until), ("tombstoned_at", row.tombstoned_at),
            ("reward_of", row.reward), ("staked_with", self.model.staked_with(who)),
            ("leaving_with", self.model.leaving_with(who)),
        ):  # fmt: skip
            assert self.world.stored("Stake", name, who) == value, (name, who)

    def check_bond(self) -> None:
        held = [pair for pair, bond in self.model.bonds.items() if bond != Bond()]
        who, owner = held[self.steps // 4 % len(held)]
        bond, free_at = self.model.bond_of(who, owner), self.model.release_at(who, owner)
        amounts = self.world.stored("Stake", "delegation_of", who, owner)
        assert amounts == (bond.stake, bond.leaving + bond.held), (who, owner)
        earned = 0 if who == owner else bond.earned // ONE
        assert self.world.stored("Stake", "delegation_reward_of", who, owner) == earned
        if bond.leaving + bond.held:
            known = self.world.view("Stake", "delegation_release_at", who, owner)
            assert (
                free_at == known or (free_at is None and known == NEVER) or max(free_at or 0, known) <= self.model.now
            )

    def no_coin_is_made_or_lost(self) -> None:
        held = self.world.balance(STAKE)
        totals = [
            self.world.stored("Stake", name) for name in ("total_staked", "total_unbonding", "total_rewards", "burned")
        ]
        assert held == sum(totals) == self.model.liabilities() == self.model.received - self.model.paid

    @invariant()
    def whatever_secures_a_set_can_be_slashed(self) -> None:
        for epoch in (self.model.epoch, self.model.epoch + 1):
            assert self.model.sets[epoch]
            for who, weight in self.model.sets[epoch]:
                assert 0 < weight <= self.model.staked_with(who) + self.model.leaving_with(who)

    @invariant()
    def only_who_signed_against_itself_or_bonded_with_it_loses_and_for_ever(self) -> None:
        convicted = {who for who in PEOPLE if self.model.of(who).tombstoned_at}
        assert self.slashed <= convicted  # tombstones are never taken away
        self.slashed = convicted
        assert convicted or not self.model.burned
        assert all(bond.stake == 0 for who in convicted for bond in self.model.bonds_with(who))

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        for part in self.parts:
            part()
        if self.steps % 3 != 1:  # it costs as much as all steps
            self.everybody_gets_out()

    def everybody_gets_out(self) -> None:
        """From here, whatever is here: each unit that no penalty took is paid to its owner, by calls of its own."""
        world, model = self.world, self.model
        world.state.set_code(HOSTILE, b"")
        stake = 4 * (sum(model.staked_with(who) for who in PEOPLE) + 40 * ETHER)
        world.state.set_balance(ANCHOR, stake)
        for voter, _ in model.sets[model.epoch]:
            world.must(voter, "Stake", "admit", ANCHOR, stake)
        world.must(ANCHOR, "Stake", "bond_validator", b"a" * 32, value=stake)
        for where, owner in list(model.bonds):
            if amount := world.stored("Stake", "delegation_of", where, owner)[0]:
                own = where == owner
                world.must(owner, "Stake", *(("unbond", amount) if own else ("undelegate", where, amount)))
        for _ in range(120):
            world.next_block(30, pokes=False)
            if any(world.stored("Stake", "weight_of", who) for who in PEOPLE):
                continue
            for where, owner in model.bonds:
                world.act(owner, "Stake", *(("withdraw",) if where == owner else ("withdraw_delegation", where)))
            if not world.stored("Stake", "total_unbonding"):
                break
        for where, owner in model.bonds:
            world.act(owner, "Stake", "claim_delegation", where)
        for who in PEOPLE:
            assert world.stored("Stake", "leaving_with", who) == world.stored("Stake", "staked_with", who) == 0
            world.act(who, "Stake", "claim_reward")
        dust = world.stored("Stake", "total_rewards")  # parts of units, of each bond less than one
        assert dust <= len(model.bonds) + model.share_count
        assert world.balance(STAKE) == stake + world.stored("Stake", "burned") + dust


TestStakeMachine = StakeMachine.TestCase
TestStakeMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
