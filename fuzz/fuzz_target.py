"""What a fuzz target is. Knows neither the decoders nor the engine."""

import os
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

import trio
from fuzz_loop import Loop
from trio.testing import MockClock

from flock_chain.crypto import Key
from flock_chain.errors import InvalidRemote

Mutate = Callable[[bytes, Random], bytes]
PEER_KEY = Key(b"\x09" * 32)
PEER = PEER_KEY.account


@dataclass(frozen=True)
class Target:
    """`run` raises what the decoder raises; anything but `allowed` is a finding, and so is a broken property."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    mutate: Mutate
    allowed: tuple[type[Exception], ...] = (InvalidRemote,)
    max_bytes: int = 4_096

    def check(self, data: bytes) -> bool:
        """Whether it was accepted; raises for a finding."""
        try:
            self.run(data)
        except self.allowed:
            return False
        return True


_LOOPS: list[Loop | None] = []  # none: a run for each input


def use_one_run() -> None:
    """From now on, for all inputs of this process."""
    _LOOPS[:] = [None]


def in_trio(script: Callable[[], Coroutine[Any, Any, None]], *, is_virtual: bool = False) -> None:
    """As one run of trio for one input; its deadline is a finding: a decoder that waits for ever. `is_virtual`: in time
    that passes where nothing else is to be done; of a process all inputs, or none."""

    async def main() -> None:
        with trio.fail_after(600 if is_virtual else 10):
            await script()

    clock = MockClock(autojump_threshold=0) if is_virtual else None
    if not _LOOPS:
        trio.run(main, clock=clock)
        return
    loop = _LOOPS[0] = _LOOPS[0] or Loop(clock)
    loop.run(main)


def make_folder(name: str) -> "tempfile.TemporaryDirectory[str]":
    """Removed when the process ends. In memory where there is such a place: a disk takes longer than most decoders."""
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(prefix=f"{name}-", dir=memory if os.access(memory, os.W_OK) else None)
