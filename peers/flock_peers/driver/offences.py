"""Who sends what breaks a rule: named in the log at a bounded rate, and ignored for a while when it is much."""

import logging
from collections import OrderedDict
from dataclasses import dataclass

import trio

from flock_chain.crypto import Account
from flock_peers.network.complaints import Complaints
from flock_peers.plural import plural

MAX_ACCOUNTS = 1_024  # the longest silent are forgotten
MESSAGES_PER_SECOND = 200.0  # a validator of a busy network of 50 sends a tenth
BURST_MESSAGES = 800.0
OFFENCE_SECONDS = 10.0
MAX_OFFENCES = 20  # in OFFENCE_SECONDS; then the account is ignored
IGNORE_SECONDS = 60.0
DROP_SECONDS = 600.0  # who served something provably wrong: no accident, but a disk can be mended


@dataclass
class _Row:
    tokens: float
    filled_at: float
    offences: int = 0
    since: float = -OFFENCE_SECONDS
    ignored_until: float = 0.0


class Offences:
    def __init__(self) -> None:
        self._rows: OrderedDict[Account, _Row] = OrderedDict()
        self._complaints = Complaints(trio.current_time)

    def _row(self, account: Account, now: float) -> _Row:
        row = self._rows.setdefault(account, _Row(BURST_MESSAGES, now))
        self._rows.move_to_end(account)
        while len(self._rows) > MAX_ACCOUNTS:
            self._rows.popitem(last=False)
        return row

    def may_speak(self, account: Account) -> bool:
        """Whether one more message of this account is read."""
        now = trio.current_time()
        row = self._row(account, now)
        row.tokens = min(BURST_MESSAGES, row.tokens + (now - row.filled_at) * MESSAGES_PER_SECOND)
        row.filled_at = now
        if now < row.ignored_until:
            return False
        if row.tokens < 1:
            self.note(account, f"more than {MESSAGES_PER_SECOND:.0f} messages a second", kind="rate")
            return False
        row.tokens -= 1
        return True

    def is_ignored(self, account: Account) -> bool:
        row = self._rows.get(account)
        return row is not None and trio.current_time() < row.ignored_until

    def drop(self, account: Account, reason: str) -> None:
        """At once, for what is proved: nothing more is asked of this account for DROP_SECONDS."""
        now = trio.current_time()
        self._row(account, now).ignored_until = now + DROP_SECONDS
        self._complaints.note(f"0x{account.hex()} is dropped for {DROP_SECONDS:.0f} s", reason, logging.WARNING)

    def note(self, account: Account, reason: str, *, kind: str = "") -> None:
        now = trio.current_time()
        row = self._row(account, now)
        self._complaints.note(f"dropped a message of 0x{account.hex()}", reason, logging.WARNING, kind=kind)
        if now - row.since >= OFFENCE_SECONDS:
            row.since, row.offences = now, 0
        row.offences += 1
        if row.offences >= MAX_OFFENCES and now >= row.ignored_until:
            row.ignored_until = now + IGNORE_SECONDS
            self._complaints.note(
                f"0x{account.hex()} is ignored for {IGNORE_SECONDS:.0f} s", plural(row.offences, "offence"),
                logging.WARNING,
            )  # fmt: skip

    def mention(self, account: Account, what: str) -> None:
        """What costs nothing but a line."""
        self._complaints.note(f"0x{account.hex()}", what)
