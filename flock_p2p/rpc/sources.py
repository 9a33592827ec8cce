"""What the RPC may ask of a peer, and nothing else of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flock_chain.crypto import Digest
from flock_peers.ledger import Ledger
from flock_peers.ledger.queries import Queries


@dataclass(frozen=True)
class Sources:
    ledger: Ledger
    queries: Queries
    submit: Callable[[bytes], Awaitable[Digest]]  # a signed transaction, here and to the network
    count_peers: Callable[[], int]
    sync_target: Callable[[], int | None]  # how far a catch-up goes; None: this peer is level
