"""A voter's score vector: in time whoever stalls, the same after a restart, and silent where it cannot compare."""

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from roles_support import ACCOUNTS, CHAIN_ID, ME, TASK, Desk, Offer, do, make_delta, make_offer, on_stepped_clock

from flock_chain.aggregation import encode_delta
from flock_chain.errors import Refused, Unavailable
from flock_chain.proposal import compute_score_commitment
from flock_chain.tally import (
    FILTER_NEAR_DUPLICATE,
    FILTER_NO_SCORE,
    FILTER_NORM_REJECT,
    FILTER_NORM_SLASH,
    SCORE_LIMIT,
    SEATS_MAX,
)
from flock_contracts.addresses import BOARD
from flock_peers.roles.board import Phase, RoundView
from flock_peers.roles.earlier import LOOKUP_SECONDS, LOOKUPS_AT_ONCE, EarlierDeltas
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.voter import SCORE_FETCH_SECONDS

HUGE = 1.0  # a hundred times the others' scale


def revealing(desk: Desk, offers: list[Offer]) -> RoundView:
    return desk.view(Phase.SCORE_REVEAL, offers, score_committed=0b10)


async def score(desk: Desk, offers: list[Offer], number: int = 1) -> tuple[list[int], list[int]]:
    """Scores and filters as they are revealed; the commitment is checked on the way."""
    await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers, round=number))
    await desk.voter.step(desk.view(Phase.SCORE_REVEAL, offers, round=number, score_committed=0b10))
    ((commitment,),), ((scores, filters, salt),) = desk.sender.sent("commit_scores"), desk.sender.sent("reveal_scores")
    assert commitment == compute_score_commitment(CHAIN_ID, BOARD, TASK, number, ME, scores, filters, salt)
    assert len(scores) == len(filters) == SEATS_MAX
    return scores, filters


@on_stepped_clock
async def test_each_member_gets_the_trainers_score_and_others_get_nothing(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        scores, filters = await score(desk, [desk.offer(0), desk.offer(1), desk.offer(2)])
        assert scores == [-1_000, -2_000, -3_000] + [0] * (SEATS_MAX - 3)
        assert filters == [0] * SEATS_MAX


@on_stepped_clock
@pytest.mark.parametrize("is_sent", [True, False])
async def test_a_voter_killed_after_scoring_commits_to_the_same_and_opens_it(tmp_path: Path, is_sent: bool) -> None:
    async with trio.open_nursery() as nursery:
        before = Desk(tmp_path, Jobs(nursery))
        offers = [before.offer(0), before.offer(1)]
        await before.voter.step(before.view(Phase.SCORE_COMMIT, offers))
        await trio.sleep(30)
        if is_sent:
            await before.voter.step(before.view(Phase.SCORE_COMMIT, offers))
        record = before.secrets.load(TASK, 1, "scores")
        nursery.cancel_scope.cancel()
    assert record is not None
    expected = compute_score_commitment(
        CHAIN_ID, BOARD, TASK, 1, ME, *(record[n] for n in ("scores", "filters", "salt"))
    )
    assert before.sender.sent("commit_scores") == ([(expected,)] if is_sent else [])

    async with trio.open_nursery() as nursery:
        after = Desk(tmp_path, Jobs(nursery))
        await do(after.voter.step, after.view(Phase.SCORE_COMMIT, offers))
        await after.voter.step(revealing(after, offers))
    assert after.trainer.measured == []
    assert after.sender.sent("commit_scores") == [(expected,)]
    assert after.sender.sent("reveal_scores") == [(record["scores"], record["filters"], record["salt"])]


@on_stepped_clock
async def test_scores_that_were_revealed_are_not_revealed_again(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0)]
        await score(desk, offers)
        desk.sender.calls.clear()
        desk.sender.under_way.clear()
        await desk.voter.step(desk.view(Phase.SCORE_REVEAL, offers, score_committed=0b10, score_revealed=0b10))
        assert desk.sender.calls == []


