"""`upgrade`: which rules hold from which epoch on; shows what a stopped home has installed, or installs a schedule."""

import argparse
import json
from pathlib import Path

from flock_chain.errors import Misuse
from flock_chain.genesis import Genesis
from flock_chain.upgrades import KNOWN_RULES, MAX_SCHEDULE_BYTES, Schedule, decode_schedule
from flock_peers.home import Home


def run(arguments: argparse.Namespace) -> int:
    home = Home(arguments.home)
    genesis = home.load_genesis()
    if arguments.install is None:
        _print(home.load_upgrades(genesis), genesis, arguments)
        return 0
    with home.lock():  # a running peer has read its schedule already
        home.bring_up_to_date()
        schedule = read_schedule(arguments.install.expanduser(), genesis)
        schedule.check_replaces(home.load_upgrades(genesis), read_executed_epoch(home, genesis))
        home.store_upgrades(schedule)
    _print(schedule, genesis, arguments)
    return 0


def _print(schedule: Schedule, genesis: Genesis, arguments: argparse.Namespace) -> None:
    if not arguments.json:
        print(format_schedule(schedule, genesis))
        return
    steps = [
        {"epoch": row.epoch, "rules": row.rules, "known": row.rules in KNOWN_RULES, "changes": dict(row.changes)}
        for row in schedule.steps
    ]
    found = {
        "network": genesis.network, "genesis": genesis.hash.hex(), "schedule": schedule.hash.hex(),
        "first_rules": genesis.parameters.rules, "steps": steps,
    }  # fmt: skip
    print(json.dumps(found, indent=2))


def read_schedule(path: Path, genesis: Genesis) -> Schedule:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SCHEDULE_BYTES + 2)
    except OSError as error:
        raise Misuse(f"{path}: cannot be read: {error.strerror}") from error
    return decode_schedule(data.removesuffix(b"\n"), genesis_hash=genesis.hash, genesis=genesis.parameters)


def read_executed_epoch(home: Home, genesis: Genesis) -> int:
    """Of the last block that this home executed; 0 where it has none."""
    from flock_chain.execution.executor import Executor
    from flock_peers.store.chain_store import ChainStore

    if not (home.path / "chain" / "chain.mdb").exists():
        return 0
    with ChainStore(home.path / "chain", read_only=True) as stored:
        executor = Executor(genesis, stored)
        served = executor.served()
        return served.epoch if executor.head.height >= served.first_height else max(0, served.epoch - 1)


def format_schedule(schedule: Schedule, genesis: Genesis) -> str:
    lines = [
        f"network   {genesis.network}, genesis {genesis.hash.hex()}",
        f"schedule  {schedule.hash.hex()}",
        f"epoch 0   rules {genesis.parameters.rules}",
    ]
    for step in schedule.steps:
        changes = "".join(f", {name} {value}" for name, value in step.changes)
        unknown = "" if step.rules in KNOWN_RULES else "  (not in this release: it will stop before that epoch)"
        lines.append(f"epoch {step.epoch:<4}rules {step.rules}{changes}{unknown}")
    return "\n".join(lines)
