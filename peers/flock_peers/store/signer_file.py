"""The signer's own file: what this validator signed, so that no restart makes it sign a slashable second statement.

Beside the chain and the write-ahead log, not in them: those may be deleted and fetched again, this one must not.
"""

import fcntl
import os
from pathlib import Path

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.records import decode_signer_record, encode_signer_record
from flock_chain.consensus.signer import Signer, SignerRecord, SigningKey
from flock_chain.errors import InvalidEncoding, Refused
from flock_peers.store.record_log import CorruptLog, RecordLog, open_record_log

COMPACT_BYTES = 256 << 10  # some thousand votes; only those of the running height are worth keeping
WAITING_HEIGHTS = 2  # final without us before a signer that may have forgotten something signs again


class SignerFile:
    """A Signer and the file behind it. `append` and `sync` block."""

    def __init__(self, signer: Signer, log: RecordLog, lock: int, *, is_doubtful: bool) -> None:
        self.signer = signer
        self.is_doubtful = is_doubtful  # the file was missing or old: it may have signed what it does not know
        self._log, self._lock = log, lock

    def append(self, record: SignerRecord) -> None:
        self._log.append(*encode_signer_record(record))

    def sync(self, snapshot: list[SignerRecord]) -> None:
        """`snapshot`: everything the signer remembers, for the time when the file is rewritten."""
        self._log.sync()
        if self._log.size > COMPACT_BYTES:
            self._log.rewrite([encode_signer_record(record) for record in snapshot])

    def wait_beyond(self, final_height: int) -> None:
        """Sign nothing before WAITING_HEIGHTS more are final."""
        record = self.signer.advance(final_height + 1 + WAITING_HEIGHTS)
        if record:
            self.append(record)
            self.sync(self.signer.records())

    def settle(self) -> None:
        """This validator took part in deciding a height, so it is level with the network: nothing is doubtful any more.

        Otherwise a validator of a young network that was cut off once would wait for heights that may need its vote.
        """
        self.is_doubtful = False

    def close(self) -> None:
        self._log.close()
        os.close(self._lock)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Refused(f"signer file: another process signs with {path.parent}; stop it first") from error
    return descriptor


def open_signer_file(path: Path, key: SigningKey, domain: ChainDomain, *, final_height: int) -> SignerFile:
    """`final_height`: of the chain on this disk. Raises CorruptLog for damage, Refused while another process has it.

    A missing file, or one that is behind the chain, waits; at a fresh genesis there is nothing to forget, and it
    signs at once (but see `is_doubtful`: the caller lets it wait if the network turns out to be ahead).
    """
    lock = _lock(path.with_suffix(".lock"))
    try:
        is_missing = not path.exists()
        log, rows = open_record_log(path)
        signer = _restore(key, domain, log, rows)
    except BaseException:
        os.close(lock)
        raise
    file = SignerFile(signer, log, lock, is_doubtful=may_have_forgotten(signer, final_height, is_missing=is_missing))
    if file.is_doubtful and final_height:
        file.wait_beyond(final_height)
    return file


def may_have_forgotten(signer: Signer, final_height: int, *, is_missing: bool) -> bool:
    """A file that is missing, older than the chain, or still waiting.

    That wait may be for too low a height, where a lost home was made anew and killed while it caught up.
    """
    is_waiting = signer.mark > final_height + WAITING_HEIGHTS
    return is_missing or signer.mark < final_height or is_waiting


def _restore(key: SigningKey, domain: ChainDomain, log: RecordLog, rows: list[tuple[int, bytes]]) -> Signer:
    try:
        return Signer(key, domain, [decode_signer_record(kind, payload) for kind, payload in rows])
    except (InvalidEncoding, Refused) as error:
        log.close()
        raise CorruptLog(f"signer file: {error}") from error
