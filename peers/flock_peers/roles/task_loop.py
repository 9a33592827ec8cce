"""Which task this peer takes part in: chooses one, waits for the coins, takes part, and goes on to the next.

Nothing that a task or its document can do ends more than the part in that task. Knows no network and no torch.
"""

import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import trio

from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidRemote, Misuse
from flock_peers.given_up import GivenUp
from flock_peers.measurements import Measurements
from flock_peers.roles.board import Phase, as_account
from flock_peers.roles.collector import Collector, Errand
from flock_peers.roles.participant import Heads, Participant
from flock_peers.roles.sender import CALL_GAS, Sender
from flock_peers.roles.voter import TALLY_GAS
from flock_peers.training.base_check import UnusableBase

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # how often a newcomer looks for coins, or an idle peer for a task, while blocks come
IDLE_SECONDS = 10.0  # the same while none comes: all that can change then is what was put aside
COLLECT_SECONDS = 5.0  # between two looks at what ended tasks still owe
LEVEL_SECONDS = 30.0  # without a new block: then this peer takes its state for the network's
RETRY_SECONDS = 30.0  # until a task whose document nobody had is tried again
UNUSABLE_SECONDS = 3_600.0  # until a task that does not fit this peer is: its base model may have been fetched
SETTLE_SECONDS = 600.0  # after a task's end: then the next one does not wait for what could not be claimed or kept
RESERVE_CALLS = 2  # whose gas is kept when bonding, beside a tally's; a round's reward pays for the next round's
MAX_PARTICIPANTS = 64  # of a task, as the board has it
COIN = 10**18


class Coins(Heads, Protocol):
    """A ledger that also knows balances."""

    async def balance(self, account: Account) -> int: ...


@dataclass(frozen=True)
class Choice:
    task: int
    bond: int  # wei
    is_bonded: bool


@dataclass(frozen=True)
class Ways:
    """What the loop is given by its peer."""

    account: Account
    ledger: Coins
    sender: Sender
    make: Callable[[Choice, bool], Participant]  # the flag: to bond before the trainer is open
    is_level: Callable[[], Awaitable[bool]]  # with the peers that are connected
    ask_for_coins: Callable[[], Awaitable[None]]
    bond: int | None  # wei; None: the task's minimum, if the faucet's coins pay it
    faucet_amount: int  # wei
    fee: int  # wei per gas
    task: int | None = None  # that its owner named: before others, and also where it pays nothing
    is_busy: Callable[[], bool] = lambda: False  # something still needs the ended task's trainer
    measurements: Measurements = field(default_factory=Measurements)  # for people
    given_up: GivenUp = field(default_factory=GivenUp)  # tasks that its owner left


