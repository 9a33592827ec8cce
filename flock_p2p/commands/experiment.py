"""`experiment`: attacks and defences on real trainings, in one process, without network and chain."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flock_chain.errors import Misuse
from flock_p2p.experiment.rows import Row, plan_rows
from flock_peers.plural import plural
from flock_peers.store.disk import find_trouble

QUICK_METHODS, QUICK_ATTACKS = ("fedavg", "paper", "ours"), ("none", "shared")
QUICK_ROUNDS = 8  # FedAvg has swallowed a shared backdoor whole by then
MAX_JOBS = 64
INSTALL_PLOTS = "pip install -c constraints.txt '.[plots]'"  # in a checkout


def run(arguments: argparse.Namespace) -> int:
    rows = _plan(arguments)
    if not 1 <= arguments.jobs <= MAX_JOBS:
        raise Misuse(f"--jobs: 1 to {MAX_JOBS}")
    from flock_p2p.experiment.ledger import Ledger
    from flock_p2p.experiment.progress import Progress
    from flock_p2p.experiment.report import format_table, shorten
    from flock_p2p.experiment.runner import run_all
    from flock_peers.training.base_manifest import describe_base
    from flock_peers.training.client import BASE_FOLDER

    folder: Path = arguments.out
    base: Path = (arguments.base or BASE_FOLDER).resolve()
    ledger = Ledger(folder, describe_base(base).digest.hex())
    try:
        run_all(rows, ledger, base, arguments.jobs, Progress(sys.stderr))
    except KeyboardInterrupt:
        kept = sum(row in ledger.results for row in rows)
        said = f"stopped: {kept} of {plural(len(rows), 'row')} kept in {folder}; the same command runs the rest"
        print(f"{chr(10) if sys.stderr.isatty() else ''}{said}", file=sys.stderr)  # a bar stands in the line
        raise
    results = [ledger.results[row] for row in rows]
    try:
        _write_files(results, folder)
    except OSError as error:
        if find_trouble(error):
            raise
        what = f"{error.filename}: cannot be written ({error.strerror})"
        raise Misuse(f"{what}; rows.jsonl has all rows: the same command runs none of them again") from error
    print(json.dumps([shorten(result) for result in results]) if arguments.json else format_table(results))
    return 0


def _write_files(results: Sequence[dict[str, Any]], folder: Path) -> None:
    from flock_p2p.experiment.plots import can_draw, draw
    from flock_p2p.experiment.report import write_csv

    write_csv(results, folder)
    if can_draw():
        draw(results, folder)
    else:
        print(f"no plots: they need matplotlib: {INSTALL_PLOTS}", file=sys.stderr)


def _plan(arguments: argparse.Namespace) -> list[Row]:
    methods, attacks = _names(arguments.methods), _names(arguments.attacks)
    malicious, seeds = _numbers("--malicious", arguments.malicious), _numbers("--seeds", arguments.seeds)
    rounds = arguments.rounds
    if arguments.quick:
        seeds, rounds = seeds[:1], QUICK_ROUNDS if rounds is None else rounds
    return plan_rows(methods or QUICK_METHODS, attacks or QUICK_ATTACKS, malicious, seeds, rounds, arguments.steps)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise Misuse(f"{option}: whole numbers with commas between them, not {text!r}") from error
