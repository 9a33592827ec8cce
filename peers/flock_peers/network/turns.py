"""A few turns at a time, for many who want one: at most one of an account, or a few. Of those who wait the first is of
the network that has the fewest now, then of that which had its last one the longest ago, and of accounts likewise. An
account counts as a network of its own where that is more: several networks give one account no second share.

Where all turns are taken, one is made free: of the network that has the most, and in it of the account that has the
most, the oldest goes at once, so that a crowd that takes nothing keeps out nobody who comes from elsewhere, and an
account nobody who has fewer; among equals a turn is sure for a while, and then goes.
Knows neither streams nor what is done in a turn.
"""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.network.complaints import Tolerance
from flock_peers.network.slots import group_of

# Seconds within a minute of turns that went before all was taken. An honest peer loses some at once, where it has more
# than others; who keeps one for its sure time does not read what it asks for.
UNTAKEN = Tolerance("what is not taken", 15)
_REMEMBERED = 1024  # networks and accounts that had a turn
OnLost = Callable[[Account, float], None]
# Whether a stranger; turns of its network, or of its account where that has more; of its account. The lowest first.
Rank = tuple[bool, int, int]


class Turns:
    """`sure_seconds`: of a turn, when others wait; `most_seconds`: in any case. `is_favoured`: who is no stranger.
    `each`: turns of an account at once. `on_lost` hears whose turn went, and after how many seconds."""

    def __init__(
        self,
        count: int,
        sure_seconds: float,
        most_seconds: float,
        is_favoured: Callable[[Account], bool],
        each: int = 1,
        on_lost: OnLost = lambda _account, _seconds: None,
    ) -> None:
        self.on_lost = on_lost
        self._count, self._is_favoured, self._each = count, is_favoured, each
        self.sure_seconds, self.most_seconds = sure_seconds, most_seconds
        self._held: list[Turn] = []  # the oldest first
        self._waiting: list[Turn] = []
        self._are_pressed = False  # some have less than all their time, as others wait
        self._begun = 0
        self._last: dict[str | Account, int] = {}  # network or account: number of its last turn, the oldest first

    @asynccontextmanager
    async def take(self, account: Account, host: str) -> AsyncIterator["Turn"]:
        """`host`: where it comes from, as the connection says."""
        turn = Turn(self, account, group_of(host))
        self._waiting.append(turn)
        self.pass_on()
        try:
            await turn.begun.wait()
            yield turn
        finally:
            (self._held if turn in self._held else self._waiting).remove(turn)
            self.pass_on()

    def pass_on(self) -> None:
        """What is free to those who are next; and where nothing is, whose turn goes for the first of them."""
        while (turn := self._find_next()) is not None:
            if len(self._held) >= self._count:
                self._make_room(turn)
                return
            self._waiting.remove(turn)
            self._held.append(turn)
            self._note(turn)
            turn.begun.set()
        if self._are_pressed:  # and nobody waits any more
            self._are_pressed = False
            for turn in self._held:
                turn.give_way(math.inf)

    def _note(self, turn: "Turn") -> None:
        self._begun += 1
        for key in (turn.group, turn.account):
            self._last.pop(key, None)
            self._last[key] = self._begun
        while len(self._last) > _REMEMBERED:
            del self._last[next(iter(self._last))]

    def _find_next(self) -> "Turn | None":
        if not self._waiting:
            return None
        having = self._count_held()
        able = (turn for turn in self._waiting if having[turn.account] < self._each)
        return min(able, key=lambda turn: (self._rank(turn, having), *self._find_last(turn)), default=None)

    def _find_last(self, turn: "Turn") -> tuple[int, int]:
        account = self._last.get(turn.account, 0)
        return max(self._last.get(turn.group, 0), account), account

    def _make_room(self, asker: "Turn") -> None:
        if any(turn.is_leaving for turn in self._held):
            return
        having = self._count_held()
        having.update((asker.group, asker.account))  # as it would be
        own = self._rank(asker, having)
        able = [(self._rank(turn, having), turn) for turn in self._held if turn.scope is not None]
        worst = max((rank for rank, _ in able), default=own)
        if worst > own:
            next(turn for rank, turn in able if rank == worst).give_way(0.0)
            return
        self._are_pressed = True
        for rank, turn in able:
            turn.give_way(self.sure_seconds if rank == own else math.inf)

    def _count_held(self) -> Counter[str | Account]:
        """Of networks and of accounts."""
        return Counter(key for turn in self._held for key in (turn.group, turn.account))

    def _rank(self, turn: "Turn", having: Counter[str | Account]) -> Rank:
        own = having[turn.account]
        return not self._is_favoured(turn.account), max(having[turn.group], own), own


class Turn:
    def __init__(self, turns: Turns, account: Account, group: str) -> None:
        self._turns, self.account, self.group = turns, account, group
        self.begun = trio.Event()
        self.scope: trio.CancelScope | None = None  # while it waits for whoever has it

    @property
    def is_leaving(self) -> bool:
        return self.scope is not None and self.scope.cancel_called

    def give_way(self, after: float) -> None:
        """At the latest so many seconds after it began to wait for others."""
        if self.scope is not None:
            self.scope.deadline = self._since + min(after, self._turns.most_seconds)

    @contextmanager
    def at_others_pace(self) -> Iterator[None]:
        """Raises Unavailable where that takes too long, or others have waited for long enough."""
        self._since = trio.current_time()
        with trio.CancelScope(deadline=self._since + self._turns.most_seconds) as self.scope:
            self._turns.pass_on()  # it may be this one that goes
            try:
                yield
            finally:
                scope, self.scope = self.scope, None
        if scope.cancelled_caught:
            self._turns.on_lost(self.account, trio.current_time() - self._since)
            raise Unavailable("an answer was not taken in time, or while others waited")


def tell_untaken(tally: Callable[[Account, Tolerance, str, int], None]) -> OnLost:
    """`tally`: the host's."""

    def on_lost(account: Account, seconds: float) -> None:
        what = f"did not take what it asked for in {seconds:.0f} s, for too long or while others waited"
        tally(account, UNTAKEN, what, round(seconds))

    return on_lost
