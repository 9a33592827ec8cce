"""One run of catching up from several peers at once: ranges shared out in windows, handed on in order of height.

Memory: MAX_SLOTS answers of at most 1 MiB. Who is slow is replaced, who serves what is provably wrong is named to the
caller. Knows no certificate and no execution: whoever takes a block says whether it was good.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trio

from flock_chain.crypto import Account
from flock_chain.errors import InvalidEncoding, InvalidRemote, Unavailable
from flock_peers.driver.ports import SyncPort
from flock_peers.driver.sync import MAX_ANSWER_BYTES, MAX_RANGE_BLOCKS, MAX_ROW_BYTES, Head, Row, fetch_range

MAX_PROVIDERS = 3  # at once: more split the same upload into more waiting
MAX_SLOTS = 8  # ranges asked for or waiting for their turn: 8 MiB
FIRST_BLOCKS = 16  # of a peer's first range; then by how quickly it answers
QUICK_SECONDS, SLOW_SECONDS = 0.5, 2.0  # twice as many blocks below, half as many above
HEDGE_SECONDS = 3.0  # then somebody else is asked too, and who answers first goes on

Blame = Callable[[Account, str], None]
Adopt = Callable[[int, Row], Awaitable[None]]


@dataclass(eq=False)
class _Slot:
    first: int
    count: int
    rows: list[Row] | None = None
    giver: Account | None = None
    asked: dict[Account, float] = field(default_factory=dict)  # who is asked now, since when

    def clear(self) -> None:
        self.rows = self.giver = None


class Download:
    """Made for one `run`. `heads`: who may be asked, in order of preference, and what each says that it has."""

    def __init__(
        self,
        port: SyncPort,
        heads: Mapping[Account, Head],
        height: int,
        *,
        on_wrong: Blame,
        on_slow: Blame,
    ) -> None:
        self._port, self._next = port, height + 1
        self._on_wrong, self._on_slow = on_wrong, on_slow
        self._reserve = dict(heads)
        self._workers: dict[Account, tuple[Head, trio.CancelScope]] = {}
        self._slots: deque[_Slot] = deque()
        self._changed = trio.Event()
        self._nursery: trio.Nursery

    @property
    def providers(self) -> int:
        return len(self._workers)

    @property
    def target(self) -> int:
        """The highest height that somebody who is still asked claims to have."""
        heads = [head for head, _ in self._workers.values()] + list(self._reserve.values())
        return max((head.height for head in heads), default=0)

    @property
    def _missing(self) -> int:
        """The lowest height that nobody has given yet."""
        return next((slot.first for slot in self._slots if slot.rows is None), self._next)

    async def run(self, adopt: Adopt, on_idle: Callable[[], Awaitable[None]]) -> None:
        """Until the target is reached or nobody is left. `adopt` raises InvalidRemote for what its giver must answer
        for; `on_idle` is called before each wait."""
        async with trio.open_nursery() as self._nursery:
            self._hire()
            while self._workers:
                if self._slots and self._slots[0].rows is not None:
                    await self._take(self._slots[0], adopt)
                    continue
                if self._missing > self.target:
                    break  # also where a range is left of somebody who claimed more and was dismissed
                changed = self._changed
                await on_idle()
                await changed.wait()
            self._nursery.cancel_scope.cancel()

    # ---- in order

    async def _take(self, slot: _Slot, adopt: Adopt) -> None:
        giver = slot.giver
        assert giver is not None
        while slot.rows:  # None once its giver was dismissed meanwhile: what is left is asked of another
            try:
                await adopt(slot.first, slot.rows[0])
            except InvalidRemote as error:
                self._dismiss(giver, self._on_wrong, f"block {slot.first}: {error}")
                return
            slot.first, slot.count = slot.first + 1, slot.count - 1
            if slot.rows:
                slot.rows.pop(0)
        if not slot.count:
            self._slots.popleft()
        self._notify()

    # ---- who is asked

    def _hire(self) -> None:
        """In order of preference, but first who has what is missing."""
        order = sorted(self._reserve, key=lambda account: self._reserve[account].height < self._missing)
        for account in order[: MAX_PROVIDERS - len(self._workers)]:
            scope = trio.CancelScope()
            self._workers[account] = self._reserve.pop(account), scope
            self._nursery.start_soon(self._work, account, scope)

    def _gives_way(self, account: Account, head: Head) -> bool:
        """Heads are of different moments: who has nothing that is missing makes room for who has, until needed."""
        missing = self._missing
        if head.height >= missing or all(other.height < missing for other in self._reserve.values()):
            return False
        del self._workers[account]
        self._reserve[account] = head
        self._hire()
        return True

    def _dismiss(self, account: Account, blame: Blame, reason: str) -> None:
        """Out of this run; what it gave and nobody took yet is asked of others."""
        worker = self._workers.pop(account, None)
        if worker is not None:
            worker[1].cancel()
        for slot in self._slots:
            slot.asked.pop(account, None)
            if slot.giver == account and blame is self._on_wrong:
                slot.clear()
        blame(account, reason)
        self._hire()
        self._notify()

    async def _work(self, account: Account, scope: trio.CancelScope) -> None:
        most = FIRST_BLOCKS
        with scope:
            while account in self._workers:
                head = self._workers[account][0]
                slot = self._choose(account, head, most)
                if slot is None:
                    if self._gives_way(account, head):
                        return
                    with trio.move_on_after(HEDGE_SECONDS / 2):
                        await self._changed.wait()
                    continue
                began = trio.current_time()
                try:
                    await self._ask(account, head, slot)
                except Unavailable as error:
                    if trio.current_time() - began < SLOW_SECONDS or most == 1:
                        self._dismiss(account, self._on_slow, str(error))
                        return
                    most = max(1, most // 4)
                    continue
                except InvalidRemote as error:
                    self._dismiss(account, self._on_wrong, str(error))
                    return
                took = trio.current_time() - began
                most = min(MAX_RANGE_BLOCKS, 2 * most) if took < QUICK_SECONDS else most
                most = max(1, most // 2) if took > SLOW_SECONDS else most

    def _choose(self, account: Account, head: Head, most: int) -> _Slot | None:
        """What nobody has been asked for, else something new within the window, else what another is slow with."""
        now = trio.current_time()
        wanted = [s for s in self._slots if s.rows is None and s.first <= head.height and account not in s.asked]
        for slot in wanted:
            if not slot.asked:
                return slot
        if len(self._slots) < MAX_SLOTS and self._next <= head.height:
            slot = _Slot(self._next, min(most, head.height - self._next + 1))
            self._slots.append(slot)
            self._next += slot.count
            return slot
        return next((slot for slot in wanted if now - min(slot.asked.values()) >= HEDGE_SECONDS), None)

    async def _ask(self, account: Account, head: Head, slot: _Slot) -> None:
        first, count = slot.first, min(slot.count, head.height - slot.first + 1)
        slot.asked[account] = trio.current_time()
        try:
            rows = await fetch_range(self._port, account, first, count)
            check_answer(rows, first, count, head)
        finally:
            slot.asked.pop(account, None)
            self._notify()
        if slot.rows is None and slot.first == first:
            self._fill(slot, account, rows)

    def _fill(self, slot: _Slot, account: Account, rows: list[Row]) -> None:
        """An answer may be shorter than the range: the rest is a range of its own."""
        slot.rows, slot.giver = rows, account
        if len(rows) < slot.count:
            rest = _Slot(slot.first + len(rows), slot.count - len(rows))
            self._slots.insert(self._slots.index(slot) + 1, rest)
            slot.count = len(rows)
        for slow in list(slot.asked):
            self._dismiss(slow, self._on_slow, f"block {slot.first} took it longer than another, who was asked later")

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def check_answer(rows: list[Row], first: int, count: int, head: Head) -> None:
    """Raises InvalidEncoding for fewer blocks than this peer says that it has, where their size is no reason."""
    size = sum(len(block) + len(certificate) for block, certificate in rows)
    if len(rows) < count and (not rows or size + MAX_ROW_BYTES <= MAX_ANSWER_BYTES):
        raise InvalidEncoding(
            f"sync answer: {len(rows)} of {count} blocks from {first}, although it says that it has up to {head.height}"
        )
