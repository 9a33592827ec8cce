"""How samples are summed up in the tables of the benchmarks."""

from collections.abc import Sequence

from flock_peers.telemetry import compute_percentile

SHARES = {"p50": 0.5, "p95": 0.95, "max": 1.0}


def sum_up(samples: Sequence[float], digits: int) -> dict[str, float | None]:
    """None without samples."""
    found = {name: compute_percentile(samples, share) for name, share in SHARES.items()}
    return {name: None if value is None else round(value, digits) for name, value in found.items()}
