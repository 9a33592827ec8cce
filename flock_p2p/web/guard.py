"""Who may speak to a server on loopback: any page of any browser on this machine can send requests to it.

The Host must be this machine by name (else a name that resolves to 127.0.0.1 makes a stranger's page the same origin);
an Origin must be this server, or where a route is for wallets an extension or one that the user named. Programs send
no Origin, and neither does a page that only embeds what it may not read: a browser then says from which site it asks.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import trio

HTTP_PORT = 80
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
EVENT_BYTES = 4 << 10  # what a frame, or a piece of a body, counts beside its bytes: one of nothing takes as much time
HEADER_BYTES = 512  # what a header counts beside its bytes
EXTENSIONS = (
    "chrome-extension://",
    "moz-extension://",
    "safari-web-extension://",
)  # a user installed it; no page is one


@dataclass(frozen=True)
class Guard:
    port: int
    origins: frozenset[str] = frozenset()  # of pages that the user allows

    def is_host(self, host: str) -> bool:
        return host in self._own_names()

    def is_own(self, origin: str) -> bool:
        return origin in {f"http://{name}" for name in self._own_names()}

    def _own_names(self) -> set[str]:
        """As browsers write them: they leave out HTTP's own port."""
        names = {f"{name}:{self.port}" for name in LOOPBACK_NAMES}
        return names | set(LOOPBACK_NAMES) if self.port == HTTP_PORT else names

    def is_origin(self, origin: str | None, *, for_wallets: bool) -> bool:
        """`for_wallets`: whether the route is for wallets, and for the pages that the user named for them, too."""
        if origin is None or self.is_own(origin):
            return True
        return for_wallets and (origin in self.origins or origin.startswith(EXTENSIONS))


def is_lured(headers: Mapping[str, str]) -> bool:
    """Whether a page of another site made a browser ask, as an image or a frame does: without a word of its origin.

    It could read nothing, but would use up what others may ask. Following a link is its user's own doing.
    """
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) != ("navigate", "document")


def allow_origin(origin: str | None, methods: Collection[str]) -> Mapping[str, str]:
    """The headers with which a browser lets a page of an allowed origin read the answer."""
    if origin is None:
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": ", ".join(sorted(methods)),
        "access-control-allow-headers": "content-type",
        "access-control-max-age": "600",
        "access-control-allow-private-network": "true",  # some browsers ask before a page reaches this machine
        "vary": "origin",
    }


class Bucket:
    """So many a second, and so many at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._left = rate, burst, burst
        self._at: float | None = None

    def take(self, count: float = 1) -> bool:
        self._fill()
        if self._left < count:
            return False
        self._left -= count
        return True

    def charge(self, count: float) -> None:
        """For what was known only afterwards: it may go below nothing."""
        self._fill()
        self._left -= count

    async def pace(self, count: float) -> None:
        """As `charge`, and waits until what was taken is paid off: whoever sends too fast is read more slowly."""
        self.charge(count)
        if self._left < 0:
            await trio.sleep(-self._left / self._rate)

    def _fill(self) -> None:
        now = trio.current_time()
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
