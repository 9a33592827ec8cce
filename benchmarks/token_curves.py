"""Draws the curves of token_dynamics.py: `python benchmarks/token_curves.py FILE.csv FILE.png`. Needs matplotlib."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TITLES = {"paper": "the paper's vote on the aggregate", "ours": "our vote on each proposal, and audits"}
POISONS = {"boosted": "boosted poison", "matched": "poison of an honest norm"}
COLORS = {10: "tab:green", 20: "tab:blue", 30: "tab:orange", 40: "tab:red"}
START = 64


def draw_curves(points: Sequence[dict[str, Any]], path: Path) -> None:
    """A row of panes for each poison, one pane for each rule."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rules = [rule for rule in TITLES if any(point["rule"] == rule for point in points)]
    poisons = [poison for poison in POISONS if any(point["poison"] == poison for point in points)]
    size = (5.5 * len(rules), 3.8 * len(poisons))
    figure, panes = pyplot.subplots(len(poisons), len(rules), figsize=size, sharey=True, squeeze=False)
    for row, poison in zip(panes, poisons, strict=True):
        for pane, rule in zip(row, rules, strict=True):
            _draw_pane(pane, [point for point in points if (point["rule"], point["poison"]) == (rule, poison)])
            pane.set_title(f"{TITLES[rule]}: {POISONS[poison]}", fontsize="small")
        row[0].set_ylabel("mean balance")
    panes[0][0].legend(fontsize="small", title="solid: honest, dashed: malicious", title_fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _draw_pane(pane: Any, points: Sequence[dict[str, Any]]) -> None:
    for percent, color in COLORS.items():
        mine = [point for point in points if int(point["percent"]) == percent]
        rounds = [int(point["round"]) for point in mine]
        pane.plot(rounds, [float(point["honest"]) for point in mine], color=color, label=f"{percent} % malicious")
        pane.plot(rounds, [float(point["malicious"]) for point in mine], color=color, linestyle="--")
    pane.axhline(START, color="grey", linewidth=0.6)
    pane.set_xlabel("round")


def main() -> int:
    source, target = map(Path, sys.argv[1:3])
    with source.open(encoding="utf-8") as file:
        draw_curves(list(csv.DictReader(file)), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
