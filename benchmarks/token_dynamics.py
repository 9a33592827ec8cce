"""Token dynamics: 200 rounds, 50 participants of 64 tokens, 10 to 40 % of them malicious, by the paper's rule and ours.

    python benchmarks/token_dynamics.py                      # the table, 24 seeds, on the board's model
    python benchmarks/token_dynamics.py --contract --seeds 1 # the same step for step on the compiled contract, too
    python benchmarks/token_dynamics.py --csv FILE --png FILE
    python benchmarks/token_dynamics.py --rules ours --detection benchmarks/detection_without_reference.json

What honest agents see is drawn from benchmarks/detection_reference.json (measured trainings, and audits of tasks with a
public reference, see detection.py), or of tasks that have none from benchmarks/detection_without_reference.json;
colluders poison, lie in their votes, accuse the others and confirm that by their stake, and in audits, of which ours
has one after each round, they blame the honest. No pot is paid unless `--pot`: as in the paper, tokens only change
hands. The model is the one that a state machine proves equal to the contract; `--contract` plays both and compares each
round. With `--keep FILE` a run that was cut goes on where it was.
`--png` needs matplotlib (the extra `plots`).
"""

import argparse
import csv
import json
import statistics
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from economy_sight_support import Measured  # noqa: E402
from economy_support import TOKEN, Economy  # noqa: E402

from flock_chain.paper_rule import RULE_PAPER, RULE_PROPOSALS  # noqa: E402

RULES = {"paper": RULE_PAPER, "ours": RULE_PROPOSALS}
SHARES = (10, 20, 30, 40)  # per cent malicious
# arXiv 2307.00543: rejected rounds of 200, and the end balances of honest and malicious participants.
PAPER = {10: (4, 65.4, 51.1), 20: (7, 67.2, 51.1), 30: (28, 76.3, 35.2), 40: (49, 84.0, 38.2)}
DETECTION = ROOT / "benchmarks" / "detection_reference.json"
EVERY = 5  # rounds between two points of a curve


