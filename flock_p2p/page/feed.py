"""The sections as bytes, with which of them changed: looked at once for all pages that are open, and never for none."""

import json
import logging
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from flock_p2p.page.log_tail import Tail

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks, however many pages there are
MAX_SECTION_BYTES = 512 << 10  # of any one: rounds with all seats taken are the largest, with 170 KB


class Source(Protocol):
    """What a page shows."""

    log: Tail

    async def read(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Look:
    """What was seen at one time."""

    number: int = 0
    sections: dict[str, bytes] = field(default_factory=dict)  # JSON
    changed: dict[str, int] = field(default_factory=dict)  # the number of the look that changed each
    log: Tail = field(default_factory=Tail)


class Feed:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._look = Look()
        self._looked_at = -LOOK_SECONDS
        self._lock = trio.Lock()

    async def look(self) -> Look:
        """At most LOOK_SECONDS old. Raises FlockError where the peer cannot say now."""
        async with self._lock:
            if trio.current_time() - self._looked_at >= LOOK_SECONDS:
                sections = {name: encode(name, value) for name, value in (await self._source.read()).items()}
                number, before = self._look.number + 1, self._look
                changed = {
                    name: before.changed[name] if before.sections.get(name) == data else number
                    for name, data in sections.items()
                }
                self._look = Look(number, sections, changed, self._source.log)
                self._looked_at = trio.current_time()
            return self._look


def encode(name: str, value: Any) -> bytes:
    """What is too large is left out and said so: a page shows the rest."""
    data = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    if len(data) > MAX_SECTION_BYTES:
        log.error("page: the section %s has %d bytes, and is left out", name, len(data))
        return b"null"
    return data


@dataclass
class Told:
    """What one page has been told."""

    number: int = 0
    log_series: int = -1
    log_id: int = 0

    def tell(self, look: Look, now: int) -> bytes | None:
        """The next message: the sections and lines of the log that are news to it; None where nothing is."""
        sections = {name: data for name, data in look.sections.items() if look.changed[name] > self.number}
        is_new = look.log.series != self.log_series
        rows = [row for row in look.log.rows if is_new or row["id"] > self.log_id]
        if not sections and not rows:
            return None
        self.number, self.log_series = look.number, look.log.series
        self.log_id = rows[-1]["id"] if rows else 0 if is_new else self.log_id
        return join(sections, {"at": now, "log": {"reset": is_new, "rows": rows}})


def join(sections: dict[str, bytes], rest: dict[str, Any]) -> bytes:
    parts = [json.dumps(name).encode() + b":" + data for name, data in sections.items()]
    return b'{"sections":{' + b",".join(parts) + b"}," + json.dumps(rest, separators=(",", ":")).encode()[1:]
