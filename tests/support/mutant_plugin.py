"""A pytest plugin of benchmarks/contract_mutants.py: runs the contract tests on other artifacts, and says who failed.

FLOCK_ARTIFACTS names a folder of artifacts that take the place of the committed ones, FLOCK_SOURCES the Vyper sources
that they were made of (for the static checks), FLOCK_ORDER a JSON file with each test's rank, FLOCK_WORDS what a test
file's name must hold one of, FLOCK_OUTCOME a file for the first failure and every duration. Knows nothing of mutants.
Not loaded unless asked for with `-p`.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from flock_contracts import loader

COMMITTED = "test_a_committed_artifact_is_what_its_source_compiles_to"  # about the committed artifacts alone, and slow
UNKNOWN_RANK = 1_000_000.0
_outcome: dict[str, Any] = {"failed": None, "seconds": {}}


def _install(folder: Path) -> None:
    """Before any test imports the loader, so `from flock_contracts.loader import load` gets this one, too."""
    committed = loader.load

    @cache
    def load(name: str) -> loader.Contract:
        path = folder / f"{name}.json"
        return loader.Contract(name, json.loads(path.read_text("utf-8"))) if path.exists() else committed(name)

    loader.load = load  # type: ignore[assignment]


if "FLOCK_ARTIFACTS" in os.environ:
    _install(Path(os.environ["FLOCK_ARTIFACTS"]))


def pytest_collection_modifyitems(items: list[Any]) -> None:
    order: dict[str, float] = {}
    if "FLOCK_ORDER" in os.environ:
        order = json.loads(Path(os.environ["FLOCK_ORDER"]).read_text("utf-8"))
    words = [word for word in os.environ.get("FLOCK_WORDS", "").split(",") if word]
    items[:] = [item for item in items if COMMITTED not in item.nodeid and _is_asked_for(item.nodeid, words)]
    items.sort(key=lambda item: order.get(item.nodeid, UNKNOWN_RANK))


def _is_asked_for(test: str, words: list[str]) -> bool:
    return not words or any(word in test.split("::")[0].rsplit("/", 1)[-1] for word in words)


def pytest_runtest_logreport(report: Any) -> None:
    seconds: dict[str, float] = _outcome["seconds"]
    seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + float(report.duration)
    _note(report)


def pytest_collectreport(report: Any) -> None:
    _note(report)


def _note(report: Any) -> None:
    if report.failed and _outcome["failed"] is None:
        _outcome["failed"] = report.nodeid


def pytest_sessionfinish() -> None:
    if "FLOCK_OUTCOME" in os.environ:
        Path(os.environ["FLOCK_OUTCOME"]).write_text(json.dumps(_outcome), "utf-8")
