"""Validators' orders about the board's numbers, on a real ledger and the compiled board, with blocks made by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from execution_support import GENESIS_TIME, USERS, VALIDATORS, make_genesis
from set_support import InlineEvm

from flock_chain.board_rules import NAMES
from flock_chain.crypto import Key
from flock_chain.errors import Misuse
from flock_chain.execution.executor import CallReverted
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.transactions import sign_call
from flock_p2p.commands.rules import format_rules
from flock_peers.ledger.ledger import Ledger
from flock_peers.roles.rule_orders import RuleOrders
from flock_peers.roles.sender import Sender

GENESIS = make_genesis()


class Bench:
    """One chain, and the owners of some of its accounts."""

    def __init__(self) -> None:
        self.ledger = Ledger(GENESIS, MemoryStore(), InlineEvm(), VALIDATORS[0], self._clock)  # type: ignore[arg-type]

        self.senders: list[Sender] = []

    def owner(self, key: Key) -> RuleOrders:
        self.senders.append(Sender(key, GENESIS.chain_id, 1, self.ledger, sign_call, self._gossip))
        return RuleOrders(key.account, self.ledger, self.senders[-1])

    def _clock(self) -> float:
        return GENESIS_TIME + trio.current_time()

    async def _gossip(self, raw: bytes) -> None:
        pass

    async def blocks(self, count: int, seconds: float = 1) -> None:
        for _ in range(count):
            await trio.sleep(seconds)
            block = await self.ledger.build(self.ledger.height() + 1, 1)
            await self.ledger.commit(block, b"certificate")
            for sender in self.senders:
                await sender.resend()


def run(test: Callable[[Bench], Any]) -> None:
    async def main() -> None:
        bench = Bench()
        await bench.ledger.start()
        await test(bench)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_serving_set_agrees_on_other_numbers_and_anybody_enacts_them() -> None:
    async def test(bench: Bench) -> None:
        owners = [bench.owner(key) for key in VALIDATORS]
        status = await owners[0].order("status", {})
        assert status["is_member"] and status["next"] is None and status["agreements"] == 0
        wanted = status["rules"] | {"missed_reveal_slash": "250", "rules_delay": "700"}
        for owner in owners:
            assert (await owner.order("approve", {"rules": wanted}))["sent"]
            await bench.blocks(1)
        status = await owners[0].order("status", {})
        assert status["next"] == wanted and status["version"] == 1 and not status["under_way"]
        assert "missed_reveal_slash  100  ->  250" in format_rules(status) and "to enact in" in format_rules(status)
        outsider = bench.owner(USERS[0])
        with pytest.raises(CallReverted, match="not yet"):
            await outsider.order("enact", {})
        while (status := await outsider.order("status", {}))["chain_time"] < status["enact_at"]:
            await bench.blocks(1, 80)
        assert "`rules enact` puts them in force" in format_rules(status)
        assert (await outsider.order("enact", {}))["sent"]
        await bench.blocks(1)
        status = await outsider.order("status", {})
        assert status["rules"] == wanted and status["version"] == 2 and status["next"] is None
        assert "voice      none" in format_rules(status) and not status["is_member"]

    run(test)


def test_what_the_board_would_refuse_is_said_in_its_words_and_not_sent() -> None:
    async def test(bench: Bench) -> None:
        owner, outsider = bench.owner(VALIDATORS[0]), bench.owner(USERS[0])
        rules = (await owner.order("status", {}))["rules"]
        with pytest.raises(CallReverted, match="a slash above the whole bond"):
            await owner.order("approve", {"rules": rules | {"norm_slash": "10001"}})
        with pytest.raises(CallReverted, match="only the serving set"):
            await outsider.order("approve", {"rules": rules})
        with pytest.raises(CallReverted, match="nothing is agreed"):
            await owner.order("enact", {})
        wrong: list[Any] = [[], {}, rules | {"more": "1"}, rules | {"norm_slash": 5}, rules | {"norm_slash": "9" * 78}]
        for rows in wrong:
            with pytest.raises(Misuse):
                await owner.order("approve", {"rules": rows})
        with pytest.raises(Misuse, match="no order 'sing'"):
            await owner.order("sing", {})
        assert set(rules) == set(NAMES) and not (await owner.order("status", {}))["under_way"]

    run(test)
