"""A validator's two logs in memory: the product's own record format, write-ahead log and signer file, on a disk that
can lose what was not synced, tear it, flip a bit, or lose a file. Knows no consensus rule.
"""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.records import decode_signer_record, decode_wal_record
from flock_chain.consensus.signer import Signer, SigningKey
from flock_chain.errors import InvalidEncoding, Refused
from flock_peers.store.record_log import CorruptLog, Record, RecordLog, encode_record, scan
from flock_peers.store.signer_file import SignerFile, may_have_forgotten
from flock_peers.store.wal import Wal

EXAGGERATION = 256  # a log claims to be so much larger, so that compaction happens within a short schedule
ZERO_TAILS = 0.2  # of the torn tails: the file grew, the bytes never came

Scan = Callable[[bytes], tuple[list[Record], int]]


class MemoryLog(RecordLog):
    """What is written, and how much of it is durable."""

    def __init__(self) -> None:
        super().__init__(Path("memory"), -1, 0)
        self.data = bytearray()
        self.synced = 0

    def append(self, kind: int, payload: bytes) -> None:
        self.data += encode_record(kind, payload)
        self.size = len(self.data) * EXAGGERATION

    def sync(self) -> None:
        self.synced = len(self.data)

    def rewrite(self, records: Iterable[Record]) -> None:
        self.data = bytearray(b"".join(encode_record(kind, payload) for kind, payload in records))
        self.synced, self.size = len(self.data), len(self.data) * EXAGGERATION

    def close(self) -> None:
        """Nothing is open."""

    def crash(self, chance: random.Random) -> None:
        """What was synced stays; of the rest, any number of bytes, and sometimes only zeros in their place."""
        end = chance.randint(self.synced, len(self.data))
        if end > self.synced and chance.random() < ZERO_TAILS:
            self.data[self.synced :] = bytes(end - self.synced)
        del self.data[end:]
        self.synced = len(self.data)

    def flip_bit(self, chance: random.Random) -> None:
        """Before the last whole record: damage of that one cannot be told from a write that was cut short."""
        try:
            records, length = scan(bytes(self.data))
        except CorruptLog:
            return  # a bit flipped before, and nobody has looked after it yet
        last = len(encode_record(*records[-1])) if records else 0
        if length > last:
            self.data[chance.randrange(length - last)] ^= 1 << chance.randrange(8)

    def open(self, scanned: Scan) -> list[Record]:
        """As `open_record_log` does it: a torn tail goes; raises CorruptLog."""
        records, length = scanned(bytes(self.data))
        del self.data[length:]
        self.synced, self.size = length, length * EXAGGERATION
        return records


class Disk:
    """Both logs of one machine. `wal` and `signer` None: damaged, and whoever runs on it only follows."""

    scan: Scan = staticmethod(scan)
    waits_when_doubtful = True

    def __init__(self, signer_class: type[Signer] = Signer) -> None:
        self._signer_class = signer_class
        self.wal_log: MemoryLog = MemoryLog()
        self.signer_log: MemoryLog | None = MemoryLog()  # made with its key, so it has forgotten nothing
        self.wal: Wal | None = None
        self.signer: SignerFile | None = None

    def open(self, key: SigningKey, domain: ChainDomain, final_height: int) -> None:
        self.wal = self._open_wal()
        self.signer = self._open_signer(key, domain, final_height)

    def _open_wal(self) -> Wal | None:
        try:
            return Wal(self.wal_log, [decode_wal_record(*row) for row in self.wal_log.open(type(self).scan)])
        except (CorruptLog, InvalidEncoding):
            return None

    def _open_signer(self, key: SigningKey, domain: ChainDomain, final_height: int) -> SignerFile | None:
        """As `open_signer_file` does it."""
        is_missing = self.signer_log is None
        log = self.signer_log = self.signer_log or MemoryLog()
        try:
            signer = self._signer_class(key, domain, [decode_signer_record(*row) for row in log.open(type(self).scan)])
        except (CorruptLog, InvalidEncoding, Refused):
            return None
        file = SignerFile(signer, log, -1, is_doubtful=may_have_forgotten(signer, final_height, is_missing=is_missing))
        if file.is_doubtful and final_height and self.waits_when_doubtful:
            file.wait_beyond(final_height)
        return file

    @property
    def is_damaged(self) -> bool:
        return self.wal is None or self.signer is None

    def crash(self, chance: random.Random) -> None:
        self.wal_log.crash(chance)
        if self.signer_log is not None:
            self.signer_log.crash(chance)

    def repair(self) -> None:
        """What an operator does: moves away what cannot be read."""
        if self.wal is None:
            self.wal_log = MemoryLog()
        if self.signer is None:
            self.signer_log = None


class LossyDisk(Disk):
    """A machine that writes no logs."""

    def crash(self, _chance: random.Random) -> None:
        self.wal_log = MemoryLog()
        self.signer_log = MemoryLog()


def _scan_what_can_be_read(data: bytes) -> tuple[list[Record], int]:
    while True:
        try:
            return scan(data)
        except CorruptLog:
            data = data[:-1]


class TrustingDisk(Disk):
    """Takes damage in the middle for a torn tail, and signs on with the rest."""

    scan: Scan = staticmethod(_scan_what_can_be_read)


class HastyDisk(Disk):
    """Signs at once although its signer file is new."""

    waits_when_doubtful = False
