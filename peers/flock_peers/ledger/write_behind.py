"""A store whose latest writes may still be in memory: many blocks of a catch-up share one wait for the disk.

Reads from any thread, writes from one. Knows rows, not blocks.
"""

from flock_chain.execution.machine import Writes
from flock_peers.store.chain_store import ChainStore

MAX_PENDING_ROWS = 20_000  # about 10 MB of trie nodes: then they are written, whoever asked for it or not


class WriteBehind:
    def __init__(self, store: ChainStore) -> None:
        self._store = store
        self._pending: Writes = {}

    @property
    def is_durable(self) -> bool:
        return not self._pending

    def get(self, key: bytes) -> bytes | None:
        pending = self._pending
        return pending[key] if key in pending else self._store.get(key)

    def put(self, writes: Writes) -> None:
        """Seen at once, durable after the next `flush` or `commit`."""
        self._pending.update(writes)
        if len(self._pending) >= MAX_PENDING_ROWS:
            self.flush()

    def commit(self, writes: Writes) -> None:
        """Everything put before and this: all or nothing, and on disk when it returns."""
        self._store.commit({**self._pending, **writes})
        self._pending = {}  # a new one: a reader in another thread may hold the old one

    def flush(self) -> None:
        if self._pending:
            self.commit({})
