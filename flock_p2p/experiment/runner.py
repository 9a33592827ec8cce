"""Runs the rows that are not done yet, in this process or in several. Knows no table and no plot."""

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.managers import DictProxy
from pathlib import Path
from typing import Any

from flock_p2p.experiment.ledger import Ledger
from flock_p2p.experiment.rows import PARTICIPANTS, STEPS, Row
from flock_peers.training.laboratory import BUDGET, Laboratory

POLL_SECONDS = 1.0
Show = Callable[[int, int, float, str], None]  # rounds done, rounds in all, seconds left, what was finished


@dataclass
class Clock:
    """Seconds left, from the rounds that were done here."""

    total: int
    began: float = field(default_factory=time.monotonic)

    def left(self, done: int) -> float:
        return (time.monotonic() - self.began) / done * (self.total - done) if done else float("nan")


@lru_cache(maxsize=2)
def _laboratory(seed: int, base: Path, steps: int) -> Laboratory:
    return Laboratory(PARTICIPANTS, seed, base=base, budget=replace(BUDGET, steps=steps))


def run_one(row: Row, base: Path, report: Callable[[int], None]) -> dict[str, Any]:
    from flock_p2p.experiment.federation import run_row

    began, cpu = time.monotonic(), time.process_time()
    result = run_row(row, _laboratory(row.seed, base, row.steps), lambda done, _: report(done))
    seconds = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - cpu}
    return result | {name: round(value, 1) for name, value in seconds.items()}


def run_all(rows: Sequence[Row], ledger: Ledger, base: Path, jobs: int, show: Show) -> None:
    """`base`: the base model's folder, of the ledger's content id."""
    missing = [row for row in rows if row not in ledger.results]
    clock = Clock(sum(row.rounds for row in missing))
    if jobs == 1:
        _run_here(missing, ledger, base, clock, show)
    elif missing:
        _run_apart(missing, ledger, base, jobs, clock, show)


def describe(row: Row) -> str:
    share = f" {row.malicious} %" if row.malicious else ""
    steps = "" if row.steps == STEPS else f", {row.steps} steps"
    return f"{row.method}, {row.attack}{share}, seed {row.seed}{steps}"


def _run_here(missing: Sequence[Row], ledger: Ledger, base: Path, clock: Clock, show: Show) -> None:
    before = 0
    for row in missing:
        start = before

        def report(done: int, start: int = start, row: Row = row) -> None:
            show(start + done, clock.total, clock.left(start + done), describe(row))

        report(0)
        ledger.add(row, run_one(row, base, report))
        before += row.rounds


def _run_apart(missing: Sequence[Row], ledger: Ledger, base: Path, jobs: int, clock: Clock, show: Show) -> None:
    context = get_context("spawn")  # a fork of a process with threads of torch may hang
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(jobs, mp_context=context, initializer=_ignore_interrupt) as pool,
    ):
        done = manager.dict()
        waiting: dict[Future[dict[str, Any]], Row] = {
            pool.submit(_run_reporting, row, base, number, done): row for number, row in enumerate(missing)
        }
        try:
            while waiting:
                finished, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
                text = ""
                for future in finished:
                    row = waiting.pop(future)
                    ledger.add(row, future.result())
                    text = describe(row)
                rounds = sum(done.values())
                show(rounds, clock.total, clock.left(rounds), text)
        except BaseException:
            pool.kill_workers() if hasattr(pool, "kill_workers") else _end(pool)
            raise


def _end(pool: ProcessPoolExecutor) -> None:
    """Before Python 3.14 a pool waits for what it began; an interrupted row is begun anew anyway."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers


def _run_reporting(row: Row, base: Path, number: int, done: "DictProxy[int, int]") -> dict[str, Any]:
    def report(rounds: int) -> None:
        done[number] = rounds

    return run_one(row, base, report)
