"""The write-ahead log of consensus: certificates and bodies of the running height. Votes are the signer file's."""

from pathlib import Path

from flock_chain.consensus.records import BodyRecord, WalRecord, decode_wal_record, encode_wal_record
from flock_chain.consensus.types import Certificate
from flock_chain.errors import InvalidEncoding
from flock_peers.store.record_log import CorruptLog, RecordLog, open_record_log

COMPACT_BYTES = 1 << 20  # at a new height everything before is garbage; rewriting costs three waits for the disk


class Wal:
    def __init__(self, log: RecordLog, records: list[WalRecord]) -> None:
        self._log = log
        self._records = records

    def certificates(self, height: int) -> tuple[Certificate, ...]:
        """What was read on opening."""
        return tuple(row for row in self._records if isinstance(row, Certificate) and row.height == height)

    def bodies(self, height: int) -> tuple[BodyRecord, ...]:
        """What was read on opening."""
        return tuple(row for row in self._records if isinstance(row, BodyRecord) and row.height == height)

    def append(self, record: WalRecord) -> None:
        self._log.append(*encode_wal_record(record))

    def sync(self) -> None:
        self._log.sync()

    def start_height(self) -> None:
        """Every record so far is of a final height."""
        self._records = []
        if self._log.size > COMPACT_BYTES:
            self._log.rewrite([])

    def close(self) -> None:
        self._log.close()


def open_wal(path: Path) -> Wal:
    """Raises CorruptLog for a file with damage in the middle."""
    log, rows = open_record_log(path)
    try:
        return Wal(log, [decode_wal_record(kind, payload) for kind, payload in rows])
    except InvalidEncoding as error:
        log.close()
        raise CorruptLog(f"write-ahead log: {error}") from error
