"""Whole peers less the sockets: real drivers on real ledgers on a network in memory. Time is trio's MockClock."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from driver_support import MemoryPort, Wires, run_inline
from execution_support import CHAIN_ID, GENESIS_TIME, make_genesis, with_parameters

from flock_chain import ecvrf
from flock_chain.consensus.digest import make_domain
from flock_chain.crypto import Key
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.transactions import sign_call
from flock_chain.restart import Restart
from flock_contracts import loader
from flock_peers.driver.driver import Driver
from flock_peers.driver.journal import Journal, open_journal
from flock_peers.driver.opening import make_config
from flock_peers.ledger.ledger import Ledger

SHORT = {
    "epoch_blocks": 4, "epoch_seconds": 0, "open_staking": 1, "absence_limit": 3, "jail_delay": 10**6, "heartbeat": 1,
    "view_timeout": 500,
}  # fmt: skip


class InlineEvm:
    """In place of the EVM's thread, whose work would take time that a MockClock does not know."""

    async def run(self, function: Callable[[], Any], *_priority: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function()


def read_clock() -> float:
    return GENESIS_TIME + trio.current_time()


class LedgerPeer:
    """A peer whose store and logs outlive its runs."""

    def __init__(self, key: Key, cluster: "LedgerCluster") -> None:
        self.key, self.cluster = key, cluster
        self.store = MemoryStore()
        self.folder = cluster.path / key.account.hex()[:8]
        self.scope = trio.CancelScope()
        self.ledger: Ledger
        self.driver: Driver

    async def start(self, restarts: tuple[Restart, ...] = ()) -> None:
        genesis, port = self.cluster.genesis, MemoryPort(self.key.account, self.cluster.wires)
        domain = make_domain(genesis, restarts)
        self.ledger = Ledger(genesis, self.store, InlineEvm(), self.key, read_clock, restarts)  # type: ignore[arg-type]
        await self.ledger.start()

        def enlist(final_height: int) -> Journal:
            self.folder.mkdir(exist_ok=True)
            return open_journal(self.folder, self.key, domain, final_height=final_height, run_blocking=run_inline)

        is_member = self.key.account in await self.ledger.validators()
        journal = enlist(self.ledger.height()) if is_member else Journal()
        self.driver = Driver(
            make_config(genesis.parameters), domain, self.key.account, self.ledger, port, port, journal,
            clock=read_clock, enlist=None if is_member else enlist,
        )  # fmt: skip
        port.answer = self.driver.answer_sync
        self.scope = trio.CancelScope()
        await self.cluster.nursery.start(self._run, self.driver, journal, self.scope)

    @staticmethod
    async def _run(driver: Driver, journal: Journal, scope: trio.CancelScope, task_status: Any) -> None:
        try:
            with scope:
                task_status.started()
                await driver.run()
        finally:
            journal.close()

    def stop(self) -> None:
        self.cluster.wires.ports[self.key.account].is_up = False
        self.scope.cancel()


class LedgerCluster:
    def __init__(
        self,
        path: Path,
        nursery: trio.Nursery,
        validators: list[Key],
        *,
        listeners: tuple[Key, ...] = (),
        **changes: int,
    ) -> None:
        self.path, self.nursery = path, nursery
        self.genesis = make_genesis(with_parameters(**(SHORT | changes)), validators=validators)
        self.wires = Wires()
        self.wires.nursery = nursery
        self.peers = {key: LedgerPeer(key, self) for key in [*validators, *listeners]}

    async def start(self, *keys: Key, restarts: tuple[Restart, ...] = ()) -> None:
        for key in keys or tuple(self.peers):
            await self.peers[key].start(restarts)

    def running(self) -> list[LedgerPeer]:
        ports = self.wires.ports
        return [peer for key, peer in self.peers.items() if key.account in ports and ports[key.account].is_up]

    async def submit(self, key: Key, function: str, *arguments: Any, value: int = 0, contract: str = "Stake") -> None:
        """A call of a contract, as gossip brings it to everybody."""
        peers = self.running()
        nonce = await peers[0].ledger.nonce(key.account)
        called = loader.load(contract)
        data = called.encode(function, *arguments)
        raw = sign_call(key, chain_id=CHAIN_ID, nonce=nonce, to=called.address, data=data, value=value, fee=10)
        for peer in peers:
            await peer.ledger.submit(raw)

    async def bond(self, key: Key, amount: int) -> None:
        await self.submit(key, "bond_validator", ecvrf.public_key(ecvrf.derive_seed(key)), value=amount)

    async def members(self) -> set[Key]:
        best = max(self.running(), key=lambda peer: peer.ledger.height())
        accounts = (await best.ledger.validators()).accounts
        return {key for key in self.peers if key.account in accounts}

    async def until(self, condition: Callable[[], Any], seconds: float = 300) -> None:
        start = trio.current_time()
        while not await condition():
            heights = [peer.ledger.height() for peer in self.running()]
            assert trio.current_time() - start < seconds, f"not within {seconds} s: heights {heights}"
            await trio.sleep(0.1)

    async def until_members(self, *keys: Key) -> None:
        async def are_members() -> bool:
            return await self.members() == set(keys)

        await self.until(are_members)

    async def grow(self, blocks: int, seconds: float = 120) -> None:
        """Every running peer gets so many blocks more."""
        target = max(peer.ledger.height() for peer in self.running()) + blocks

        async def is_there() -> bool:
            return all(peer.ledger.height() >= target for peer in self.running())

        await self.until(is_there, seconds)

    def assert_agreement(self) -> None:
        peers = list(self.peers.values())
        peers = [peer for peer in peers if hasattr(peer, "ledger")]
        for height in range(max(peer.ledger.height() for peer in peers) + 1):
            blocks = {peer.ledger.block_bytes(height) for peer in peers} - {None}
            assert len(blocks) <= 1, f"two blocks at height {height}"
