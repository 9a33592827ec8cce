"""The blob store against a model: what somebody needs stays, the rest goes oldest first, a crash changes neither."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flock_chain.content import compute_chunk_list, object_digest
from flock_chain.errors import Refused
from flock_peers.store.blob_store import BlobStore

OWNERS = ("own", "task-1", "snapshots")
QUOTA = 2_000
owners = st.sampled_from(OWNERS)
names = st.integers(0, 15)  # which content; small ones are objects, large ones files


class Crash(BaseException):
    """As kill -9 at this call: nothing after it happens."""


def _content(name: int) -> bytes:
    return bytes([name]) * (20 + 40 * name)


def _is_file(name: int) -> bool:
    return name % 2 == 1


def _digest(name: int) -> bytes:
    data = _content(name)
    return compute_chunk_list([data]).digest if _is_file(name) else object_digest(data)


def _size(name: int) -> int:
    data = _content(name)
    return len(data) + (len(compute_chunk_list([data]).encode()) if _is_file(name) else 0)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="flock-blobs-"))
        self.store = BlobStore(self.folder, QUOTA)
        self.here: dict[int, set[str]] = {}  # name -> owners; oldest first
        self.clock = 1_000_000_000

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(rows=st.lists(st.tuples(names, st.none() | owners), min_size=4, max_size=10))
    def fill(self, rows: list[tuple[int, str | None]]) -> None:
        for name, owner in rows:
            self.put(name, owner)

    # --- the model

    def _fits(self, name: int) -> list[int] | None:
        """What must go for it; None where it is refused."""
        if name in self.here:
            return []
        excess = sum(map(_size, self.here)) + _size(name) - QUOTA
        gone: list[int] = []
        for other, needed in self.here.items():
            if excess > 0 and not needed:
                gone.append(other)
                excess -= _size(other)
        return gone if excess <= 0 else None

    def _put(self, name: int, owner: str | None) -> None:
        data = _content(name)
        if not _is_file(name):
            self.store.put_object(data, keep=owner is not None, owner=owner or "own")
        elif owner is None:
            if self.store.file_path(_digest(name)) is None:
                part = self.store.open_part(compute_chunk_list([data]))
                try:
                    part.write(0, data)
                    part.finish()
                finally:
                    part.close()
        else:
            self.store.put_chunks(compute_chunk_list([data]), iter([data]), owner=owner)

    def _age(self, name: int) -> None:
        """Two blobs of one moment have no order after a restart; here each has a second of its own."""
        self.clock += 1
        for folder in ("objects", "files"):
            path = self.folder / folder / _digest(name).hex()
            if path.exists():
                os.utime(path, (self.clock, self.clock))

    @rule(name=names, owner=st.none() | owners)
    def put(self, name: int, owner: str | None) -> None:
        gone = self._fits(name)
        try:
            self._put(name, owner)
        except Refused as error:
            assert gone is None and "--disk-quota" in str(error)
            return
        assert gone is not None
        for other in gone:
            del self.here[other]
        if name not in self.here:
            self.here[name] = set()
            self._age(name)
        if owner:
            self.here[name].add(owner)

    @precondition(lambda self: self.here)
    @rule(data=st.data(), owner=owners)
    def keep(self, data: Any, owner: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.here)))
        self.store.keep(_digest(name), owner)
        self.here[name].add(owner)

    @rule(name=names, owner=owners)
    def release(self, name: int, owner: str) -> None:
        self.store.release(_digest(name), owner)
        self.here.get(name, set()).discard(owner)

    @precondition(lambda self: self.here)
    @rule(owner=owners, data=st.data())
    def release_all(self, owner: str, data: Any) -> None:
        but = data.draw(st.sets(st.sampled_from(sorted(self.here)), max_size=3))
        self.store.release_all(owner, {_digest(name) for name in but})
        for name, needed in self.here.items():
            if name not in but:
                needed.discard(owner)

    @precondition(lambda self: len(self.here) > 3)
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.here)))
        self.store.drop(_digest(name))
        del self.here[name]

    @rule()
    def restart(self) -> None:
        self.store = BlobStore(self.folder, QUOTA)

    @rule(name=names, owner=st.none() | owners, after=st.integers(0, 12), drops=st.booleans())
    def crash(self, name: int, owner: str | None, after: int, drops: bool) -> None:
        """In the middle of a put, of the removals that it asks for, or of a drop. The model takes what it finds, if it
        is one of the states that may be found."""
        gone = set(self._fits(name) or ())
        known = name in self.here
        act = (lambda: self.store.drop(_digest(name))) if drops else (lambda: self._put(name, owner))
        if not _crash_after(after, act):
            self.store = BlobStore(self.folder, QUOTA)
            return self._settle({name} | (set() if drops else gone), {} if drops else {name: {owner} - {None}})
        self.store = BlobStore(self.folder, QUOTA)
        if drops:
            return self._settle({name}, {})
        self._settle(gone if known else gone | {name}, {name: {owner} - {None}})
        return None

    def _settle(self, may_go: set[int], may_have: dict[int, set[str]]) -> None:
        """What was acknowledged is there, but for what was on its way out; no owner appears from nowhere."""
        for name in range(16):
            is_here, digest = self._is_whole(name), _digest(name)
            found = {owner for owner in OWNERS if digest in self.store.kept_by(owner)}
            before = self.here.get(name)
            assert found <= (before or set()) | may_have.get(name, set())
            if before is not None and name not in may_go:
                assert is_here and found >= before
            if not is_here:
                assert not found  # or nobody would ever remove what is left of it
                if self.store.has(digest):
                    self.store.drop(digest)  # a listing without its file: as good as gone
                self.here.pop(name, None)
            elif before is None:
                assert name in may_have or name in may_go
                self.here[name] = found
                self._age(name)
            else:
                self.here[name] = found
        for path in (self.folder / "parts").iterdir():  # a fetch that will never go on
            self.store.drop_part(bytes.fromhex(path.name))
        self.store = BlobStore(self.folder, QUOTA)

    def _is_whole(self, name: int) -> bool:
        path = self.store.file_path(_digest(name))
        if _is_file(name):
            return path is not None and path.read_bytes() == _content(name) and self._has_listing(name)
        return self.store.get_object(_digest(name)) == _content(name)

    def _has_listing(self, name: int) -> bool:
        return self.store.get_object(_digest(name)) == compute_chunk_list([_content(name)]).encode()

    @invariant()
    def store_and_model_agree(self) -> None:
        for name in range(16):
            assert self._is_whole(name) == (name in self.here)
        for owner in OWNERS:
            assert self.store.kept_by(owner) == {_digest(name) for name, needed in self.here.items() if owner in needed}
        on_disk = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        assert self.store.used == on_disk == sum(map(_size, self.here)) <= QUOTA
        usage = self.store.usage()
        assert usage.kept == {owner: size for owner in OWNERS if (size := self._kept_size(owner))}

    def _kept_size(self, owner: str) -> int:
        return sum(_size(name) for name, needed in self.here.items() if owner in needed)


def _crash_after(calls: int, act: Callable[[], object]) -> bool:
    """Whether it crashed: the given number of calls that change the disk still happen."""
    left = [calls]
    kept = {name: getattr(os, name) for name in ("replace", "unlink", "open", "mkdir", "pwrite")}

    def make(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if left[0] <= 0:
                raise Crash
            left[0] -= 1
            return real(*arguments, **named)

        return call

    for name, real in kept.items():
        setattr(os, name, make(real))
    try:
        act()
    except Crash:
        return True
    except Refused:
        return False
    finally:
        for name, real in kept.items():
            setattr(os, name, real)
    return False


TestStore = Machine.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
