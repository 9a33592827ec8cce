"""What a route is given and gives back. Knows no socket and no protocol."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""

    @property
    def origin(self) -> str | None:
        return self.headers.get("origin")


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def refuse(status: int, why: str) -> Response:
    return Response(status, why.encode() + b"\n")


class Socket(Protocol):
    """One WebSocket that was accepted."""

    async def receive(self) -> bytes | None:
        """The next whole message; None once the other side has closed it."""

    async def send(self, text: bytes) -> None:
        """Raises BrokenSocket where the other side does not read, or is gone."""

    async def close(self, why: str) -> None: ...


class BrokenSocket(Exception):
    """The other side is gone, does not read, or breaks the protocol."""


Answer = Callable[[Request], Awaitable[Response]]
Converse = Callable[[Socket], Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """What one path does. `methods` without POST are safe to call by anybody: they change nothing."""

    answers: Mapping[str, Answer]  # by method
    converse: Converse | None = None  # by WebSocket
    for_wallets: bool = False  # a browser's extension may call it, and pages that the user named
    max_body: int = 0  # bytes
