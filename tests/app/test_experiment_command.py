"""`experiment` as people and programs call it; what it runs is tested in tests/experiment."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from base_support import make_base

from flock_chain.errors import Unavailable
from flock_p2p.cli import main
from flock_p2p.experiment.ledger import FIRST_BASE, Ledger
from flock_p2p.experiment.plots import choose_limits, draw
from flock_p2p.experiment.report import SHORT, format_table
from flock_p2p.experiment.rows import Row, plan_rows
from flock_p2p.experiment.runner import Report, _laboratory, run_one
from flock_peers.training.base_manifest import describe_base

DOCS = Path(__file__).parents[2] / "docs"


def finished(row: Row, number: int) -> dict[str, Any]:
    """What a run of it leaves."""
    point = {"round": 1, "clean_loss": 3.0, "asr": 0.5, "honest_stake": 1.0, "malicious_stake": None,
             "malicious_proposers": 2, "captured": False, "adopted": True}  # fmt: skip
    return {
        **vars(row), "server_lr_thousandths": row.server_rate, "clean_loss": 3.0 + number, "captured_rounds": [],
        "history": [point],
        **dict.fromkeys(("asr_final", "asr_peak", "asr_peak_before_capture"), 0.5),
        **dict.fromkeys(("honest_rejected", "honest_proposals", "malicious_rejected", "malicious_proposals",
                         "honest_slashed", "malicious_slashed", "bytes", "malicious_count", "cpu_seconds"), 1),
    }  # fmt: skip


def fill(folder: Path, base: str = FIRST_BASE) -> None:
    """Rows as a finished run leaves them."""
    ledger = Ledger(folder, base)
    for number, row in enumerate(plan_rows(["fedavg", "ours"], ["none", "shared"], [28], [1])):
        ledger.add(row, finished(row, number))


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def call(folder: Path, *more: str) -> int:
    return main(["experiment", "--methods", "fedavg,ours", "--attacks", "none,shared", "--out", str(folder), *more])


def test_rows_that_are_finished_are_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_one(*_: object) -> None:
        raise AssertionError("nothing is left to run")

    monkeypatch.setattr("flock_p2p.experiment.runner.run_one", run_one)
    fill(tmp_path)
    assert call(tmp_path, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [set(row) for row in rows] == [set(SHORT)] * 4
    assert {(row["method"], row["attack"], row["malicious"]) for row in rows} == {
        ("fedavg", "none", 0), ("ours", "none", 0), ("fedavg", "shared", 28), ("ours", "shared", 28),
    }  # fmt: skip
    assert len((tmp_path / "rounds.csv").read_text().splitlines()) == 5
    assert call(tmp_path) == 0
    assert capsys.readouterr().out.count("fedavg") == 2


def test_what_runs_is_what_is_not_finished_on_that_base_model_and_runs_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (make_base(tmp_path / name, seed=seed) for name, seed in (("first", 1), ("second", 2)))
    ran = list[object]()

    def run_one(row: Row, base: Path, _report: object) -> dict[str, object]:
        ran.append(_laboratory(row.seed, base, row.steps))
        raise Unavailable("enough")

    monkeypatch.setattr("flock_p2p.experiment.runner.run_one", run_one)
    monkeypatch.setattr(
        "flock_p2p.experiment.runner.Laboratory", lambda _count, _seed, base, budget: (base, budget.steps)
    )
    fill(tmp_path / "out", describe_base(first).digest.hex())
    assert call(tmp_path / "out", "--base", str(first)) == 0 and not ran
    assert {row["base"] for row in read_rows(tmp_path / "out")} == {describe_base(first).digest.hex()}
    assert call(tmp_path / "out", "--base", str(second)) == 3 and ran == [(second, 12)]
    assert call(tmp_path / "out", "--base", str(first), "--steps", "24") == 3 and ran[1:] == [(first, 24)]


def test_a_row_is_run_with_its_own_local_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "flock_p2p.experiment.runner.Laboratory", lambda _count, _seed, base, budget: (base, budget.steps)
    )
    monkeypatch.setattr("flock_p2p.experiment.federation.run_row", lambda _row, found, _report: {"found": found})
    for steps in (24, 36):
        row = Row("ours", "none", 0, 3, 8, steps)
        assert run_one(row, tmp_path, lambda *_: None)["found"] == (tmp_path, steps)


def test_a_csv_names_base_model_and_steps_of_each_row_and_has_the_names_of_older_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flock_p2p.experiment.runner.run_one", lambda row, *_: finished(row, 9))
    fill(tmp_path)
    kept = (tmp_path / "rows.jsonl").read_text().splitlines()
    of_before = [
        {name: value for name, value in json.loads(line).items() if name not in ("base", "steps")} for line in kept[:3]
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_before))
    assert call(tmp_path) == 0
    rows = read_rows(tmp_path)
    assert [(row["clean_loss"], row["base"], row["steps"]) for row in rows] == [
        (f"{3.0 + n}", FIRST_BASE, "12") for n in (0, 1, 2, 9)
    ]
    for path in DOCS.glob("figures/experiment/**/rows.csv"):
        (names,) = {tuple(row) for row in read_rows(path.parent)}
        assert names == tuple(rows[0])[: len(names)] and len(names) >= len(rows[0]) - 2, path


def test_pictures_are_drawn_where_matplotlib_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    fill(tmp_path)
    assert call(tmp_path) == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {"none-0.png", "shared-28.png"}


def test_a_picture_of_two_rounds_numbers_no_half_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    row = finished(Row("ours", "none", 0, 1, 2), 0)
    row["history"] = [{**row["history"][0], "round": number} for number in (1, 2)]
    seen = list[float]()
    monkeypatch.setattr(pyplot, "close", lambda figure: seen.extend(figure.axes[1].get_xticks()))
    draw([row], tmp_path)
    assert seen and all(float(tick).is_integer() for tick in seen)


@pytest.mark.parametrize(
    ("values", "limits"), [([0.0, 0.0], (0.0, 1.0)), ([3.5], (3.0, 4.0)), ([0.0, 0.1], None), ([], None)]
)
def test_a_picture_of_equal_values_does_not_magnify_nothing(
    values: list[float], limits: tuple[float, float] | None
) -> None:
    assert choose_limits(values) == limits


def test_without_matplotlib_the_line_that_installs_it_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flock_p2p.experiment.plots.find_spec", lambda _name: None)
    fill(tmp_path)
    assert call(tmp_path) == 0
    assert "pip install -c constraints.txt '.[plots]'" in capsys.readouterr().err


def test_a_whole_domain_is_as_many_per_cent_as_it_has_participants() -> None:
    row = finished(Row("fedavg", "domain", 28, 1, 8), 0) | {"malicious_count": 4}
    assert format_table([row]).splitlines()[1].split()[:3] == ["fedavg", "domain", "22"]


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_one(row: Row, _base: Path, _report: Report) -> dict[str, Any]:
        if row.method == "ours":
            raise KeyboardInterrupt
        return finished(row, 0)

    monkeypatch.setattr("flock_p2p.experiment.runner.run_one", run_one)
    assert call(tmp_path) == 130
    assert capsys.readouterr().err == f"stopped: 1 of 4 rows kept in {tmp_path}; the same command runs the rest\n"


@pytest.mark.parametrize(
    ("place", "named"),
    [("afile", "afile"), ("afile/below", "below"), ("taken", "rows.jsonl"), ("table", "rounds.csv")],
)
def test_a_folder_that_cannot_be_made_is_one_line_before_anything_runs(
    tmp_path: Path, place: str, named: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flock_p2p.experiment.runner.run_one", lambda *_: pytest.fail("it runs"))
    (tmp_path / "afile").touch()
    (tmp_path / "taken" / "rows.jsonl").mkdir(parents=True)
    (tmp_path / "table" / "rounds.csv").mkdir(parents=True)
    assert call(tmp_path / place) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"flock-p2p experiment: {tmp_path / place}: rows cannot be kept there ({named}: ")


def test_a_file_that_cannot_be_written_at_the_end_is_one_line_and_costs_no_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_one(row: Row, _base: Path, _report: Report) -> dict[str, Any]:
        (tmp_path / "rows.csv").mkdir(exist_ok=True)
        return finished(row, 0)

    monkeypatch.setattr("flock_p2p.experiment.runner.run_one", run_one)
    assert call(tmp_path) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    wrong = f"{tmp_path / 'rows.csv'}: cannot be written (Is a directory)"
    assert said.startswith(f"flock-p2p experiment: {wrong}; rows.jsonl has all rows")
    (tmp_path / "rows.csv").rmdir()
    monkeypatch.setattr("flock_p2p.experiment.runner.run_one", lambda *_: pytest.fail("it runs again"))
    assert call(tmp_path) == 0


def test_a_mistyped_name_is_answered_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "--methods", "fedvag"]) == 2
    assert "--methods: there is no fedvag; did you mean fedavg? Known: isolated, " in capsys.readouterr().err
    assert main(["experiment", "--attacks", "shard,qq"]) == 2
    assert "--attacks: there is no qq and no shard; did you mean shared? Known: none, " in capsys.readouterr().err
    assert main(["experiment", "--attacks", "qq"]) == 2
    assert "--attacks: there is no qq. Known: none, " in capsys.readouterr().err


def test_names_may_have_spaces_between_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flock_p2p.experiment.runner.run_one", lambda row, *_: finished(row, 0))
    wanted = ["--methods", "fedavg, ours", "--attacks", "none, shared ", "--seeds", "1, 2", "--out", str(tmp_path)]
    assert main(["experiment", *wanted]) == 0 and len(read_rows(tmp_path)) == 8


@pytest.mark.parametrize(
    "wrong", [["--methods", "x"], ["--seeds", "one"], ["--jobs", "0"], ["--rounds", "0"], ["--steps", "0"]]
)
def test_wrong_usage_is_said_before_anything_runs(tmp_path: Path, wrong: list[str]) -> None:
    assert main(["experiment", "--out", str(tmp_path / "never"), *wrong]) == 2
    assert not (tmp_path / "never").exists()


def test_quick_is_one_seed_of_three_methods_with_and_without_a_backdoor() -> None:
    from flock_p2p.cli import build_parser
    from flock_p2p.commands.experiment import QUICK_ROUNDS, _plan

    rows = _plan(build_parser().parse_args(["experiment", "--quick", "--seeds", "3,4"]))
    assert {(row.method, row.attack, row.malicious) for row in rows} == {
        (method, *attack) for method in ("fedavg", "paper", "ours") for attack in (("none", 0), ("shared", 28))
    }
    assert {(row.seed, row.rounds) for row in rows} == {(3, QUICK_ROUNDS)}
