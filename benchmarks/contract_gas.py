"""What every function of the contracts costs at the largest lists there are, and its bound.

    python benchmarks/contract_gas.py [--json] [--write]

The scenarios are the tests' own (tests/support/gas_support.py); a test holds every function under its bound. Gas counts
the 21,000 of a transaction and its calldata. --write replaces the two tables of contracts/README.md.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "contracts" / "README.md"
sys.path.insert(0, str(ROOT / "tests" / "support"))

from gas_support import VIEW_BOUND, bound_of, expected, measure  # noqa: E402

HEADS = ("| function | gas | bound |", "| view | gas | bound |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument("--write", action="store_true", help="replace the tables of contracts/README.md")
    options = parser.parse_args()
    began = time.process_time()
    most = measure()
    rows: list[dict[str, Any]] = [
        {"function": name, "gas": gas, "bound": bound_of(name), "view": bound_of(name) == VIEW_BOUND}
        for name, gas in sorted(most.items())
    ]
    missing = sorted(set(expected()) - set(most))
    if options.json:
        print(json.dumps({"functions": rows, "missing": missing, "cpu_seconds": round(time.process_time() - began, 1)}))
    else:
        for row in rows:
            print(f"{row['function']:34} {row['gas']:12,} {row['bound']:12,}")
        print(f"not measured: {', '.join(missing) or 'none'}", file=sys.stderr)
    if options.write:
        README.write_text(replace_tables(README.read_text("utf-8"), rows), "utf-8")
    return 1 if missing or any(row["gas"] > row["bound"] for row in rows) else 0


def replace_tables(text: str, rows: Sequence[dict[str, Any]]) -> str:
    for head, is_view in zip(HEADS, (False, True), strict=True):
        before, after = text.split(head + "\n")
        left = after.split("\n\n", 1)[1] if "\n\n" in after else ""
        lines = [head, "|---|---:|---:|"]
        lines += [
            f"| {row['function']} | {row['gas']:,} | {row['bound']:,} |" for row in rows if row["view"] == is_view
        ]
        text = before + "\n".join(lines) + "\n\n" + left
    return text


if __name__ == "__main__":
    sys.exit(main())
