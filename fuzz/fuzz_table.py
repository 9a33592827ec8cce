"""Every decoder that reads bytes of strangers, by name."""

from collections.abc import Iterator
from importlib import import_module

from fuzz_groups import GROUPS, make_group
from fuzz_target import Target

_MODULES = (
    "fuzz_documents", "fuzz_chain", "fuzz_network", "fuzz_session", "fuzz_gossip", "fuzz_overlay", "fuzz_web",
    "fuzz_provenance",
)  # fmt: skip


def _iterate() -> Iterator[Target]:
    for module in _MODULES:
        yield from import_module(module).targets()


def load_targets() -> dict[str, Target]:
    rows = list(_iterate())
    table = {row.name: row for row in rows}
    assert len(table) == len(rows), "two targets of one name"
    return table


def load_target(name: str) -> Target:
    """A decoder, or a group of them. Imports no more than it must: under instrumentation each module takes its time."""
    names = GROUPS.get(name, (name,))
    found: dict[str, Target] = {}
    for row in _iterate():
        if row.name in names:
            found[row.name] = row
        if len(found) == len(names):
            break
    members = [found[member] for member in names]
    return make_group(name, members) if name in GROUPS else members[0]
