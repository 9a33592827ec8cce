"""Every decoder that reads bytes of strangers, by name."""

from collections.abc import Iterator
from importlib import import_module

from fuzz_target import Target

_MODULES = ("fuzz_documents", "fuzz_chain", "fuzz_network")


def _iterate() -> Iterator[Target]:
    for module in _MODULES:
        yield from import_module(module).targets()


def load_targets() -> dict[str, Target]:
    rows = list(_iterate())
    table = {row.name: row for row in rows}
    assert len(table) == len(rows), "two targets of one name"
    return table


def load_target(name: str) -> Target:
    """Imports no more than it must: under instrumentation each module takes its time."""
    return next(row for row in _iterate() if row.name == name)
