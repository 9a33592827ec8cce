"""What peers said was final, and whether every stopped home still holds it. Starts and kills nothing."""

from dataclasses import dataclass, field
from pathlib import Path

from crash_oracle import Statements

from flock_chain.errors import FlockError
from flock_chain.execution import records
from flock_p2p.verify import verify_home
from flock_peers.store.chain_store import ChainStore

ENOUGH_POWER_LOSSES = 100  # that many, and not one unsynced byte: then the losses are not what they say


@dataclass
class Reports:
    """Heads and receipts. At the end every chain must hold all of it."""

    heads: dict[int, tuple[str, str]] = field(default_factory=dict)  # height -> block, state root
    receipts: dict[str, int] = field(default_factory=dict)  # transaction -> height
    tops: dict[str, int] = field(default_factory=dict)  # who reported -> the highest final height that it named
    violations: list[str] = field(default_factory=list)

    def head(self, peer: str, height: int, block: str, state_root: str) -> None:
        self._note(peer, height)
        known = self.heads.setdefault(height, (block, state_root))
        if known != (block, state_root):
            self.violations.append(
                f"height {height}: reported as block {known[0]} with state {known[1]}, and by {peer} as {block} with "
                f"{state_root}"
            )

    def receipt(self, peer: str, transaction: str, height: int) -> None:
        self._note(peer, height)
        known = self.receipts.setdefault(transaction, height)
        if known != height:
            self.violations.append(f"transaction {transaction}: reported final at {known}, and by {peer} at {height}")

    def _note(self, peer: str, height: int) -> None:
        self.tops[peer] = max(height, self.tops.get(peer, 0))

    @property
    def top(self) -> int:
        """The highest height that anybody called final."""
        return max([*self.heads, *self.receipts.values()], default=0)

    def check_home(self, peer: str, home: Path, statements: Statements) -> int:
        """A stopped peer's home, replayed from its genesis, against all reports; the height that it reaches."""
        self.violations += [f"{peer}: {failure}" for failure in verify_home(home).failures]
        with ChainStore(home / "chain", read_only=True) as store:
            head = records.read_head(store)
            height = head.height if head else 0
            if height < self.tops.get(peer, 0):
                self.violations.append(f"{peer}: called height {self.tops[peer]} final, its chain ends at {height}")
            for number in range(1, height + 1):
                self._check_block(peer, number, store, statements)
            self._check_receipts(peer, height, store)
        return height

    def _check_block(self, peer: str, height: int, store: ChainStore, statements: Statements) -> None:
        try:
            block = records.read_block(store, height)
            self.head(peer, height, block.id.hex(), block.header.state_root.hex())
            statements.add_certificate(store.get(records.certificate_key(height)) or b"")
        except FlockError as error:
            self.violations.append(f"{peer}: block {height}: {error}")

    def _check_receipts(self, peer: str, height: int, store: ChainStore) -> None:
        for transaction, at in self.receipts.items():
            receipt = records.read_receipt(store, bytes.fromhex(transaction))
            if at <= height and (receipt is None or receipt.height != at):
                self.violations.append(f"{peer}: transaction {transaction}, reported final at {at}, is lost")

    def check_reach(self, heights: list[int]) -> None:
        """After all homes: what somebody called final must be in one of them."""
        if self.top > max(heights, default=0):
            self.violations.append(f"height {self.top} was reported final, no chain reaches beyond {max(heights)}")


def find_gaps(
    *, unheard: list[str], reports: Reports, kills: int, recoveries: int, power_losses: int, bytes_lost: int
) -> list[str]:
    """What a campaign without a violation did not look at: nothing can be found where nothing happens."""
    gaps = list(unheard)
    if not reports.receipts:
        gaps.append("no transaction was reported final")
    if not reports.tops:
        gaps.append("no peer reported a head")
    if kills and not recoveries:
        gaps.append("nobody who was killed was seen to sign again")
    if power_losses >= ENOUGH_POWER_LOSSES and not bytes_lost:
        gaps.append(f"{power_losses} power losses took not one byte that was not synced")
    return gaps
