"""A certified chain without an EVM, and peers that serve it well or badly, each named by its sin. Mock time only."""

from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from typing import Any

import trio
from consensus_support import DOMAIN, certify, real_key
from driver_support import FakeLedger

from flock_chain.codec import decode, encode
from flock_chain.consensus.types import Kind
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_certificate
from flock_chain.crypto import Account, keccak256
from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.driver.bodies import Bodies
from flock_peers.driver.catch_up import Committer, Follower
from flock_peers.driver.journal import Journal
from flock_peers.driver.sync import SyncServer

KEYS = [real_key(index) for index in range(4)]
SET = ValidatorSet(tuple((key.account, 1) for key in KEYS))
OTHER_KEYS = [real_key(index) for index in range(10, 14)]
OTHER_SET = ValidatorSet(tuple((key.account, 1) for key in OTHER_KEYS))
Rows = list[tuple[bytes, bytes]]
Serve = Callable[[bytes], Awaitable[bytes]]


@lru_cache(maxsize=8)
def make_chain(blocks: int, *, switch: int = 1 << 60, extra: bytes = b"") -> tuple[tuple[bytes, bytes], ...]:
    """Blocks 1, 2, 3... with certificates of SET, and of OTHER_SET from height `switch` on."""
    rows: Rows = []
    parent = bytes(32)
    for height in range(1, blocks + 1):
        block = encode([height, 1, parent, KEYS[0].account, [b"%d" % height + extra]])
        parent = keccak256(block)
        keys, validators = (KEYS, SET) if height < switch else (OTHER_KEYS, OTHER_SET)
        certificate = certify(keys[:3], validators, Kind.FINALIZE, height, 1, parent)
        rows.append((block, encode_certificate(certificate)))
    return tuple(rows)


class SwitchingLedger(FakeLedger):
    """A ledger whose set changes at a height; and that counts what it was made to wait for the disk."""

    def __init__(self, *, switch: int = 1 << 60) -> None:
        super().__init__(SET)
        self.switch = switch
        self.flushes = 0
        self.adopted = 0

    async def validators(self) -> ValidatorSet:
        await trio.lowlevel.checkpoint()
        return SET if self.height() + 1 < self.switch else OTHER_SET

    async def adopt(self, block: bytes, certificate: bytes) -> None:
        await super().adopt(block, certificate)
        self.adopted += 1

    async def flush(self) -> None:
        await super().flush()
        self.flushes += 1


class Provider:
    """Serves a chain as the real server does; subclasses spoil the answers."""

    def __init__(self, chain: Collection[tuple[bytes, bytes]], *, seconds: float = 0.02) -> None:
        self.ledger = FakeLedger(SET)
        self.ledger.chain = list(chain)
        self.seconds = seconds
        self.asked: list[Any] = []

    async def answer(self, payload: bytes) -> bytes:
        request = decode(payload)
        self.asked.append(request)
        await trio.sleep(self.seconds)
        if request[0] == "head":
            return encode(self.head())
        if request[0] == "range" and request[1] == self.ledger.height() + 1 and request[3]:
            await trio.sleep(request[3] / 1_000)
        return encode(self.spoil(request, decode(await self._honest(payload))))

    def head(self) -> list[int]:
        return [1, self.ledger.height()]

    def spoil(self, _request: Any, rows: Any) -> Any:
        return rows

    async def _honest(self, payload: bytes) -> bytes:
        async def no_wait(_height: int) -> None:
            await trio.lowlevel.checkpoint()

        return await SyncServer(self.ledger, Bodies(), no_wait).answer(Account(bytes(20)), payload)

    @property
    def ranges(self) -> int:
        return sum(request[0] == "range" for request in self.asked)


class SilentAfter(Provider):
    """Answers so many ranges, then nothing more."""

    def __init__(self, chain: Collection[tuple[bytes, bytes]], ranges: int) -> None:
        super().__init__(chain)
        self.left = ranges

    async def answer(self, payload: bytes) -> bytes:
        if decode(payload)[0] == "range":
            self.left -= 1
            if self.left < 0:
                self.asked.append(decode(payload))
                await trio.sleep_forever()
        return await super().answer(payload)


class Boaster(Provider):
    """Says that it has more than it has."""

    def head(self) -> list[int]:
        return [1, 1 << 40]


class Spoiler(Provider):
    def __init__(self, chain: Collection[tuple[bytes, bytes]], spoil: Callable[[Any, Any], Any]) -> None:
        super().__init__(chain)
        self.spoil = spoil  # type: ignore[method-assign]


class FakeSyncPort:
    """SyncPort whose other ends are providers."""

    def __init__(self, providers: dict[Account, Provider]) -> None:
        self.providers = providers

    def peers(self) -> Collection[Account]:
        return list(self.providers)

    async def request(self, account: Account, payload: bytes, timeout: float, most: int) -> bytes:
        with trio.move_on_after(timeout):
            answer = await self.providers[account].answer(payload)
            if len(answer) > most:
                raise InvalidRemote(f"an answer of {len(answer)} bytes, at most {most}")
            return answer
        raise Unavailable("request: no answer in time")


def account(number: int) -> Account:
    return Account(bytes([number]) * 20)


class Newcomer:
    """A follower at its beginning, and what it finalized."""

    def __init__(self, *providers: Provider, ledger: SwitchingLedger | None = None) -> None:
        self.providers = list(providers)
        self.port = FakeSyncPort({account(number + 1): row for number, row in enumerate(providers)})
        self.ledger = ledger or SwitchingLedger()
        self.told: list[int] = []
        self.committer = Committer(self.ledger, lambda: self.told.append(self.ledger.height()))
        self.follower = Follower(self.ledger, self.port, DOMAIN, Journal(), self.committer)

    async def catch_up(self, target: int | None = None) -> float:
        """Seconds that it took."""
        start = trio.current_time()
        heights = [provider.ledger.height() for provider in self.providers]
        await self.follower.catch_up(account(1), (max(heights) if target is None else target) + 1)
        return trio.current_time() - start
