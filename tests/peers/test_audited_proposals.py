"""Which proposals an audit looks at, which it judges, beside which it compares them, and how long it looks for them."""

from pathlib import Path

import pytest
import trio
from auditor_support import ANN, BOB, EVE, audit, audited, file_name, play, said, values_of_last
from roles_support import ACCOUNTS, ME, PROPOSERS, Desk, do, make_delta, make_offer, on_stepped_clock

from flock_chain.aggregation import apply, encode_delta, encode_global
from flock_chain.audit_rule import GUILTY_FROM
from flock_chain.errors import Unavailable
from flock_chain.tally import Verdict
from flock_peers.roles import auditor
from flock_peers.roles.auditor import MAX_AUDITED
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import compute_file_digest
from flock_peers.training.document import compute_initial_adapter


@on_stepped_clock
async def test_what_was_held_is_looked_at_and_only_who_is_bonded_is_judged_and_nobody_by_itself(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        rounds = play(desk)
        await audited(desk, 6)
        desk.settle(2, rounds[1], verdicts=[Verdict.ACCEPTED, Verdict.REJECTED_LOSS, Verdict.DUPLICATE])
        await audited(desk, 6)  # what was turned away, too
        desk.settle(2, rounds[1], verdicts=[Verdict.ACCEPTED, Verdict.VOID, Verdict.ACCEPTED], held_set=0b101)
        await audited(desk, 5)
        desk.board.bonded = [ANN, BOB]
        await audited(desk, 5)  # who lost its bond shows whom it was with, as it did before
        desk.trainer.recited = {file_name(desk, row): GUILTY_FROM for offers in rounds for row in offers[2:]}
        await audited(desk, 5)
        assert set(values_of_last(desk)) == {"0x" + account.hex() for account in (ANN, BOB)}
        desk.trainer.recited = {}
        desk.board.bonded = []
        await audited(desk, 0)
        desk.board.bonded = list(ACCOUNTS)
        owns = [make_offer(ME, desk.adapter, encode_delta(make_delta(900 + n)), number=n) for n in (1, 2)]
        for number, own in enumerate(owns, 1):
            desk.settle(number, [desk.service.serve(own), *rounds[number - 1][1:]], proposers=(ME, BOB, EVE))
        await audited(desk, 6)  # its own, too, to compare the others' with
        desk.trainer.recited = {file_name(desk, own): GUILTY_FROM for own in owns}
        await audited(desk, 6)
        assert sorted(desk.trainer.authors) == [0, 0, 1, 1, 2, 2]
        assert set(values_of_last(desk)) == {"0x" + account.hex() for account in (BOB, EVE)}


@on_stepped_clock
async def test_a_proposal_or_an_adapter_that_is_nowhere_leaves_the_others_to_judge_by(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        first, _ = play(desk)
        desk.service.trouble[first[0].delta_digest] = Unavailable("gone")
        desk.service.trouble[first[1].delta_digest] = "stall"
        await audited(desk, 4)
        nowhere = bytes([9]) * 32
        desk.service.trouble[nowhere] = "stall"
        offers = [
            make_offer(account, nowhere, encode_delta(make_delta(700 + i)), number=2)
            for i, account in enumerate(PROPOSERS)
        ]
        desk.settle(2, [desk.service.serve(offer) for offer in offers], adapter_before=nowhere)
        desk.service.asked.clear()
        await audited(desk, 1)
        assert not {offer.digest for offer in offers} & set(desk.service.asked), "of no use without what it starts from"


@on_stepped_clock
async def test_an_audit_looks_from_the_round_on_that_the_board_says_at_the_adapters_trained_from(
    tmp_path: Path,
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        play(desk, 1)
        later = await desk.library.compute_candidate(desk.adapter, [make_delta(100)])
        for number in (2, 3, 4):
            offers = [
                make_offer(a, later, encode_delta(make_delta(300 + 10 * number + i)), number=number)
                for i, a in enumerate(PROPOSERS)
            ]
            desk.settle(number, [desk.service.serve(offer) for offer in offers], adapter_before=later)
        for first, number, starts in ((1, 1, [3, 0]), (1, 2, [3, 3]), (2, 3, [0, 6]), (1, 4, [3, 9]), (5, 4, [0, 0])):
            await audited(desk, sum(starts), number, first)
            if not sum(starts):
                continue
            names = [start for start, _ in desk.trainer.audited[0][0]]
            wanted = [(await desk.library.global_path(digest)).name for digest in (desk.adapter, later)]
            assert [names.count(name) for name in wanted] == starts


@on_stepped_clock
async def test_the_newest_proposals_are_enough_where_there_are_many(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        play(desk, 12)
        await audited(desk, MAX_AUDITED, 12)
        newest = {
            file_name(desk, offer)
            for number in (11, 12)
            for offer in [desk.offer(seat, number=number) for seat in range(3)]
        }
        assert newest <= {delta for _, delta in desk.trainer.audited[0][0]}


@on_stepped_clock
async def test_proposals_of_two_rounds_before_are_compared_and_neither_judged_nor_looked_at_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        played = play(desk, 5)
        await audited(desk, 15, 5)  # now all are here
        names = [[], *([file_name(desk, offer) for offer in offers] for offers in played)]
        for first, wanted in ((4, names[3] + names[2]), (3, names[2] + names[1]), (2, names[1]), (1, [])):
            desk.trainer.recited = dict.fromkeys(wanted, GUILTY_FROM)
            await audited(desk, 3 * (6 - first), 5, first)
            assert desk.trainer.older == wanted and max(values_of_last(desk).values()) < GUILTY_FROM
            assert desk.trainer.authors == desk.trainer.authors[:3] * (6 - first + len(wanted) // 3)
        await audited(desk, 0, 5, 6)  # with nothing to judge there is nothing to compare
        monkeypatch.setattr(auditor, "MAX_OLDER", 4)
        await audited(desk, 6, 5, 4)
        assert desk.trainer.older == names[3] + names[2][:1]


@on_stepped_clock
async def test_older_proposals_take_no_time_from_those_that_are_judged_and_judge_nobody_alone(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        played = play(desk, 6)
        await audited(desk, 6, 2)  # rounds 1 and 2 are here
        for offer in (offer for offers in played[2:4] for offer in offers):
            desk.service.trouble[offer.delta_digest] = "stall"
        await audited(desk, 6, 6, 5)  # they come first, and are not here yet
        assert desk.trainer.older == []
        await audited(desk, 0, 4, 3)  # only older ones are here
        assert desk.trainer.audited == []
        desk.service.asked.clear()
        for number in (4, 5):
            desk.settle(number, [], held_set=0)
        await audited(desk, 0, 5, 4)  # nor is looked for what there is nothing to compare with
        assert desk.service.asked == []


@on_stepped_clock
async def test_the_trainer_is_told_who_made_each_proposal_and_each_older_one_be_it_bonded_or_this_account(
    tmp_path: Path,
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        play(desk, 4)
        people, made = (EVE, ME), range(2)
        offers = [make_offer(people[i], desk.adapter, encode_delta(make_delta(800 + i)), number=2) for i in made]
        desk.settle(2, [desk.service.serve(offer) for offer in offers], proposers=people)
        desk.board.bonded = [ANN, BOB]
        await audited(desk, 6, 4, 3)
        assert desk.trainer.older[:2] == [file_name(desk, offer) for offer in offers]
        numbers = {account: number for number, account in enumerate(sorted((ME, *PROPOSERS)))}
        authors = [*PROPOSERS, *PROPOSERS, *people, *PROPOSERS]  # of rounds 4, 3, 2 and 1
        assert desk.trainer.authors == [numbers[account] for account in authors]


@on_stepped_clock
async def test_however_many_proposals_are_nowhere_the_audit_says_in_time_what_is_here(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        played = play(desk, 12)
        here = played[2][0]  # of the oldest round that is looked at whole
        (tmp_path / "delta").write_bytes(here.delta)
        desk.store.put_file(tmp_path / "delta")
        desk.store.put_object(here.manifest)
        for offer in (offer for offers in played for offer in offers if offer is not here):
            desk.service.trouble[offer.delta_digest] = "stall"
        desk.trainer.recited = {file_name(desk, here): GUILTY_FROM}
        await do(desk.auditor.step, audit(desk, 12), 60)
        assert said(desk) == [(1, [ANN])]


@on_stepped_clock
async def test_what_comes_slowly_ends_with_the_time_for_all_lookups(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        _, second = play(desk)
        for offer in second:  # they come first, and take 15 s of 20
            desk.service.trouble[offer.delta_digest] = "stall"
        start = encode_global(apply(compute_initial_adapter(desk.library.document), [make_delta(900)]))
        digest = compute_file_digest(start)
        offers = [
            desk.service.serve(make_offer(account, digest, encode_delta(make_delta(900 + i))))
            for i, account in enumerate(PROPOSERS)
        ]
        desk.settle(1, offers, adapter_before=digest)
        desk.service.files[digest] = start
        desk.service.seconds = dict.fromkeys((digest, *(offer.digest for offer in offers)), 4.0)
        await do(desk.auditor.step, audit(desk), 22)
        assert said(desk) == [(1, [])]
