"""The executed chain as the rest of a peer sees it: reads, submits, builds, checks and commits blocks."""

from flock_peers.ledger.ledger import BlockInfo, Ledger, open_ledger

__all__ = ["BlockInfo", "Ledger", "open_ledger"]
