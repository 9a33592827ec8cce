"""Who may speak to a server on loopback: any page of any browser on this machine can send requests to it.

The Host must be this machine by name (else a name that resolves to 127.0.0.1 makes a stranger's page the same origin);
an Origin must be this server, a wallet's extension, or one that the user named. Programs send no Origin.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import trio

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
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
        return host in {f"{name}:{self.port}" for name in LOOPBACK_NAMES}

    def is_own(self, origin: str) -> bool:
        return origin in {f"http://{name}:{self.port}" for name in LOOPBACK_NAMES}

    def is_origin(self, origin: str | None, *, extensions: bool) -> bool:
        """`extensions`: whether the route is for wallets, too."""
        if origin is None or self.is_own(origin) or origin in self.origins:
            return True
        return extensions and origin.startswith(EXTENSIONS)


def allow_origin(origin: str | None, methods: Collection[str]) -> Mapping[str, str]:
    """The headers with which a browser lets a page of an allowed origin read the answer."""
    if origin is None:
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": ", ".join(sorted(methods)),
        "access-control-allow-headers": "content-type",
        "access-control-max-age": "600",
        "vary": "origin",
    }


class Bucket:
    """So many a second, and so many at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._left = rate, burst, burst
        self._at: float | None = None

    def take(self, count: float = 1) -> bool:
        now = trio.current_time()
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < count:
            return False
        self._left -= count
        return True
