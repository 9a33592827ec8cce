"""A world for state machines: the project's own fast state, and views that run again only where what they read changed.

A view that reads storage alone is a function of its calldata and of the slots that it read: while those hold the same
values, another run would do the same. So a machine can afford to look at much after every step.
"""

from collections import defaultdict
from typing import Any

from compiled_evm_support import CompiledState
from contracts_support import GENESIS_TIME, BaseRows, Outcome, World, make_context
from eth.db.atomic import AtomicDB

from flock_chain.execution.machine import Overlay
from flock_chain.execution.state_cache import StateCache
from flock_contracts.addresses import SYSTEM

Slot = tuple[bytes, int]  # account, number
Entry = tuple[int, int, bytes, tuple[int, ...], bytes]  # a log: height and time of its block, contract, topics, data
View = tuple[str, str, tuple[Any, ...]]  # contract, function, arguments
MAX_KNOWN = 100_000  # results of views, about 100 MB


class _RecordingState(CompiledState):
    """Says what a call reads of storage."""

    reads: dict[Slot, int] | None = None
    written: dict[bytes, set[int]]  # slots, by account; also those of calls that were undone

    def get_storage(self, address: bytes, slot: int, from_journal: bool = True) -> int:
        value: int = super().get_storage(address, slot, from_journal)
        if self.reads is not None and from_journal:
            self.reads[address, slot] = value
        return value

    def set_storage(self, address: bytes, slot: int, value: int) -> None:
        self.written[address].add(slot)
        super().set_storage(address, slot, value)


class Known:
    """What views returned, by what they read; for all worlds on one genesis, together with its decoded trie."""

    def __init__(self, base: AtomicDB) -> None:
        self.rows, self.cache = BaseRows(base), StateCache()
        self.results: dict[View, dict[tuple[Slot, ...], dict[tuple[int, ...], Any]]] = {}
        self.slots: dict[View, Slot] = {}  # of a getter, where the number is that it returns
        self.count = 0

    def add(self, view: View, reads: dict[Slot, int], result: Any) -> None:
        if self.count == MAX_KNOWN:
            self.results.clear()
            self.count = 0
        self.results.setdefault(view, {}).setdefault(tuple(reads), {})[tuple(reads.values())] = result
        self.count += 1
        if result and list(reads.values()) == [result]:
            self.slots[view] = next(iter(reads))


class FastWorld(World):
    def __init__(self, base: AtomicDB, root: bytes, known: Known) -> None:
        super().__init__(base, root)
        self.known = known
        self.state = _RecordingState(Overlay(known.rows, known.cache), make_context(0, GENESIS_TIME), root)
        self.state.written = defaultdict(set)
        self.entries: list[Entry] = []  # logs of all calls, not taken yet

    def call(self, sender: bytes, name: str, data: bytes, value: int = 0) -> Outcome:
        outcome = super().call(sender, name, data, value)
        self.entries += [(self.height, self.timestamp, *entry) for entry in outcome.entries]
        return outcome

    def taken_entries(self) -> list[Entry]:
        taken, self.entries = self.entries, []
        return taken

    def slot(self, address: bytes, slot: int) -> int:
        return int(self.state._account_db.get_storage(address, slot))

    def stored(self, name: str, function: str, *args: Any) -> Any:
        """What a view returns that reads storage alone: no balance, height or time."""
        view = name, function, args
        read = self.state._account_db.get_storage
        for slots, results in self.known.results.get(view, {}).items():
            values = tuple(read(address, slot) for address, slot in slots)
            if values in results:
                return results[values]
        self.state.reads = {}
        result = self.contracts[name].decode(function, self.must(SYSTEM, name, function, *args).output)
        self.known.add(view, self.state.reads, result)
        self.state.reads = None
        return result

    def number(self, name: str, function: str, *args: Any) -> int:
        """What the getter of a number returns. Seen once to return the one slot that it reads, it is not run again."""
        slot = self.known.slots.get((name, function, args))
        if slot is not None:
            return int(self.state._account_db.get_storage(*slot))
        return int(self.stored(name, function, *args))
