"""News of a page: read from blocks a little at a time, the newest first, and not for ever."""

import re
from pathlib import Path

import pytest
import trio
from page_news_support import A, FakeQueries, Receipt, slash_log

from flock_contracts.addresses import BY_NAME
from flock_contracts.loader import load
from flock_p2p.page import assets, history
from flock_p2p.page.history import BLOCKS_AT_ONCE, MAX_BLOCKS, MAX_EVENTS, History


def test_news_are_read_a_little_at_a_time_the_newest_first_and_not_for_ever() -> None:
    async def main() -> None:
        queries = FakeQueries()
        news = History(queries)  # type: ignore[arg-type]
        head = MAX_BLOCKS + 5_000
        await news.step(head, 1)
        assert queries.read == BLOCKS_AT_ONCE and news.since == head - BLOCKS_AT_ONCE + 1
        assert news.events()[0]["height"] == head - head % 100
        steps = 1
        while news.since > head - MAX_BLOCKS + 1:
            await news.step(head, 1)
            steps += 1
        assert steps == MAX_BLOCKS // BLOCKS_AT_ONCE and queries.read == MAX_BLOCKS
        await news.step(head, 1)
        assert queries.read == MAX_BLOCKS  # nothing is left to read
        assert len(news.events()) == MAX_EVENTS
        await news.step(head + 100, 1)
        assert news.events()[0]["height"] == head + 100 - head % 100 and queries.read == MAX_BLOCKS + 100
        assert news.slashed(1, head // 100) == {"0x" + A.hex(): 5} and news.slashed(2, head // 100) == {}

    trio.run(main)


class _TwoTasks(FakeQueries):
    """A slash in each block: of rounds 1 to 9 of the first task, then of the second one's."""

    def receipts(self, height: int) -> tuple[Receipt, ...]:
        return (Receipt([slash_log((height - 1) % 9 + 1, A, height, task=1 + (height > 9))]),)


def test_the_slashes_that_are_forgotten_first_are_those_of_the_oldest_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_SLASHED_ROUNDS", 3)

    async def main() -> None:
        news = History(_TwoTasks())  # type: ignore[arg-type]
        for head in (10, 10, 11):
            await news.step(head, 1)
        assert [news.slashed(2, number) for number in (1, 2)] == [{"0x" + A.hex(): 10}, {"0x" + A.hex(): 11}]
        assert news.slashed(1, 9) == {"0x" + A.hex(): 9} and news.slashed(1, 8) == {}

    trio.run(main)


def test_a_home_that_began_with_a_snapshot_has_news_from_there_on() -> None:
    async def main() -> None:
        news = History(FakeQueries(base=950))  # type: ignore[arg-type]
        for _ in range(3):
            await news.step(1_000, 950)
        assert news.since == 950 and [row["height"] for row in news.events()] == [1_000]

    trio.run(main)


def test_while_many_blocks_are_caught_up_with_it_is_said_how_far_the_news_are() -> None:
    """Or a page that was open while nothing was looked at would wait with old news for the next block."""

    async def main() -> None:
        news = History(FakeQueries())  # type: ignore[arg-type]
        for head in (100, 100 + BLOCKS_AT_ONCE + 50):
            await news.step(head, 1)
        assert news.until == 100 + BLOCKS_AT_ONCE
        await news.step(head, 1)
        assert news.until == head and news.events()[0]["height"] == 400

    trio.run(main)


def test_strikes_are_news_and_the_third_says_that_its_owner_is_expelled() -> None:
    class Struck(FakeQueries):
        def receipts(self, height: int) -> tuple[Receipt, ...]:
            return (Receipt([slash_log(7, A, height % 4, event="Struck")]),)  # an audit, and how many strikes it left

    async def main() -> None:
        news = History(Struck())  # type: ignore[arg-type]
        await news.step(4, 1)
        rows = news.events()
        assert [row["flags"] for row in rows] == [["0 of 3"], ["expelled"], ["2 of 3"], ["1 of 3"]]
        assert {(row["event"], row["account"], row["audit"]) for row in rows} == {("Struck", "0x" + A.hex(), 7)}

    trio.run(main)


class _TwoOwners(FakeQueries):
    """In the first block the same befalls somebody else's coins with A, and then A's own."""

    def __init__(self, event: str) -> None:
        super().__init__()
        self.event = event

    def receipts(self, height: int) -> tuple[Receipt, ...]:
        if height != 1:
            return ()
        return (Receipt([_stake_log(self.event, A, owner=b"\x0b" * 20), _stake_log(self.event, A, owner=A)]),)


def _stake_log(event: str, account: bytes, *, owner: bytes) -> tuple[bytes, list[int], bytes]:
    topic, entry = next(row for row in load("Stake")._events.items() if row[1]["name"] == event)
    topics = [int.from_bytes(word, "big") for word in (topic, account, owner)]
    return BY_NAME["Stake"], topics, (7).to_bytes(32, "big") * (len(entry["inputs"]) - 2)


@pytest.mark.parametrize(
    ("event", "of_delegator"),
    [("Bonded", "Delegated"), ("Unbonding", "Undelegated"), ("Slashed", "DelegatorSlashed")],
)
def test_what_befalls_a_delegators_coins_is_no_news_of_the_validators_own(event: str, of_delegator: str) -> None:
    async def main() -> None:
        news = History(_TwoOwners(event))  # type: ignore[arg-type]
        await news.step(1, 1)
        await news.step(1, 1)
        found = [(row["event"], row["account"], row["amount"]) for row in news.events()]
        assert found == [(event, "0x" + "0a" * 20, "7"), (of_delegator, "0x" + "0b" * 20, "7")]

    trio.run(main)


def test_the_page_has_words_for_every_event_that_it_can_be_told() -> None:
    said = set(re.findall(r'"(\w+\.\w+)": \["', (Path(assets.__file__).parent / "static" / "flow.js").read_text()))
    events = {f"{contract}.{name}" for contract, names in history.NEWS.items() for name in names}
    events |= {f"Stake.{name}" for name in history.OF_DELEGATORS.values()}
    assert said == events - {"TaskBoard.Verdict"}, "which is a badge"
