"""An indexer of the delegation contract: each pool and each place in it, from events alone.

Of the board it needs what the board's own events say: the phase of a task, and the height of its last close.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from board_replay_support import BoardIndex, Log, nested
from contracts_support import ENDED

ONE, MASK = 1 << 128, (1 << 128) - 1
Row = defaultdict[str, Any]


class DelegationIndex:
    def __init__(self, board: BoardIndex) -> None:
        self.board = board
        self.height = self.now = 0
        self.terms, self.stands = nested(), nested()
        self.pools: Any = defaultdict(nested)  # by era
        self.places: Any = defaultdict(nested)
        self.exits: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        self.parts: Any = defaultdict(nested)
        self.growths: Any = defaultdict(nested)
        self.held: Any = nested()
        self.total_delegated = self.total_unbonding = self.burned = 0

    def feed(self, name: str, log: Log) -> None:
        handler: Callable[[int, bytes, Log], None] = getattr(self, f"on_{name}")
        handler(log["task"], log["account"], log)

    def variables(self) -> dict[str, Any]:
        pools = ("terms", "stands", "pools", "places", "exits", "parts", "growths", "held")
        own = ("total_delegated", "total_unbonding", "burned")
        return {f"pools.{name}": getattr(self, name) for name in pools} | {name: getattr(self, name) for name in own}

    # ------------------------------------------------ pools

    def pool(self, task: int, who: bytes) -> Row:
        found: Row = self.pools[task][who][self.stands[task][who]["era"]]
        return found

    def _change(self, task: int, who: bytes) -> None:
        """What weighed at the last close is remembered; called when the pool has changed."""
        stand = self.stands[task][who]
        if stand["changed_height"] <= self.board.tasks[task]["close_height"]:
            stand.update(before=stand["active"], changed_height=self.height)
        self._weigh(task, who)

    def _weigh(self, task: int, who: bytes) -> None:
        pool = self.pool(task, who)
        units = pool["units"]
        self.stands[task][who]["active"] = pool["stake"] * (units - pool["leaving"]) // units if units else 0

    def on_TermsSet(self, task: int, who: bytes, log: Log) -> None:
        terms, now = self.terms[task][who], self.now
        present = terms["next_commission"] if now >= terms["next_at"] else terms["commission"]
        terms.update(is_set=True, limit=log["limit"], commission=present)
        terms.update(next_commission=log["commission"], next_at=log["at"])

    def on_Slashed(self, task: int, who: bytes, log: Log) -> None:
        pool = self.pool(task, who)
        assert log["amount"] <= pool["stake"], "slashed more than what was bonded then"
        pool["stake"] -= log["amount"]
        self._weigh(task, who)
        self.stands[task][who]["before"] = log["weighed"]
        self.stands[task][who]["era"] += pool["stake"] == 0  # what comes later is another pool
        self.total_delegated -= log["amount"]
        self.burned += log["amount"]

    def on_Closed(self, task: int, who: bytes, log: Log) -> None:
        pool, era = self.pool(task, who), self.stands[task][who]["era"]
        assert pool["stake"] == log["amount"]
        pool["release_at"] = log["release_at"]
        self.stands[task][who].clear()
        self.stands[task][who]["era"] = era + 1
        self.total_delegated -= log["amount"]
        self.total_unbonding += log["amount"]

    def on_Seated(self, task: int, who: bytes, log: Log) -> None:
        self.parts[task][log["round"]][who]["seat"] = log["part"]

    def on_Credited(self, task: int, who: bytes, log: Log) -> None:
        pool, growth = self.pool(task, who), {"pay": log["growth"], "seat": log["seat_growth"]}
        fresh = pool["fresh"] & MASK if pool["fresh"] >> 128 == log["round"] else 0
        earning = pool["units"] - pool["leaving"] - fresh
        self.parts[task][log["round"]][who].update({name: -(-part * earning // ONE) for name, part in growth.items()})
        pool["index"] += log["growth"]
        pool["seat_index"] += log["seat_growth"]
        if fresh:
            self.growths[task][log["round"]][who].update(growth)

    def on_Held(self, task: int, who: bytes, log: Log) -> None:
        self.held[task][log["round"]][who] = log["amount"]

    # ------------------------------------------------ places

    def _settle(self, task: int, who: bytes, owner: bytes) -> Row:
        """As the owner's own call does: its part of all pay so far, and what a closed pool has left it."""
        place, era = self.places[task][who][owner], self.stands[task][who]["era"]
        if place["units"]:
            pool = self.pools[task][who][place["era"]]
            self._earn(task, who, place, pool)
            if place["era"] < era:
                taken = pool["stake"] * place["units"] // pool["units"]
                pool["units"] -= place["units"]
                pool["stake"] -= taken
                place["units"] = 0
                self._unbond(task, who, owner, taken, pool["release_at"])
        if place["units"] == 0:
            pool = self.pools[task][who][era]
            place.update(leaving=0, fresh=0, era=era, index=pool["index"], seat_index=pool["seat_index"])
        found: Row = place
        return found

    def _earn(self, task: int, who: bytes, place: Row, pool: Row) -> None:
        fresh, missed = place["fresh"] & MASK, self.growths[task][place["fresh"] >> 128][who]
        kept = place["units"] - place["leaving"]
        pay, seat = pool["index"] - place["index"], pool["seat_index"] - place["seat_index"]
        earned = place["fraction"] + kept * pay - fresh * missed["pay"]
        place["seats"] += kept * seat - fresh * missed["seat"]
        place["earned"] += earned // ONE
        place.update(fraction=earned % ONE, index=pool["index"], seat_index=pool["seat_index"])
        if missed["seat"]:
            place["fresh"] = 0

    def _unbond(self, task: int, who: bytes, owner: bytes, amount: int, release_at: int) -> None:
        if amount:
            self.exits[task][who][owner].append(release_at << 128 | amount)

    def on_Delegated(self, task: int, who: bytes, log: Log) -> None:
        place, pool = self._settle(task, who, log["owner"]), self.pool(task, who)
        pool["stake"] += log["amount"]
        for row in (pool, place):
            row["units"] += log["units"]
            if number := log["fresh_round"]:
                before = row["fresh"] & MASK if row["fresh"] >> 128 == number else 0
                row["fresh"] = number << 128 | before + log["units"]
        self._change(task, who)
        self.total_delegated += log["amount"]

    def on_LeaveAsked(self, task: int, who: bytes, log: Log) -> None:
        place, pool = self._settle(task, who, log["owner"]), self.pool(task, who)
        fresh = min(place["fresh"] & MASK, log["units"])  # the last to come are the first to go
        if pool["fresh"] >> 128 == place["fresh"] >> 128:
            pool["fresh"] -= fresh
        place["fresh"] -= fresh
        place["leaving"] += log["units"]
        pool["leaving"] += log["units"]
        place.update(asked_round=log["round"], asked_audits=log["audits"])
        self._change(task, who)

    def on_Left(self, task: int, who: bytes, log: Log) -> None:
        place, pool = self._settle(task, who, log["owner"]), self.pool(task, who)
        units = place["leaving"]
        assert log["amount"] == pool["stake"] * units // pool["units"]
        pool["stake"] -= log["amount"]
        pool["units"] -= units
        pool["leaving"] -= units
        place["units"] -= units
        place["leaving"] = 0
        self._unbond(task, who, log["owner"], log["amount"], log["release_at"])
        self._change(task, who)
        self.total_delegated -= log["amount"]
        self.total_unbonding += log["amount"]

    def on_Withdrawn(self, task: int, who: bytes, log: Log) -> None:
        self._settle(task, who, log["owner"])
        exits = self.exits[task][who][log["owner"]]
        waiting = [one for one in exits if one >> 128 > self.now]
        assert log["amount"] == sum(one & MASK for one in exits) - sum(one & MASK for one in waiting)
        self.exits[task][who][log["owner"]] = waiting
        self.total_unbonding -= log["amount"]

    def on_Claimed(self, task: int, who: bytes, log: Log) -> None:
        place = self._settle(task, who, log["owner"])
        place["earned"] = 0
        if self.board.tasks[task]["phase"] == ENDED:
            place["seats"] = 0
        self.board.on_delegation_claimed(log)
