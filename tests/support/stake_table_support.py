"""The compiled staking contract beside its twin: every call and block goes to both, and after each both must agree.

Knows how a call is made, not who makes which. Counts what was reached, by the contract's logs.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from contracts_support import CHAIN_ID, ETHER, GENESIS_HASH, GENESIS_TIME, RICH, STAKING, build_genesis
from eth.db.atomic import AtomicDB
from event_replay_support import Replay
from fast_world_support import FastWorld, Known
from stake_model import ONE, Bond, Refused, StakeModel
from stake_replay_support import StakeIndex
from stake_support import make_statements, staking_key

from flock_chain.consensus.digest import ChainDomain
from flock_contracts.addresses import STAKE, SYSTEM
from flock_contracts.loader import load

KEYS = {key.account: key for key in (staking_key(index) for index in range(8))}
PEOPLE = list(KEYS)[:7]  # four founders, two who may come, and one whose account may be code
HOSTILE = PEOPLE[6]
ANCHOR = list(KEYS)[7]  # comes at the end, so that the last of the others can leave
STAKES = (40 * ETHER, 33 * ETHER, 64 * ETHER, 32 * ETHER)
ROWS = [(who, stake, bytes([index + 1]) * 32) for index, (who, stake) in enumerate(zip(PEOPLE, STAKES))]
CHANGES: dict[str, Any] = {
    "epoch_blocks": 2, "epoch_seconds": 20, "absence_limit": 2, "jail_delay": 30, "unbonding_delay": 90,
    "evidence_window": 60,
}  # fmt: skip
MAX_RESTARTS = 16
REFUSES = bytes.fromhex("5f5ffd")
CALLS_BACK = bytes.fromhex(f"63{load('Stake').encode('withdraw').hex()}60e01b5f525f5f60045f5f73{STAKE.hex()}5af100")
NEVER = (1 << 256) - 1
PAYING = ("withdraw", "withdraw_delegation", "claim_reward", "claim_delegation")


@cache
def prepared(is_open: bool) -> tuple[AtomicDB, bytes, Known]:
    base, root = build_genesis(0, ROWS, open_staking=is_open, **CHANGES)
    return base, root, Known(base)


class StakeTable:
    def __init__(self, is_open: bool) -> None:
        self.world = FastWorld(*prepared(is_open))
        for person in PEOPLE:
            self.world.state.set_balance(person, RICH)
        table = STAKING | CHANGES
        self.model = StakeModel(
            table["min_validator_stake"], table["unbonding_delay"], table["evidence_window"], table["epoch_blocks"],
            table["epoch_seconds"], table["absence_limit"], table["jail_delay"], is_open, now=GENESIS_TIME,
        )  # fmt: skip
        self.model.start(ROWS)
        self.domain = ChainDomain(CHAIN_ID, GENESIS_HASH)
        self.refuses = False
        index = StakeIndex(table | {"open_staking": is_open}, ROWS, GENESIS_TIME)
        self.replay = Replay(self.world, {"Stake": index})
        self.steps = 0  # transactions and blocks, each judged by both
        self.found: Counter[str] = Counter()

    # ------------------------------------------------ calls

    def both(self, sender: bytes, function: str, *args: Any, model: Callable[[], Any], value: int = 0) -> bool:
        """The contract does it exactly where the twin does, and each pays the sender the same."""
        world, paid = self.world, self.model.paid
        before = world.balance(sender)
        self.steps += 1
        if self.refuses and sender == HOSTILE and function in PAYING:
            assert not world.act(sender, "Stake", function, *args, value=value).ok
            self.found["payment refused by its receiver"] += 1
            self.check()
            return False
        try:
            model()
            expected = True
        except Refused:
            expected = False
        outcome = world.act(sender, "Stake", function, *args, value=value)
        gained = self.model.paid - paid - (value if outcome.ok else 0)
        assert world.balance(sender) - before == gained, function
        assert outcome.ok == expected, (function, outcome.reason)
        assert outcome.ok or outcome.reason.startswith("stake: "), outcome.reason
        self.found["refused"] += not expected
        self.check()
        return expected

    def turn_hostile(self, code: bytes) -> None:
        self.world.state.set_code(HOSTILE, code)
        self.refuses = code == REFUSES

    def report(self, reporter: bytes, who: bytes, height: int, epoch: int) -> None:
        pair = make_statements(KEYS[who], height, self.domain)
        self.both(reporter, "report", *pair, epoch, model=lambda: self.model.report(reporter, who, height, epoch))

    # ------------------------------------------------ blocks

    def block(self, seconds: int, absent: Iterable[int] = ()) -> None:
        model, world = self.model, self.world
        weights = {who: model.of(who).weight for who in model.candidates}
        size = len(model.set_of(model.height))  # of the parent of the block to come
        world.begin_block(seconds)
        model.height, model.now = model.height + 1, model.now + seconds
        is_over = model.is_over()
        assert world.view("Stake", "is_epoch_over") == is_over
        if is_over:
            model.end_epoch()
            world.must(SYSTEM, "Stake", "end_epoch")
            self.check_churn(weights)
            self.check_sets()
        elif model.height > 1:
            rows = [index for index in sorted(absent) if index < size]
            model.miss(rows)
            bits = sum(1 << index for index in rows)
            world.must(SYSTEM, "Stake", "on_attendance", bits, b"")
        self.steps += 1
        self.check()

    def restart(self, keep: set[int]) -> None:
        """A block in which those rows of the set go on alone; none where an epoch would end in it."""
        model = self.model
        names = {row for index, (row, _) in enumerate(model.sets[model.epoch]) if index in keep}
        model.height += 1
        is_over, model.height = model.is_over(), model.height - 1
        if not names or is_over or len(self.domain.restarts) == MAX_RESTARTS:
            return
        document = bytes([len(self.domain.restarts) + 1]) * 32
        self.domain = ChainDomain(CHAIN_ID, GENESIS_HASH, (*self.domain.restarts, (model.height, document)))
        model.height += 1
        self.world.begin_block(0)
        model.restart(names)
        self.world.must(SYSTEM, "Stake", "on_restart", document, sorted(names))
        self.steps += 1
        self.check()
        self.check_sets()

    # ------------------------------------------------ what always holds

    def check(self) -> None:
        """After each call and block: no coin is made or lost, and each sum is that of its rows."""
        model, number = self.model, self.world.number
        bonds = model.bonds.values()
        totals = {
            "total_staked": sum(bond.stake for bond in bonds),
            "total_unbonding": sum(bond.leaving + bond.held for bond in bonds),
            "total_rewards": sum(row.reward for row in model.accounts.values()) + model.shared,
            "burned": model.burned,
        }
        for name, value in totals.items():
            assert number("Stake", name) == value, name
        assert self.world.balance(STAKE) == sum(totals.values()) == model.received - model.paid

    def check_rows(self) -> None:
        """Each account and each bond: nobody has changed what is another's, nor when it is free."""
        model, world = self.model, self.world
        for who, row in model.accounts.items():
            values = {
                "weight_of": row.weight, "jailed_until": row.jailed_until, "tombstoned_at": row.tombstoned_at,
                "reward_of": row.reward, "staked_with": model.staked_with(who), "leaving_with": model.leaving_with(who),
            }  # fmt: skip
            for name, value in values.items():
                assert world.number("Stake", name, who) == value, (name, who)
        for (who, owner), bond in model.bonds.items():
            if bond != Bond():
                self.check_bond(who, owner, bond)

    def check_bond(self, who: bytes, owner: bytes, bond: Bond) -> None:
        model, stored = self.model, self.world.stored
        assert stored("Stake", "delegation_of", who, owner) == (bond.stake, bond.leaving + bond.held), (who, owner)
        earned = 0 if who == owner else bond.earned // ONE
        assert stored("Stake", "delegation_reward_of", who, owner) == earned
        if bond.leaving + bond.held:
            free_at = model.release_at(who, owner)
            known = stored("Stake", "delegation_release_at", who, owner)
            is_same = free_at == known or (free_at is None and known == NEVER)
            assert is_same or max(free_at or 0, known) <= model.now

    def check_sets(self) -> None:
        """A vote weighs what the snapshot gave, of this epoch, the next one and the one before."""
        model, stored = self.model, self.world.stored
        assert stored("Stake", "epoch") == model.epoch
        for epoch in range(max(0, model.epoch - 1), model.epoch + 2):
            rows = stored("Stake", "validators_of", epoch)
            assert [(row["account"], row["weight"]) for row in rows] == model.sets[epoch]
            assert rows, "a set is never empty"
            assert stored("Stake", "total_weight_of", epoch) == sum(row["weight"] for row in rows)
            if epoch >= model.epoch:
                assert all(row["vrf_key"] == model.of(row["account"]).vrf_key for row in rows)

    def check_churn(self, before: dict[bytes, int]) -> None:
        after = {who: self.model.of(who).weight for who in self.model.accounts}
        changes = [abs(after[who] - before.get(who, 0)) for who in after if after[who] != before.get(who, 0)]
        assert len(changes) <= 1 or sum(changes) <= sum(before.values()) // 10

    # ------------------------------------------------ the end

    def everybody_gets_out(self, order: Callable[[list[Any]], None]) -> None:
        """From here, whatever is here: each unit that no penalty took is paid to its owner, by calls of its own.

        `order` shuffles who goes first.
        """
        model = self.model
        self.turn_hostile(b"")
        self.bring_anchor()
        bonds = [pair for pair in model.bonds if pair[1] != ANCHOR]
        order(bonds)
        for where, owner in bonds:
            if amount := model.bond_of(where, owner).stake:
                call = ("unbond", amount) if where == owner else ("undelegate", where, amount)
                assert self.both(owner, *call, model=lambda w=where, o=owner, a=amount: model.unbond(w, o, a))
        for _ in range(80):
            if not model.total_leaving():
                break
            self.block(45)
            for where, owner in bonds:
                self.take_out(where, owner)
        assert not model.total_leaving(), "nobody is kept in for ever"
        for where, owner in bonds:
            self.both(owner, "claim_delegation", where, model=lambda w=where, o=owner: model.claim_delegation(w, o))
        for who in PEOPLE:
            self.both(who, "claim_reward", model=lambda w=who: model.claim(w))
        world, staked = self.world, model.staked_with(ANCHOR)
        dust = world.view("Stake", "total_rewards")  # parts of units, of each bond less than one
        assert dust <= len(model.bonds) + model.share_count
        assert world.balance(STAKE) == staked + world.view("Stake", "burned") + dust

    def bring_anchor(self) -> None:
        model = self.model
        stake = 4 * (sum(model.staked_with(who) for who in PEOPLE) + 40 * ETHER)
        self.world.state.set_balance(ANCHOR, stake)
        for voter, _ in model.sets[model.epoch]:
            self.both(voter, "admit", ANCHOR, stake, model=lambda v=voter: model.admit(v, ANCHOR, stake))
        key = b"a" * 32
        self.both(ANCHOR, "bond_validator", key, value=stake, model=lambda: model.bond(ANCHOR, stake, key))

    def take_out(self, where: bytes, owner: bytes) -> None:
        bond, free_at = self.model.bond_of(where, owner), self.model.release_at(where, owner)
        if bond.leaving + bond.held and free_at is not None and free_at <= self.model.now:
            call = ("withdraw",) if where == owner else ("withdraw_delegation", where)
            assert self.both(owner, *call, model=lambda: self.model.withdraw(where, owner))

    def logs(self) -> list[tuple[str, dict[str, Any]]]:
        self.replay.feed()
        return self.replay.logs["Stake"]

    def reached(self) -> Counter[str]:
        """What happened, by the contract's own logs."""
        found = Counter(self.found)
        for name, log in self.logs():
            found[name] += 1
            found["delegator slashed"] += name == "Slashed" and log["account"] != log["owner"]
        return found + Counter({"examples": 1, "calls and blocks": self.steps})
