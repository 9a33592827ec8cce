"""The address book: which peers are known, where they listen, when to dial them next. On disk between runs.

Dials nothing. Three ranks: hearsay (another peer's word), claims (the peer's own word, over a connection that proved
its key) and proof (our dial was answered there). Hearsay is bounded apart and forgotten when it never answers.
"""

import json
import logging
import os
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    addresses: list[Address] = field(default_factory=list)  # the next to dial first
    given: list[Address] = field(default_factory=list)  # by the user: never forgotten
    rumours: set[Address] = field(default_factory=set)  # those of `addresses` that rest on another peer's word
    proven: Address | None = None  # the last that answered a dial of ours
    is_confirmed: bool = False  # the peer itself said so, over a connection that proved its key
    is_anchor: bool = False  # among the first that answered us: whoever comes later does not push it out
    told_by: bytes | None = None  # who told of it first, while it is hearsay
    failures: int = 0
    due: float = 0.0  # dial not before
    connected_since: float | None = None

    @property
    def is_bootstrap(self) -> bool:
        return bool(self.given)

    @property
    def is_hearsay(self) -> bool:
        return not self.is_confirmed and not self.given


class AddressBook:
    """`me` is never listed. Times are of the caller's clock."""

    def __init__(self, me: Account, limits: Limits, path: Path | None) -> None:
        self._me, self._limits, self._path = me, limits, path
        self.entries: dict[Account, Entry] = {}
        self.own_port = 0  # of the last run: the others' books name it
        self.favoured: frozenset[Account] = frozenset()  # whom we want to reach whatever others claim: validators
        self._is_changed = False
        if path is not None:
            self._load(path)

    # --- disk

    def _load(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_BOOK_BYTES:
                raise ValueError(f"larger than {MAX_BOOK_BYTES} bytes")
            document = json.loads(path.read_bytes())
            for text in document["addresses"]:
                self._restore(parse_address(text))
            anchors, port = set(document.get("anchors", ())), document.get("port", 0)
            for entry in self.entries.values():
                entry.is_anchor = entry.account.hex() in anchors and self._count_anchors() < self._limits.anchors
            self.own_port = port if type(port) is int and 0 < port < 65536 else 0
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidEncoding) as error:
            log.warning("known peers: %s is not readable (%s); starting with what could be read", path, error)

    def _restore(self, address: Address) -> None:
        """In the order in which they were saved: the best first."""
        entry = self.entries.get(address.account)
        if entry is None and address.account != self._me and len(self.entries) < self._limits.known_peers:
            entry = self.entries[address.account] = Entry(address.account, is_confirmed=True)
        if entry and address not in entry.addresses and len(entry.addresses) < self._limits.addresses_per_peer:
            entry.addresses.append(address)

    def save(self) -> None:
        """What is only hearsay, or only the user's word, is not kept here."""
        if self._path is None or not self._is_changed:
            return
        kept = [entry for entry in self.entries.values() if entry.is_confirmed]
        document: dict[str, Any] = {
            "addresses": [str(a) for entry in kept for a in _best_first(entry) if a not in entry.rumours],
            "anchors": [entry.account.hex() for entry in kept if entry.is_anchor],
            "port": self.own_port,
        }
        part = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(document, indent=1))
            os.replace(part, self._path)
            self._is_changed = False
        except OSError as error:
            log.warning("known peers: cannot write %s: %s", self._path, error)

    def set_own_port(self, port: int) -> None:
        self._is_changed |= port != self.own_port
        self.own_port = port

    # --- learning

    def add(
        self, address: Address, *, is_bootstrap: bool = False, is_confirmed: bool = False, now: float = 0.0,
        told_by: bytes | None = None,
    ) -> bool:  # fmt: skip
        """True when something new was learned. Hearsay is due `now`, or later if it is the other's turn to dial."""
        if address.account == self._me:
            return False
        entry = self.entries.get(address.account)
        if entry is None:
            if not is_bootstrap and not self._make_room(is_confirmed, told_by):
                return False
            entry = self.entries[address.account] = Entry(
                address.account, due=now + self._courtesy(address.account), told_by=told_by
            )
        if is_bootstrap:
            entry.due = 0.0
            if address not in entry.given:
                entry.given.append(address)
        self._is_changed |= is_confirmed and not entry.is_confirmed
        entry.is_confirmed |= is_confirmed
        return self._insert(entry, address, is_sure=is_confirmed or is_bootstrap)

    def addresses_of(self, account: Account) -> list[Address]:
        entry = self.entries.get(account)
        return list(entry.addresses) if entry is not None else []

    def _insert(self, entry: Entry, address: Address, *, is_sure: bool) -> bool:
        if is_sure and address in entry.rumours:
            entry.rumours.discard(address)
            self._is_changed = True
        if address in entry.addresses:
            return False
        if is_sure:
            # What answered comes before what is only claimed.
            entry.addresses.insert(1 if entry.addresses and entry.addresses[0] == entry.proven else 0, address)
        elif len(entry.addresses) < self._limits.addresses_per_peer:
            entry.addresses.append(address)
            entry.rumours.add(address)
        else:
            return False
        self._trim(entry)
        self._is_changed = True
        return True

    def _trim(self, entry: Entry) -> None:
        """The last one that is neither the user's nor proven goes; the user's may be more than the limit."""
        loose = [a for a in entry.addresses if a not in entry.given and a != entry.proven]
        while loose and len(entry.addresses) > self._limits.addresses_per_peer:
            gone = loose.pop()
            entry.addresses.remove(gone)
            entry.rumours.discard(gone)

    def _make_room(self, is_confirmed: bool, told_by: bytes | None) -> bool:
        """Hearsay may fill half of the book, an eighth of it by one source, and pushes nobody out. A claim pushes out
        hearsay, then who is gone; never an anchor, or who is connected: identities cost nothing."""
        limits = self._limits
        if not is_confirmed:
            hearsay = [entry for entry in self.entries.values() if entry.is_hearsay]
            if sum(entry.told_by == told_by for entry in hearsay) >= max(1, limits.known_peers // 8) and told_by:
                return False
            return len(hearsay) < limits.known_peers // 2 and len(self.entries) < limits.known_peers
        if len(self.entries) < limits.known_peers:
            return True
        removable = [entry for entry in self.entries.values() if self._may_go(entry)]
        if not removable:
            return False
        worst = max(removable, key=lambda entry: (entry.is_hearsay, entry.proven is None, entry.failures))
        del self.entries[worst.account]
        return True

    def _may_go(self, entry: Entry) -> bool:
        if self.is_wanted(entry) or entry.connected_since is not None:
            return False
        return entry.is_hearsay or entry.failures > 0

    # --- what became of dials and connections

    def on_success(self, account: Account, now: float, address: Address | None = None) -> None:
        """Connected; at `address` if it was our dial that was answered."""
        entry = self.entries.get(account)
        if entry is None:
            return
        if entry.connected_since is None:
            entry.connected_since = now
        if address not in entry.addresses:
            return
        self._is_changed |= entry.addresses[0] != address or entry.proven != address
        entry.addresses.remove(address)
        entry.addresses.insert(0, address)
        entry.rumours.discard(address)
        entry.proven = address
        self._consider_anchor(entry)

    def _count_anchors(self) -> int:
        return sum(entry.is_anchor for entry in self.entries.values())

    def _consider_anchor(self, entry: Entry) -> None:
        """Places are few, and freed only by who has been gone for long."""
        if entry.is_anchor:
            return
        if self._count_anchors() >= self._limits.anchors:
            gone = [row for row in self.entries.values() if row.is_anchor and self._is_long_gone(row)]
            if not gone:
                return
            max(gone, key=lambda row: row.failures).is_anchor = False
        entry.is_anchor = self._is_changed = True

    def _is_long_gone(self, entry: Entry) -> bool:
        return entry.connected_since is None and entry.failures >= self._limits.forget_after_failures

    def on_failure(self, account: Account, now: float, address: Address | None = None) -> None:
        """Next try after a back-off that doubles up to a bound; with chance, so that two peers do not stay in step."""
        entry = self.entries.get(account)
        if entry is None:
            return
        most = self._limits.redial_seconds_max
        if not entry.is_bootstrap and entry.failures >= self._limits.forget_after_failures:
            most *= _LONG_GONE
        wait = min(most, self._limits.redial_seconds * 2 ** min(entry.failures, 16))
        entry.failures += 1
        entry.due = now + wait * random.uniform(0.5, 1.0)
        if entry.is_hearsay and entry.failures >= self._limits.forget_after_failures:
            del self.entries[account]
        elif address in entry.rumours and not entry.is_hearsay:
            entry.addresses.remove(address)
            entry.rumours.discard(address)
        elif address in (None, *entry.addresses[:1]) and len(entry.addresses) > 1:
            entry.addresses.append(entry.addresses.pop(0))

    def on_lost(self, account: Account, now: float) -> None:
        """It may come back at once; but whoever takes a connection only to drop it waits longer each time."""
        entry = self.entries.get(account)
        if entry is None:
            return
        since, entry.connected_since = entry.connected_since, None
        if since is not None and now - since < self._limits.settled_seconds and entry.failures > 0:
            self.on_failure(account, now, entry.proven)
            return
        entry.failures = 0 if since is None or now - since >= self._limits.settled_seconds else 1
        entry.due = now + random.uniform(0.0, 0.2) + self._courtesy(account)

    def _courtesy(self, account: Account) -> float:
        """Two peers that hear of each other at once need one connection, not two: the larger account waits."""
        return self._limits.courtesy_seconds if self._me > account else 0.0

    def is_wanted(self, entry: Entry) -> bool:
        """Worth one of the places that hearsay and claims cannot take."""
        return entry.is_bootstrap or entry.is_anchor or entry.account in self.favoured

    def is_known(self, ip: str) -> bool:
        """Whether somebody who is wanted said of itself that it listens there, or answered there."""
        host = ip.removeprefix("::ffff:")
        wanted = filter(self.is_wanted, self.entries.values())
        return any(a.host == host and a not in entry.rumours for entry in wanted for a in entry.addresses)

    def favour(self, accounts: Collection[Account]) -> None:
        self.favoured = frozenset(accounts)


def _best_first(entry: Entry) -> list[Address]:
    """A book that is saved while a peer is gone must not begin with whichever address was to be tried next."""
    return sorted(entry.addresses, key=lambda address: address != entry.proven)