def play(rule: str, poison: str, share: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    measured = Measured(options.detection, poison, seed)
    count = options.participants * share // 100
    economy = Economy(
        measured, rule=RULES[rule], malicious=count, seed=seed, rounds=options.rounds,
        participants=options.participants, pot=options.pot, voters=options.voters, rule_slash=options.rule_slash,
        audit_rounds=options.audit_rounds, contract=options.contract,
    )  # fmt: skip
    began = time.monotonic()
    seen = economy.run()
    honest, malicious = economy.wealths(False), economy.wealths(True)
    return {
        "rule": rule, "poison": poison, "percent": share, "seed": seed, "rounds": economy.model.number,
        "seconds": round(time.monotonic() - began, 2),
        "rejected_rounds": seen.rejected_rounds, "adopted_rounds": seen.adopted_rounds,
        "honest_end": statistics.mean(honest), "honest_least": min(honest), "malicious_end": statistics.mean(malicious),
        "honest_accused": seen.accused_honest, "honest_slashes": seen.honest_slashes,
        "honest_slashed": seen.honest_slashed / TOKEN,
        "malicious_slashed": seen.malicious_slashed / TOKEN,
        "honest_slashed_by_audits": seen.honest_slashed_by_audits,
        "malicious_slashed_by_audits": seen.malicious_slashed_by_audits,
        "honest_suspended": seen.honest_suspended / economy.model.number,
        "malicious_suspended": seen.malicious_suspended / economy.model.number,
        "honest_expelled": economy.expelled(False), "malicious_expelled": economy.expelled(True),
        "malicious_accepted": seen.malicious_verdicts.get("ACCEPTED", 0),
        "malicious_left": economy.seated_malicious(), "last_malicious_seat": seen.last_malicious_seat,
        "honest_verdicts": seen.honest_verdicts, "malicious_verdicts": seen.malicious_verdicts, "wealth": seen.wealth,
    }  # fmt: skip


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one column: means over the seeds; the least of all honest participants."""
    first = rows[0]
    found = {name: first[name] for name in ("rule", "poison", "percent")} | {"seeds": len(rows)}
    for name in ("rejected_rounds", "adopted_rounds", "honest_end", "malicious_end", "honest_accused", "honest_slashes",
                 "honest_slashed", "malicious_slashed", "malicious_left", "last_malicious_seat",
                 "honest_slashed_by_audits", "malicious_slashed_by_audits", "honest_suspended", "malicious_suspended",
                 "honest_expelled", "malicious_expelled", "malicious_accepted"):  # fmt: skip
        found[name] = round(statistics.mean(row[name] for row in rows), 4)
    found["honest_least"] = round(min(row["honest_least"] for row in rows), 2)
    found["seeds_with_honest_slashed"] = sum(row["honest_slashes"] > 0 for row in rows)
    found["seeds_with_malicious_left"] = sum(row["malicious_left"] > 0 for row in rows)
    total = found["honest_slashed"] + found["malicious_slashed"]
    found["honest_share_of_slashed"] = round(100 * found["honest_slashed"] / total, 1) if total else 0.0
    return found


COLUMNS = (
    ("rejected", "rejected_rounds"), ("honest end", "honest_end"), ("least", "honest_least"),
    ("bad end", "malicious_end"), ("accused", "honest_accused"), ("slashes", "honest_slashes"),
    ("by audit", "honest_slashed_by_audits"), ("% of all", "honest_share_of_slashed"),
    ("suspended", "honest_suspended"), ("bad susp.", "malicious_suspended"), ("bad acc.", "malicious_accepted"),
    ("expelled", "honest_expelled"), ("bad exp.", "malicious_expelled"),
    ("bad left", "malicious_left"), ("last seat", "last_malicious_seat"),
)  # fmt: skip
LEGEND = """accused, slashes, by audit, % of all: of honest participants, accusations, slashes, those of them by audits,
and their part of what was slashed; suspended, bad susp.: in the mean of the rounds; bad acc.: poisoned proposals that
were accepted; expelled, bad exp.: at the end; bad left: malicious ones with a bond for a seat then; last seat: of a
malicious one, the round."""


def table(columns: list[dict[str, Any]]) -> str:
    """In how many economies what should not be is counted: one of 24 is nothing in a mean of one decimal."""
    heading = "rule   poison    bad%  seeds  with honest slashed, bad left "
    lines = [heading + " ".join(f"{name:>10}" for name, _ in COLUMNS)]
    for row in columns:
        values = " ".join(f"{row[name]:10.1f}" for _, name in COLUMNS)
        head = f"{row['rule']:6} {row['poison']:8} {row['percent']:5} {row['seeds']:6}"
        lines.append(f"{head} {row['seeds_with_honest_slashed']:20} {row['seeds_with_malicious_left']:9} {values}")
    for share, (rejected, honest, malicious) in PAPER.items():
        lines.append(f"{'2307.00543':15} {share:5} {'':37} {rejected:10.1f} {honest:10.1f} {'':10} {malicious:10.1f}")
    return "\n".join([*lines, LEGEND])


def curves(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean balances over the seeds, every few rounds."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["rule"], row["poison"], row["percent"]), []).append(row)
    points = []
    for (rule, poison, percent), members in groups.items():
        length = min(len(row["wealth"]) for row in members)
        for at in [*range(0, length, EVERY), *([length - 1] if (length - 1) % EVERY else [])]:
            honest, malicious = (statistics.mean(row["wealth"][at][i] for row in members) for i in (1, 2))
            points.append({
                "rule": rule, "poison": poison, "percent": percent, "round": members[0]["wealth"][at][0],
                "honest": round(honest, 3), "malicious": round(malicious, 3),
            })  # fmt: skip
    return points


def write_csv(points: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(points[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(points)


def kept_or_played(rule: str, poison: str, share: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    names = ("rounds", "participants", "voters", "pot", "rule_slash", "audit_rounds", "contract")
    measured = json.loads(options.detection.read_text("utf-8"))
    seen = [measured["budget"], measured["rounds"], measured["audits"]["proposals"] if rule == "ours" else None]
    detection = sha256(json.dumps(seen).encode()).hexdigest()[:16]
    key = [rule, poison, share, seed, detection, *(getattr(options, name) for name in names)]
    lines = options.keep.read_text("utf-8").splitlines() if options.keep and options.keep.exists() else []
    for line in lines:
        kept = json.loads(line)
        if kept["key"] == key:
            found: dict[str, Any] = kept["row"]
            return found
    row = play(rule, poison, share, seed, options)
    if options.keep:
        with options.keep.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "row": row}) + "\n")
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default="paper,ours", help="of paper, ours")
    parser.add_argument("--poisons", default="boosted,matched", help="of boosted (4 x the norm), matched (honest norm)")
    parser.add_argument("--shares", default=",".join(map(str, SHARES)), help="per cent malicious")
    parser.add_argument("--seeds", type=int, default=24, help="two of each of the twelve measured runs (default 24)")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--participants", type=int, default=50)
    parser.add_argument("--voters", type=int, default=16)
    parser.add_argument("--pot", type=int, default=0, help="tokens that a creator pays in (default 0: as in the paper)")
    parser.add_argument("--rule-slash", type=int, default=1_000, help="bps that the paper's rule takes (default 1000)")
    parser.add_argument("--detection", type=Path, default=DETECTION, help="what is seen (default: with a reference)")
    parser.add_argument("--audit-rounds", type=int, default=1, help="of our rule; 0: no audits (default 1)")
    parser.add_argument("--keep", type=Path, help="file of finished runs: they are not played again")
    parser.add_argument("--contract", action="store_true", help="on the compiled contract as well; slow")
    parser.add_argument("--csv", type=Path, help="write the curves")
    parser.add_argument("--png", type=Path, help="draw the curves")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args()
    columns, rows = [], []
    for rule in options.rules.split(","):
        for poison in options.poisons.split(","):
            for share in map(int, options.shares.split(",")):
                members = [kept_or_played(rule, poison, share, seed, options) for seed in range(1, options.seeds + 1)]
                rows += members
                columns.append(summarise(members))
                seconds = sum(row["seconds"] for row in members)
                print(f"{rule} {poison} {share} %: {seconds:.1f} s", file=sys.stderr, flush=True)
    points = curves(rows)
    if options.csv:
        write_csv(points, options.csv)
    if options.png:
        from token_curves import draw_curves

        draw_curves(points, options.png)
    print(json.dumps({"columns": columns, "paper": PAPER}) if options.json else table(columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