@on_stepped_clock
async def test_a_score_that_the_board_would_not_take_is_cut_to_its_limit(tmp_path: Path) -> None:
    """Committed to and then refused at the reveal, it would cost a part of the bond."""
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.trainer.scores = [10**12, -(10**12)]
        scores, _ = await score(desk, [desk.offer(0), desk.offer(1)])
        assert scores[:2] == [SCORE_LIMIT, -SCORE_LIMIT]


@on_stepped_clock
async def test_a_large_delta_has_a_share_of_the_scoring_phase_to_arrive_in(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.board.terms["score_commit_seconds"] = 600
        offers = [desk.offer(0), desk.offer(1)]
        desk.service.seconds = {offers[0].delta_digest: 100.0, offers[1].delta_digest: 500.0}
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers), 200)
        record = desk.secrets.load(TASK, 1, "scores")
        assert record is not None and record["filters"][:2] == [0, FILTER_NO_SCORE]


@on_stepped_clock
async def test_scores_without_a_record_are_not_revealed_and_it_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        with caplog.at_level(logging.ERROR):
            await desk.voter.step(revealing(desk, [desk.offer(0)]))
    assert desk.sender.calls == []
    assert "the record is gone" in caplog.text


@on_stepped_clock
async def test_proposers_that_stall_delay_scoring_by_one_budget_in_all(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1), desk.offer(2)]
        desk.service.trouble = {offers[0].delta_digest: "stall", offers[1].digest: "stall"}
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers), SCORE_FETCH_SECONDS + 1)
        assert len(desk.sender.sent("commit_scores")) == 1
        record = desk.secrets.load(TASK, 1, "scores")
        assert record is not None
        assert record["filters"][:3] == [FILTER_NO_SCORE, FILTER_NO_SCORE, 0]
        assert record["scores"][:3] == [0, 0, -1_000]


@on_stepped_clock
@pytest.mark.parametrize("trouble", [Unavailable("gone"), Refused("disk quota"), OSError("disk"), "lie"])
async def test_a_member_that_cannot_be_had_gets_no_score(tmp_path: Path, trouble: Exception | str) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1), desk.offer(2)]
        desk.service.trouble[offers[1].delta_digest] = trouble
        scores, filters = await score(desk, offers)
        assert (scores[:3], filters[:3]) == ([-1_000, 0, -2_000], [0, FILTER_NO_SCORE, 0])


@on_stepped_clock
async def test_nothing_to_score_is_committed_as_that(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0)]
        desk.service.trouble[offers[0].digest] = "stall"
        scores, filters = await score(desk, offers)
        assert (scores[0], filters[0]) == (0, FILTER_NO_SCORE)
        assert desk.trainer.measured == []


@on_stepped_clock
@pytest.mark.parametrize("is_complete", [True, False])
async def test_norms_are_judged_only_by_who_holds_every_member(tmp_path: Path, is_complete: bool) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1), desk.offer(2, delta=encode_delta(make_delta(9, HUGE)))]
        extra = desk.service.serve(make_offer(ACCOUNTS[4], desk.adapter, encode_delta(make_delta(10))))
        if not is_complete:
            desk.service.trouble[extra.digest] = Unavailable("gone")
        offers.append(extra)
        view = desk.view(Phase.SCORE_COMMIT, offers, proposers=(*ACCOUNTS[:3], ACCOUNTS[4]))
        await do(desk.voter.step, view)
        record = desk.secrets.load(TASK, 1, "scores")
        assert record is not None
        huge, last = (FILTER_NORM_REJECT | FILTER_NORM_SLASH, 0) if is_complete else (0, FILTER_NO_SCORE)
        assert record["filters"][:4] == [0, 0, huge, last]


