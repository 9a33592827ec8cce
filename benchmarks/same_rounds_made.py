"""What was made anew of a finished demo's rounds: proposals, and the adapters that they start from, as files too."""

from dataclasses import dataclass, field
from pathlib import Path

from flock_chain.aggregation import Delta


@dataclass
class Made:
    """By round."""

    scratch: Path
    deltas: dict[int, dict[int, Delta]] = field(default_factory=dict)  # by proposer index
    starts: dict[int, Path] = field(default_factory=dict)  # the adapter it began with
    held: dict[int, list[int]] = field(default_factory=dict)

    def write(self, stem: str, data: bytes) -> Path:
        path = self.scratch / stem
        path.write_bytes(data)
        return path

    def delta_path(self, number: int, index: int) -> Path:
        return self.scratch / f"delta-{number}-{index}"

    def find_pair(self, number: int, index: int) -> tuple[Path, Path]:
        """What a proposal starts from, and its delta."""
        return self.starts[number], self.delta_path(number, index)
