"""A peer's orders about its tasks, on a real ledger and the compiled board, with blocks made by hand."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from execution_support import ETHER, GENESIS_TIME, USERS, VALIDATORS, make_genesis
from set_support import InlineEvm

from flock_chain.errors import Misuse
from flock_chain.execution.executor import CallReverted
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.transactions import sign_call
from flock_p2p.cli import main
from flock_p2p.commands.task import describe_unpaid, format_delegation, format_list, format_task
from flock_peers.ledger.ledger import Ledger
from flock_peers.left_behind import LeftBehind
from flock_peers.roles.sender import Sender
from flock_peers.roles.task_orders import TaskOrders
from flock_peers.task_list import choose_other, list_tasks, warn_of_bond
from flock_peers.tasks import Terms

LEADER, ME = VALIDATORS[0], USERS[0]
GENESIS = make_genesis()
POT, BOND = 3 * ETHER, 2 * ETHER


class Bench:
    """One chain, and one account that has opened a task, bonded to it, and waits for others who never come."""

    def __init__(self) -> None:
        self.time = 0.0
        self.ledger = Ledger(GENESIS, MemoryStore(), InlineEvm(), LEADER, self._clock)  # type: ignore[arg-type]
        self.sender = Sender(ME, GENESIS.chain_id, 1, self.ledger, sign_call, self._gossip)
        self.left: list[int] = []
        self.orders = TaskOrders(ME.account, self.ledger, self.sender, self.left.append)

    def _clock(self) -> float:
        return GENESIS_TIME + trio.current_time()

    async def _gossip(self, raw: bytes) -> None:
        pass

    async def blocks(self, count: int, seconds: float = 1) -> None:
        for _ in range(count):
            await trio.sleep(seconds)
            block = await self.ledger.build(self.ledger.height() + 1, 1)
            await self.ledger.commit(block, b"certificate")

    async def open(self) -> None:
        await self.ledger.start()
        terms = asdict(Terms(min_bond=ETHER, wait_seconds=300))
        fee = await self.ledger.view("TaskBoard", "opening_fee")
        await self.sender.call("open", "TaskBoard", "open_task", b"d" * 32, b"a" * 32, terms, value=POT + fee)
        await self.blocks(1)
        await self.sender.call("join", "TaskBoard", "join_task", 1, b"domain".ljust(32), value=BOND)
        await self.blocks(1)

    async def order(self, action: str, **params: Any) -> dict[str, Any]:
        return await self.orders.order(action, params)


def run(test: Callable[[Bench], Any]) -> None:
    async def main() -> None:
        bench = Bench()
        await bench.open()
        await test(bench)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_bond_and_a_pot_come_back_by_orders_alone() -> None:
    async def test(bench: Bench) -> None:
        row = await bench.order("status")
        assert (row["task"], row["bond"], row["pot"], row["is_creator"]) == (1, str(BOND), str(POT), True)
        assert (await bench.order("leave"))["sent"] and bench.left == [1]
        await bench.blocks(1)
        row = await bench.order("status")
        assert (row["bond"], row["unbonding"]) == ("0", str(BOND))
        with pytest.raises(CallReverted, match="still unbonding"):
            await bench.order("withdraw")
        with pytest.raises(CallReverted, match="the task has not ended"):
            await bench.order("pot")
        await bench.blocks(9, 80)
        found, stranger = LeftBehind(ME.account, bench.ledger), LeftBehind(USERS[1].account, bench.ledger)
        await found.step()
        await stranger.step()
        (left,) = found.rows()
        assert (left["unbonding"], left["pot"], stranger.rows()) == (str(BOND), str(POT), [])
        before = await bench.ledger.balance(ME.account)
        assert (await bench.order("withdraw"))["sent"] and (await bench.order("pot"))["sent"]
        await bench.blocks(1)
        assert 0 < before + BOND + POT - await bench.ledger.balance(ME.account) < ETHER // 1_000  # but for gas
        row = await bench.order("status")
        assert (row["phase"], row["unbonding"], row["pot"]) == ("ENDED", "0", "0")
        await found.step()
        assert found.rows() == []

    run(test)


def test_an_order_without_a_task_is_for_the_newest_in_which_there_is_something_to_order() -> None:
    async def test(bench: Bench) -> None:
        fee = await bench.ledger.view("TaskBoard", "opening_fee")
        terms = asdict(Terms(min_bond=ETHER))
        await bench.sender.call("again", "TaskBoard", "open_task", b"e" * 32, b"a" * 32, terms, value=POT + fee)
        await bench.blocks(1)
        assert (await bench.order("status"))["task"] == 2  # it opened that one, and has no bond there
        assert (await bench.order("leave"))["task"] == 1 and bench.left == [1]
        await bench.blocks(9, 80)  # the first gives up waiting, the second waits on
        assert [(await bench.order("status", task=task))["phase"] for task in (1, 2)] == ["ENDED", "WAITING"]
        assert [(await bench.order(action))["task"] for action in ("withdraw", "pot")] == [1, 1]
        await bench.blocks(1)
        with pytest.raises(CallReverted, match="guaranteed rounds are left"):
            await bench.order("stop")
        with pytest.raises(CallReverted, match="no participant"):
            await bench.order("leave")  # nothing is left that could be meant

    run(test)


def test_a_delegator_bonds_with_a_participant_and_leaves_by_orders_alone() -> None:
    async def test(bench: Bench) -> None:
        other = Sender(USERS[1], GENESIS.chain_id, 1, bench.ledger, sign_call, bench._gossip)
        delegator = TaskOrders(USERS[1].account, bench.ledger, other, bench.left.append)
        where = {"account": "0x" + ME.account.hex()}
        assert (await bench.order("terms", commission=500, amount=str(5 * ETHER)))["sent"]
        await bench.blocks(1)
        with pytest.raises(CallReverted, match="takes no more"):
            await delegator.order("delegate", where | {"amount": str(5 * ETHER + 1)})
        assert (await delegator.order("delegate", where | {"amount": str(3 * ETHER)}))["sent"]
        await bench.blocks(1)
        text = format_task(await delegator.order("status", where))
        assert "bonded     3 coins with it, 0 more leaving" in text and "room for 2 coins" in text
        assert "own bond is 2 coins" in text and "keeps 5.00 %" in text
        assert "3 coins of others, bonded with this account" in format_task(await bench.order("status"))
        assert (await delegator.order("undelegate", where | {"amount": str(ETHER)}))["sent"]
        await bench.blocks(1)
        assert (await delegator.order("undelegate", where))["sent"]  # all that is left
        await bench.blocks(1)
        row = (await delegator.order("status", where))["delegation"]
        assert (row["stake"], row["leaving"], row["unbonding"]) == ("0", "0", str(3 * ETHER))
        with pytest.raises(CallReverted, match="still unbonding"):
            await delegator.order("withdraw-delegation", where)
        with pytest.raises(CallReverted, match="nothing to claim"):
            await delegator.order("claim-delegation", where)
        await bench.blocks(9, 80)
        before = await bench.ledger.balance(USERS[1].account)
        assert (await delegator.order("withdraw-delegation", where))["sent"]
        await bench.blocks(1)
        assert 0 < before + 3 * ETHER - await bench.ledger.balance(USERS[1].account) < ETHER // 1_000
        assert not bench.left

    run(test)


def test_what_a_delegation_is_printed_like() -> None:
    offer = {"commission": 1_000, "next_commission": 2_500, "next_at": 130, "limit": "0", "pool": "0", "room": "0"}
    row = {"participant": "0xab", "bond": "1", "stake": "0", "leaving": str(ETHER), "unbonding": str(ETHER)}
    row |= {"earned": "0", "free": "0", "is_out": False, "release_at": 110, "offer": offer}  # type: ignore[dict-item]
    text = "\n".join(format_delegation(row, 100))
    assert "what is leaving can still be slashed" in text and "1 coin, the first free in 10 s" in text
    assert "10.00 %" in text and "25.00 %, in 30 s" in text
    text = "\n".join(format_delegation(row | {"is_out": True, "unbonding": "0", "free": str(2 * ETHER)}, 200))
    assert "`task undelegate` lets it unbond now" in text and "unbonding" not in text
    assert "2 coins; `task withdraw-delegation` pays them out" in text


@pytest.mark.parametrize("arguments", [
    ["delegate", "--amount", "5"], ["delegate", "--account", "22" * 20], ["undelegate"], ["terms", "--amount", "5"],
    ["terms", "--commission", "5"], ["leave", "--amount", "5"], ["claim", "--account", "22" * 20],
    ["delegate", "--account", "22" * 20, "--amount", "5", "--commission", "1"],
])  # fmt: skip
def test_options_that_an_action_does_not_take_or_lacks_are_refused(arguments: list[str], tmp_path: Path) -> None:
    assert main(["task", *arguments, "--home", str(tmp_path)]) == 2


def test_what_cannot_be_ordered_is_said_and_nothing_is_sent() -> None:
    async def test(bench: Bench) -> None:
        for action, params, reason in (
            ("status", {"task": 2}, "there is no task 2; 1 have been opened"),
            ("status", {"task": "1"}, "there is no task 1"),
            ("sing", {}, "no order 'sing'"),
        ):
            with pytest.raises(Misuse, match=reason):
                await bench.order(action, **params)
        with pytest.raises(CallReverted, match="guaranteed rounds are left"):
            await bench.order("stop")
        assert (await bench.order("claim"))["sent"] == 0 and not bench.left

    run(test)


def test_a_status_says_what_is_left_and_when_it_can_be_had() -> None:
    async def test(bench: Bench) -> None:
        text = format_task(await bench.order("status"))
        assert "bond       2 coins\n" in text and f", round 1 of {Terms().rounds}, " in text
        await bench.order("leave")
        await bench.blocks(1)
        text = format_task(await bench.order("status"))
        assert "unbonding  2 coins" in text and "s of chain time" in text and "pot        3 coins left" in text

    run(test)
    row = {"task": 1, "round": 3, "phase": "COMMIT", "pot": "0", "is_creator": False, "bond": "1", "claimable": "0"}
    row |= {"rounds": 2, "is_leaving": False, "is_unseated": True, "missed": 3, "unbonding": "0"}
    row |= {"delegated": {"pool": "0", "limit": "0"}}
    assert "takes it back when" in format_task(row | {"phase": "ENDED"}) and "takes it" not in format_task(row)
    assert "takes it" not in format_task(row | {"phase": "ENDED", "bond": "0"})
    assert "task       1, extra round 1 after 2, COMMIT\n" in format_task(row)
    mine, back = row | {"is_creator": True, "pot": str(3 * ETHER)}, "; `task pot` takes them back"
    assert format_task(mine).endswith(f"\npot        3 coins left{back} when the task has ended")
    assert format_task(mine | {"phase": "ENDED"}).endswith(f"\npot        3 coins left{back}")
    assert format_task(mine | {"phase": "ENDED", "pot": "0"}).endswith("\npot        0 coins left")
    assert "absent for too long" in format_task(row) and "3 seats in a row" in format_task(row)


def test_a_peer_that_looks_on_shows_the_task_in_which_its_account_is_bonded_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(bench: Bench) -> None:
        fee = await bench.ledger.view("TaskBoard", "opening_fee")
        terms = asdict(Terms(min_bond=ETHER))
        await bench.sender.call("again", "TaskBoard", "open_task", b"e" * 32, b"a" * 32, terms, value=POT + fee)
        await bench.blocks(1)
        row = await choose_other(bench.ledger, ME.account)
        assert row is not None and (row["task"], row["count"], row["bond"]) == (1, 2, str(BOND))
        other = await choose_other(bench.ledger, USERS[1].account)
        assert other is not None and (other["task"], other["bond"]) == (2, "0")  # the newest that runs
        await warn_of_bond(bench.ledger, USERS[1].account)
        assert not caplog.records
        await warn_of_bond(bench.ledger, ME.account)
        (said,) = caplog.records
        assert said.levelname == "WARNING" and said.getMessage().startswith(
            "this account is bonded in task 1, in which"
        )
        await bench.order("leave")
        await bench.blocks(1)
        left = await choose_other(bench.ledger, ME.account)
        assert left is not None and left["bond"] == "0"

    run(test)


def test_who_lowers_the_number_that_a_task_waits_for_is_told_what_such_rounds_pay() -> None:
    assert describe_unpaid({}, 1) == describe_unpaid({"terms": {"rounds": 9, "min_participants": 4}}, 1) == []
    (line,) = describe_unpaid({"terms": {"min_participants": 3}}, 1)
    assert line == "pay        none in rounds with fewer than 4 participants, and this has them from 3 on"


def test_the_tasks_of_the_board_are_listed_the_newest_first_and_no_more_than_asked_for() -> None:
    async def run() -> dict[str, Any]:
        bench = Bench()
        await bench.ledger.start()
        none = await list_tasks(bench.ledger)
        assert "no task was opened" in format_list(none)
        bench = Bench()
        await bench.open()
        fee = await bench.ledger.view("TaskBoard", "opening_fee")
        terms = asdict(Terms(rounds=7, min_bond=ETHER))
        await bench.sender.call("again", "TaskBoard", "open_task", b"e" * 32, b"a" * 32, terms, value=POT + fee)
        await bench.blocks(1)
        found = await list_tasks(bench.ledger)
        assert [row["task"] for row in found["tasks"]] == [2, 1] and found["count"] == 2
        assert [row["task"] for row in (await list_tasks(bench.ledger, last=1))["tasks"]] == [2]
        return found

    found = trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    newest, oldest = found["tasks"]
    assert newest["creator"] == "0x" + ME.account.hex() and newest["rounds"] == 7 and newest["pot"] == str(POT)
    assert oldest["participants"] == 1 and oldest["phase"] == "WAITING" and not oldest["is_ended"]
    assert "2     0 of 7  WAITING" in format_list(found) or "2     1 of 7  WAITING" in format_list(found)
    assert "and 5 older ones" in format_list(found | {"count": 7})
