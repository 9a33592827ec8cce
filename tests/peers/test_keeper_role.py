"""What a participant keeps and claims of settled rounds, whatever its seat was."""

from pathlib import Path
from typing import Any

import pytest
import trio
from roles_support import ACCOUNTS, ME, NO_MANIFEST, PROPOSERS, Desk, Offer, make_delta, on_stepped_clock

from flock_chain.aggregation import apply, encode_global
from flock_chain.content import compute_chunk_list, split_chunks
from flock_chain.errors import Refused, Unavailable
from flock_chain.tally import Verdict
from flock_peers.roles.board import Phase
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.keeper import LOOKS_AT_ONCE, MAX_ATTEMPTS
from flock_peers.roles.library import compute_file_digest
from flock_peers.training.document import compute_initial_adapter


def compute_candidate(desk: Desk, *seeds: int) -> bytes:
    before = compute_initial_adapter(desk.library.document)
    return encode_global(apply(before, [make_delta(seed) for seed in seeds]))


async def keep(desk: Desk, current: int, *, is_ended: bool = False, steps: int = 30) -> None:
    """A step a second, as by heads."""
    for _ in range(steps):
        await desk.keeper.step(current, is_ended)
        await trio.sleep(1)


def make_final(desk: Desk, number: int) -> None:
    """The claim of a round."""
    desk.board.claimable[number] = 0
    desk.sender.under_way.clear()


def is_kept(desk: Desk, offer: Offer) -> bool:
    return desk.store.has(offer.digest) and desk.store.file_path(offer.delta_digest) is not None


