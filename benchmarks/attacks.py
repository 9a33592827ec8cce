"""Every attack of the tests at full length, on a whole peer in a process of its own.

    python benchmarks/attacks.py [--attack NAME[,NAME...]] [--scale N] [--json]

Printed for each: seconds, the peer's CPU seconds, its peak of memory above what it held before the attack (and the
bound), the longest that an honest peer waited for an answer meanwhile, and how late the peer's loop ran what was due,
99 of 100 times, by its own work (and the bound; in brackets: on the clock, with all that other programs took). An
attack fails where the peer dies, loses an honest connection, refuses a newcomer, exceeds a bound, restarts its stack or
does not name the attacker; the exit status is 1 then. The absolute times are those of this machine.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio
from choices import several

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import attacks_handshake_support  # noqa: E402 - the tests' own attacks, longer
import attacks_muxer_support  # noqa: E402
import attacks_protocols_support  # noqa: E402
from attack_support import Attack, Victim, carry_out, run_victim  # noqa: E402

ATTACKS: dict[str, Attack] = {
    **attacks_handshake_support.ATTACKS,
    **{f"muxer_{name}": attack for name, attack in attacks_muxer_support.ATTACKS.items()},
    **attacks_protocols_support.ATTACKS,
}


def run_one(victim: Victim, attack: Attack, scale: int) -> dict[str, Any]:
    try:
        return {**asdict(trio.run(carry_out, victim, attack, scale)), "scale": scale, "failure": ""}
    except Exception as error:  # noqa: BLE001 - the report's edge: the next attack is to run as well
        inner: BaseException = error
        while isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        return {"scale": scale, "failure": f"{type(inner).__name__}: {inner}"[:300]}


def format_row(name: str, row: dict[str, Any], attack: Attack) -> str:
    if row["failure"]:
        return f"| {name} | {row['scale']} | {row['failure']} | | | | |"
    memory = f"{row['memory'] / 2**20:.1f} of {attack.memory >> 20} MiB"
    times = f"{row['seconds']:.0f} s | {row['cpu_seconds']:.1f} s | {row['wait'] * 1_000:.0f} ms"
    lag = f"{row['lag'] * 1_000:.0f} of {attack.lag * 1_000:.0f} ms ({row['late'] * 1_000:.0f})"
    return f"| {name} | {row['scale']} | {memory} | {times} | {lag} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", default=",".join(ATTACKS), type=several(ATTACKS))
    parser.add_argument("--scale", type=int, default=0, help="instead of each attack's own")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    out = sys.stderr if options.json else sys.stdout
    columns = ("attack", "scale", "peak of memory", "time", "the peer's CPU", "longest wait", "loop late, p99")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", file=out)
    with tempfile.TemporaryDirectory() as folder, run_victim(Path(folder) / "home") as victim:
        time.sleep(2)  # its first blocks
        for name in options.attack:
            attack = ATTACKS[name]
            rows[name] = run_one(victim, attack, options.scale or attack.full)
            print(format_row(name, rows[name], attack), file=out, flush=True)
    if options.json:
        print(json.dumps(rows))
    sys.exit(any(row["failure"] for row in rows.values()))


if __name__ == "__main__":
    main()
