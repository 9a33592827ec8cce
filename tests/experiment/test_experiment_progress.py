"""What a run says of itself while it runs, on a terminal and in a file, and how long it says the rest will take."""

from io import StringIO

import pytest

from flock_p2p.experiment.pace import PRIOR_WEIGHTS, Pace, get_kind
from flock_p2p.experiment.progress import LINE_SECONDS, Progress, describe, format_left
from flock_p2p.experiment.rows import METHODS, Row

FEDAVG, PAPER, OURS = (Row(method, "shared", 28, 1, 8) for method in ("fedavg", "paper", "ours"))


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def follow(out: StringIO, rows: list[Row], round_seconds: float) -> None:
    """Rows one after another, on a clock of their own."""
    clock, pace = Clock(), Pace(rows)
    progress = Progress(out, clock)
    for row in rows:
        for rounds in range(row.rounds + 1):
            clock.seconds += round_seconds if rounds else 0.0
            pace.note(row, rounds, rounds * round_seconds)
            progress(pace, row)


def test_every_method_is_of_a_kind_whose_rounds_have_a_weight() -> None:
    assert {get_kind(Row(method, "none", 0, 1, 8)) for method in METHODS} == set(PRIOR_WEIGHTS)
    assert get_kind(FEDAVG) == get_kind(PAPER) != get_kind(OURS)


def test_what_is_left_is_unknown_until_a_round_is_done() -> None:
    pace = Pace([FEDAVG])
    pace.note(FEDAVG, 0, 0.0)
    assert pace.seconds_left is None and format_left(None) == ""


def test_rounds_of_ours_are_expected_to_take_longer_before_one_was_seen() -> None:
    pace = Pace([FEDAVG, OURS])
    pace.note(FEDAVG, 8, 24.0)
    assert pace.seconds_left == pytest.approx(8 * 3.0 * PRIOR_WEIGHTS[get_kind(OURS)])


def test_what_was_seen_of_a_kind_tells_how_long_the_rest_of_it_takes() -> None:
    rows = [FEDAVG, OURS, PAPER]
    pace = Pace(rows)
    pace.note(FEDAVG, 8, 24.0)
    pace.note(OURS, 2, 50.0)
    assert pace.seconds_left == pytest.approx(6 * 25.0 + 8 * 3.0)  # alike for all it would be 14 rounds of 7.4 s
    pace.note(OURS, 8, 200.0)
    assert pace.seconds_left == pytest.approx(8 * 3.0)


def test_two_processes_need_half_as_long_but_no_row_is_shared() -> None:
    others = [Row("fedavg", "shared", 28, seed, 8) for seed in (2, 3, 4)]
    pace = Pace([FEDAVG, *others], jobs=2)
    pace.note(FEDAVG, 4, 12.0)
    assert pace.seconds_left == pytest.approx((4 + 3 * 8) * 3.0 / 2)
    pace = Pace([FEDAVG, OURS], jobs=2)
    pace.note(OURS, 1, 30.0)
    assert pace.seconds_left == pytest.approx(7 * 30.0)


def test_a_file_gets_a_line_where_a_row_begins_and_ends_and_one_a_minute() -> None:
    out = StringIO()
    follow(out, [FEDAVG, OURS], 25.0)
    lines = out.getvalue().splitlines()
    assert lines[0] == "fedavg, shared 28 %, seed 1: begins; 0 of 16 rounds in all"
    assert lines[-1] == "ours, shared 28 %, seed 1: done; 16 of 16 rounds in all"
    assert [line.split(": ")[1].split(";")[0] for line in lines[:4]] == [
        "begins", "round 3 of 8", "round 6 of 8", "done"
    ] and len(lines) == 8  # fmt: skip
    assert lines[5].endswith("round 3 of 8; 11 of 16 rounds in all, about 2 min left")


def test_short_rows_say_no_more_than_that_they_begin_and_that_they_are_done() -> None:
    out = StringIO()
    follow(out, [FEDAVG, PAPER], LINE_SECONDS / 30)
    assert len(out.getvalue().splitlines()) == 4


def test_a_terminal_has_one_line_that_is_drawn_anew_and_ends_with_the_last_round() -> None:
    out = Terminal()
    follow(out, [FEDAVG], 3.0)
    drawn = out.getvalue()
    assert drawn.count("\r") == 9 and drawn.count("\n") == 1 and drawn.endswith("\n")
    assert "] 4/8 rounds  about 12 s left " in drawn


def test_a_row_says_what_it_was_asked_for() -> None:
    assert describe(Row("ours", "thin", 28, 3, 8)) == "ours, thin 28 %, seed 3"
    assert describe(Row("pooled", "none", 0, 3, 8, 24)) == "pooled, none, seed 3, 24 steps"
    assert describe(Row("ours", "domain", 28, 3, 8)) == "ours, domain, seed 3"  # as many as it has participants