@on_stepped_clock
async def test_each_round_is_claimed_once_and_in_order(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.board.claimable = {1: 5, 3: 7}
        await keep(desk, 4, steps=3)
        assert desk.sender.calls == [("claim", 1, 1)]
        make_final(desk, 1)
        await keep(desk, 4, steps=3)
        make_final(desk, 3)
        await keep(desk, 4, steps=3)
        assert desk.sender.calls == [("claim", 1, 1), ("claim", 1, 3)]
        assert desk.keeper.claimed_until == 4


@on_stepped_clock
async def test_a_claim_that_becomes_final_while_the_board_answers_for_the_block_before_is_not_sent_again(
    tmp_path: Path,
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.board.claimable = {1: 5}
        await keep(desk, 2, steps=1)
        answer = desk.board.view

        async def answer_late(*question: Any, **more: Any) -> Any:
            told = await answer(*question, **more)
            desk.sender.under_way.clear()
            return told

        desk.board.view = answer_late  # type: ignore[method-assign]
        await keep(desk, 2, steps=1)
        assert desk.sender.calls == [("claim", 1, 1)]


@on_stepped_clock
async def test_the_log_says_once_what_a_seat_earned_in_a_round_also_where_that_is_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flock_peers.roles.keeper")
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        seats = ((PROPOSERS[0], ME), (PROPOSERS[0], ACCOUNTS[3]), (ME, ACCOUNTS[3]), (PROPOSERS[0], ME))
        for number, (proposer, voter) in enumerate(seats, 1):
            desk.settle(number, [desk.offer(0, number=number)], proposers=(proposer,), voters=(voter,),
                        verdicts=[Verdict.REJECTED_LOSS])  # fmt: skip
            view = desk.view(Phase.COMMIT, round=number, proposers=(proposer,), voters=(voter,))
            desk.keeper.note_seat(view)
        desk.board.claimable = {1: 5 * 10**18 // 3, 5: 10**18}
        await keep(desk, 6, steps=3)
        desk.sender.under_way.clear()  # never became final: sent again
        await keep(desk, 6, steps=3)
        make_final(desk, 1)
        await keep(desk, 6, steps=9)
        assert [row.getMessage() for row in caplog.records if "earned" in row.getMessage()] == [
            "task 1: round 1: earned 1.666666666666666666 coins as a voter",
            "task 1: round 3: earned nothing as a proposer: rejected_loss",
            "task 1: round 4: earned nothing as a voter",
            "task 1: round 5: earned 1 coin by a seat",  # of before a restart: which one is not remembered
        ]
        assert desk.measurements.pay_of(1) == {
            "task": 1, "round": 5, "amount": str(10**18), "total": str(5 * 10**18 // 3 + 10**18), "is_final": False
        }  # fmt: skip


@on_stepped_clock
async def test_the_log_says_why_a_proposer_without_a_verdict_earned_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flock_peers.roles.keeper")
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.measurements.note_skipped(1, 1, "trainer: the process was killed by signal 9")
        for number in (1, 2, 3):
            offers = [desk.offer(0, number=number)] if number == 3 else []
            desk.settle(number, offers, proposers=(ME,), voters=(ACCOUNTS[3],), verdicts=[Verdict.NONE])
            desk.keeper.note_seat(desk.view(Phase.COMMIT, round=number, proposers=(ME,), voters=(ACCOUNTS[3],)))
        await keep(desk, 4, steps=9)
        assert [row.getMessage().split("proposer: ")[1] for row in caplog.records if "earned" in row.getMessage()] == [
            "it was skipped: trainer: the process was killed by signal 9",
            "nothing was proposed",
            "the round ended without a verdict",
        ]


@on_stepped_clock
async def test_the_log_says_why_a_round_with_too_few_participants_gave_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flock_peers.roles.keeper")
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        for number, (proposer, voter) in enumerate(((PROPOSERS[0], ME), (ME, ACCOUNTS[3])), 1):
            desk.settle(number, [desk.offer(0, number=number)], proposers=(proposer,), voters=(voter,))
            view = desk.view(Phase.COMMIT, round=number, proposers=(proposer,), voters=(voter,), is_paid=False)
            desk.keeper.note_seat(view)
        await keep(desk, 3, steps=9)
        why = "with fewer than 4 participants a round pays nobody"
        assert [row.getMessage() for row in caplog.records if "earned" in row.getMessage()] == [
            f"task 1: round 1: earned nothing as a voter; {why}",
            f"task 1: round 2: earned nothing as a proposer: accepted; {why}",
        ]


@on_stepped_clock
async def test_a_seats_part_of_what_the_pot_left_is_added_to_what_its_only_paid_round_gave(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.board.claimable = {1: 5}
        await keep(desk, 2, steps=2)
        make_final(desk, 1)
        await keep(desk, 2, steps=2)
        desk.measurements.note_pay(1, 1, 7)  # by the collector; a voter's part may be more than its pay
        assert (desk.measurements.pay_of(1) or {})["total"] == "12"


@on_stepped_clock
async def test_the_last_round_is_claimed_and_kept_only_once_the_task_has_ended(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.board.claimable = {1: 5}
        offers = [desk.offer(0)]
        desk.settle(1, offers)
        await keep(desk, 1)
        assert desk.sender.calls == [] and not is_kept(desk, offers[0])
        await keep(desk, 1, is_ended=True)
        assert desk.sender.calls == [("claim", 1, 1)] and is_kept(desk, offers[0])


@on_stepped_clock
async def test_every_proposal_of_every_round_is_kept_whatever_its_verdict(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        rounds = [[desk.offer(seat, number=number) for seat in range(3)] for number in (1, 2)]
        verdicts = [Verdict.REJECTED_LOSS, Verdict.ACCUSED_NORM, Verdict.VOID]
        for number, offers in enumerate(rounds, 1):
            desk.settle(number, offers, verdicts=verdicts)
        await keep(desk, 3)
        assert all(is_kept(desk, offer) for offers in rounds for offer in offers)
        assert desk.keeper.kept_until == 3


@on_stepped_clock
async def test_a_seat_without_a_proposal_is_not_waited_for(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offer = desk.offer(1)
        desk.settle(
            1, [], manifests=[NO_MANIFEST, offer.digest], held_set=0b10, verdicts=[Verdict.UNOPENED, Verdict.VOID]
        )
        await keep(desk, 2, steps=5)
        assert is_kept(desk, offer) and desk.keeper.kept_until == 2
        assert NO_MANIFEST not in desk.service.asked


@on_stepped_clock
async def test_a_round_that_the_task_ended_before_holds_nothing_to_keep(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        never = bytes(32)
        desk.settle(1, [], proposers=(), voters=(), held_set=0, adapter_before=never, adapter_after=never)
        await keep(desk, 1, is_ended=True, steps=3)
        assert desk.keeper.kept_until == 2 and never not in desk.service.asked


@on_stepped_clock
async def test_after_a_restart_in_a_long_task_no_step_looks_at_all_its_rounds(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.board.claimable = {3 * LOOKS_AT_ONCE: 5}
        await desk.keeper.step(10 * LOOKS_AT_ONCE, False)
        assert desk.keeper.claimed_until == 1 + LOOKS_AT_ONCE
        await keep(desk, 10 * LOOKS_AT_ONCE, steps=3)
        assert desk.sender.calls == [("claim", 1, 3 * LOOKS_AT_ONCE)]


@on_stepped_clock
@pytest.mark.parametrize("trouble", [Unavailable("gone"), Refused("disk quota"), OSError("disk"), "lie"])
async def test_a_proposal_that_is_gone_for_good_holds_up_nothing_for_ever(
    tmp_path: Path, trouble: Exception | str
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        first, second = [desk.offer(0), desk.offer(1)], [desk.offer(0, number=2)]
        desk.service.trouble[first[0].digest] = trouble
        desk.settle(1, first, verdicts=[Verdict.VOID] * 2)
        desk.settle(2, second, verdicts=[Verdict.VOID])
        await keep(desk, 3, steps=60)
        assert desk.keeper.kept_until == 3
        assert is_kept(desk, first[1]) and is_kept(desk, second[0])
        assert desk.service.asked.count(first[0].digest) <= 2 * MAX_ATTEMPTS  # the proposer, then everybody


@on_stepped_clock
async def test_a_proposal_that_is_late_is_kept_in_the_end(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0)]
        desk.service.trouble[offers[0].delta_digest] = Unavailable("not yet")
        desk.settle(1, offers, verdicts=[Verdict.VOID])
        await keep(desk, 2, steps=5)
        assert desk.keeper.kept_until == 1
        del desk.service.trouble[offers[0].delta_digest]
        await keep(desk, 2)
        assert desk.keeper.kept_until == 2 and is_kept(desk, offers[0])


@on_stepped_clock
@pytest.mark.parametrize("is_proposer", [True, False])
async def test_the_adapter_after_a_round_is_computed_here_also_by_who_was_a_proposer(
    tmp_path: Path, is_proposer: bool
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1), desk.offer(2)]
        if is_proposer:
            offers[0] = desk.offer(0, account=ME)
        after = compute_file_digest(compute_candidate(desk, 100, 102))
        desk.settle(
            1, offers, adapter_after=after, proposers=(ME if is_proposer else PROPOSERS[0], *PROPOSERS[1:]),
            verdicts=[Verdict.ACCEPTED, Verdict.REJECTED_NORM, Verdict.ACCEPTED],
        )  # fmt: skip
        await keep(desk, 1, is_ended=True)
        assert desk.store.file_path(after) is not None
        assert after not in desk.service.asked
        assert desk.keeper.kept_until == 2


@on_stepped_clock
@pytest.mark.parametrize("is_served", [True, False])
async def test_an_adapter_that_cannot_be_computed_is_fetched_or_given_up(tmp_path: Path, is_served: bool) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        data = compute_candidate(desk, 500)  # not what the accepted proposal gives
        after = compute_file_digest(data)
        if is_served:
            desk.service.files[after] = data
        desk.settle(1, [desk.offer(0)], adapter_after=after)
        await keep(desk, 2, steps=60)
        assert (desk.store.file_path(after) is not None) == is_served
        assert desk.keeper.kept_until == 2


@on_stepped_clock
async def test_a_full_store_does_not_hold_up_the_rounds_for_ever(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0)]
        after = compute_file_digest(compute_candidate(desk, 100))
        await desk.library.fetch_proposal(1, 0, PROPOSERS[0], offers[0].digest, desk.adapter)
        desk.store.quota = desk.store.used
        desk.settle(1, offers, adapter_after=after)
        await keep(desk, 2, steps=60)
        assert desk.keeper.kept_until == 2


@on_stepped_clock
async def test_an_adapter_that_a_voter_has_already_is_not_computed_again_and_is_kept(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        after = desk.contents.put_bytes(compute_candidate(desk, 500))  # what no accepted proposal gives
        desk.contents.release_all()
        desk.settle(1, [desk.offer(0)], adapter_after=after)
        await keep(desk, 2, steps=5)
        assert desk.keeper.kept_until == 2 and desk.store.is_kept(after)
        computed = compute_file_digest(compute_candidate(desk, 100))
        assert desk.store.file_path(computed) is None


@on_stepped_clock
@pytest.mark.parametrize("is_voter", [True, False])
async def test_who_does_not_vote_computes_the_candidate_before_the_next_round_begins_with_it(
    tmp_path: Path, is_voter: bool
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        voters = (ACCOUNTS[3], ME if is_voter else ACCOUNTS[4])
        verdicts = (Verdict.ACCEPTED, Verdict.REJECTED_LOSS)
        candidate = compute_file_digest(compute_candidate(desk, 100))
        for phase in (Phase.TALLY, Phase.ADOPT):
            assert desk.store.file_path(candidate) is None
            desk.keeper.prepare(desk.view(phase, offers, voters=voters, verdicts=verdicts))
            await trio.sleep(5)
        assert (desk.store.file_path(candidate) is None) == is_voter
        assert candidate not in desk.service.asked


@on_stepped_clock
async def test_a_candidate_that_cannot_be_prepared_is_no_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0)]
        desk.service.trouble[offers[0].delta_digest] = Unavailable("gone")
        desk.keeper.prepare(desk.view(Phase.ADOPT, offers, voters=ACCOUNTS[3:5]))
        await trio.sleep(5)
        assert caplog.text == ""


@on_stepped_clock
async def test_an_adapter_that_is_being_computed_is_waited_for_and_not_fetched(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        candidate = compute_file_digest(compute_candidate(desk, 100))
        nursery.start_soon(desk.library.compute_candidate, desk.adapter, [make_delta(100)])
        while not desk.library._computing.locked():
            await trio.lowlevel.checkpoint()
        assert (await desk.library.global_path(candidate)).is_file()
        assert candidate not in desk.service.asked


@on_stepped_clock
async def test_an_adapter_that_is_being_fetched_is_computed_beside_that_and_nobody_is_alarmed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a peer that goes on: its trainer waits for the adapter of the round before, and fetches it."""
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        data = compute_candidate(desk, 100)
        chunks = compute_chunk_list(split_chunks(data))
        part = desk.store.open_part(chunks)
        desk.settle(1, [desk.offer(0)], adapter_after=chunks.digest)
        await keep(desk, 2, steps=5)
        assert desk.keeper.kept_until == 2 and desk.store.is_kept(chunks.digest)
        for index, chunk in enumerate(split_chunks(data)):
            part.write(index, chunk)
        assert part.finish().read_bytes() == data
        assert [row for row in caplog.records if row.levelname != "INFO"] == []
