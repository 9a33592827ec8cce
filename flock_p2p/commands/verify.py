"""`verify`: recompute what a home claims, or check what an exported adapter says of itself, offline."""

import argparse
import json
import sys

from flock_p2p.cli import EXIT_CHECK_FAILED, parse_genesis_hash
from flock_p2p.provenance import check_provenance, format_provenance
from flock_p2p.verify import format_report, verify_home


def run(arguments: argparse.Namespace) -> int:
    parse_genesis_hash(arguments.genesis)  # a slip in it is no failure of what is verified
    if arguments.provenance is not None:
        found = check_provenance(arguments.provenance.expanduser(), arguments.genesis, arguments.restart)
        print(json.dumps(found.to_dict(), indent=2) if arguments.json else format_provenance(found))
        return 0 if found.ok else EXIT_CHECK_FAILED

    def progress(what: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{what} {done}/{total}   ", end="\n" if done == total else "", file=sys.stderr, flush=True)

    report = verify_home(arguments.home.expanduser(), progress)
    if arguments.genesis is not None and report.genesis != arguments.genesis.removeprefix("0x").lower():
        report.fail(f"genesis: this home belongs to {report.genesis or 'no network'}, not to {arguments.genesis}")
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else format_report(report))
    return 0 if report.ok else EXIT_CHECK_FAILED
