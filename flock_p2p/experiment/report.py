"""Finished rows as a table and as CSV. Knows no run and no plot."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flock_p2p.experiment.rows import PARTICIPANTS

SHORT = (  # what `--json` says of a row
    "method", "attack", "malicious", "seed", "rounds", "clean_loss", "asr_final", "asr_peak", "honest_rejected",
    "honest_slashed", "malicious_slashed", "bytes",
)  # fmt: skip
LONG = (*SHORT, "asr_peak_before_capture", "honest_proposals", "malicious_rejected", "malicious_proposals",
        "malicious_count", "cpu_seconds", "base", "steps")  # fmt: skip  # new ones at the end: older files lack them
POINTS = ("round", "clean_loss", "asr", "honest_stake", "malicious_stake", "malicious_proposers", "captured", "adopted")
ROWS_CSV, ROUNDS_CSV = "rows.csv", "rounds.csv"


def shorten(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in SHORT}


def get_share(row: dict[str, Any]) -> int:
    """Per cent of the participants that are malicious; of a whole domain it is not what `--malicious` says."""
    count: int = row["malicious_count"]
    return round(100 * count / PARTICIPANTS)


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    head = (
        f"{'method':24} {'attack':16} {'bad%':>4} {'seed':>4} {'rounds':>6} {'clean loss':>10} {'ASR end':>8} "
        f"{'peak':>5} {'honest rej.':>11} {'malicious rej.':>14} {'slashed h/m':>11} {'captured':>8} {'MB':>6}"
    )
    lines = [head]
    for row in rows:
        lines.append(
            f"{row['method']:24} {row['attack']:16} {get_share(row):4} {row['seed']:4} {row['rounds']:6} "
            f"{row['clean_loss']:10.4f} {row['asr_final']:8.3f} {row['asr_peak']:5.2f} "
            f"{row['honest_rejected']:5} of {row['honest_proposals']:<3} "
            f"{row['malicious_rejected']:7} of {row['malicious_proposals']:<3} "
            f"{row['honest_slashed']:6} / {row['malicious_slashed']:<2} {len(row['captured_rounds']):8} "
            f"{row['bytes'] / 1e6:6.1f}"
        )
    return "\n".join(lines)


def write_csv(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """rows.csv: one line a row; rounds.csv: one line a round of each."""
    with (folder / ROWS_CSV).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LONG, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    keys = ("method", "attack", "malicious", "seed", "rounds")
    with (folder / ROUNDS_CSV).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*keys, *POINTS), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerows({**{key: row[key] for key in keys}, **point} for point in row["history"])
