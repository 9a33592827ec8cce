"""Fits the network host to what the driver and a checkpoint start ask for. No decision is made here."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path

import trio

from flock_chain.crypto import Account
from flock_peers.driver.room import Room
from flock_peers.network.blobs import BlobService
from flock_peers.network.complaints import Tolerance
from flock_peers.network.host import Host
from flock_peers.snapshots import SNAPSHOT_PROTOCOL

CONSENSUS_PROTOCOL = "/flock/consensus/1"
SYNC_PROTOCOL = "/flock/sync/1"
# Sets change on the way, and who lags behind them takes a member for a stranger for a while.
UNHEARD = Tolerance("messages of who is not heard", 100)
_UNHEARD_BYTES = 64 << 10  # that much counts as one
INBOX_MESSAGES = 1_024  # several heights of votes from 50 validators; when full the senders' streams wait


class HostConsensus:
    """ConsensusNetworkPort and SyncPort over a host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._send, self._receive = trio.open_memory_channel[tuple[Account, bytes]](INBOX_MESSAGES)
        self._room = Room()
        self._is_heard: Callable[[Account, int], bool] = lambda _account, size: Room.is_small(size)
        host.on_message(CONSENSUS_PROTOCOL, self._on_message)

    async def _on_message(self, account: Account, payload: bytes) -> None:
        """What nobody would read takes no room; a large message for which there is none is dropped, and sent again."""
        size = len(payload)
        if not self._is_heard(account, size):
            why = "says much to validators, and is none at this height: not read"
            self._host.tally(account, UNHEARD, why, 1 + size // _UNHEARD_BYTES)
            return
        if not self._room.take(account, size):
            return
        try:
            await self._send.send((account, payload))
        except BaseException:
            self._room.give_back(account, size)
            raise

    def broadcast(self, payload: bytes, accounts: Collection[Account]) -> None:
        self._host.broadcast(CONSENSUS_PROTOCOL, payload, accounts)

    def send(self, account: Account, payload: bytes) -> None:
        self._host.send(account, CONSENSUS_PROTOCOL, payload)

    async def messages(self, is_heard: Callable[[Account, int], bool]) -> AsyncIterator[tuple[Account, bytes]]:
        self._is_heard = is_heard
        async for account, payload in self._receive:
            self._room.give_back(account, len(payload))
            yield account, payload

    def peers(self) -> Collection[Account]:
        return self._host.connected()

    async def request(self, account: Account, payload: bytes, timeout: float, most: int) -> bytes:
        return await self._host.request(account, SYNC_PROTOCOL, payload, timeout, most)


class HostSnapshots:
    """SnapshotPort over a host and its blobs."""

    def __init__(self, host: Host, service: BlobService) -> None:
        self._host, self._service = host, service

    def peers(self) -> Collection[Account]:
        return self._host.connected()

    async def request(self, account: Account, payload: bytes, timeout: float, most: int) -> bytes:
        return await self._host.request(account, SNAPSHOT_PROTOCOL, payload, timeout, most)

    async def fetch_file(self, digest: bytes, providers: Sequence[Account] | None, max_bytes: int) -> Path:
        return await self._service.fetch_file(digest, providers, max_bytes)
