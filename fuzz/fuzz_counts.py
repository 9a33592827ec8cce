"""What campaigns came to, added up in a file of the repository: a state is lost with its machine, its counts are not.

A campaign is a state's folder. It may be merged as often as one likes: its sums replace what was noted of it before. A
row is of the decoders that the fuzzer drove then; it counts for as long as the fuzzer drives the same ones.
"""

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from fuzz_groups import GROUPS

Row = dict[str, Any]
TABLE_HEAD = "| fuzzer | executions | seconds | of these CPU | edges | corpus | findings |"
_SUMS, _MOST = ("executions", "seconds", "cpu_seconds", "findings"), ("edges", "corpus")


def name_campaign(folder: Path) -> str:
    """Of a state's folder, the same each time."""
    path = folder / "campaign"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{time.strftime('%Y-%m-%d', time.gmtime())} {uuid4().hex[:8]}")
    return path.read_text()


def to_counts(rows: dict[str, Row]) -> dict[str, Row]:
    """Of fuzzers with something to tell, from a state's rows."""
    return {
        name: {
            "decoders": list(GROUPS[name]), "findings": len(row["crashes"]),
            **{field: row[field] for field in (*_SUMS, *_MOST) if field != "findings"},
        }
        for name, row in sorted(rows.items()) if name in GROUPS and row["executions"]
    }  # fmt: skip


def load(path: Path) -> dict[str, dict[str, Row]]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


def merge(path: Path, campaign: str, rows: dict[str, Row]) -> None:
    campaigns = load(path)
    if counts := to_counts(rows):
        campaigns[campaign] = counts
    path.write_text(json.dumps(campaigns, indent=1, sort_keys=True) + "\n")


def add_up(campaigns: dict[str, dict[str, Row]]) -> dict[str, Row]:
    """By fuzzer: everything that campaigns on the decoders of today did; edges and corpus are the largest of any."""
    total: dict[str, Row] = {}
    for name, decoders in GROUPS.items():
        rows = [row[name] for row in campaigns.values() if name in row and row[name]["decoders"] == list(decoders)]
        total[name] = {field: sum(row[field] for row in rows) for field in _SUMS}
        total[name] |= {field: max((row[field] for row in rows), default=0) for field in _MOST}
    return total


def format_table(rows: dict[str, Row]) -> str:
    lines = [TABLE_HEAD, "|---|---|---|---|---|---|---|"]
    for name, row in sorted(rows.items()):
        label = f"{name}: {', '.join(GROUPS[name])}" if name in GROUPS else name
        times = f"{row['seconds']:,.0f} | {row['cpu_seconds']:,.0f}"
        counts = f"{row['edges']:,} | {row['corpus']:,} | {row['findings']}"
        lines.append(f"| {label} | {row['executions']:,} | {times} | {counts} |")
    return "\n".join(lines)


def replace_table(page: str, table: str) -> str:
    """The page with this table in place of its own. Raises ValueError where it has none."""
    start = page.index(TABLE_HEAD)
    end = page.index("\n\n", start)
    return page[:start] + table + page[end:]
