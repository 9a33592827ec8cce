"""`peers`: who is connected to a running peer."""

import argparse
import json
from typing import Any

from flock_peers.control import request_control
from flock_peers.home import Home


def run(arguments: argparse.Namespace) -> int:
    found = request_control(Home(arguments.home).control_path, "peers")
    print(json.dumps(found, indent=2) if arguments.json else format_peers(found))
    return 0


def format_peers(found: dict[str, Any]) -> str:
    own = f"own address  {found['own_address']}"
    if not found["peers"]:
        return f"nobody is connected; another peer joins with the address below\n{own}"
    rows = [("account", "address", "", "role", "connected", "in", "out", "misdeeds")]
    for row in found["peers"]:
        rows.append(
            (
                row["account"],
                row["address"],
                "out" if row["is_outgoing"] else "in",
                "validator" if row["is_validator"] else "peer",
                format_age(row["seconds"]),
                format_bytes(row["bytes_in"]),
                format_bytes(row["bytes_out"]),
                str(row["misdeeds"]) if row["misdeeds"] else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", f"{len(found['peers'])} connected; {own}"])


def format_bytes(count: int) -> str:
    if count < 1_000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1_000
        if value < 1_000:
            return f"{value:.1f} {unit}"
    return f"{value / 1_000:.1f} TB"


def format_age(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"
