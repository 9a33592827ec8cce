"""Rounds of a page: what is said of each from the board, and that what can change no more is read once."""

from typing import Any

import pytest
import trio
from page_news_support import A, FakeQueries
from page_support import make_round

from flock_chain.errors import Misuse
from flock_p2p.page.history import History
from flock_p2p.page.rounds import Rounds, describe_round

B = b"\x0b" * 20


def board_rows(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    result = {
        "proposers": [A, B], "voters": [B], "manifests": [b"\1" * 32, bytes(32)], "held_set": 0b01, "verdicts": [4, 8],
        "medians": [-1_397, 0], "scores_revealed": 1, "adapter_before": b"\2" * 32, "adapter_after": b"\2" * 32,
        "tallied": True, "settled": True, "share": 10, "per_proposer": 3, "per_voter": 1,
    }  # fmt: skip
    case = {
        "named": 1,
        "open": 1,
        "convicted": 0,
        "total": 9,
        "guilty": [4] * 16,
        "innocent": [2] * 16,
        "held": [7] * 16,
    }
    return result | {k: v for k, v in changes.items() if k in result}, case | {
        k: v for k, v in changes.items() if k in case
    }


def test_a_round_says_who_was_accused_and_what_was_not_measured() -> None:
    row = describe_round(3, *board_rows())
    first, second = row["proposers"]
    assert (first["verdict"], first["median"]) == ("ACCUSED_NORM", -1_397)
    assert first["accusation"] == {"state": "open", "held": "7", "guilty": 4, "innocent": 2, "total": 9}
    assert (second["verdict"], second["median"], second["manifest"], second["accusation"]) == (
        "UNOPENED",
        None,
        "",
        None,
    )
    assert describe_round(3, *board_rows(convicted=1, open=0))["proposers"][0]["accusation"]["state"] == "convicted"
    assert describe_round(3, *board_rows(open=0))["proposers"][0]["accusation"]["state"] == "cleared"
    assert describe_round(3, *board_rows(tallied=False))["proposers"][0]["median"] is None
    made_up = make_round(3, size=type("Two", (), {"seats": 2, "participants": 6})())
    assert row.keys() == made_up.keys() and {*first, "slashed"} == made_up["proposers"][0].keys()


class FakeBoard:
    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.rows = board_rows()

    async def view(self, _contract: str, function: str, *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append((function, *args))
        return {"progress": (5, 2), "round_result": self.rows[0], "case_view": self.rows[1]}[function]


def test_what_can_change_no_more_is_read_once_and_slashes_that_are_found_later_are_added() -> None:
    async def main() -> None:
        board, news = FakeBoard(), History(FakeQueries())  # type: ignore[arg-type]
        rounds = Rounds(board, news)
        page = await rounds.page(1)
        assert [row["round"] for row in page["rounds"]] == [5, 4, 3, 2, 1]
        board.rows = board_rows(convicted=1, open=0)  # the accusations are decided
        await rounds.page(1)
        board.asked.clear()
        await rounds.page(1)
        assert board.asked == [("progress", 1), ("round_result", 1, 5), ("case_view", 1, 5)]  # the running one alone
        assert page["rounds"][3]["proposers"][0]["slashed"] == "0"
        await news.step(250, 1)
        again = (await rounds.page(1, before=3))["rounds"]
        assert [(row["round"], row["proposers"][0]["slashed"]) for row in again] == [(2, "5"), (1, "5")]
        for task, before in ((0, None), (1, 0), (1 << 53, None)):
            with pytest.raises(Misuse):
                await rounds.page(task, before=before)

    trio.run(main)
