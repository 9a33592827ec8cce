"""The blobs of a stopped peer, read without changing anything. Believes no file: every byte is hashed again.

The folders are those of blob_store.py; a damaged blob is reported here, where the store would drop it.
"""

from hashlib import sha256
from pathlib import Path

from flock_chain.content import CHUNK_BYTES, MAX_OBJECT_BYTES, compute_chunk_list, decode_chunk_list
from flock_chain.errors import InvalidContent, InvalidRemote


class BlobReader:
    """`path`: the folder of a BlobStore."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def object_path(self, digest: bytes) -> Path:
        return self._path / "objects" / digest.hex()

    def file_path(self, digest: bytes) -> Path:
        return self._path / "files" / digest.hex()

    def read_object(self, digest: bytes) -> bytes | None:
        """None where it is not stored; raises InvalidContent naming the file where its bytes are not that content."""
        path = self.object_path(digest)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_OBJECT_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > MAX_OBJECT_BYTES or sha256(data).digest() != digest:
            raise InvalidContent(f"{path} is damaged: its bytes are not the content of that name")
        return data

    def read_file(self, digest: bytes) -> bytes | None:
        """The same for a file, chunk by chunk; the message names the first chunk that is wrong."""
        path = self.file_path(digest)
        try:
            with path.open("rb") as file:
                chunks = list(iter(lambda: file.read(CHUNK_BYTES), b""))
        except FileNotFoundError:
            return None
        found = compute_chunk_list(chunks)
        if found.digest != digest:
            raise InvalidContent(f"{path} is damaged: {self._explain(digest, found.digests, found.size)}")
        return b"".join(chunks)

    def _explain(self, digest: bytes, found: tuple[bytes, ...], size: int) -> str:
        listing = self.read_object(digest)
        if listing is None:
            return "its bytes are not the content of that name"
        try:
            expected = decode_chunk_list(listing, digest=digest)
        except InvalidRemote as error:
            return str(error)
        if size != expected.size:
            return f"{size} bytes, not {expected.size}"
        wrong = next(i for i, (a, b) in enumerate(zip(found, expected.digests, strict=True)) if a != b)
        return f"chunk {wrong} of {len(found)} is not the one of its chunk list"