class TaskLoop:
    """`run` lives until cancelled; `participant` is the last part, served until the next one begins."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self.participant: Participant | None = None
        self._scope = trio.CancelScope()
        self._over = trio.Event()  # of the current part
        self._aside: dict[int, float] = {}  # task -> when it may be tried again
        self._hopeless: set[int] = set()  # waiting helps nobody there: taken up for a bond alone, to take it back
        self._failures: Counter[int] = Counter()  # by task
        self._ended: set[int] = set()
        self._errands: dict[int, Errand] = {}  # in ended tasks, until nothing of this account is left there
        self._collector = Collector(ways.account, ways.ledger, ways.sender, ways.measurements)
        self._said: dict[str, str] = {}
        self._reasons: dict[int, str] = {}  # why tasks were put aside
        self._passed: dict[int, str] = {}  # what is said of those that it takes only by name, while it looks for one
        self._bonds_early = True

    async def run(self) -> None:
        await self._wait_until_level()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._collect)
            while True:
                choice = await self._next()
                await self._retire()
                self.participant = self._ways.make(choice, self._bonds_early)
                if choice.task in self._ways.given_up:  # it could not go before this peer was stopped
                    log.info("task %d: leaving it, as its owner ordered", choice.task)
                    self.participant.leave()
                self._scope, self._over = trio.CancelScope(), trio.Event()
                nursery.start_soon(self._take_part, self.participant, self._scope, self._over)
                await self._wait_until_settled(self.participant, self._over)

    def _say(self, subject: str, text: str) -> None:
        """One line for each change."""
        if self._said.get(subject) != text:
            self._said[subject] = text
            log.info("%s", text)

    async def _wait_until_level(self) -> None:
        """An old state shows tasks as open that have ended long ago."""
        height, since = -1, trio.current_time()
        while trio.current_time() - since < LEVEL_SECONDS:
            try:
                if await self._ways.is_level():
                    break
                now = await self._height()
                if now != height:
                    height, since = now, trio.current_time()
            except FlockError as error:
                self._say("level", f"not level with the network yet: {error}")
            await trio.sleep(POLL_SECONDS)

    async def _height(self) -> int:
        """The head's, without waiting for another."""
        height = -1
        with trio.move_on_after(POLL_SECONDS):
            height = await self._ways.ledger.wait_new_head(-1)
        return height

    # One part

    async def _take_part(self, participant: Participant, scope: trio.CancelScope, over: trio.Event) -> None:
        task = participant.task
        try:
            with scope:
                await participant.run()
                self._put_aside(task, UNUSABLE_SECONDS)
                self._reasons.pop(task, None)  # of an earlier try
                log.info("task %d: nothing left to do here", task)
        except Exception as error:  # a part's edge: whatever a task does, the peer goes on
            known = find_flock_error(error)
            is_unusable = isinstance(known, InvalidRemote | Misuse)
            self._failures[task] += 1
            pause = UNUSABLE_SECONDS if is_unusable else RETRY_SECONDS
            self._put_aside(task, pause)
            if isinstance(known, UnusableBase):
                self._hopeless.add(task)
            what = "is not for this peer" if is_unusable else "cannot be joined now"
            self._reasons[task] = f"{what}: {known or repr(error)}"
            log.warning("task %d %s", task, self._reasons[task], exc_info=None if known else error)
        finally:
            if participant.is_leaving:
                self._bonds_early = False
            over.set()

    async def _wait_until_settled(self, participant: Participant, over: trio.Event) -> None:
        ended_at = math.inf
        while not over.is_set() and not participant.is_settled and trio.current_time() - ended_at < SETTLE_SECONDS:
            if participant.is_ended:
                ended_at = min(ended_at, trio.current_time())
            with trio.move_on_after(POLL_SECONDS):
                await over.wait()

    async def _retire(self) -> None:
        """Of the part in an ended task, when the next one is about to begin."""
        if self.participant is None:
            return
        while self._ways.is_busy() and not self._over.is_set():
            await trio.sleep(POLL_SECONDS)
        self._scope.cancel()
        await self._over.wait()
        self.participant.release()

    def explain(self) -> dict[int, str]:
        """Why this peer takes no part in tasks that run, as far as they were tried."""
        tried = {
            task: text for task, text in self._reasons.items() if self._is_aside(task) or task in self._hopeless
        }  # fmt: skip
        return self._passed | tried

    def give_up(self, task: int) -> None:
        """Its owner wants out: the part goes on until the board lets it go, and none begins again, after a restart
        neither, unless its owner names the task."""
        if task not in self._ended:
            self._ways.given_up.add(task)
        if self.participant is not None and self.participant.task == task:
            self.participant.leave()

    def _is_aside(self, task: int) -> bool:
        return self._aside.get(task, -math.inf) > trio.current_time()

    def _put_aside(self, task: int, seconds: float) -> None:
        self._aside[task] = max(self._aside.get(task, -math.inf), trio.current_time() + seconds)

    async def _collect(self) -> None:
        while True:
            await trio.sleep(COLLECT_SECONDS)
            try:
                for task in await self._collector.step(tuple(self._errands.values())):
                    del self._errands[task]
            except FlockError as error:
                log.info("what ended tasks owe cannot be had now: %s", error)

    # The choice

    async def _next(self) -> Choice:
        height = -1
        while True:
            with trio.move_on_after(IDLE_SECONDS):
                height = await self._ways.ledger.wait_new_head(height)
            try:
                choice = await self._choose()
                if choice is not None:
                    self._passed.clear()
                    return choice
            except FlockError as error:
                log.warning("the tasks cannot be read now: %s", error)
            await trio.sleep(POLL_SECONDS)

    async def _choose(self) -> Choice | None:
        """Where this account is bonded already; else the task that its owner named, or the richest that it can pay the
        bond of."""
        candidates = await self._candidates()
        if not candidates:
            self._say("tasks", "no open task to join yet; waiting for one")
            return None
        self._want_bonds_back()
        self._said.pop("tasks", None)
        balance = await self._ways.ledger.balance(self._ways.account)
        wanted: Choice | None = None
        for choice in candidates:
            if choice.is_bonded or balance >= self._needed(choice):
                return choice
            if wanted is None and await self._faucet_helps(choice, balance):
                wanted = choice
        if wanted is not None:
            needed = self._needed(wanted)
            self._say("coins", f"task {wanted.task} needs {_coins(needed)} coins, this account has {_coins(balance)}")
            await self._ways.ask_for_coins()
        return None

    async def _candidates(self) -> list[Choice]:
        """Tasks that failed here come last, or a few that nobody serves would be tried in turn for ever."""
        rows: list[tuple[bool, bool, int, int, Choice]] = []
        count = await self._ways.ledger.view("TaskBoard", "task_count")
        for task in range(1, count + 1):
            if task in self._ended:
                continue
            row = await self._ways.ledger.view("TaskBoard", "task_view", task)
            is_ended = bool(row["ended"]) or row["phase"] == Phase.ENDED
            mine = await self._ways.ledger.view("TaskBoard", "participant", task, self._ways.account)
            is_bonded = mine["bond"] > 0
            if is_ended:
                self._forget(task, row["round"], is_bonded)
                continue
            if not is_bonded and task in self._ways.given_up:
                self._pass_by(task, f"was left by its owner's order: `join --task {task}` takes it up again")
                continue
            if self._is_aside(task) or (task in self._hopeless and not is_bonded):
                continue
            bond = row["terms"]["min_bond"] if is_bonded else self._bond_for(task, row)
            if bond is not None:
                is_other = task != self._ways.task
                choice = Choice(task, bond, is_bonded)
                rows.append((not is_bonded, is_other, self._failures[task], -row["pot"], choice))
        return [row[-1] for row in sorted(rows, key=lambda row: (*row[:4], row[4].task))]

    def _forget(self, task: int, rounds: int, is_bonded: bool) -> None:
        self._ended.add(task)
        self._errands[task] = Errand(task, rounds)  # also for what is unbonding already
        self._aside.pop(task, None)
        self._hopeless.discard(task)
        self._reasons.pop(task, None)
        self._passed.pop(task, None)
        self._said.pop(f"task {task}", None)
        try:
            self._ways.given_up.discard(task)
        except FlockError as error:
            log.info("task %d: that it was left is kept longer than needed: %s", task, error)
        if is_bonded:
            log.info("task %d has ended with a bond of this account in it", task)

    def _want_bonds_back(self) -> None:
        """Of all tasks that have ended by now, as another is there; one that ends later keeps its until the next."""
        self._errands = {task: replace(errand, with_bond=True) for task, errand in self._errands.items()}

    def _bond_for(self, task: int, row: Mapping[str, Any]) -> int | None:
        """None where this peer does not bond, with a word why."""
        least = row["terms"]["min_bond"]
        subject = f"task {task}"
        if self._is_unpaid(task, row):
            self._pass_by(task, f"pays nothing: join it with `join --task {task}`")
            return None
        self._passed.pop(task, None)
        if row["participants"] >= MAX_PARTICIPANTS:
            self._say(subject, f"task {task} is full")
            return None
        if self._ways.bond is not None:
            if self._ways.bond >= least:
                return self._ways.bond
            self._say(subject, f"task {task} takes bonds from {_coins(least)} coins on; --bond says less")
            return None
        most = max(0, self._ways.faucet_amount - self._reserve)
        if least <= most:
            return int(least)
        self._say(
            subject,
            f"task {task} takes bonds from {_coins(least)} coins on, and this peer bonds up to {_coins(most)} unasked; "
            f"give --bond {_coins(least)} to join it",
        )
        return None

    def _is_unpaid(self, task: int, row: Mapping[str, Any]) -> bool:
        """A bond would be at stake there for nothing, and this peer away from tasks that pay: whom that does not keep
        is its creator, and who names it."""
        is_own = task == self._ways.task or as_account(row["creator"]) == self._ways.account
        return not (row["pot"] or row["carried"] or is_own)

    def _pass_by(self, task: int, why: str) -> None:
        self._passed[task] = why
        self._say(f"task {task}", f"task {task} {why}")

    # Coins

    @property
    def _reserve(self) -> int:
        return (RESERVE_CALLS * CALL_GAS + TALLY_GAS) * self._ways.fee

    def _needed(self, choice: Choice) -> int:
        return choice.bond + self._reserve

    async def _faucet_helps(self, choice: Choice, balance: int) -> bool:
        needed = self._needed(choice)
        what = f"task {choice.task} needs {_coins(needed)} coins for bond and gas, this account has {_coins(balance)}"
        who = f"send coins to 0x{self._ways.account.hex()}"
        if balance + self._ways.faucet_amount < needed:
            self._say(
                f"task {choice.task}", f"{what}, and the faucet gives {_coins(self._ways.faucet_amount)} only; {who}"
            )
            return False
        if await self._ways.ledger.view("Faucet", "dripped", self._ways.account):
            self._say(f"task {choice.task}", f"{what}, and the faucet gives to each account once; {who}")
            return False
        return True


def find_flock_error(error: BaseException) -> FlockError | None:
    """The first error of ours, if an error or a group consists of nothing else."""
    if isinstance(error, FlockError):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [find_flock_error(part) for part in error.exceptions]
        return found[0] if all(part is not None for part in found) else None
    return None


def _coins(wei: int) -> str:
    whole, part = divmod(wei, COIN)
    digits = f"{part:018d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
