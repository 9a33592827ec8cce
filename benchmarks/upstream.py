"""Do the defects that docs/upstream.md describes still stand in the versions that are installed?

    python benchmarks/upstream.py [NAME ...] [--json]

Each runs in a process of its own, for two minutes at most, on the unmodified library; printed is what was seen. A pin
that is raised should be followed by this: what is gone needs no work-around any more.
"""

import argparse
import importlib
import json
import logging
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import trio

SECONDS = 120
MODULES = {"upstream_libp2p": "libp2p", "upstream_others": ""}


def load_cases(module: str) -> dict[str, Any]:
    cases: dict[str, Any] = importlib.import_module(module).CASES
    return cases


def run_child(module: str, name: str) -> None:
    logging.disable(logging.CRITICAL)
    print(json.dumps(trio.run(load_cases(module)[name])), flush=True)


def run_case(module: str, name: str) -> str:
    command = [sys.executable, __file__, "--child", module, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        lines = done.stdout.strip().splitlines()
        seen = json.loads(lines[-1]) if lines else f"the process ended with status {done.returncode}"
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS} s"
    return seen or "not seen"


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        run_child(*sys.argv[2:4])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: dict[str, str] = {}
    for module in MODULES:
        for name, case in load_cases(module).items():
            if not options.names or name in options.names:
                rows[name] = run_case(module, name)
                if not options.json:
                    print(f"{name}: {(case.__doc__ or '').strip()}\n    {rows[name]}", flush=True)
    if options.json:
        versions = {package: version(package) for package in ("libp2p", "py-evm", "safetensors", "eth-abi")}
        print(json.dumps({"versions": versions, "seen": rows}))


if __name__ == "__main__":
    main()
