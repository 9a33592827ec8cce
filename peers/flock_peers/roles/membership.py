"""This account's place in one task: pays the bond, fills it up, asks to leave. Reads the board afresh each time.

Knows no round's work; remembers only what it has sent.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from flock_chain.audit_rule import STRIKES_TO_EXPEL
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, Misuse, Unavailable
from flock_peers.coins import count_coins
from flock_peers.roles.board import Phase, RoundView, Views, as_account
from flock_peers.roles.sender import Sender

log = logging.getLogger(__name__)

BOND_SECONDS = 1.0  # between two looks whether the bond has been taken
MAX_BONDINGS = 3  # final and yet not joined: the task is full or has ended, and each one costs gas
TOP_UP_PERCENT = 5  # of the minimum: a few missed reveals are paid again, a verdict is not


class _BondRefused(Unavailable):
    """The board does not take the bond."""


class _Expelled(Misuse):
    """The board never takes a bond of this account again."""


class Membership:
    def __init__(self, task: int, account: Account, views: Views, sender: Sender, *, domain: bytes, bond: int) -> None:
        """`domain`: 32 bytes, padded text. `bond`: wei, of who is not in the task yet."""
        self._task, self._account, self._views, self._sender = task, account, views, sender
        self._domain, self._bond = domain, bond
        self.min_bond = 0  # wei, of the task's terms
        self.was_joined = False
        self.is_leaving = False
        self.is_lost = False  # it was joined, and somebody evicted it
        self._looked_at = 0  # round
        self._warned = ""  # why its bond gets it no seat, as it was said last
        self._leave_tried = (-1, False)  # round, and whether the task had ended

    async def is_joined(self) -> bool:
        return await self._row() is not None

    async def is_bonding(self) -> bool:
        """Joined, or about to be."""
        return self._sender.is_pending(self._join_label) or await self.is_joined()

    async def find_first_round(self) -> int | None:
        """The running round, where this account is bonded since it began, or the next: the first whose draws, audits
        and accusations it counts in. None where there is none any more, or it is not bonded."""
        standing = await self._views.view("TaskBoard", "standing", self._task, self._account)
        phase, number, closed = Phase(standing["phase"]), int(standing["round"]), standing["close_height"]
        now = await self._row()
        if phase is Phase.ENDED or now is None:
            return None
        if phase is Phase.WAITING:
            return number
        try:
            then = await self._row(closed)
        except Unavailable:  # a home that began after that block
            then = None
        was_in = then is not None and _is_same_bond(then, now) and self._counted(then, closed)
        return number if was_in and not await self._has_left_since(closed) else number + 1

    async def _has_left_since(self, height: int) -> bool:
        """Who joined in this round, left it and is bonded again has the same row; but what left is unbonding. Not seen
        where as much of an earlier exit was withdrawn meanwhile: the board shows nobody's height of joining."""
        then, now = [
            await self._views.view("TaskBoard", "unbonding", self._task, self._account, height=at)
            for at in (height, None)
        ]
        return bool(now["amount"] > then["amount"])

    def _counted(self, row: Mapping[str, Any], closed: int) -> bool:
        """The board's own rule of who is drawn, by its row when the round was closed."""
        is_away = row["unseated"] or row["suspended"] or 0 < row["leaving_at"] < closed
        return not is_away and row["bond"] - row["held"] >= self.min_bond

    async def participants(self, height: int | None = None) -> Sequence[Mapping[str, Any]]:
        """The board's rows, in the order in which a draw walks over them."""
        rows: Sequence[Mapping[str, Any]] = await self._views.view(
            "TaskBoard", "participants", self._task, height=height
        )
        return rows

    async def _row(self, height: int | None = None) -> Mapping[str, Any] | None:
        rows = await self.participants(height)
        return next((row for row in rows if as_account(row["account"]) == self._account), None)

    # In

    @property
    def _join_label(self) -> str:
        return f"join {self._task}"

    async def bond_until_joined(self, is_wanted: Callable[[], bool]) -> None:
        """Until the bond is seen on chain: before that the account may not even have the coins."""
        sent = 0
        while is_wanted():
            try:
                is_under_way = self._sender.is_pending(self._join_label)  # asked first, or it might pay twice
                if await self.is_joined():
                    self.was_joined = True
                    log.info("task %d: bonded", self._task)
                    return
                if self.is_leaving:
                    return
                if not is_under_way:
                    await self.check_not_expelled()
                if not is_under_way and sent == MAX_BONDINGS:
                    raise _BondRefused(f"task {self._task}: {sent} bonds were sent and none was taken")
                if not is_under_way:
                    sent += await self._send_bond(self._join_label, self._domain, self._bond)
            except (_BondRefused, _Expelled):
                raise
            except FlockError as error:
                log.info("task %d: cannot bond yet: %s", self._task, error)
            await trio.sleep(BOND_SECONDS)

    async def check_not_expelled(self) -> None:
        """Asked before anything is fetched or opened; who is expelled and still there has a bond to take back."""
        if await self._is_expelled() and not await self.is_joined():
            raise _Expelled("this account is expelled from it, for good")

    async def _is_expelled(self) -> bool:
        row = await self._views.view("TaskBoard", "participant", self._task, self._account)
        return bool(row["strikes"] == STRIKES_TO_EXPEL)

    async def _send_bond(self, label: str, domain: bytes, amount: int) -> bool:
        return await self._sender.call(label, "TaskBoard", "join_task", self._task, domain, value=amount)

    # Within

    async def look(self, view: RoundView) -> None:
        """Once a round: what happened to the bond while nobody here did anything."""
        if view.round == self._looked_at or not self.was_joined or self.is_leaving:
            return
        row = await self._row()
        if row is None:
            is_expelled = await self._is_expelled()
            self.is_lost = True
            why = "is expelled" if is_expelled else "had too small a bond, or no seats while all rows were taken"
            log.warning("task %d: somebody evicted this account, which %s; its bond comes back", self._task, why)
        elif row["leaving_at"]:
            self.is_leaving = True
            if row["strikes"] == STRIKES_TO_EXPEL:
                log.warning("task %d: this account is expelled: the bond comes back, and no other is taken", self._task)
            else:
                log.info("task %d: going on to leave it, as was asked for before", self._task)
        else:
            await self._mend(row)
        self._looked_at = view.round

    async def _mend(self, row: Any) -> None:
        """Both at once: a seat missed costs some of the bond, the third one the seats too, and a task that has too few
        left waits in this very round for them."""
        if row["bond"] < self.min_bond:
            await self._fill_up(row["bond"], row["domain"])
        else:
            self._warned = ""
        if row["unseated"]:
            log.info("task %d: this account was away for too long and is drawn no more; coming back", self._task)
            await self._sender.call(f"rejoin {self._task}", "TaskBoard", "rejoin", self._task)

    async def _fill_up(self, bond: int, domain: bytes) -> None:
        """Below the minimum it would be drawn no more, for one missed reveal and without a word."""
        missing = self.min_bond - bond
        if 100 * missing > TOP_UP_PERCENT * self.min_bond:
            amounts = f"{count_coins(bond)} is below the task's minimum of {count_coins(self.min_bond)}"
            self._warn_once(f"this account's bond of {amounts}: it gets no seat any more")
            return
        log.info("task %d: paying %s that the bond lost", self._task, count_coins(missing))
        try:
            await self._send_bond(f"fill up {self._task}", domain, missing)
        except FlockError as error:
            self._warn_once(f"the bond cannot be filled up, so this account gets no seat: {error}")

    def _warn_once(self, why: str) -> None:
        """A round may be a minute, and it is looked at in each."""
        if why != self._warned:
            log.warning("task %d: %s", self._task, why)
        self._warned = why

    # Out

    async def leave(self, view: RoundView) -> None:
        """A request first, and from then on once a round: the board says when this account is free."""
        row = await self._row()
        is_first = row is not None and not row["leaving_at"]
        is_due = view.phase in (Phase.WAITING, Phase.ENDED) or view.phase > Phase.DRAW_VOTERS
        now = (view.round, view.phase is Phase.ENDED)  # at the end everybody is free, whatever its last round said
        if row is None or not (is_first or (is_due and not row["held"] and self._leave_tried < now)):
            return
        if await self._sender.call(f"leave {self._task}", "TaskBoard", "leave_task", self._task):
            self._leave_tried = now


def _is_same_bond(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Who left since and is bonded again counts as a newcomer; who was unseated since is drawn no more."""
    return now["joined_round"] == then["joined_round"] and not now["unseated"]
