"""What a fuzz target is. Knows neither the decoders nor the engine."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

import trio
from fuzz_loop import Loop

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


def in_trio(script: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """As one run of trio for one input; its deadline is a finding: a decoder that waits for ever."""

    async def main() -> None:
        with trio.fail_after(10):
            await script()

    if not _LOOPS:
        trio.run(main)
        return
    loop = _LOOPS[0] = _LOOPS[0] or Loop()
    loop.run(main)
