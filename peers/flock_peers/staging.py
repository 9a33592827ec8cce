"""A chain that begins with a snapshot, built beside the home's own and put in its place by one rename.

Whenever the process ends, the home has its old chain or the new one. Blocks; knows no peer.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flock_chain.consensus.validators import ValidatorSet
from flock_chain.errors import Misuse, Refused
from flock_chain.execution import records
from flock_chain.execution.blocks import Block, Header
from flock_chain.execution.executor import Executor
from flock_chain.execution.machine import Writes
from flock_chain.execution.records import Pin
from flock_chain.execution.snapshot import read_snapshot
from flock_chain.genesis import Genesis
from flock_chain.restart import Restart
from flock_peers.store.chain_store import ChainStore
from flock_peers.store.disk import disk_trouble
from flock_peers.store.record_log import sync_folder

STAGING = "chain.import"
BATCH_ROWS = 20_000  # of one write: about 5 MB


def parse_checkpoint(text: str) -> Pin:
    """`HEIGHT:HASH`, as `status` prints it; raises Misuse."""
    height, _, digits = text.partition(":")
    try:
        block_id = bytes.fromhex(digits.removeprefix("0x"))
    except ValueError:
        block_id = b""
    if not (height.isascii() and height.isdigit() and len(height) < 16 and int(height) > 0) or len(block_id) != 32:
        raise Misuse(
            f"--checkpoint {text}: give HEIGHT:HASH, a height and a block's 64 hex digits, as `status` prints it"
        )
    return Pin(int(height), block_id)


def is_started(chain: Path, checkpoint: Pin) -> bool:
    """Whether this home's chain holds the checkpoint, or began on the way to it; raises Refused where it went another
    way."""
    if not (chain / "chain.mdb").exists():
        return False
    with ChainStore(chain, read_only=True) as store:
        head, pin = records.read_head(store), records.read_pin(store)
        if head is None or head.height < checkpoint.height:
            return head is not None and pin == checkpoint
        known = store.get(records.height_key(checkpoint.height))
    if known is None or known == checkpoint.block_id:
        return True
    raise Refused(
        f"checkpoint {checkpoint}: this home's own chain, at height {head.height}, has block {known.hex()} there, "
        "final by its validators' certificates. Either the checkpoint is wrong or of another network (get it again "
        "from somebody you trust), or this home followed validators who forked; use another --home to start from it"
    )


def discard_staging(home: Path) -> None:
    """What an import that was interrupted left: nothing in it counts."""
    shutil.rmtree(home / STAGING, ignore_errors=True)


@dataclass(frozen=True)
class Imported:
    head: Header
    validators: ValidatorSet  # who made the snapshot's block final


class Staging:
    """`build`, verify the certificate, `finish`."""

    def __init__(self, home: Path, genesis: Genesis, restarts: Sequence[Restart] = ()) -> None:
        self._home, self._genesis, self._restarts = home, genesis, restarts
        self._path = home / STAGING

    def build(self, file: Path, block: Block) -> Imported:
        """Raises InvalidRemote where the file is not the snapshot of this block."""
        self.import_state(file, block)
        with ChainStore(self._path) as store:
            certifiers = Executor(self._genesis, store, restarts=self._restarts).served().before
            return Imported(block.header, ValidatorSet(tuple((row.account, row.weight) for row in certifiers)))

    def import_state(self, file: Path, block: Block) -> None:
        discard_staging(self._home)
        with ChainStore(self._path) as store, disk_trouble(file), file.open("rb") as source:
            store.commit(Executor(self._genesis, store).genesis_writes())
            batch: Writes = {}

            def emit(key: bytes, value: bytes) -> None:
                batch[key] = value
                if len(batch) >= BATCH_ROWS:
                    store.commit(batch)
                    batch.clear()

            read_snapshot(source.read, block.id, emit)
            store.commit({**batch, **records.make_rows(block, ()), **records.make_base(block.height)})

    def finish(self, block: Block, certificate: bytes, checkpoint: Pin) -> None:
        """The certificate is verified: from here on this is the home's chain."""
        with ChainStore(self._path) as store:
            store.commit({records.certificate_key(block.height): certificate, **records.make_pin(checkpoint)})
        chain = self._home / "chain"
        with disk_trouble(chain):
            chain.mkdir(mode=0o700, exist_ok=True)
            (chain / "chain.mdb-lock").unlink(missing_ok=True)
            (self._path / "chain.mdb").replace(chain / "chain.mdb")
            sync_folder(chain)
            sync_folder(self._home)
        discard_staging(self._home)
