"""What a federation without votes would have made: the plain average of a round's proposals. Needs no torch."""

from collections.abc import Sequence

import numpy as np

from flock_chain.aggregation import Delta, GlobalAdapter, from_floats


def average_plainly(adapter: GlobalAdapter, deltas: Sequence[Delta]) -> GlobalAdapter:
    """adapter + the mean of all deltas, unfiltered and unclipped (FedAvg); a baseline, never adopted."""
    total = np.zeros(adapter.layout.parameters, np.float64)
    for delta in deltas:
        total += delta.to_float32()
    vector = adapter.to_float32() + total / max(1, len(deltas))
    return from_floats(vector.astype(np.float32), adapter.layout, adapter.format)
