"""A chain in which nothing happens but slashes, as a page reads it."""

from collections.abc import Callable
from typing import Any

import trio

from flock_chain.errors import Unavailable
from flock_contracts.addresses import BOARD
from flock_contracts.loader import load

A = b"\x0a" * 20  # whose slashes they are


class Receipt:
    def __init__(self, logs: list[Any]) -> None:
        self.logs = logs


class _Header:
    timestamp = 1_795_000_000


def slash_log(
    number: int, account: bytes, amount: int, task: int = 1, *, event: str = "Slashed"
) -> tuple[bytes, list[int], bytes]:
    topic = next(key for key, entry in load("TaskBoard")._events.items() if entry["name"] == event)
    words = [topic, *(value.to_bytes(32, "big") for value in (task, number, int.from_bytes(account, "big")))]
    return bytes(BOARD), [int.from_bytes(word, "big") for word in words], amount.to_bytes(32, "big")


class FakeQueries:
    """A slash of 5 wei in every hundredth block, for the round of its number; blocks below `base` are not here."""

    def __init__(self, base: int = 1) -> None:
        self.base, self.read = base, 0

    async def run(self, question: Callable[[Any], Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return question(self)

    def header(self, height: int) -> _Header:
        if height < self.base:
            raise Unavailable("not here")
        self.read += 1
        return _Header()

    def receipts(self, height: int) -> tuple[Receipt, ...]:
        other = (b"\x77" * 20, [1], b"")  # of a contract that is not looked at
        return (Receipt([other, slash_log(height // 100, A, 5)]),) if height % 100 == 0 else ()
