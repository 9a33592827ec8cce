"""Which rules and numbers hold in which epoch: those of genesis, then those of the upgrade schedule. Pure.

The schedule is a document that every operator installs before its first new epoch: canonical JSON, pinned by its
keccak, which peers tell each other. It changes what the chain asks of blocks from an epoch's first height on, never the
terms of a running round: those are in the contracts, which no schedule changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from flock_chain import canonical_json
from flock_chain.crypto import Digest, keccak256
from flock_chain.errors import InvalidEncoding, Refused
from flock_chain.parameters import Parameters, parse_parameters

KNOWN_RULES = (1,)  # versions of the rules of execution that this release contains
CHANGEABLE = ("block_gas_limit", "block_interval")  # read for each block; no contract and no message bound knows them
MAX_STEPS = 256
MAX_SCHEDULE_BYTES = 64 << 10  # 256 steps that change every number take 35 KB
MAX_EPOCH = 1 << 53
_FORMAT = 1
_MAX_DEPTH = 4  # the document, its steps, a step, its changes


@dataclass(frozen=True)
class Step:
    epoch: int  # the first one it holds in
    rules: int
    changes: tuple[tuple[str, int], ...] = ()  # new values by name, sorted; they stay until a later step


@dataclass(frozen=True)
class Schedule:
    """Well formed where it comes from `decode_schedule`. Without steps: nothing was agreed beyond genesis."""

    genesis_hash: bytes
    steps: tuple[Step, ...] = ()  # ascending by epoch

    def encode(self) -> bytes:
        steps = [{"epoch": row.epoch, "rules": row.rules, "changes": dict(row.changes)} for row in self.steps]
        document = {"format": _FORMAT, "genesis": self.genesis_hash.hex(), "steps": steps}
        return canonical_json.encode(document)

    @property
    def hash(self) -> Digest:
        return keccak256(self.encode())

    def parameters_at(self, genesis: Parameters, epoch: int) -> Parameters:
        """`genesis`: what the genesis document says. Raises Refused where this release does not contain the rules."""
        current = genesis
        for step in self.steps:
            if step.epoch <= epoch:
                current = replace(current, rules=step.rules, **dict(step.changes))
        if current.rules not in KNOWN_RULES:
            raise Refused(
                f"from epoch {self._first_epoch_of(current.rules)} on this network runs rules version {current.rules}, "
                f"this release knows {', '.join(map(str, KNOWN_RULES))}: install a newer release and start again; "
                "nothing was signed or executed by the wrong rules"
            )
        return current

    def _first_epoch_of(self, rules: int) -> int:
        return next((step.epoch for step in self.steps if step.rules == rules), 0)

    def find_unknown(self) -> Step | None:
        """The first step with which this release will have to stop."""
        return next((step for step in self.steps if step.rules not in KNOWN_RULES), None)

    def check_replaces(self, installed: "Schedule", epoch: int) -> None:
        """`epoch`: of the last block executed here. Raises Refused where the new schedule changes it or the past."""
        if [row for row in self.steps if row.epoch <= epoch] != [row for row in installed.steps if row.epoch <= epoch]:
            raise Refused(
                f"upgrade schedule: it changes what holds up to epoch {epoch}, whose blocks are executed already; an "
                f"upgrade begins with epoch {epoch + 1} at the earliest, and better later: every operator must have it"
            )


def decode_schedule(data: bytes, *, genesis_hash: bytes, genesis: Parameters) -> Schedule:
    """Parse the canonical form for this network; raises InvalidEncoding naming the check."""
    document = canonical_json.decode(data, "upgrade schedule", max_bytes=MAX_SCHEDULE_BYTES, depth=_MAX_DEPTH)
    if not isinstance(document, dict) or set(document) != {"format", "genesis", "steps"}:
        raise InvalidEncoding("upgrade schedule: must name format, genesis and steps")
    if type(document["format"]) is not int or document["format"] != _FORMAT:
        raise InvalidEncoding(f"upgrade schedule: format {document['format']!r:.20}, this release reads {_FORMAT}")
    if document["genesis"] != genesis_hash.hex():
        raise InvalidEncoding(f"upgrade schedule: for genesis {document['genesis']!r:.70}, not {genesis_hash.hex()}")
    rows = document["steps"]
    if not isinstance(rows, list) or len(rows) > MAX_STEPS:
        raise InvalidEncoding(f"upgrade schedule: steps are no list of at most {MAX_STEPS}")
    schedule = Schedule(genesis_hash, tuple(_parse_step(row, genesis) for row in rows))
    if any(a.epoch >= b.epoch or a.rules > b.rules for a, b in pairwise(schedule.steps)):
        raise InvalidEncoding("upgrade schedule: epochs must ascend, and rules may not go back")
    if schedule.steps and schedule.steps[0].rules < genesis.rules:
        raise InvalidEncoding(f"upgrade schedule: rules {schedule.steps[0].rules} before those of genesis")
    canonical_json.check_form(data, schedule.encode(), "upgrade schedule")
    return schedule


def _parse_step(row: Any, genesis: Parameters) -> Step:
    if not isinstance(row, dict) or set(row) != {"epoch", "rules", "changes"}:
        raise InvalidEncoding("upgrade schedule: a step names epoch, rules and changes")
    epoch, rules, changes = row["epoch"], row["rules"], row["changes"]
    for name, value in (("epoch", epoch), ("rules", rules)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MAX_EPOCH:
            raise InvalidEncoding(f"upgrade schedule: {name} {value!r:.20} is no positive integer below 2^53")
    if not isinstance(changes, Mapping) or not set(changes) <= set(CHANGEABLE):
        raise InvalidEncoding(f"upgrade schedule: a step may change {', '.join(CHANGEABLE)} and nothing else")
    parse_parameters({**genesis.to_dict(), "rules": rules, **changes})  # each in its range
    return Step(epoch, rules, tuple(sorted(changes.items())))
