"""`demo`: a network on this machine, from nothing to a verified outcome."""

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flock_chain.errors import Misuse
from flock_p2p.cli import EXIT_CHECK_FAILED


def run(arguments: argparse.Namespace) -> int:
    from flock_p2p.demo.audit import audit
    from flock_p2p.demo.network import run_network
    from flock_p2p.demo.outcome import format_outcome, is_success, to_report
    from flock_p2p.demo.plan import EXTRA_ROUNDS, make_plan
    from flock_p2p.demo.watch import Watch

    folder = _choose_folder(arguments.home)
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(1_000_000)
    if not 0 <= seed < 1 << 40:
        raise Misuse("--seed: 0 to 2^40 - 1")
    plan = make_plan(
        peers=arguments.peers,
        rounds=arguments.rounds,
        poisoners=arguments.poisoners,
        seed=seed,
        folder=folder,
        by_paper=arguments.voting_rule == "paper",
        bits=arguments.bits,
        extra_rounds=EXTRA_ROUNDS,
    )
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {line}", flush=True)

    # As Ctrl-C, which a shell without job control keeps from what it starts in the background.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say(f"seed {seed}, homes in {folder}: starting {len(plan.peers)} peers")
    with run_network(plan) as network:
        say("all peers are up and connected")
        say(f"watch it in a browser: {network.ask(0, 'status')['page']}  (peer 0)")
        say(f"to join by hand: python -m flock_p2p join --home NEW --port 0 --bootstrap {network.addresses[0]}")
        watch = Watch(network, say)
        watched = watch.run()
        watch.run_baselines(watched)
        if arguments.keep_running:
            how = f"Ctrl-C (in the background: kill {os.getpid()}) ends it and judges the outcome"
            told = f"still running; join with --bootstrap {network.addresses[0]}; {how}"
            _wait_for_interrupt(lambda: say(told))
    say("peers stopped; judging the outcome from their chain")
    outcome = audit(plan, watched)
    print(format_outcome(outcome))
    report = to_report(outcome)
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=2) + "\n")
    print(f"took {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0 if is_success(outcome) else EXIT_CHECK_FAILED


def _choose_folder(given: Path | None) -> Path:
    folder = (given or Path("flock-demo") / time.strftime("%Y%m%d-%H%M%S")).expanduser().resolve()
    if folder.exists() and any(folder.iterdir()):
        raise Misuse(f"--home {folder}: not empty; name a new folder")
    return folder


def _wait_for_interrupt(say: Callable[[], None]) -> None:
    try:
        say()
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        print(flush=True)
