"""`simulate`: try to break consensus, prove its rules, or see whether wrong rules would be found."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from flock_chain.errors import Misuse
from flock_p2p.cli import EXIT_CHECK_FAILED

MAX_SEED = 1 << 40
MAX_SCHEDULES = 10_000_000
MUTANT_SCHEDULES = 300  # of each kind for a mutant, unless --schedules says otherwise
BAR = 30  # characters


def run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.seed < MAX_SEED:
        raise Misuse("--seed: 0 to 2^40 - 1")
    if arguments.schedules is not None and not 0 < arguments.schedules <= MAX_SCHEDULES:
        raise Misuse(f"--schedules: 1 to {MAX_SCHEDULES}")
    if arguments.jobs < 1:
        raise Misuse("--jobs: at least 1")
    if arguments.prove:
        return _prove(arguments)
    if arguments.mutants:
        return _mutants(arguments)
    return _log(arguments) if arguments.log else _campaign(arguments)


def _say(arguments: argparse.Namespace, text: str, row: dict[str, Any]) -> None:
    print(json.dumps(row, indent=2) if arguments.json else text)


def _make_bar(total: int, started: float) -> Callable[[int, str], None]:
    """A progress bar on standard error, where that is a terminal."""

    def show(done: int, text: str) -> None:
        if sys.stderr.isatty():
            share, seconds = done / max(total, 1), time.monotonic() - started
            left = seconds / share - seconds if share else 0
            bar = "#" * int(share * BAR)
            end = "\n" if done >= total else ""
            print(
                f"\r[{bar:<{BAR}}] {done}/{total}  {left:.0f} s left  {text:<45}", end=end, file=sys.stderr, flush=True
            )

    return show


def _prove(arguments: argparse.Namespace) -> int:
    from flock_p2p.simulate.proof import prove
    from flock_p2p.simulate.report import format_proof, proof_to_dict

    started = time.monotonic()
    claims = prove()
    seconds = time.monotonic() - started
    _say(arguments, format_proof(claims, seconds), proof_to_dict(claims, seconds))
    return 0 if all(claim.holds for claim in claims) else EXIT_CHECK_FAILED


def _mutants(arguments: argparse.Namespace) -> int:
    from flock_p2p.simulate.mutation import run_mutation_campaign
    from flock_p2p.simulate.report import format_mutants, mutants_to_dict

    started = time.monotonic()

    def progress(done: int, total: int, name: str) -> None:
        _make_bar(total, started)(done, name)

    verdicts = run_mutation_campaign(arguments.seed, arguments.schedules or MUTANT_SCHEDULES, progress)
    seconds = time.monotonic() - started
    _say(arguments, format_mutants(verdicts, seconds), mutants_to_dict(verdicts, seconds))
    return 0 if all(verdict.killed for verdict in verdicts) else EXIT_CHECK_FAILED


def _plan(arguments: argparse.Namespace) -> Any:
    from flock_p2p.simulate.campaign import Plan

    faults = None
    if arguments.faults not in (None, "all"):
        faults = frozenset(name for name in arguments.faults.split(",") if name and name != "none")
    plan = Plan(arguments.seed, arguments.schedules or 100, arguments.validators, faults, arguments.executor)
    plan.scenario(0)  # names the fault that does not exist before anything runs
    return plan


def _cpu_seconds() -> float:
    """Of this process and of its workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _campaign(arguments: argparse.Namespace) -> int:
    from flock_p2p.simulate.campaign import Tally, run_campaign
    from flock_p2p.simulate.report import (
        campaign_to_dict,
        counterexample_to_dict,
        format_campaign,
        format_counterexample,
    )
    from flock_p2p.simulate.shrink import shrink

    plan, started, cpu = _plan(arguments), time.monotonic(), _cpu_seconds()
    bar = _make_bar(plan.schedules, started)

    def progress(tally: Tally) -> None:
        bar(tally.schedules, f"{tally.crashes} crashes, {tally.forks} forks by colluders")

    tally, broken = run_campaign(plan, progress, arguments.jobs)
    seconds = time.monotonic() - started
    cpu = _cpu_seconds() - cpu
    row, text = campaign_to_dict(plan, tally, seconds, cpu), format_campaign(plan, tally, seconds, cpu)
    if broken:
        found = shrink(broken.scenario, broken.violation, plan.variant)
        row["violation"] = counterexample_to_dict(found, broken.scenario.seed)
        text += "\n\n" + format_counterexample(found, broken.scenario.seed)
    else:
        text += "\nevery property held" + ("; whoever made a fork was convicted" if tally.forks else "")
    _say(arguments, text, row)
    return EXIT_CHECK_FAILED if broken else 0


def _log(arguments: argparse.Namespace) -> int:
    """Every event of the schedules, and how each ended."""
    from flock_p2p.simulate.judge import Violation
    from flock_p2p.simulate.scenario import describe
    from flock_p2p.simulate.simulator import Simulator

    plan, failed = _plan(arguments), False
    for number in range(arguments.schedules or 1):
        scenario = plan.scenario(number)
        simulator = Simulator(scenario, record=True)
        try:
            end = f"digest {simulator.run().digest}"
        except Violation as violation:
            end, failed = f"VIOLATED {violation}", True
        rows = simulator.log or []
        if arguments.json:
            events = [{"ms": at, "event": text} for at, text in rows]
            print(json.dumps({"seed": scenario.seed, "scenario": describe(scenario), "events": events, "end": end}))
        else:
            print(f"Scenario({describe(scenario)})", *(f"{at:8} ms  {text}" for at, text in rows), end, sep="\n")
    return EXIT_CHECK_FAILED if failed else 0
