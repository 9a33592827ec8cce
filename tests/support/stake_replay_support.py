"""An indexer of the staking contract: what it stores, variable by variable, from genesis and events alone."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from board_replay_support import Log, Row, nested, rows
from eth_abi import encode

from flock_chain.crypto import keccak256

ONE, RING, WINDOW, MAX_CANDIDATES = 10**18, 4, 100, 300
HALF = (1 << 128) - 1


class StakeIndex:
    def __init__(self, numbers: dict[str, Any], founders: list[tuple[bytes, int, bytes]], now: int) -> None:
        """`numbers`: as `initialize` names them; `founders`: account, stake, key."""
        self.height, self.now = 0, now
        self.numbers = numbers
        self.candidates = [who for who, _, _ in founders]
        self.is_candidate = defaultdict(bool, dict.fromkeys(self.candidates, True))
        self.bonds = nested()
        for who, stake, _ in founders:
            self.bonds[who][who]["stake"] = stake
        stakes = {who: stake for who, stake, _ in founders}
        self.staked_with, self.allowance_of, self.weight_of, self.peak_weight_of = (
            defaultdict(int, stakes) for _ in range(4)
        )
        self.vrf_key: dict[bytes, bytes] = {who: key for who, _, key in founders}
        self.leaving_with, self.batch_of, self.batch_count, self.again_from, self.again_batch = (
            defaultdict[bytes, int](int) for _ in range(5)
        )
        self.last_epoch_of, self.jailed_until, self.tombstoned_at, self.history, self.ballot_of = (
            defaultdict[bytes, int](int) for _ in range(5)
        )
        self.index_of, self.reward_of = defaultdict[bytes, int](int), defaultdict[bytes, int](int)
        self.batch_last, self.approved_at, self.terms = rows(), rows(), rows()
        self.reporter_of: dict[bytes, bytes] = {}
        self.offences: dict[int, Log] = {}
        self.restarts, self.restart_hashes = list[int](), list[bytes]()
        self.total_staked, self.total_unbonding, self.total_rewards, self.burned = sum(stakes.values()), 0, 0, 0
        self.epoch, self.started_at, self.first_height_of, self.ended_at = 0, now, {0: 1}, dict[int, int]()
        self.sets = {epoch: [_word(who, stake) for who, stake in stakes.items()] for epoch in (0, 1)}
        self.total_weight_of = dict.fromkeys((0, 1), self.total_staked)

    def feed(self, name: str, log: Log) -> None:
        handler: Callable[[Log], None] = getattr(self, f"on_{name}")
        handler(log)

    def variables(self) -> dict[str, Any]:
        """As the sources name them, with the module."""
        places = {
            "stakes": (
                "candidates", "is_candidate", "bonds", "staked_with", "leaving_with", "batch_of", "batch_count",
                "batch_last", "again_from", "again_batch", "allowance_of", "weight_of", "peak_weight_of", "vrf_key",
                "last_epoch_of", "jailed_until", "tombstoned_at", "total_staked", "total_unbonding", "total_rewards",
                "burned",
            ),
            "epochs": ("epoch", "started_at", "first_height_of", "ended_at", "total_weight_of", "sets"),
            "absence": ("history",), "admission": ("ballot_of", "approved_at"),
            "evidence": ("restarts", "restart_hashes", "offences", "reporter_of"),
            "rewards": ("terms", "index_of", "reward_of"),
        }  # fmt: skip
        numbers = {
            "stakes": ("min_validator_stake", "unbonding_delay", "open_staking"),
            "epochs": ("epoch_blocks", "epoch_seconds"), "absence": ("jail_delay", "absence_limit"),
            "evidence": ("evidence_window", "genesis_hash"),
        }  # fmt: skip
        found = {f"{module}.{name}": getattr(self, name) for module, names in places.items() for name in names}
        found |= {f"{module}.{name}": self.numbers[name] for module, names in numbers.items() for name in names}
        return found | {"stakes.initialized": True, "evidence.offence_count": len(self.offences)}

    # ------------------------------------------------ bonds

    def on_KeySet(self, log: Log) -> None:
        self.vrf_key[log["account"]] = log["vrf_key"]

    def on_Bonded(self, log: Log) -> None:
        who, owner = log["account"], log["owner"]
        self.bonds[who][owner]["stake"] = log["stake"]
        self.staked_with[who] += log["amount"]
        self.total_staked += log["amount"]
        if who == owner:
            self._enlist(who)

    def on_Unbonding(self, log: Log) -> None:
        who, bond = log["account"], self.bonds[log["account"]][log["owner"]]
        bond.update(stake=log["stake"], since=self.now, batch=log["batch"], last=log["last"])
        bond["leaving"] += log["amount"]
        self._take_leave(who, log["amount"])
        if log["batch"]:
            self._open_batch(who)

    def _take_leave(self, who: bytes, amount: int) -> None:
        self.staked_with[who] -= amount
        self.leaving_with[who] += amount
        self.total_staked -= amount
        self.total_unbonding += amount

    def _take_out(self, who: bytes, amount: int) -> None:
        self.leaving_with[who] -= amount
        self.total_unbonding -= amount

    def on_Withdrawn(self, log: Log) -> None:
        bond = self.bonds[log["account"]][log["owner"]]
        assert bond["leaving"] == log["amount"]
        bond["leaving"] = 0
        self._take_out(log["account"], log["amount"])

    def _open_batch(self, who: bytes) -> int:
        if not self.batch_of[who]:
            self.batch_count[who] += 1
            self.batch_of[who] = self.batch_count[who]
        return self.batch_of[who]

    def _close_batch(self, who: bytes, last: int) -> None:
        if self.batch_of[who] and self.weight_of[who] <= self.staked_with[who]:
            self.batch_last[who][self.batch_of[who]] = last
            self.batch_of[who] = 0

    # ------------------------------------------------ offences

    def on_Convicted(self, log: Log) -> None:
        who = log["account"]
        self.tombstoned_at[who] = self.now
        self._take_leave(who, self.staked_with[who])
        self.offences[len(self.offences)] = {"at": self.now, "shares": log["shares"]}
        self.reporter_of[who] = log["reporter"]

    def on_Slashed(self, log: Log) -> None:
        who, bond = log["account"], self.bonds[log["account"]][log["owner"]]
        at_risk = bond["stake"] + bond["leaving"]
        assert self.tombstoned_at[who] and log["reward"] <= log["amount"] <= at_risk, "slashed more than was there"
        bond.update(is_settled=True, leaving=at_risk - log["amount"], stake=0)
        self._take_out(who, log["amount"])
        self.burned += log["amount"] - log["reward"]
        self.reward_of[self.reporter_of[who]] += log["reward"]
        self.total_rewards += log["reward"]

    # ------------------------------------------------ rewards

    def on_TermsSet(self, log: Log) -> None:
        terms: Row = self.terms[log["account"]]
        present = terms["next_commission"] if self.now >= terms["next_at"] else terms["commission"]
        terms.update(is_set=True, limit=log["limit"], commission=present)
        terms.update(next_commission=log["commission"], next_at=log["at"])

    def on_Accrued(self, log: Log) -> None:
        bond, index = self.bonds[log["account"]][log["owner"]], self.index_of[log["account"]]
        earned = bond["fraction"] + bond["stake"] * (index - bond["index"])
        assert earned // ONE == log["amount"]
        bond.update(index=index, fraction=earned % ONE)
        self.reward_of[log["owner"]] += log["amount"]

    def on_Shared(self, log: Log) -> None:
        self.index_of[log["account"]] += log["growth"]
        self.reward_of[log["account"]] += log["amount"] - log["delegators"]
        self.total_rewards += log["amount"]

    def on_Rewarded(self, log: Log) -> None:
        assert self.reward_of.pop(log["account"]) == log["amount"]
        self.total_rewards -= log["amount"]

    # ------------------------------------------------ who may come, and who was away

    def _target(self, who: bytes) -> int:
        least: int = self.numbers["min_validator_stake"]
        if self.jailed_until[who] or self.tombstoned_at[who] or self.bonds[who][who]["stake"] < least:
            return 0
        weight = self.staked_with[who]
        weight = weight if self.numbers["open_staking"] else min(weight, self.allowance_of[who])
        return weight if weight >= least else 0

    def _enlist(self, who: bytes) -> None:
        """In a full list it takes the place of the first that waits with the least."""
        if self.is_candidate[who] or not self._target(who):
            return
        if len(self.candidates) < MAX_CANDIDATES:
            self.candidates.append(who)
        else:
            waiting = [other for other in self.candidates if not self.weight_of[other]]
            least = min(waiting, key=self._target)
            self.candidates[self.candidates.index(least)] = who
            self.is_candidate[least] = False
        self.is_candidate[who] = True

    def on_Approved(self, log: Log) -> None:
        choice = log["account"], log["weight"], self.ballot_of[log["account"]]
        ballot = keccak256(encode(["address", "uint256", "uint256"], choice))
        self.approved_at[ballot][log["voter"]] = self.now

    def on_Admitted(self, log: Log) -> None:
        self.ballot_of[log["account"]] += 1
        self.allowance_of[log["account"]] = log["weight"]
        self._enlist(log["account"])

    def on_Jailed(self, log: Log) -> None:
        self.jailed_until[log["account"]] = log["until"]

    def on_Unjailed(self, log: Log) -> None:
        self.jailed_until[log["account"]] = self.history[log["account"]] = 0
        self._enlist(log["account"])

    def on_Missed(self, log: Log) -> None:
        height = log["height"]
        is_new = height >= self.first_height_of[self.epoch]
        for index, row in enumerate(self.sets[(self.epoch if is_new else self.epoch - 1) % RING]):
            if log["absent"] >> index & 1:
                who = _account(row)
                passed, bits = height - (self.history[who] >> 128), self.history[who] & HALF
                bits = (bits << passed | 1) & (1 << WINDOW) - 1 if passed < WINDOW else 1
                self.history[who] = height << 128 | bits

    # ------------------------------------------------ sets

    def on_WeightChanged(self, log: Log) -> None:
        who, weight = log["account"], log["weight"]
        if weight < self.weight_of[who]:
            self.last_epoch_of[who] = log["epoch"] - 1
        self.weight_of[who] = weight
        self.peak_weight_of[who] = max(self.peak_weight_of[who], weight)

    def on_EpochEnded(self, log: Log) -> None:
        ending = log["epoch"]
        for who in self.candidates:
            self._close_batch(who, ending + 1)
        self.sets[(ending + 2) % RING] = [
            _word(who, self.weight_of[who]) for who in self.candidates if self.weight_of[who]
        ]
        kept = [who for who in self.candidates if self.weight_of[who] or self._target(who)]
        for who in self.candidates:
            self.is_candidate[who] = who in kept
        self.candidates = kept
        self.total_weight_of[ending + 2] = log["total"]
        self.ended_at[ending] = self.started_at = log["chain_time"]
        self.epoch, self.first_height_of[ending + 1] = ending + 1, log["height"] + 1

    def on_Restarted(self, log: Log) -> None:
        self.restarts.append(log["height"] - 1)
        self.restart_hashes.append(log["document"])
        kept = [row for row in self.sets[self.epoch % RING] if _account(row) in log["keep"]]
        candidates = [_account(row) for row in kept]
        for row in kept:
            who, weight = _account(row), row >> 160
            if weight > max(self.weight_of[who], self.staked_with[who]):
                self._need_again(who)
            self.weight_of[who] = weight
            self.is_candidate[who] = True
        for who in self.candidates:
            if who in log["keep"]:
                continue
            if self.weight_of[who]:
                self.weight_of[who], self.last_epoch_of[who] = 0, max(self.epoch, 1)
                self.jailed_until[who] = log["jailed_until"]
                self._close_batch(who, max(self.epoch, 1))
            self.is_candidate[who] = self._target(who) > 0 and len(candidates) < MAX_CANDIDATES
            candidates += [who] * self.is_candidate[who]
        self.candidates = candidates
        for epoch in (self.epoch, self.epoch + 1):
            self.sets[epoch % RING] = kept
            self.total_weight_of[epoch] = sum(row >> 160 for row in kept)

    def _need_again(self, who: bytes) -> None:
        closed = self.batch_last[who][self.again_batch[who]]
        if not self.again_batch[who] or 0 < closed < self.epoch:
            self.again_from[who] = self.epoch
        self.again_batch[who] = self._open_batch(who)


def _word(who: bytes, weight: int) -> int:
    return weight << 160 | int.from_bytes(who, "big")


def _account(row: int) -> bytes:
    return (row & (1 << 160) - 1).to_bytes(20, "big")
