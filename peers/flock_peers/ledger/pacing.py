"""When this peer's next block is wanted: what the final state asks for, what waits, and how long ago the last one was.

Knows no transaction and no consensus; `demand` holds the rule itself.
"""

from collections.abc import Callable, Collection, Set

import trio

from flock_chain.crypto import Account
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.blocks import Header
from flock_chain.execution.executor import Executor
from flock_chain.execution.transactions import SYSTEM_TYPE, decode_system_transaction
from flock_chain.parameters import Parameters
from flock_contracts.addresses import BOARD
from flock_peers.ledger.demand import (
    NOTHING_DUE,
    Awaited,
    Moment,
    can_hurry,
    compute_delay,
    compute_interval,
    estimate_chain_time,
    is_all_here,
)
from flock_peers.ledger.evm_thread import EvmThread

LOOKS = 20  # in an interval, at whether everybody has voted
ROUNDING_SECONDS = 1e-6  # of differences between two times: a sleep shorter than that moves no clock


class Pacing:
    def __init__(
        self, executor: Executor, evm: EvmThread, parameters: Parameters,
        find_senders: Callable[[Collection[Account]], Set[Account]] = lambda _among: frozenset(),
    ) -> None:  # fmt: skip
        """`find_senders`: who of some accounts has something for the board that a block would include now."""
        self._executor, self._evm, self._find_senders = executor, evm, find_senders
        self.parameters = parameters  # of the next height
        self._awaited: dict[int, Awaited] = {}  # by task: those that this peer takes part in, as of the head
        self._had: dict[int, Awaited] = {}  # by task: what was awaited when a block came while all of it was here
        self._moment: Moment | None = None  # of the head
        self._failed_pokes = 0
        self._has_poked = False  # the head
        self._committed_at = -float("inf")  # by trio's clock
        self._arrived = trio.Event()

    # ---- what happens
    def on_commit(self, candidate: Candidate) -> float:
        """A block is final; returns when, by trio's clock."""
        pokes = [row for row, raw in zip(candidate.receipts, candidate.block.transactions) if _is_poke(raw)]
        self._failed_pokes = self._failed_pokes + 1 if pokes and not any(row.status for row in pokes) else 0
        self._has_poked = bool(pokes)
        self._moment = None
        self._had.update({task: awaited for task, awaited in self._awaited.items() if self._is_here(awaited)})
        self._awaited.clear()
        self._committed_at = trio.current_time()
        return self._committed_at

    def on_arrival(self) -> None:
        """Something waits for a block."""
        self._arrived.set()

    def expect(self, task: int, awaited: Awaited) -> None:
        """Who looks at a task's phase says what it waits for: anew after every block, and about the head alone.

        Where the same accounts are awaited still, what they sent was something else: that hurries nobody again.
        """
        if awaited.enough and self._had.get(task) == awaited:
            return
        self._awaited[task] = awaited
        self._arrived.set()

    # ---- what follows
    async def wait_interval(self, have_all_voted: Callable[[], bool]) -> None:
        """Until the next block may follow the last one. Where it may come early it waits for everybody's vote all the
        same, as long as it would have otherwise: a slow validator must not look absent for it."""
        moment = await self._get_moment()
        while True:
            left = self._left(moment, have_all_voted())
            if left <= ROUNDING_SECONDS:
                return
            await trio.sleep(min(left, self._look()))

    async def chain_time(self, now: float) -> float:
        return estimate_chain_time(await self._get_moment(), now, self.parameters.chain_time_gap)

    async def work(
        self, now: float, has_executable: Callable[[], bool], have_all_voted: Callable[[], bool] | None = None
    ) -> float:
        """Seconds until a block is wanted, or until this should be asked again; 0 for now. The heartbeat makes it
        finite always. `have_all_voted`: asked where this peer makes the block; nobody else's timer starts early."""
        self._arrived = trio.Event()
        moment = await self._get_moment()
        is_complete = self._is_complete()
        delay = compute_delay(
            moment,
            self.parameters,
            now=now,
            waited=self._waited(),
            has_executable=has_executable(),
            have_all_voted=have_all_voted is not None and have_all_voted(),
            is_complete=is_complete,
        )
        is_watching = have_all_voted is not None and can_hurry(moment, is_complete=is_complete) and delay > 0
        return min(delay, self._look()) if is_watching else delay

    async def wait_work(self) -> None:
        """Returns once something has arrived since `work` was last asked."""
        await self._arrived.wait()

    def _interval(self) -> float:
        return self.parameters.block_interval / 1_000

    def _left(self, moment: Moment, have_all_voted: bool) -> float:
        is_complete = self._is_complete()
        least = compute_interval(moment, self.parameters, have_all_voted=have_all_voted, is_complete=is_complete)
        return least - self._waited()

    def _is_complete(self) -> bool:
        return any(self._is_here(awaited) for awaited in self._awaited.values())

    def _is_here(self, awaited: Awaited) -> bool:
        return is_all_here(awaited, self._find_senders(awaited.accounts) if awaited.enough else frozenset())

    def _look(self) -> float:
        return self._interval() / LOOKS

    def _waited(self) -> float:
        """Since the last block was stored; many intervals after a start."""
        return min(trio.current_time() - self._committed_at, self._interval() * 1_000)

    async def _get_moment(self) -> Moment:
        """Read once a head."""
        if self._moment is not None:
            return self._moment
        head, chain_time, wakeup, is_due = await self._evm.run(self._read)
        moment = Moment(head.timestamp, chain_time, wakeup, self._failed_pokes, is_due and not self._has_poked)
        if head == self._executor.head:
            self._moment = moment
        return moment

    def _read(self) -> tuple[Header, int, int, bool]:
        """The head, chain time as of it, when the board wants a block, and whether the next one pokes a task."""
        head = self._executor.head
        chain_time = self._executor.view("Beacon", "chain_time")
        wakeup: object = NOTHING_DUE
        if "TaskBoard" in self._executor.contracts:
            wakeup = self._executor.view("TaskBoard", "wakeup")
        is_due = wakeup == 0 and bool(self._executor.view("TaskBoard", "due_tasks"))
        assert isinstance(chain_time, int) and isinstance(wakeup, int)
        return head, chain_time, wakeup, is_due


def _is_poke(raw: bytes) -> bool:
    return raw[:1] == bytes((SYSTEM_TYPE,)) and decode_system_transaction(raw).to == BOARD