@on_stepped_clock
async def test_a_delta_of_an_earlier_round_is_flagged_as_a_duplicate(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        first = [desk.offer(0), desk.offer(1), desk.offer(2)]
        desk.settle(1, first)
        second = [desk.offer(0, number=2), desk.offer(1, number=2, delta=first[0].delta), desk.offer(2, number=2)]
        _, filters = await score(desk, second, number=2)
        assert filters[:3] == [0, FILTER_NEAR_DUPLICATE, 0]


@on_stepped_clock
async def test_a_delta_that_no_earlier_round_held_may_be_proposed_again(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        first = [desk.offer(0), desk.offer(1)]
        desk.settle(1, first, held_set=0b10)
        _, filters = await score(desk, [desk.offer(0, number=2, delta=first[0].delta)], number=2)
        assert filters[0] == 0


@on_stepped_clock
async def test_what_was_no_proposal_in_an_earlier_round_is_looked_at_once(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        stray = desk.offer(0, parent=bytes(32))
        desk.settle(1, [stray])
        earlier, manifests = EarlierDeltas(desk.library, desk.board), desk.store.get_object
        looks: list[bytes] = []

        def look(digest: bytes) -> bytes | None:
            looks.append(digest)
            return manifests(digest)

        desk.store.get_object = look  # type: ignore[method-assign]
        for _ in range(3):
            await earlier.learn(2, 5.0)
        assert looks == [stray.digest]


@on_stepped_clock
async def test_only_rounds_before_count_as_earlier_and_each_is_read_until_all_of_it_is_known(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        rounds = {number: [desk.offer(seat, number=number) for seat in range(3)] for number in (1, 2, 3)}
        for number, offers in rounds.items():
            desk.settle(number, offers)
        away, broken = rounds[1][0], rounds[1][1]
        desk.service.trouble = {away.digest: Unavailable("away"), broken.digest: MemoryError("no room")}
        earlier, read, view = EarlierDeltas(desk.library, desk.board), [], desk.board.view

        async def count(contract: str, function: str, *args: Any, **more: Any) -> Any:
            read.append(args[1])
            return await view(contract, function, *args, **more)

        desk.board.view = count  # type: ignore[method-assign]
        await earlier.learn(3, 30.0)
        assert set(read) == {1, 2} and not earlier.has(rounds[3][0].delta_digest, 4)
        assert earlier.has(rounds[2][0].delta_digest, 3) and not earlier.has(rounds[2][0].delta_digest, 2)
        assert earlier.has(rounds[1][2].delta_digest, 3) and not earlier.has(away.delta_digest, 3)
        desk.service.trouble = {}
        for _ in range(2):
            await earlier.learn(3, 30.0)
        assert earlier.has(away.delta_digest, 3) and earlier.has(broken.delta_digest, 3)
        read.clear()
        await earlier.learn(3, 30.0)
        assert read == []


@on_stepped_clock
async def test_the_newest_rounds_are_learned_first_a_few_at_once_and_no_longer_than_there_is_time(
    tmp_path: Path,
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        rounds = {number: [desk.offer(seat, number=number) for seat in range(3)] for number in (1, 2, 3)}
        for number, offers in rounds.items():
            desk.settle(number, offers)
            desk.service.seconds |= {offer.digest: 2.0 for offer in offers}
        earlier = EarlierDeltas(desk.library, desk.board)
        nursery.start_soon(earlier.learn, 4, 2.9)
        await trio.sleep(1)
        assert len(desk.service.asked) == LOOKUPS_AT_ONCE
        await trio.sleep(1.8)
        assert all(earlier.has(offer.delta_digest, 4) for offer in rounds[3])
        await trio.sleep(10)
        assert not any(earlier.has(offer.delta_digest, 4) for offer in rounds[1])


@on_stepped_clock
async def test_earlier_rounds_that_cannot_be_had_or_read_delay_scoring_no_further(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        first = [desk.offer(0), desk.offer(1), desk.offer(2)]
        desk.settle(2, first)  # and round 1 is unknown to the ledger
        desk.service.trouble = {offer.digest: "stall" for offer in first}
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, [desk.offer(0, number=3)], round=3), LOOKUP_SECONDS + 1)
        assert len(desk.sender.sent("commit_scores")) == 1
