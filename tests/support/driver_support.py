"""A network in memory, a ledger without an EVM, and peers made of the real driver on them. Time is trio's MockClock."""

import functools
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
import trio.testing
from consensus_support import DOMAIN, real_key

from flock_chain.codec import decode, encode
from flock_chain.consensus.evidence import is_slashable
from flock_chain.consensus.rules import CoreConfig
from flock_chain.consensus.types import Proposal, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_message
from flock_chain.crypto import Account, keccak256
from flock_chain.errors import InvalidBlock, InvalidEncoding, InvalidRemote, Unavailable
from flock_peers.driver.driver import Driver
from flock_peers.driver.journal import Journal, open_journal
from flock_peers.driver.ports import BlockVerdict

CONFIG = CoreConfig(view_timeout_ms=2_000, view_timeout_cap_ms=15_000, retry_interval_ms=1_000)


def on_mock_clock(test: Callable[..., Any]) -> Callable[..., None]:
    """Run an async test with time that jumps whenever everybody waits."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(functools.partial(test, *arguments, **named), clock=clock)

    return run


async def run_inline(action: Callable[..., None], *arguments: Any) -> None:
    """In place of a thread, whose work takes no time that a MockClock knows."""
    await trio.lowlevel.checkpoint()
    action(*arguments)


class FakeLedger:
    """Blocks are lists of transactions; a block is wanted while there are some, and every `heartbeat` seconds."""

    def __init__(self, validators: ValidatorSet, *, interval: float = 0.2, heartbeat: float | None = None) -> None:
        self.set = validators
        self.chain: list[tuple[bytes, bytes]] = []
        self.pending: list[bytes] = []
        self.interval, self.heartbeat = interval, heartbeat
        self.last = 0.0
        self.refuse: Callable[[bytes], bool] = lambda _block: False
        self.proposer = b""
        self.shown: dict[int, set[Account]] = {}  # by height that this peer leads: who voted on the one before it
        self._arrived = trio.Event()

    def submit(self, transaction: bytes) -> None:
        self.pending.append(transaction)
        self._arrived.set()

    def transactions(self) -> list[bytes]:
        return [transaction for block, _ in self.chain for transaction in decode(block)[4]]

    def height(self) -> int:
        return len(self.chain)

    async def validators(self) -> ValidatorSet:
        await trio.lowlevel.checkpoint()
        return self.set

    async def next_validators(self) -> ValidatorSet:
        return await self.validators()

    def _head_id(self) -> bytes:
        return keccak256(self.chain[-1][0]) if self.chain else bytes(32)

    async def build(self, height: int, view: int, _votes: Callable[[], Any] = lambda: ()) -> bytes:
        await trio.sleep(0.005)
        if height != self.height() + 1:
            raise Unavailable("ledger: the head moved on")
        return encode([height, view, self._head_id(), self.proposer, self.pending[:100]])

    async def check(self, block: bytes, *, proposer: Account | None = None) -> BlockVerdict:
        await trio.sleep(0.005)
        height, _, parent, maker, _ = decode(block)
        if height != self.height() + 1:
            return BlockVerdict.LATER
        bad = parent != self._head_id() or self.refuse(block) or (proposer is not None and maker != proposer)
        return BlockVerdict.INVALID if bad else BlockVerdict.VALID

    def block_id(self, block: bytes) -> bytes:
        value = decode(block)
        if not isinstance(value, list) or len(value) != 5:
            raise InvalidEncoding("block: not five fields")
        return keccak256(block)

    async def commit(self, block: bytes, certificate: bytes) -> None:
        await trio.sleep(0.005)
        height, _, parent, _, transactions = decode(block)
        if height != self.height() + 1 or parent != self._head_id():
            raise InvalidBlock("block: not a child of the head")
        self.chain.append((block, certificate))
        self.last = trio.current_time()
        self.pending = [transaction for transaction in self.pending if transaction not in transactions]

    def base(self) -> int:
        return 1

    async def adopt(self, block: bytes, certificate: bytes) -> None:
        await self.commit(block, certificate)

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def block_and_certificate(self, height: int) -> tuple[bytes, bytes] | None:
        await trio.lowlevel.checkpoint()
        return self.chain[height - 1] if 0 < height <= len(self.chain) else None

    async def work(self, _now: float, votes: Callable[[], Sequence[Vote]] | None = None) -> float | None:
        if votes is not None:
            self.shown[self.height() + 1] = {vote.signer for vote in votes()}
        await trio.lowlevel.checkpoint()
        self._arrived = trio.Event()
        waited = trio.current_time() - self.last
        if self.pending:
            return max(0.0, self.interval - waited)
        return None if self.heartbeat is None else max(0.0, self.heartbeat - waited)

    async def wait_work(self) -> None:
        await self._arrived.wait()


class Wires:
    """Who reaches whom, after how long; and what was sent."""

    def __init__(self, delay: float = 0.01) -> None:
        self.delay = delay
        self.ports: dict[Account, MemoryPort] = {}
        self.groups: list[set[Account]] | None = None
        self.sent: list[tuple[float, Account, Account, bytes]] = []
        self.nursery: trio.Nursery | None = None

    def reaches(self, source: Account, target: Account) -> bool:
        if target not in self.ports or not self.ports[target].is_up or not self.ports[source].is_up:
            return False
        return self.groups is None or any(source in group and target in group for group in self.groups)

    def deliver(self, source: Account, target: Account, payload: bytes) -> None:
        self.sent.append((trio.current_time(), source, target, payload))
        if self.nursery and self.reaches(source, target):
            self.nursery.start_soon(self._later, source, target, payload)

    async def _later(self, source: Account, target: Account, payload: bytes) -> None:
        await trio.sleep(self.delay)
        if self.reaches(source, target):
            try:
                self.ports[target].inbox.send_nowait((source, payload))
            except (trio.WouldBlock, trio.BrokenResourceError):
                pass


class MemoryPort:
    """ConsensusNetworkPort and SyncPort of one peer."""

    def __init__(self, account: Account, wires: Wires) -> None:
        self.account, self.wires, self.is_up = account, wires, True
        self.inbox, self._outbox = trio.open_memory_channel[tuple[Account, bytes]](10_000)
        self.answer: Callable[[Account, bytes], Any] | None = None
        wires.ports[account] = self

    def broadcast(self, payload: bytes, accounts: Collection[Account]) -> None:
        for account in accounts:
            self.wires.deliver(self.account, account, payload)

    def send(self, account: Account, payload: bytes) -> None:
        self.wires.deliver(self.account, account, payload)

    async def messages(self, is_heard: Callable[[Account, int], bool]) -> AsyncIterator[tuple[Account, bytes]]:
        self.is_heard = is_heard
        async for message in self._outbox:
            yield message

    def peers(self) -> Collection[Account]:
        return [
            account
            for account in self.wires.ports
            if account != self.account and self.wires.reaches(self.account, account)
        ]

    async def request(self, account: Account, payload: bytes, timeout: float, most: int) -> bytes:
        await trio.sleep(self.wires.delay)
        if not self.wires.reaches(self.account, account):
            raise Unavailable("request: not connected")
        with trio.move_on_after(timeout):
            answer = self.wires.ports[account].answer
            assert answer is not None
            result: bytes = await answer(self.account, payload)
            if len(result) > most:
                raise InvalidRemote(f"request: an answer of {len(result)} bytes, at most {most}")
            await trio.sleep(self.wires.delay)
            return result
        raise Unavailable("request: no answer in time")


@dataclass
class TestPeer:
    """A peer that can be stopped and started again on its ledger and its logs."""

    __test__ = False
    index: int
    cluster: "Cluster"
    ledger: FakeLedger
    driver: Driver | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def account(self) -> Account:
        return real_key(self.index).account

    def start(self) -> None:
        port = MemoryPort(self.account, self.cluster.wires)
        key = real_key(self.index)
        journal = Journal()
        if key.account in self.ledger.set:
            folder = self.cluster.path / str(self.index)
            folder.mkdir(exist_ok=True)
            journal = open_journal(folder, key, DOMAIN, final_height=self.ledger.height(), run_blocking=run_inline)
        self.ledger.proposer = key.account
        self.driver = Driver(CONFIG, DOMAIN, key.account, self.ledger, port, port, journal, clock=trio.current_time)
        port.answer = self.driver.answer_sync
        self.scope = trio.CancelScope()
        self.cluster.nursery.start_soon(self._run, self.driver, journal, self.scope)

    @staticmethod
    async def _run(driver: Driver, journal: Journal, scope: trio.CancelScope) -> None:
        with scope:
            await driver.run()
        journal.close()

    def stop(self) -> None:
        self.cluster.wires.ports[self.account].is_up = False
        self.scope.cancel()


class Cluster:
    def __init__(
        self, path: Path, nursery: trio.Nursery, validators: int, *, listeners: int = 0, **ledger: Any
    ) -> None:
        self.path, self.nursery = path, nursery
        self.wires = Wires()
        self.wires.nursery = nursery
        rows = tuple((real_key(index).account, 1) for index in range(validators))
        self.validators = ValidatorSet(rows)
        self.peers = [
            TestPeer(index, self, FakeLedger(self.validators, **ledger)) for index in range(validators + listeners)
        ]

    @staticmethod
    def block_id(block: bytes) -> bytes:
        return keccak256(block)

    def start(self, *indexes: int) -> None:
        for index in indexes or range(len(self.peers)):
            self.peers[index].start()

    def submit(self, transaction: bytes) -> None:
        """As gossip would: into every running peer's pool."""
        for peer in self.peers:
            if transaction not in peer.ledger.transactions():
                peer.ledger.submit(transaction)

    def heights(self) -> list[int]:
        return [peer.ledger.height() for peer in self.peers]

    async def until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Seconds that it took; fails after `seconds`."""
        start = trio.current_time()
        while not condition():
            if trio.current_time() - start > seconds:
                raise AssertionError(f"not within {seconds} s: heights {self.heights()}")
            await trio.sleep(0.02)
        return trio.current_time() - start

    def assert_agreement(self) -> None:
        longest = max((peer.ledger.chain for peer in self.peers), key=len)
        for peer in self.peers:
            mine = [block for block, _ in peer.ledger.chain]
            assert mine == [block for block, _ in longest[: len(mine)]]


def heard_from(wires: Wires, account: Account, *, since: int = 0) -> list[Vote]:
    """Every vote and proposal that this account has put on the wire, after so many messages of everybody."""
    votes = []
    for _, source, _, payload in wires.sent[since:]:
        if source == account:
            message, _ = decode_message(payload, source)
            if isinstance(message, Vote | Proposal):
                votes.append(message.vote if isinstance(message, Proposal) else message)
    return votes


def slashable_pairs(votes: list[Vote]) -> list[tuple[Vote, Vote]]:
    return [(one, other) for one in votes for other in votes if is_slashable(one, other)]
