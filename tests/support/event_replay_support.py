"""An indexer that knows nothing but the contracts' events, and what the contracts show besides: both must be the same.

Who of a round's voters earned its pay is in no event (but in `round_result`), so of pots, carried coins and pay it
knows the sum alone. A restart of the chain names its members in the system's call, not in events.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from contracts_support import World

Logs = list[tuple[str, dict[str, Any]]]
Pair = tuple[bytes, bytes]


class BoardIndex:
    """One task."""

    def __init__(self) -> None:
        self.bonds: dict[bytes, int] = {}
        self.marks: dict[str, set[bytes]] = {"leaving": set(), "unseated": set(), "suspended": set()}
        self.unbonding: dict[bytes, tuple[int, int]] = {}
        self.burned = self.pool = 0  # pool: the pot, what is carried and what is to be claimed
        self.now, self.adapter, self.version = (0, 0), b"", 1
        self.seats: dict[int, dict[int, list[bytes]]] = defaultdict(lambda: {1: [], 2: []})  # by role
        self.verdicts: dict[tuple[int, bytes], int] = {}

    def feed(self, logs: Logs) -> None:
        for name, log in logs:
            handler = getattr(self, f"on_{name}", None)
            if handler:
                handler(log)

    def on_TaskOpened(self, log: dict[str, Any]) -> None:
        self.pool, self.burned, self.adapter = log["pot"], log["fee"], log["adapter"]

    def on_PhaseChanged(self, log: dict[str, Any]) -> None:
        self.now = log["round"], log["phase"]

    def on_Joined(self, log: dict[str, Any]) -> None:
        self.bonds[log["account"]] = log["bond"]

    def on_LeaveRequested(self, log: dict[str, Any]) -> None:
        self.marks["leaving"].add(log["account"])

    def on_Left(self, log: dict[str, Any]) -> None:
        who = log["account"]
        assert self.bonds.pop(who) == log["amount"]
        self.unbonding[who] = (self.unbonding.get(who, (0, 0))[0] + log["amount"], log["release_at"])
        for marked in self.marks.values():
            marked.discard(who)

    def on_BondWithdrawn(self, log: dict[str, Any]) -> None:
        assert self.unbonding.pop(log["account"])[0] == log["amount"]

    def on_Slashed(self, log: dict[str, Any]) -> None:
        self._take(log)
        self.burned += log["amount"]

    def _take(self, log: dict[str, Any]) -> None:
        assert log["amount"] <= self.bonds[log["account"]], "slashed more than what was bonded then"
        self.bonds[log["account"]] -= log["amount"]

    def on_Carried(self, log: dict[str, Any]) -> None:
        self._take(log)
        self.pool += log["amount"]

    def on_CarriedBurned(self, log: dict[str, Any]) -> None:
        self.pool -= log["amount"]
        self.burned += log["amount"]

    def on_Claimed(self, log: dict[str, Any]) -> None:
        self.pool -= log["amount"]

    on_PotWithdrawn = on_Claimed

    def on_Adopted(self, log: dict[str, Any]) -> None:
        self.adapter = log["adapter"]

    on_FellBack = on_Adopted

    def on_Unseated(self, log: dict[str, Any]) -> None:
        self.marks["unseated"].add(log["account"])

    def on_Rejoined(self, log: dict[str, Any]) -> None:
        self.marks["unseated"].discard(log["account"])

    def on_Audited(self, log: dict[str, Any]) -> None:
        (self.marks["suspended"].add if log["suspended"] else self.marks["suspended"].discard)(log["account"])

    def on_Drawn(self, log: dict[str, Any]) -> None:
        self.seats[log["round"]][log["role"]] = log["accounts"]

    def on_Verdict(self, log: dict[str, Any]) -> None:
        self.verdicts[log["round"], log["account"]] = log["verdict"]

    def on_RulesEnacted(self, log: dict[str, Any]) -> None:
        self.version = log["version"]

    def compare(self, world: World, task: int) -> None:
        rows = world.board("participants", task)
        assert {row["account"]: row["bond"] for row in rows} == self.bonds
        for mark, shown in (("leaving", "leaving_at"), ("unseated", "unseated"), ("suspended", "suspended")):
            assert {row["account"] for row in rows if row[shown]} == self.marks[mark], mark
        for who, (amount, release_at) in self.unbonding.items():
            assert world.board("unbonding", task, who) == {"amount": amount, "release_at": release_at}
        assert world.board("progress", task) == self.now
        assert world.board("task_view", task)["adapter"] == self.adapter
        assert world.board("rules_version") == self.version
        for number, seats in self.seats.items():
            result = world.board("round_result", task, number)
            assert (result["proposers"], result["voters"]) == (seats[1], seats[2])
            assert result["verdicts"] == [self.verdicts.get((number, who), 0) for who in seats[1]]


def compare_sums(world: World, tasks: Sequence[BoardIndex]) -> None:
    """All tasks of the board."""
    assert world.board("total_bonds") == sum(sum(task.bonds.values()) for task in tasks)
    assert world.board("total_unbonding") == sum(amount for task in tasks for amount, _ in task.unbonding.values())
    assert world.board("burned") == sum(task.burned for task in tasks)
    pools = sum(world.board(f"total_{kind}") for kind in ("pots", "carried", "rewards"))
    assert pools == sum(task.pool for task in tasks)


class StakeIndex:
    """`genesis`: what each founder has bonded with itself."""

    def __init__(self, genesis: dict[bytes, int]) -> None:
        self.stakes: dict[Pair, int] = {(who, who): stake for who, stake in genesis.items()}
        self.leaving: dict[Pair, int] = defaultdict(int)
        self.weights = dict(genesis)
        self.convicted: set[bytes] = set()
        self.rewards = self.burned = 0
        self.has_restarted = False

    def feed(self, logs: Logs) -> None:
        for name, log in logs:
            pair = (log.get("account", b""), log.get("owner", b""))
            if name in ("Bonded", "Unbonding"):
                self.stakes[pair] = log["stake"]
                self.leaving[pair] += log["amount"] if name == "Unbonding" else 0
            elif name == "Convicted":
                self.convicted.add(pair[0])
                for bond in [bond for bond in self.stakes if bond[0] == pair[0]]:
                    self.leaving[bond] += self.stakes.pop(bond)
            elif name == "Slashed":
                assert pair[0] in self.convicted and log["reward"] <= log["amount"] <= self.leaving[pair]
                self.leaving[pair] -= log["amount"]
                self.rewards += log["reward"]
                self.burned += log["amount"] - log["reward"]
            elif name == "Withdrawn":
                self.leaving[pair] -= log["amount"]
            elif name in ("Shared", "Rewarded"):
                self.rewards += log["amount"] if name == "Shared" else -log["amount"]
            elif name == "WeightChanged":
                self.weights[pair[0]] = log["weight"]
            self.has_restarted |= name == "Restarted"

    def compare(self, world: World) -> None:
        for validator, owner in {*self.stakes, *self.leaving}:
            shown = world.view("Stake", "delegation_of", validator, owner)
            assert shown == (self.stakes.get((validator, owner), 0), self.leaving[validator, owner])
        totals = (sum(self.stakes.values()), sum(self.leaving.values()), self.rewards, self.burned)
        names = ("total_staked", "total_unbonding", "total_rewards", "burned")
        assert tuple(world.view("Stake", name) for name in names) == totals
        for who in self.convicted:
            assert world.view("Stake", "tombstoned_at", who) > 0
        if not self.has_restarted:
            for who, weight in self.weights.items():
                assert world.view("Stake", "weight_of", who) == weight


class DelegationIndex:
    """One task's pools, from the delegation contract's events alone. What a place has earned is in no event."""

    def __init__(self) -> None:
        self.stakes: dict[bytes, int] = defaultdict(int)  # of each participant's pool
        self.units: dict[bytes, dict[bytes, int]] = defaultdict(dict)  # by delegator
        self.leaving: dict[bytes, dict[bytes, int]] = defaultdict(dict)
        self.closed: dict[bytes, list[tuple[list[int], dict[bytes, int]]]] = defaultdict(list)  # [stake], units
        self.out: dict[Pair, int] = defaultdict(int)  # unbonding, or free
        self.burned = 0

    def feed(self, logs: Logs) -> None:
        for name, log in logs:
            who, owner = log["account"], log.get("owner", b"")
            for stake, units in self.closed[who]:
                if owner in units:  # its own call has made it its own
                    taken = stake[0] * units[owner] // sum(units.values())
                    del units[owner]
                    stake[0] -= taken
                    self.out[who, owner] += taken
            getattr(self, f"on_{name}", lambda *_: None)(who, owner, log)

    def on_Delegated(self, who: bytes, owner: bytes, log: dict[str, Any]) -> None:
        total = sum(self.units[who].values())
        units = log["amount"] * total // self.stakes[who] if total else log["amount"]
        self.units[who][owner] = self.units[who].get(owner, 0) + units
        self.stakes[who] += log["amount"]

    def on_LeaveAsked(self, who: bytes, owner: bytes, log: dict[str, Any]) -> None:
        total, stake = sum(self.units[who].values()), self.stakes[who]
        kept = self.units[who][owner] - self.leaving[who].get(owner, 0)
        units = kept if log["amount"] == stake * kept // total else -(-log["amount"] * total // stake)
        self.leaving[who][owner] = self.leaving[who].get(owner, 0) + units

    def on_Left(self, who: bytes, owner: bytes, log: dict[str, Any]) -> None:
        self.units[who][owner] -= self.leaving[who].pop(owner)
        if self.units[who][owner] == 0:
            del self.units[who][owner]
        self.stakes[who] -= log["amount"]
        self.out[who, owner] += log["amount"]

    def on_Withdrawn(self, who: bytes, owner: bytes, log: dict[str, Any]) -> None:
        self.out[who, owner] -= log["amount"]

    def on_Slashed(self, who: bytes, _owner: bytes, log: dict[str, Any]) -> None:
        self.stakes[who] -= log["amount"]
        self.burned += log["amount"]
        if self.stakes[who] == 0:  # what comes later is another pool
            self.units.pop(who, None)
            self.leaving.pop(who, None)

    def on_Closed(self, who: bytes, _owner: bytes, log: dict[str, Any]) -> None:
        assert log["amount"] == self.stakes.pop(who)
        self.closed[who].append(([log["amount"]], self.units.pop(who)))
        self.leaving.pop(who, None)

    def compare(self, world: World, task: int, pairs: Sequence[Pair]) -> None:
        """`pairs`: participant and delegator."""
        for who, owner in pairs:
            row = world.view("Delegation", "delegation_of", task, who, owner)
            waiting = sum(s[0] * u.get(owner, 0) // max(1, sum(u.values())) for s, u in self.closed[who])
            assert row["unbonding"] + row["free"] == self.out[who, owner] + waiting
            total, leaving = sum(self.units[who].values()), self.leaving[who].get(owner, 0)
            kept = self.units[who].get(owner, 0) - leaving
            assert row["stake"] == (self.stakes[who] * kept // total if total else 0)
            assert row["leaving"] == (self.stakes[who] * leaving // total if total else 0)
        assert world.view("Delegation", "total_delegated") == sum(self.stakes.values())
        assert world.view("Delegation", "burned") == self.burned
