"""One stored proposal: hashed again, parsed again, held against its round. Knows no verdict."""

from dataclasses import dataclass

from flock_chain.aggregation import Delta, parse_delta
from flock_chain.crypto import Account
from flock_chain.errors import InvalidContent
from flock_chain.proposal import Manifest
from flock_peers.roles.library import check_manifest
from flock_peers.store.blob_reader import BlobReader
from flock_peers.training.document import TaskDocument


@dataclass(frozen=True)
class Place:
    """Where a proposal belongs."""

    chain: bytes  # genesis hash
    task: int
    number: int  # of the round
    account: Account
    parent: bytes  # the global adapter before the round

    def __str__(self) -> str:
        return f"task {self.task} round {self.number}, proposal of 0x{self.account.hex()}"


@dataclass(frozen=True)
class Finding:
    """Exactly one of the four."""

    delta: Delta | None = None
    missing: str = ""  # what is not stored
    damaged: str = ""  # a stored file whose bytes are not its content id's
    malformed: str = ""  # what was proposed is no proposal of this round


def examine(blobs: BlobReader, digest: bytes, place: Place, document: TaskDocument) -> Finding:
    """`digest`: of the manifest, as it was revealed."""
    try:
        data = blobs.read_object(digest)
    except InvalidContent as error:
        return Finding(damaged=f"manifest: {error}")
    if data is None:
        return Finding(missing="its manifest")
    try:
        manifest = check_manifest(
            data,
            chain=place.chain,
            task=place.task,
            number=place.number,
            account=place.account,
            parent=place.parent,
            document=document,
        )
    except InvalidContent as error:
        return Finding(malformed=str(error))
    return _examine_delta(blobs, manifest, document)


def _examine_delta(blobs: BlobReader, manifest: Manifest, document: TaskDocument) -> Finding:
    try:
        data = blobs.read_file(manifest.delta)
    except InvalidContent as error:
        return Finding(damaged=f"delta: {error}")
    if data is None:
        return Finding(missing="its delta")
    try:
        return Finding(delta=parse_delta(data, document.layout, document.format))
    except InvalidContent as error:
        return Finding(malformed=str(error))
