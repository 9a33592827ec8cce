"""A round with nothing to train and a delta of 2.16 MB, beside Flower and hivemind; joining; utilisation; memory.

    python benchmarks/rounds.py [--peers 2,4,8] [--rounds 7] [--repeats 3] [--only rounds,join,training]
                                [--others flower,hivemind] [--json]
    python benchmarks/rounds.py --quick
    python benchmarks/rounds.py --memory [--quick] [--rounds 100] [--json]

Real `join` processes with real trainers, on loopback: commit, reveal, fetch, verify, vote, aggregate, final block. The
trainers do the least they can (one step on eight tokens). The others do nothing at all: Flower's clients return what
they are sent, hivemind's averager averages. Each of them is installed, pinned, into an environment of its own, and
left out where that fails. Everything runs in a network namespace of its own, whose loopback counts the bytes of all
alike, headers and answers included. Seconds of a round are between two rounds' beginnings; the first is left out.
Linux only.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loopback
from choices import numbers, several
from private_venv import NotInstalled
from rounds_flower import Flower
from rounds_hivemind import Hivemind
from rounds_join import measure_join
from rounds_memory import measure_memory
from rounds_ours import LEAST_BUDGET, measure_rounds, say
from rounds_training import measure_training
from wide_base import make_wide_base

KINDS = ("rounds", "join", "training")
OTHERS = ("flower", "hivemind")
COMPARED = ("flower_deployed", "flower_simulation", "hivemind")


def open_others(
    folder: Path, names: list[str]
) -> tuple[dict[str, Callable[[int, int], dict[str, Any]]], dict[str, str]]:
    """How each is measured, and of those that cannot be, why. Before the network is closed."""
    ways: dict[str, Callable[[int, int], dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    if "flower" in names:
        try:
            flower = Flower(folder / "flower")
            ways["flower_deployed"] = lambda peers, rounds: flower.measure("deployed", peers, rounds)
            ways["flower_simulation"] = lambda peers, rounds: flower.measure("simulation", peers, rounds)
        except NotInstalled as error:
            missing["flower"] = str(error)
    if "hivemind" in names:
        try:
            ways["hivemind"] = Hivemind(folder / "hivemind").measure
        except NotInstalled as error:
            missing["hivemind"] = str(error)
    return ways, missing


def measure_size(
    folder: Path, base: Path, peers: int, rounds: int, ways: dict[str, Callable[[int, int], dict[str, Any]]]
) -> dict[str, Any]:
    """Ours and the others once, after each other."""
    row: dict[str, Any] = {"ours": measure_rounds(folder / "ours", base, peers, rounds, LEAST_BUDGET)}
    say(f"{peers} peers, ours: {row['ours']}")
    for name, measure in ways.items():
        try:
            row[name] = measure(peers, rounds)
        except (OSError, TimeoutError, ValueError) as error:
            row[name] = {"failed": str(error)[:400]}
        say(f"{peers} peers, {name}: {row[name]}")
    shutil.rmtree(folder, ignore_errors=True)
    return row


def sum_up(peers: int, turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the turns, and ratios of ours to each other system within a turn."""
    row: dict[str, Any] = {"peers": peers, "turns": turns, "ours_s": _median(turn["ours"]["seconds"] for turn in turns)}
    row["phases"] = {
        phase: _median(turn["ours"]["phases"][phase] for turn in turns if phase in turn["ours"]["phases"])
        for phase in turns[0]["ours"]["phases"]
    }
    for name in COMPARED:
        measured = [turn for turn in turns if "seconds" in turn.get(name, {})]
        if measured:
            row[f"{name}_s"] = _median(turn[name]["seconds"] for turn in measured)
            row[f"ratio_to_{name}"] = _median(turn["ours"]["seconds"] / turn[name]["seconds"] for turn in measured)
    return row


def _median(values: Any) -> float:
    return round(float(statistics.median(list(values))), 3)


def print_table(result: dict[str, Any]) -> None:
    for name, reason in result.get("missing", {}).items():
        print(f"{name} is left out: {reason}")
    for size in result.get("sizes", []):
        ours = size["turns"][-1]["ours"]
        print(
            f"\n{size['peers']} peers: {size['ours_s']:.2f} s a round, {ours['blocks_per_round']} blocks, "
            f"{ours['cpu_seconds_per_peer_and_round']} s of CPU and "
            f"{ours['bytes_per_peer_and_round'] / 1e6:.2f} MB a peer"
        )
        print("  " + "  ".join(f"{phase.lower()} {seconds:.2f}" for phase, seconds in size["phases"].items()))
        for name in COMPARED:
            if f"{name}_s" in size:
                print(f"  {name:<18} {size[f'{name}_s']:8.3f} s   ratio_to_{name} {size[f'ratio_to_{name}']:.2f}")
    for row in result.get("training", []):
        _print_rows(f"training, {row['peers']} peers", row)
    for name in ("join", "memory"):
        if name in result:
            _print_rows(name, result[name])


def _print_rows(title: str, rows: dict[str, Any]) -> None:
    print(f"\n{title}")
    for key, value in rows.items():
        print(f"  {key.replace('_', ' '):<32}{value}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="2,4,8", type=numbers, help="sizes of the network (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help="measured in each run (default: 7; with --memory 100)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each size (default: %(default)s)")
    parser.add_argument(
        "--only", default=",".join(KINDS), type=several(KINDS), help="what is measured (default: %(default)s)"
    )
    parser.add_argument(
        "--others", default=",".join(OTHERS), type=several(OTHERS), help="beside it (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="4 peers, 3 rounds, one run, 10 s of training; of memory 2 peers"
    )
    parser.add_argument("--memory", action="store_true", help="memory of idle and training peers over many rounds")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args()
    if options.quick and not options.memory:
        options.peers, options.rounds, options.repeats = [4], options.rounds or 3, 1
    with tempfile.TemporaryDirectory(prefix="flock-rounds-") as name:
        result = run(options, Path(name))
    print(json.dumps(result)) if options.json else print_table(result)
    return 0


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    kinds = () if options.memory else options.only
    result: dict[str, Any] = {"cpus": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}
    others = options.others if "rounds" in kinds else []
    ways, result["missing"] = open_others(folder, others)
    result["own_network"] = loopback.enter_private_network()
    base = make_wide_base(folder / "base")
    if options.memory:
        result["memory"] = measure_memory(folder / "memory", base, options.rounds or 100, is_quick=options.quick)
    if "rounds" in kinds:
        sizes: dict[int, list[dict[str, Any]]] = {peers: [] for peers in options.peers}
        for turn in range(options.repeats):
            for peers, turns in sizes.items():
                turns.append(measure_size(folder / f"{peers}-{turn}", base, peers, options.rounds or 7, ways))
        result["sizes"] = [sum_up(peers, turns) for peers, turns in sizes.items()]
    if "join" in kinds:
        result["join"] = measure_join(folder / "join", base, 1 if options.quick else 5)
    if "training" in kinds:
        result["training"] = measure_training(folder / "training", base, options.peers, 10.0 if options.quick else 60.0)
    return result


if __name__ == "__main__":
    sys.exit(main())
