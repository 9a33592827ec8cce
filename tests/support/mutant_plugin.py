"""A pytest plugin of benchmarks/contract_mutants.py: runs the contract tests on other artifacts, and says who failed.

FLOCK_ARTIFACTS names a folder of artifacts that take the place of the committed ones, FLOCK_SOURCES the Vyper sources
that they were made of (for the static checks), FLOCK_ORDER a JSON file with each test's rank, FLOCK_WORDS what a test
file's name must hold one of (after a "-": none of), FLOCK_OUTCOME a file for the first failure and each test's CPU
seconds. Knows nothing of mutants. Not loaded unless asked for with `-p`.
"""

import json
import os
import time
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flock_contracts import loader

COMMITTED = (  # about the committed contracts alone: any change of these fails them, whatever it does
    "test_a_committed_artifact_is_what_its_source_compiles_to",
    "test_the_readme_s_tables_are_what_is_measured_of_every_function",
)
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
    items[:] = [item for item in items if item.originalname not in COMMITTED and _is_asked_for(item.nodeid, words)]
    items.sort(key=lambda item: order.get(item.nodeid, UNKNOWN_RANK))


def _is_asked_for(test: str, words: list[str]) -> bool:
    file = test.split("::")[0].rsplit("/", 1)[-1]
    wanted = [word for word in words if not word.startswith("-")]
    return (not wanted or any(word in file for word in wanted)) and not any(
        word[1:] in file for word in words if word.startswith("-")
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: Any) -> Generator[None, object, object]:
    began = time.process_time()
    result = yield
    _outcome["seconds"][item.nodeid] = round(time.process_time() - began, 3)
    return result


def pytest_runtest_logreport(report: Any) -> None:
    _note(report)


def pytest_collectreport(report: Any) -> None:
    _note(report)


def _note(report: Any) -> None:
    if report.failed and _outcome["failed"] is None:
        _outcome["failed"] = report.nodeid


def pytest_sessionfinish() -> None:
    if "FLOCK_OUTCOME" in os.environ:
        Path(os.environ["FLOCK_OUTCOME"]).write_text(json.dumps(_outcome), "utf-8")
