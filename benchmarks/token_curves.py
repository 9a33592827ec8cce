"""Draws the curves of token_dynamics.py: `python benchmarks/token_curves.py FILE.csv FILE.png`. Needs matplotlib."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TITLES = {"paper": "the paper's vote on the aggregate", "ours": "our vote on each proposal"}
COLORS = {10: "tab:green", 20: "tab:blue", 30: "tab:orange", 40: "tab:red"}
START = 64


def draw_curves(points: Sequence[dict[str, Any]], path: Path, poison: str = "boosted") -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rules = [rule for rule in TITLES if any(point["rule"] == rule for point in points)]
    figure, panes = pyplot.subplots(1, len(rules), figsize=(5.5 * len(rules), 4.2), sharey=True, squeeze=False)
    for pane, rule in zip(panes[0], rules, strict=True):
        for percent, color in COLORS.items():
            mine = [
                point
                for point in points
                if (point["rule"], point["poison"], int(point["percent"])) == (rule, poison, percent)
            ]
            rounds = [int(point["round"]) for point in mine]
            pane.plot(rounds, [float(point["honest"]) for point in mine], color=color, label=f"{percent} % malicious")
            pane.plot(rounds, [float(point["malicious"]) for point in mine], color=color, linestyle="--")
        pane.axhline(START, color="grey", linewidth=0.6)
        pane.set_title(TITLES[rule])
        pane.set_xlabel("round")
    panes[0][0].set_ylabel("mean balance (solid: honest, dashed: malicious)")
    panes[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    source, target = map(Path, sys.argv[1:3])
    with source.open(encoding="utf-8") as file:
        draw_curves(list(csv.DictReader(file)), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
