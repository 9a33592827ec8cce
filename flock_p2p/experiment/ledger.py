"""The finished rows of an experiment on disk: one JSON line each, so that an interrupted one goes on. Runs nothing."""

import json
import os
from pathlib import Path
from typing import Any

from flock_chain.aggregation.format import RATE_ONE
from flock_chain.errors import Misuse
from flock_p2p.experiment.report import ROUNDS_CSV, ROWS_CSV
from flock_p2p.experiment.rows import STEPS, Row
from flock_peers.store.disk import find_trouble

# The shipped base's content id when rows did not say theirs yet.
FIRST_BASE = "ae3691df812352ca2f17f0f4f92c63a45491abd0caf986bf112db6d49de61e7c"

FILE = "rows.jsonl"


class Ledger:
    def __init__(self, folder: Path, base: str) -> None:
        """`base`: the base model's content id, in hexadecimal digits."""
        self._base = base
        self.path = folder / FILE
        try:  # before hours are spent on what could not be kept
            folder.mkdir(parents=True, exist_ok=True)
            self.path.open("a").close()
            for csv in (folder / ROWS_CSV, folder / ROUNDS_CSV):
                if csv.exists():  # written when all is done: somebody else's file would be found out then
                    csv.open("a").close()
        except OSError as error:
            if find_trouble(error):
                raise
            why = f"{Path(error.filename).name}: {error.strerror}"
            raise Misuse(f"{folder}: rows cannot be kept there ({why}); name another folder") from error
        self.results: dict[Row, dict[str, Any]] = {}
        for number, line in enumerate(self._lines(), start=1):
            try:
                found = json.loads(line)
                found = {"steps": STEPS} | found  # rows of before there was a choice say none
                row = Row(*(found[name] for name in Row.__dataclass_fields__))
            except (ValueError, KeyError, TypeError) as error:
                raise Misuse(f"{self.path}: line {number} is no row; remove it, or choose another folder") from error
            # A row says no rate and no base, its result does, or is of before there were others.
            if (found.get("server_lr_thousandths", RATE_ONE), found.get("base", FIRST_BASE)) == (row.server_rate, base):
                self.results[row] = found | {"base": base}

    def _lines(self) -> list[str]:
        """Whole lines only: the last one is cut off where a write was interrupted. The others are not written again:
        what ends this, too, or a full disk, would take them."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            os.truncate(self.path, len(whole))
        return whole.decode().splitlines()

    def add(self, row: Row, result: dict[str, Any]) -> None:
        result = result | {"base": self._base}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.results[row] = result
