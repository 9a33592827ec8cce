"""What every function of the contracts costs at the largest lists there are, and its bound.

    python benchmarks/contract_gas.py [--json] [--markdown]

The scenarios are the tests' own (tests/support/gas_support.py); a test holds every function under its bound. Gas counts
the 21,000 of a transaction and its calldata.
"""

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from gas_support import VIEW_BOUND, bound_of, expected, measure  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument("--markdown", action="store_true", help="a table for a document")
    options = parser.parse_args()
    began = time.process_time()
    most = measure()
    rows = [
        {"function": name, "gas": gas, "bound": bound_of(name), "view": bound_of(name) == VIEW_BOUND}
        for name, gas in sorted(most.items())
    ]
    missing = sorted(set(expected()) - set(most))
    if options.json:
        print(json.dumps({"functions": rows, "missing": missing, "cpu_seconds": round(time.process_time() - began, 1)}))
    else:
        bar = "| " if options.markdown else ""
        print(f"{bar}{'function':34} {bar}{'gas':>12} {bar}{'bound':>12}{' |' if bar else ''}")
        if bar:
            print("|---|---|---|")
        for row in rows:
            print(f"{bar}{row['function']:34} {bar}{row['gas']:12,} {bar}{row['bound']:12,}{' |' if bar else ''}")
        print(f"not measured: {', '.join(missing) or 'none'}", file=sys.stderr)
    return 1 if missing or any(row["gas"] > row["bound"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
