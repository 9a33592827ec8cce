"""Runs the rows that are not done yet, in this process or in several. Knows no table and no plot."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.managers import DictProxy
from pathlib import Path
from typing import Any

from flock_p2p.experiment.ledger import Ledger
from flock_p2p.experiment.pace import Pace
from flock_p2p.experiment.rows import PARTICIPANTS, Row
from flock_peers.training.laboratory import BUDGET, Laboratory
from flock_peers.training.quiet import quiet_libraries

POLL_SECONDS = 1.0
Report = Callable[[int, float], None]  # rounds of a row that are done, and the seconds that they took
Show = Callable[[Pace, Row], None]  # when a row begins, and after each of its rounds


@lru_cache(maxsize=2)
def _laboratory(seed: int, base: Path, steps: int) -> Laboratory:
    return Laboratory(PARTICIPANTS, seed, base=base, budget=replace(BUDGET, steps=steps))


def run_one(row: Row, base: Path, report: Report) -> dict[str, Any]:
    from flock_p2p.experiment.federation import run_row

    report(0, 0.0)
    began, cpu = time.monotonic(), time.process_time()
    with quiet_libraries():
        laboratory = _laboratory(row.seed, base, row.steps)
        ready = time.monotonic()
        result = run_row(row, laboratory, lambda done, _: report(done, time.monotonic() - ready))
    seconds = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - cpu}
    return result | {name: round(value, 1) for name, value in seconds.items()}


def run_all(rows: Sequence[Row], ledger: Ledger, base: Path, jobs: int, show: Show) -> None:
    """`base`: the base model's folder, of the ledger's content id."""
    missing = [row for row in rows if row not in ledger.results]
    if jobs == 1:
        _run_here(missing, ledger, base, show)
    elif missing:
        _run_apart(missing, ledger, base, jobs, show)


def _run_here(missing: Sequence[Row], ledger: Ledger, base: Path, show: Show) -> None:
    pace = Pace(missing)
    for row in missing:

        def report(rounds: int, seconds: float, row: Row = row) -> None:
            pace.note(row, rounds, seconds)
            show(pace, row)

        ledger.add(row, run_one(row, base, report))


def _run_apart(missing: Sequence[Row], ledger: Ledger, base: Path, jobs: int, show: Show) -> None:
    context = get_context("spawn")  # a fork of a process with threads of torch may hang
    pace = Pace(missing, jobs)
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(jobs, mp_context=context, initializer=_ignore_interrupt) as pool,
    ):
        done: DictProxy[int, tuple[int, float]] = manager.dict()
        waiting: dict[Future[dict[str, Any]], Row] = {
            pool.submit(_run_reporting, row, base, number, done): row for number, row in enumerate(missing)
        }
        told: dict[int, tuple[int, float]] = {}
        try:
            while waiting:
                finished, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
                for future in finished:
                    ledger.add(waiting.pop(future), future.result())
                told = _tell(missing, told, dict(done), pace, show)
        except BaseException:
            pool.kill_workers() if hasattr(pool, "kill_workers") else _end(pool)
            raise


def _tell(
    rows: Sequence[Row], told: Mapping[int, object], done: dict[int, tuple[int, float]], pace: Pace, show: Show
) -> dict[int, tuple[int, float]]:
    """What is new of each row since it was told last; returns what is told now."""
    news = [number for number in done if told.get(number) != done[number]]
    for number in news:
        pace.note(rows[number], *done[number])
    for number in news:
        show(pace, rows[number])
    return done


def _end(pool: ProcessPoolExecutor) -> None:
    """Before Python 3.14 a pool waits for what it began; an interrupted row is begun anew anyway."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers


def _run_reporting(row: Row, base: Path, number: int, done: "DictProxy[int, tuple[int, float]]") -> dict[str, Any]:
    def report(rounds: int, seconds: float) -> None:
        done[number] = rounds, seconds

    return run_one(row, base, report)
