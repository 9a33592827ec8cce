"""Starting from a checkpoint: a block whose id the user trusts, and a snapshot at or before it from whoever has one.

Everything that peers send is checked against that id: headers link the snapshot's block to the checkpoint, the state's
roots are rebuilt, and the block's certificate is counted by the set that the state names. Who sends anything else is
dropped by name, and the next one is asked.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from flock_chain.codec import MAX_DECODED_BYTES, encode
from flock_chain.consensus.certificates import verify_finality
from flock_chain.consensus.digest import make_domain
from flock_chain.consensus.wire import decode_certificate
from flock_chain.crypto import Account
from flock_chain.errors import InvalidBlock, InvalidContent, InvalidRemote, Refused, Unavailable
from flock_chain.execution.blocks import Header, decode_block, decode_header
from flock_chain.execution.ordered_trie import compute_ordered_root
from flock_chain.execution.records import Pin
from flock_chain.execution.snapshot import MAX_SNAPSHOT_BYTES
from flock_chain.genesis import Genesis
from flock_chain.restart import Restart
from flock_peers.driver.offences import Offences
from flock_peers.driver.ports import SyncPort
from flock_peers.driver.sync import Row, fetch_range
from flock_peers.plural import plural
from flock_peers.snapshots import MAX_HEADERS, MAX_LIST_BYTES, Snapshot, SnapshotIndex, decode_headers, decode_list
from flock_peers.staging import Imported, Staging
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.disk import DiskTrouble
from flock_peers.store.kept_marks import SNAPSHOTS

log = logging.getLogger(__name__)

WAIT_SECONDS = 30.0  # for somebody to connect who can be asked
MORE_SECONDS = 6.0  # after the first answer, for others who have what that one has not
ASK_SECONDS = 10.0
PAUSE_SECONDS = 0.5
MAX_PEERS_ASKED = 8
MAX_NAMED = 3  # of those who have another block
HEADERS_PER_SECOND = 100  # a peer that serves them slower than this costs more than it is worth
MAX_DISTANCE = 1 << 20  # blocks between snapshot and checkpoint: 600 MB of headers are enough for anybody

Answer = TypeVar("Answer")


class SnapshotPort(Protocol):
    """What is needed of the network."""

    def peers(self) -> Collection[Account]: ...

    async def request(self, account: Account, payload: bytes, timeout: float, most: int) -> bytes:
        """Of the protocol /flock/snapshots/1. `most`: bytes of the answer."""

    async def fetch_file(self, digest: bytes, providers: Sequence[Account] | None, max_bytes: int) -> Path:
        """Verified chunk by chunk against the content id, into the blob store."""


class CheckpointStart:
    """Made for one `run`."""

    def __init__(
        self,
        checkpoint: Pin,
        genesis: Genesis,
        home: Path,
        port: SnapshotPort,
        sync: SyncPort,
        blobs: BlobStore,
        index: SnapshotIndex,
        restarts: Sequence[Restart] = (),
    ) -> None:
        self._checkpoint, self._genesis = checkpoint, genesis
        self._port, self._sync, self._blobs, self._index = port, sync, blobs, index
        self._domain = make_domain(genesis, restarts)
        self._staging = Staging(home, genesis, restarts)
        self._dropped = Offences()
        self._strangers: dict[Account, str] = {}  # whose chain has another block at the checkpoint's height
        self._reasons: dict[Account, str] = {}
        self._answered: list[float] = []  # when

    async def run(self) -> Header:
        """The head that the home has now. Raises Refused for a checkpoint that everybody contradicts, Unavailable
        where nobody serves a snapshot that leads to it."""
        deadline = trio.current_time() + WAIT_SECONDS
        while True:
            offers = await self._ask_offers()
            if self._answered:
                deadline = min(deadline, self._answered[0] + MORE_SECONDS)
            usable = [offer for offer in offers if 0 <= self._checkpoint.height - offer.height <= MAX_DISTANCE]
            # What only one peer vouches for comes last: it may be gigabytes of nothing.
            for offer in sorted(usable, key=lambda offer: (len(offers[offer]) < 2, -offer.height)):
                header = await self._try(offer, offers[offer])
                if header is not None:
                    return header
            if trio.current_time() >= deadline:
                raise self._explain(list(offers))
            await trio.sleep(PAUSE_SECONDS)

    def _explain(self, offers: list[Snapshot]) -> Refused | Unavailable:
        if self._strangers and not [a for a in self._port.peers() if self._is_good(a) and a not in self._strangers]:
            return Refused(
                f"checkpoint {self._checkpoint}: no connected peer has this block at that height: "
                f"{_describe_strangers(self._strangers)}. The "
                "checkpoint was copied wrong or is of another network, or these peers follow another chain: get it "
                "again from somebody you trust"
            )
        if offers and all(offer.height > self._checkpoint.height for offer in offers):
            lowest = min(offer.height for offer in offers)
            return Unavailable(
                f"checkpoint {self._checkpoint} is too old: the oldest snapshot that is served is of block {lowest}; "
                "take a newer checkpoint, as `status` of a peer you trust prints it"
            )
        told = "; ".join(f"0x{account.hex()}: {reason}" for account, reason in self._reasons.items())
        return Unavailable(
            f"checkpoint {self._checkpoint}: no connected peer serves a snapshot at or before it "
            f"({told or 'none is known'}); join without --checkpoint to execute the whole chain"
        )

    def _is_good(self, account: Account) -> bool:
        return not self._dropped.is_ignored(account)

    def _drop(self, account: Account, reason: str) -> None:
        self._reasons[account] = reason
        self._dropped.drop(account, f"as a provider of snapshots: {reason}")

    async def _ask(
        self, accounts: Sequence[Account], ask: Callable[[Account], Awaitable[Answer]]
    ) -> list[tuple[Account, Answer]]:
        """All at once; who does not answer or answers wrong is left out, and named."""
        found: list[tuple[Account, Answer]] = []

        async def one(account: Account) -> None:
            try:
                found.append((account, await ask(account)))
            except Unavailable as error:
                self._reasons[account] = str(error)
            except InvalidRemote as error:
                self._drop(account, str(error))

        async with trio.open_nursery() as nursery:
            for account in accounts:
                nursery.start_soon(one, account)
        return found

    async def _ask_offers(self) -> dict[Snapshot, list[Account]]:
        async def ask(account: Account) -> list[Snapshot]:
            return decode_list(await self._port.request(account, encode(["list"]), ASK_SECONDS, MAX_LIST_BYTES))

        offers: dict[Snapshot, list[Account]] = {}
        asked = [account for account in self._port.peers() if self._is_good(account)][:MAX_PEERS_ASKED]
        for account, rows in await self._ask(asked, ask):
            self._answered = self._answered or [trio.current_time()]
            for row in rows:
                offers.setdefault(row, []).append(account)
        return offers

    # ---- one snapshot

    async def _try(self, offer: Snapshot, providers: list[Account]) -> Header | None:
        """None where its providers lied or went away: each is named, and others may have it."""
        if not await self._is_linked(offer, providers):
            return None
        rows = await self._fetch_block(offer, providers)
        if not rows:
            return None
        log.info(
            "snapshot of block %d: fetching %d bytes from %s", offer.height, offer.size, plural(len(providers), "peer")
        )
        try:
            file = await self._port.fetch_file(offer.digest, providers, min(offer.size, MAX_SNAPSHOT_BYTES))
            block = decode_block(rows[0][1][0], max_bytes=self._genesis.parameters.max_block_bytes)
            imported = await trio.to_thread.run_sync(self._staging.build, file, block)
        except DiskTrouble:
            raise
        except InvalidRemote as error:  # the content id is what they all vouched for
            for account in providers:
                self._drop(account, f"snapshot of block {offer.height}: {error}")
            await trio.to_thread.run_sync(self._blobs.drop, offer.digest)
            return None
        except Unavailable as error:
            self._reasons.update({account: str(error) for account in providers})
            return None
        for account, (_, certificate) in rows:
            try:
                self._check_certificate(certificate, imported)
            except InvalidRemote as error:
                self._drop(account, f"certificate of block {offer.height}: {error}")
                continue
            await trio.to_thread.run_sync(self._staging.finish, block, certificate, self._checkpoint)
            await trio.to_thread.run_sync(self._adopt, offer)
            log.info(
                "this home's chain begins with block %d now, on the way to checkpoint %s",
                offer.height,
                self._checkpoint,
            )
            return imported.head
        return None

    def _adopt(self, offer: Snapshot) -> None:
        """Others may get the snapshot here now."""
        self._index.announce(offer)
        self._blobs.keep(offer.digest, SNAPSHOTS)
        self._index.prune()

    def _check_certificate(self, certificate: bytes, imported: Imported) -> None:
        verify_finality(
            decode_certificate(certificate),
            height=imported.head.height,
            block_id=imported.head.id,
            validators=imported.validators,
            domain=self._domain,
        )

    async def _fetch_block(self, offer: Snapshot, providers: list[Account]) -> list[tuple[Account, Row]]:
        async def ask(account: Account) -> Row:
            rows = await fetch_range(self._sync, account, offer.height, 1)
            if not rows:
                raise Unavailable(f"does not serve block {offer.height}")
            block = decode_block(rows[0][0], max_bytes=self._genesis.parameters.max_block_bytes)
            if block.id != offer.block_id or compute_ordered_root(block.transactions) != block.header.transaction_root:
                raise InvalidContent(f"block {offer.height}: not the one that was asked for")
            return rows[0]

        return await self._ask([account for account in providers if self._is_good(account)], ask)

    async def _is_linked(self, offer: Snapshot, providers: list[Account]) -> bool:
        """Whether the checkpoint descends from the snapshot's block: by the headers between them."""
        if offer.height == self._checkpoint.height:
            if offer.block_id == self._checkpoint.block_id:
                return True
            self._strangers.update({account: offer.block_id.hex() for account in providers})
            return False
        seconds = ASK_SECONDS + (self._checkpoint.height - offer.height) / HEADERS_PER_SECOND
        for account in providers:
            try:
                with trio.move_on_after(seconds) as patience:
                    if await self._walk(offer, account):
                        return True
                if patience.cancelled_caught:
                    self._drop(account, f"headers up to the checkpoint took it longer than {seconds:.0f} s")
            except Unavailable as error:
                self._reasons[account] = str(error)
            except InvalidRemote as error:
                self._drop(account, str(error))
        return False

    async def _walk(self, offer: Snapshot, account: Account) -> bool:
        """False where this peer's chain reaches the checkpoint's height by another block. Holds one answer."""
        parent, height = offer.block_id, offer.height
        while height < self._checkpoint.height:
            most = min(MAX_HEADERS, self._checkpoint.height - height)
            request = encode(["headers", height + 1, most])
            rows = decode_headers(await self._port.request(account, request, ASK_SECONDS, MAX_DECODED_BYTES), most)
            if not rows:
                raise Unavailable(f"does not have block {height + 1} yet, the checkpoint is {self._checkpoint.height}")
            for row in rows:
                header = decode_header(row)
                if header.parent_hash != parent or header.height != height + 1:
                    raise InvalidBlock(f"header {height + 1}: not a child of the block before it")
                parent, height = header.id, header.height
        if parent == self._checkpoint.block_id:
            return True
        self._strangers[account] = parent.hex()
        return False


def _describe_strangers(strangers: Mapping[Account, str]) -> str:
    """Most of them have the same block, which is said once; liars may have one each."""
    holders: dict[str, list[str]] = {}
    for account, block in strangers.items():
        holders.setdefault(block, []).append(f"0x{account.hex()}")
    told = [f"{_say_who_has(names)} {block}" for block, names in holders.items()]
    more = [f"others have {len(told) - MAX_NAMED} more blocks"] if len(told) > MAX_NAMED else []
    return "; ".join(told[:MAX_NAMED] + more)


def _say_who_has(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more} {'has' if len(names) == 1 else 'have'}"
