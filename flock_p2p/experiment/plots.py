"""Finished rows as pictures: ASR and clean loss by round, stake by round, who was accepted. Needs matplotlib."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import Any

MAX_CURVES = 10  # of a pane: the first methods
DPI = 110


def can_draw() -> bool:
    return find_spec("matplotlib") is not None


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """One picture of each kind for each attack and share of malicious participants; means over the seeds."""
    import matplotlib  # type: ignore[import-not-found,unused-ignore]

    matplotlib.use("Agg")
    from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]

    paths = []
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        if row["history"]:
            groups.setdefault((row["attack"], row["malicious"]), []).append(row)
    for (attack, share), members in groups.items():
        figure, panes = pyplot.subplots(1, 4, figsize=(20, 4.4))
        _curves(panes[0], members, "asr", "attack success rate")
        _curves(panes[1], members, "clean_loss", "clean loss, nats per token")
        _stakes(panes[2], members)
        _confusion(panes[3], members)
        for pane in panes[:3]:
            pane.xaxis.get_major_locator().set_params(integer=True)  # there is no round 1.4
        panes[0].legend(fontsize="x-small")
        figure.suptitle("a whole domain malicious" if attack == "domain" else f"{attack}, {share} % malicious")
        figure.tight_layout()
        paths.append(folder / f"{attack}-{share}.png")
        figure.savefig(paths[-1], dpi=DPI)
        pyplot.close(figure)
    return paths


def _by_method(members: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in members:
        found.setdefault(row["method"], []).append(row)
    return dict(list(found.items())[:MAX_CURVES])


def _mean_curve(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    length = min(len(row["history"]) for row in rows)
    points = [[row["history"][at][name] for row in rows] for at in range(length)]
    return [mean(values) for values in points if None not in values]


def _curves(pane: Any, members: Sequence[dict[str, Any]], name: str, label: str) -> None:
    shown = list[float]()
    for method, rows in _by_method(members).items():
        values = _mean_curve(rows, name)
        pane.plot(range(1, len(values) + 1), values, label=method)
        shown += values
    pane.set_ylim(choose_limits(shown))
    pane.set_xlabel("round")
    pane.set_ylabel(label)


def choose_limits(values: Sequence[float], top: float = 1.0) -> tuple[float, float] | None:
    """Where all is equal: matplotlib alone would magnify nothing, from -0.04 to 0.04 around a rate of 0."""
    if not values or min(values) != max(values):
        return None
    return (0.0, top) if 0.0 <= values[0] <= top else (values[0] - top / 2, values[0] + top / 2)


def _stakes(pane: Any, members: Sequence[dict[str, Any]]) -> None:
    shown = list[float]()
    for number, (method, rows) in enumerate(_by_method(members).items()):
        for name, style in (("honest_stake", "-"), ("malicious_stake", "--")):
            values = _mean_curve(rows, name)
            pane.plot(range(1, len(values) + 1), values, style, color=f"C{number}", label=f"{method} {name[:6]}")
            shown += values
    pane.set_ylim(choose_limits(shown, 2.0))
    pane.set_xlabel("round")
    pane.set_ylabel("mean stake (solid: honest, dashed: malicious)")


def _confusion(pane: Any, members: Sequence[dict[str, Any]]) -> None:
    """Shares of the honest and of the malicious proposals that were rejected."""
    methods = _by_method(members)
    shown = list[float]()
    for offset, kind in ((-0.2, "honest"), (0.2, "malicious")):
        shares = []
        for rows in methods.values():
            proposed = sum(row[f"{kind}_proposals"] for row in rows)
            shares.append(100 * sum(row[f"{kind}_rejected"] for row in rows) / proposed if proposed else 0.0)
        pane.bar([at + offset for at in range(len(methods))], shares, width=0.4, label=kind)
        shown += shares
    pane.set_ylim(choose_limits(shown, 100.0))
    pane.set_xticks(range(len(methods)), list(methods), rotation=30, ha="right", fontsize="x-small")
    pane.set_ylabel("per cent rejected")
    pane.legend(fontsize="x-small")
