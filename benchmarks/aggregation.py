"""What exact aggregation costs beside a float32 mean: `python benchmarks/aggregation.py [--json] [--deltas 8]`."""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from flock_chain.aggregation import (
    Format,
    Layout,
    apply,
    compute_gram,
    encode_delta,
    encode_global,
    from_floats,
    parse_delta,
    quantise,
)

SIZES = {"540k": (58, 9_216), "5M": (192, 26_112)}  # tensors, and parameters of each


def measure_ms(work: Callable[[], object], repeats: int) -> float:
    """The best of a few runs: what the work costs when nothing else runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def make_layout(tensors: int, size: int) -> Layout:
    """Alternating A [8, n] and B [n, 8] as LoRA has them."""
    side = size // 8
    shapes = {
        f"layer.{index // 2:03}.{'AB'[index % 2]}": (8, side) if index % 2 else (side, 8) for index in range(tensors)
    }
    return Layout.of(shapes)


def run(name: str, count: int, repeats: int) -> dict[str, Any]:
    layout, format = make_layout(*SIZES[name]), Format()
    chance = np.random.default_rng(1)
    vectors = [chance.normal(size=layout.parameters).astype(np.float32) * np.float32(1e-3) for _ in range(count)]
    deltas = [quantise(vector, layout, format) for vector in vectors]
    adapter = from_floats(vectors[0], layout, format)
    data = encode_delta(deltas[0])
    mean_ms = measure_ms(lambda: vectors[0] + np.mean(vectors, axis=0), repeats)
    apply_ms = measure_ms(lambda: apply(adapter, deltas), repeats)
    return {
        "parameters": layout.parameters,
        "deltas": count,
        "delta_file_bytes": len(data),
        "global_file_bytes": len(encode_global(adapter)),
        "quantise_ms": measure_ms(lambda: quantise(vectors[0], layout, format), repeats),
        "encode_file_ms": measure_ms(lambda: encode_delta(deltas[0]), repeats),
        "parse_file_ms": measure_ms(lambda: parse_delta(data, layout, format), repeats),
        "gram_ms": measure_ms(lambda: compute_gram(deltas), repeats),
        "apply_ms": apply_ms,
        "float32_mean_ms": mean_ms,
        "ratio_to_float32": apply_ms / mean_ms,
        "bytes_to_float32": len(data) / (4 * layout.parameters),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--deltas", type=int, default=8, choices=range(1, 17), metavar="1-16")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    results = {name: run(name, arguments.deltas, arguments.repeats) for name in SIZES}
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    for key in results["540k"]:
        print(f"{key:20}" + "".join(f"{result[key]:14.2f}" for result in results.values()))


if __name__ == "__main__":
    main()
