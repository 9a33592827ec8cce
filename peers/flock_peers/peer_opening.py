"""From a home to a peer that runs, and to one whose chain begins with a snapshot. Opens and closes; decides nothing."""

import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import trio

from flock_chain.execution.records import Pin
from flock_chain.upgrades import Schedule
from flock_peers.bootstrap import reach_network
from flock_peers.checkpoint import CheckpointStart
from flock_peers.contents import Contents
from flock_peers.driver.opening import open_driver
from flock_peers.driver.sync import MAX_REQUEST_BYTES as MAX_SYNC_REQUEST_BYTES
from flock_peers.home import Home
from flock_peers.ledger import open_ledger
from flock_peers.network.bitswap import serve_bitswap
from flock_peers.network.blobs import BlobService
from flock_peers.network.host import open_host
from flock_peers.network.limits import Limits
from flock_peers.peer import Peer
from flock_peers.ports import SYNC_PROTOCOL, HostConsensus, HostSnapshots
from flock_peers.restarts import load_restarts
from flock_peers.settings import PeerSettings
from flock_peers.snapshots import MAX_REQUEST_BYTES as MAX_SNAPSHOT_REQUEST_BYTES
from flock_peers.snapshots import SNAPSHOT_PROTOCOL, Snapshots, open_index
from flock_peers.staging import is_started
from flock_peers.store.blob_store import BlobStore

log = logging.getLogger(__name__)


class Beside(Protocol):
    """What an application runs beside a peer, such as a server of its own."""

    async def __call__(self, peer: Peer, *, task_status: Any) -> None: ...


async def run_peer(settings: PeerSettings, on_ready: Any = None, beside: Beside | None = None) -> None:
    """Run until cancelled or told to stop over the control socket. `beside`: started before the peer is ready, and
    ended before it is closed."""
    async with open_peer(settings) as peer:
        await reach_network(settings, peer.genesis, peer.key, peer.host)
        async with trio.open_nursery() as nursery:
            if beside is not None:
                await nursery.start(beside, peer)
            if on_ready is not None:
                on_ready(peer)
            await peer.run_roles()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_peer(settings: PeerSettings) -> AsyncIterator[Peer]:
    """Everything of a peer, opened in the order of dependence and closed in reverse; raises what is wrong in words."""
    home = Home(settings.home)
    with home.lock(), ExitStack() as locks:
        home.bring_up_to_date()
        key, genesis, restarts = settings.key or home.load_key(), home.load_genesis(), load_restarts(home)
        upgrades = home.load_upgrades(genesis)
        warn_of_upgrades(upgrades)
        locks.enter_context(home.lock_key(key.account, genesis.hash))
        blobs_path: Path = home.folder("blobs")
        store = await trio.to_thread.run_sync(BlobStore, blobs_path, settings.quota_bytes)
        async with (
            open_ledger(genesis, home.folder("chain"), key=key, restarts=restarts, upgrades=upgrades) as ledger,
            open_host(
                key,
                (settings.listen_host, settings.listen_port),
                genesis.hash,
                Limits(guests=settings.guests),
                bootstrap=settings.bootstrap,
                known_peers=home.peers_path,
                genesis_document=genesis.encode(),
                upgrades_hash=upgrades.hash,
                mdns=settings.mdns,
                dht=settings.dht,
                is_relay=settings.relay,
                via=settings.via,
            ) as host,
        ):
            service = BlobService(host, store)
            if settings.guests:
                serve_bitswap(host, store)
            consensus = HostConsensus(host)
            async with open_driver(
                genesis, key, ledger, consensus, consensus, home.folder("consensus"), restarts=restarts
            ) as driver:
                host.on_request(SYNC_PROTOCOL, driver.answer_sync, most=MAX_SYNC_REQUEST_BYTES)
                snapshots = Snapshots(ledger, store, home.folder("snapshots"), genesis.parameters.epoch_blocks)
                host.on_request(SNAPSHOT_PROTOCOL, snapshots.answer, most=MAX_SNAPSHOT_REQUEST_BYTES)
                contents = Contents(store, service, find_providers=host.find_providers if settings.dht else None)
                yield Peer(settings, home, key, genesis, host, ledger, driver, consensus, contents, service, snapshots)


def warn_of_upgrades(upgrades: Schedule) -> None:
    unknown = upgrades.find_unknown()
    if unknown is not None:
        log.warning(
            "from epoch %d on this network runs rules version %d, which this release does not contain: it stops before "
            "that epoch; install a newer release in time", unknown.epoch, unknown.rules,
        )  # fmt: skip


async def start_from_checkpoint(settings: PeerSettings, checkpoint: Pin) -> None:
    """Before the first `open_peer`: the home's chain begins with a snapshot then, if it does not hold the checkpoint.

    Raises Refused for a checkpoint that this home or every peer contradicts, Unavailable where nobody serves one.
    """
    home = Home(settings.home)
    with home.lock():
        key, genesis = settings.key or home.load_key(), home.load_genesis()
        if is_started(home.path / "chain", checkpoint):
            return
        store = await trio.to_thread.run_sync(BlobStore, home.folder("blobs"), settings.quota_bytes)
        async with open_host(
            key,
            (settings.listen_host, settings.listen_port),
            genesis.hash,
            bootstrap=settings.bootstrap,
            known_peers=home.peers_path,
            genesis_document=genesis.encode(),
            upgrades_hash=home.load_upgrades(genesis).hash,
        ) as host:
            port, sync = HostSnapshots(host, BlobService(host, store)), HostConsensus(host)
            await reach_network(settings, genesis, key, host)
            index = open_index(home.folder("snapshots"), store)
            restarts = load_restarts(home)
            await CheckpointStart(checkpoint, genesis, home.path, port, sync, store, index, restarts).run()
