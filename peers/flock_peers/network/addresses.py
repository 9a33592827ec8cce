"""The address book: which peers are known, where they listen, when to dial them next. On disk between runs.

Dials nothing. Hearsay (another peer's word) is bounded apart and forgotten when it never answers.
"""

import json
import logging
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from flock_chain.crypto import Account
from flock_chain.errors import InvalidEncoding
from flock_peers.network.identity import Address, parse_address
from flock_peers.network.limits import Limits

log = logging.getLogger(__name__)

MAX_BOOK_BYTES = 1 << 20
_LONG_GONE = 20  # a peer that was not there many times is tried every five minutes: the dead must not crowd the dialer


@dataclass
class Entry:
    account: Account
    addresses: list[Address] = field(default_factory=list)  # the best first
    is_bootstrap: bool = False  # never forgotten
    is_confirmed: bool = False  # the peer itself said so, over a connection that proved its key
    failures: int = 0
    due: float = 0.0  # dial not before


class AddressBook:
    """`me` is never listed. Times are of the caller's clock."""

    def __init__(self, me: Account, limits: Limits, path: Path | None) -> None:
        self._me, self._limits, self._path = me, limits, path
        self.entries: dict[Account, Entry] = {}
        self._is_changed = False
        if path is not None:
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_BOOK_BYTES:
                raise ValueError(f"larger than {MAX_BOOK_BYTES} bytes")
            for text in json.loads(path.read_bytes())["addresses"]:
                self.add(parse_address(text), is_confirmed=True)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, InvalidEncoding) as error:
            log.warning("known peers: %s is not readable (%s); starting with none", path, error)

    def save(self) -> None:
        if self._path is None or not self._is_changed:
            return
        self._is_changed = False
        texts = [str(a) for entry in self.entries.values() if entry.is_confirmed for a in entry.addresses]
        part = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"addresses": texts}, indent=1))
            os.replace(part, self._path)
        except OSError as error:
            log.warning("known peers: cannot write %s: %s", self._path, error)

    def add(
        self, address: Address, *, is_bootstrap: bool = False, is_confirmed: bool = False, now: float = 0.0
    ) -> bool:
        """True when something new was learned. Hearsay is due `now`, or later if it is the other's turn to dial."""
        if address.account == self._me:
            return False
        entry = self.entries.get(address.account)
        if entry is None:
            if not is_bootstrap and not self._make_room(is_confirmed):
                return False
            entry = self.entries[address.account] = Entry(address.account, due=now + self._courtesy(address.account))
        entry.is_bootstrap |= is_bootstrap
        if is_bootstrap:
            entry.due = 0.0
        entry.is_confirmed |= is_confirmed
        if address in entry.addresses:
            return False
        if is_confirmed or is_bootstrap:
            entry.addresses.insert(0, address)
        elif len(entry.addresses) < self._limits.addresses_per_peer:
            entry.addresses.append(address)
        del entry.addresses[self._limits.addresses_per_peer :]
        self._is_changed = True
        return True

    def _make_room(self, is_confirmed: bool) -> bool:
        """Hearsay may fill half of the book and pushes nobody out; confirmed peers push out the worst."""
        if not is_confirmed:
            hearsay = sum(not e.is_confirmed and not e.is_bootstrap for e in self.entries.values())
            return hearsay < self._limits.known_peers // 2 and len(self.entries) < self._limits.known_peers
        if len(self.entries) < self._limits.known_peers:
            return True
        removable = [e for e in self.entries.values() if not e.is_bootstrap]
        if not removable:
            return False
        worst = max(removable, key=lambda e: (not e.is_confirmed, e.failures))
        del self.entries[worst.account]
        return True

    def on_success(self, account: Account, address: Address | None = None) -> None:
        entry = self.entries.get(account)
        if entry is None:
            return
        entry.failures, entry.due = 0, 0.0
        if address in entry.addresses and entry.addresses[0] != address:
            entry.addresses.remove(address)
            entry.addresses.insert(0, address)
            self._is_changed = True

    def on_failure(self, account: Account, now: float) -> None:
        """Next try after a back-off that doubles up to a bound; with chance, so that two peers do not stay in step."""
        entry = self.entries.get(account)
        if entry is None:
            return
        is_old = not entry.is_bootstrap and entry.failures >= self._limits.forget_after_failures
        most = self._limits.redial_seconds_max * (_LONG_GONE if is_old else 1)
        wait = min(most, self._limits.redial_seconds * 2 ** min(entry.failures, 16))
        entry.failures += 1
        entry.due = now + wait * random.uniform(0.5, 1.0)
        if len(entry.addresses) > 1:
            entry.addresses.append(entry.addresses.pop(0))
        if not entry.is_bootstrap and not entry.is_confirmed and entry.failures >= self._limits.forget_after_failures:
            del self.entries[account]

    def retry_now(self, account: Account, now: float) -> None:
        """A connection was lost: it may come back at once."""
        entry = self.entries.get(account)
        if entry is not None:
            entry.failures, entry.due = 0, now + random.uniform(0.0, 0.2) + self._courtesy(account)

    def _courtesy(self, account: Account) -> float:
        """Two peers that hear of each other at once need one connection, not two: the larger account waits."""
        return self._limits.courtesy_seconds if self._me > account else 0.0
