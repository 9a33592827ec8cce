"""The page's table of token dynamics is of the curves that are drawn beside it, and points are what was played."""

import csv
from pathlib import Path

from token_dynamics import curves, summarise, table, write_csv

DOCS = Path(__file__).parents[2] / "docs"
RULES, SHARES = ("paper", "ours"), (10, 20, 30, 40)


def test_the_end_balances_of_the_page_are_the_last_points_of_its_curves() -> None:
    with (DOCS / "figures" / "token_dynamics.csv").open(encoding="utf-8") as file:
        points = [row for row in csv.DictReader(file) if row["round"] == "200"]
    drawn = {(row["rule"], row["poison"], int(row["percent"])): (row["honest"], row["malicious"]) for row in points}
    page = (DOCS / "token-dynamics.md").read_text("utf-8").split("## Without")[0]
    said = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in RULES:
            ends = (cells[4].split(" ")[0], cells[5])
            shares = SHARES if cells[2] == "10-40 %" else (int(cells[2].split(" ")[0]),)
            said |= {(cells[0], cells[1], share): ends for share in shares}
    assert said.keys() == drawn.keys() and len(said) == len(RULES) * 2 * len(SHARES)
    apart = [abs(float(a) - float(b)) for key in said for a, b in zip(said[key], drawn[key], strict=True)]
    assert max(apart) < 0.0506, "a decimal of the mean; points are rounded themselves"


def row(seed: int, honest: float, *, left: int = 0) -> dict[str, object]:
    names = (
        "rejected_rounds", "adopted_rounds", "malicious_end", "honest_accused", "honest_slashes", "honest_slashed",
        "malicious_slashed", "last_malicious_seat", "honest_slashed_by_audits", "malicious_slashed_by_audits",
        "honest_suspended", "malicious_suspended", "honest_expelled", "malicious_expelled", "malicious_accepted",
    )  # fmt: skip
    wealth = [(number, 64.0 - number, honest) for number in range(1, 8)]
    return dict.fromkeys(names, 0) | {
        "rule": "ours", "poison": "matched", "percent": 10, "seed": seed, "honest_end": honest, "honest_least": honest,
        "malicious_left": left, "wealth": wealth,
    }  # fmt: skip


def test_a_column_is_the_mean_of_its_economies_and_the_least_of_all_and_one_that_is_left_is_not_rounded_away() -> None:
    found = summarise([row(1, 64.0), row(2, 63.0, left=1), *(row(seed, 64.0) for seed in range(3, 25))])
    assert found["honest_least"] == 63.0 and found["seeds"] == 24
    assert 0.04 < found["malicious_left"] < 0.042 and 63.95 < found["honest_end"] < 63.96
    assert found["seeds_with_malicious_left"] == 1 and found["seeds_with_honest_slashed"] == 0
    heading, line, *_ = table([found]).splitlines()
    assert line[: heading.index("rejected") - 2].split() == ["ours", "matched", "10", "24", "0", "1"]


def test_the_points_of_a_curve_are_every_fifth_round_and_the_last_and_are_written_as_they_are(tmp_path: Path) -> None:
    points = curves([row(1, 60.0), row(2, 64.0)])
    assert [(point["round"], point["honest"], point["malicious"]) for point in points] == [
        (1, 63.0, 62.0), (6, 58.0, 62.0), (7, 57.0, 62.0),
    ]  # fmt: skip
    write_csv(points, tmp_path / "points.csv")
    with (tmp_path / "points.csv").open(encoding="utf-8") as file:
        assert [row["malicious"] for row in csv.DictReader(file)] == ["62.0"] * 3
