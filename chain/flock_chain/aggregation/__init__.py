"""Exact, reproducible aggregation of LoRA deltas. Pure numpy and integers; knows no chain, no network, no torch."""

from flock_chain.aggregation.adapter import (
    GRID_LIMIT,
    GlobalAdapter,
    add_contribution,
    apply,
    compute_global_file_bytes,
    encode_global,
    from_floats,
    parse_global,
    remove_contribution,
    take_out,
)
from flock_chain.aggregation.delta import Delta, compute_delta_file_bytes, encode_delta, parse_delta, quantise
from flock_chain.aggregation.format import Format
from flock_chain.aggregation.layout import Layout
from flock_chain.aggregation.measure import (
    MAX_DELTAS,
    ONE,
    compute_clip_factors,
    compute_cosine,
    compute_filter_bits,
    compute_gram,
    compute_slash_floor,
    cosine,
    filter_bits,
    squared_norm,
)

__all__ = [
    "GRID_LIMIT",
    "MAX_DELTAS",
    "ONE",
    "Delta",
    "Format",
    "GlobalAdapter",
    "Layout",
    "add_contribution",
    "apply",
    "compute_clip_factors",
    "compute_cosine",
    "compute_delta_file_bytes",
    "compute_filter_bits",
    "compute_global_file_bytes",
    "compute_gram",
    "compute_slash_floor",
    "cosine",
    "encode_delta",
    "encode_global",
    "filter_bits",
    "from_floats",
    "parse_delta",
    "parse_global",
    "quantise",
    "remove_contribution",
    "squared_norm",
    "take_out",
]
