"""Blocks that were executed and are not final, so that none is executed twice. Bounded; knows no consensus."""

from collections import OrderedDict
from hashlib import sha256

from flock_chain.execution.block_run import Candidate

MAX_CANDIDATES = 8  # blocks of one height; honest leaders propose one per view


class Candidates:
    """By the whole body, not by the id: a false body under a true id must spoil nothing."""

    def __init__(self) -> None:
        self._valid: OrderedDict[bytes, Candidate] = OrderedDict()
        self._invalid: OrderedDict[bytes, str] = OrderedDict()

    def get(self, data: bytes) -> Candidate | None:
        return self._valid.get(sha256(data).digest())

    def get_fault(self, data: bytes) -> str | None:
        return self._invalid.get(sha256(data).digest())

    def add(self, candidate: Candidate) -> None:
        self._valid[sha256(candidate.block.encoded).digest()] = candidate
        if len(self._valid) > MAX_CANDIDATES:
            self._valid.popitem(last=False)

    def add_fault(self, data: bytes, fault: str) -> None:
        self._invalid[sha256(data).digest()] = fault
        if len(self._invalid) > MAX_CANDIDATES:
            self._invalid.popitem(last=False)

    def clear(self) -> None:
        """The height is final."""
        self._valid.clear()
        self._invalid.clear()
