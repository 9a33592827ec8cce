"""What a peer that misbehaves gets: disconnected, or banned for a while, and counted. Judges nothing itself."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, InvalidSignature, Unavailable
from flock_peers.network.census import Misdeeds
from flock_peers.network.complaints import Complaints, Tolerance
from flock_peers.network.limits import Limits
from flock_peers.network.peer_table import PeerTable


@dataclass
class Counters:
    messages_sent: int = 0
    messages_received: int = 0
    messages_dropped: int = 0  # ours, because a queue was full or the peer was gone
    peers_misbehaved: int = 0
    restarts: int = 0

    def count_dropped(self, count: int) -> None:
        self.messages_dropped += count


class Conduct:
    def __init__(self, table: PeerTable, limits: Limits, counters: Counters, complaints: Complaints) -> None:
        self._table, self._limits, self._counters, self._complaints = table, limits, counters, complaints
        self.misdeeds = Misdeeds()

    def complain(self, account: Account, reason: str, kind: str = "") -> None:
        """A line in the log, at a bounded rate for each kind."""
        self._complaints.note(f"0x{account.hex()}", reason, kind=kind)

    def tally(self, account: Account, tolerance: Tolerance, reason: str, count: int = 1) -> None:
        """The same, above what is tolerated of it."""
        self._complaints.tally(f"0x{account.hex()}", tolerance, reason, count)

    def disconnect(self, account: Account) -> None:
        """Close every connection to a peer; it may come back."""
        peer = self._table.get(account)
        for link in [*peer.links, *peer.bulk] if peer else ():
            link.abort()

    def ban(self, account: Account, reason: str, seconds: float | None = None) -> None:
        """Disconnect and refuse for a while."""
        self._complaints.note(f"banned 0x{account.hex()}", reason, logging.WARNING)
        self._table.ban(account, self._limits.ban_seconds if seconds is None else seconds)
        self.disconnect(account)

    def blame(self, account: Account, protocol: str, error: InvalidRemote) -> None:
        self._counters.peers_misbehaved += 1
        self.misdeeds.note(account)
        if isinstance(error, InvalidSignature):
            self.ban(account, f"{protocol}: {error}")
            return
        who = f"disconnecting 0x{account.hex()}"
        self._complaints.note(who, f"{protocol}: {error}", logging.WARNING, kind=protocol)
        self.disconnect(account)

    @asynccontextmanager
    async def blamed(self, account: Account, protocol: str) -> AsyncIterator[None]:
        """Blames the peer for an InvalidRemote of the body, and raises it."""
        try:
            yield
        except Unavailable:
            raise  # a broken stream is nobody's fault
        except InvalidRemote as error:
            self.blame(account, protocol, error)
            raise
