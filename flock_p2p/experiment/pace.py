"""How much of a run is done and how long the rest will take. A round of a rule that audits takes ten times as long as
one that only averages, so rounds are weighed by kind. Knows no screen."""

from collections import defaultdict
from collections.abc import Iterable

from flock_p2p.experiment.rows import Row

PLAIN, AUDITED, ALONE, UNAUDITED = "plain", "audited", "audited one by one", "ours unaudited"
# Until a round of that kind was seen here: how long it takes beside one of a plain mean. Rows of seeds 1 and 67 with
# 28 % of colluders: 2.5 to 3.3 s of a core for the mean, 31 s for ours, 16 without comparison, 5.5 without audits.
PRIOR_WEIGHTS = {PLAIN: 1.0, AUDITED: 10.0, ALONE: 5.0, UNAUDITED: 2.0}
_LACKING = {"ours-without-audit": UNAUDITED, "ours-without-comparison": ALONE}


def get_kind(row: Row) -> str:
    return _LACKING.get(row.method, AUDITED if row.method.startswith("ours") else PLAIN)


class Pace:
    """Of rows that `jobs` processes share."""

    def __init__(self, rows: Iterable[Row], jobs: int = 1) -> None:
        self.rows, self._jobs = list(rows), jobs
        self._done: dict[Row, tuple[int, float]] = {}  # rounds, and the seconds they took

    def note(self, row: Row, rounds: int, seconds: float) -> None:
        self._done[row] = rounds, seconds

    def get_rounds(self, row: Row) -> int:
        return self._done.get(row, (0, 0.0))[0]

    @property
    def done(self) -> int:
        return sum(rounds for rounds, _ in self._done.values())

    @property
    def total(self) -> int:
        return sum(row.rounds for row in self.rows)

    @property
    def seconds_left(self) -> float | None:
        """None until a round is done. No shorter than the longest row, which no second process helps."""
        rates = self._rates()
        if rates is None:
            return None
        left = [(row.rounds - self.get_rounds(row)) * rates[get_kind(row)] for row in self.rows]
        return max(sum(left) / self._jobs, *left)

    def _rates(self) -> dict[str, float] | None:
        """Seconds of a round of each kind: as seen here, else as the kinds that were seen let it be expected."""
        rounds, seconds = defaultdict[str, int](int), defaultdict[str, float](float)
        for row, (count, took) in self._done.items():
            rounds[get_kind(row)] += count
            seconds[get_kind(row)] += took
        weight = sum(PRIOR_WEIGHTS[kind] * count for kind, count in rounds.items())
        if not weight:
            return None
        unit = sum(seconds.values()) / weight
        return {kind: seconds[kind] / rounds[kind] if rounds[kind] else unit * prior
                for kind, prior in PRIOR_WEIGHTS.items()}  # fmt: skip
