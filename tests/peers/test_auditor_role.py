"""What a participant says in an audit, and whom a voter of many proposals takes for a copy of another."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from roles_support import ACCOUNTS, ME, PROPOSERS, Desk, Offer, do, make_delta, make_offer, on_stepped_clock

from flock_chain.aggregation import apply, encode_delta, encode_global, quantise
from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM
from flock_chain.crypto import Account
from flock_chain.errors import Refused, Unavailable
from flock_chain.tally import FILTER_NEAR_DUPLICATE, SCORE_LIMIT, SEATS_MAX, Verdict
from flock_peers.roles import auditor
from flock_peers.roles.auditor import MAX_AUDITED
from flock_peers.roles.board import NOBODY, Phase, RoundView, read_seed
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import compute_file_digest
from flock_peers.training.document import compute_initial_adapter

ANN, BOB, EVE = PROPOSERS


def play(desk: Desk, rounds: int = 2) -> list[list[Offer]]:
    """All three proposed in every round, and all were accepted."""
    desk.board.terms["audit_rounds"] = 1
    played = []
    for number in range(1, rounds + 1):
        offers = [desk.offer(seat, number=number) for seat in range(3)]
        desk.settle(number, offers)
        played.append(offers)
    return played


def audit(desk: Desk, number: int = 2) -> RoundView:
    return desk.view(Phase.AUDIT, [], round=number, seed_height=number)


def said(desk: Desk) -> list[tuple[int, list[bytes]]]:
    """Number of the audit and who was named."""
    return [(call[2], call[3]) for call in desk.sender.calls if call[0] == "attest_guilty"]


@on_stepped_clock
async def test_who_made_the_model_recite_is_named_and_nobody_else(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        first, second = play(desk)
        await fetch(desk)
        desk.trainer.recited = {
            file_name(desk, first[0]): GUILTY_FROM,  # in one of two, be it the older
            file_name(desk, second[2]): GUILTY_FROM,  # or the newer
            file_name(desk, second[1]): GUILTY_FROM - 1,  # a suspect: said of nobody
        }
        await do(desk.auditor.step, audit(desk))
        assert said(desk) == [(1, sorted([ANN, EVE]))]
        ((names, seed, own_seed),) = desk.trainer.audited
        start = (await desk.library.global_path(desk.adapter)).name
        assert len(names) == 6 and {name for name, _ in names} == {start} and seed != own_seed
        offered = {file_name(desk, offer): place for offers in (first, second) for place, offer in enumerate(offers)}
        people = [(offered[name], author) for (_, name), author in zip(names, desk.trainer.authors, strict=True)]
        assert len(set(people)) == len({place for place, _ in people}) == len({author for _, author in people}) == 3
        assert (seed, own_seed) == await kept_seeds(desk, 1, "audit", audit(desk), b"flock audit")
        await do(desk.auditor.step, audit(desk))
        assert len(said(desk)) == 1


@on_stepped_clock
async def test_who_is_out_already_is_named_again_only_by_what_is_worth_its_bond(tmp_path: Path) -> None:
    """Ann and Bob were named by more than half in the audit after round 1, in which Eve was named by half."""
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        first, second = play(desk)
        await fetch(desk)
        rows = {NOBODY: 90, ANN: 46, BOB: 46, EVE: 45}
        desk.board.blamed = {(1, account): (stake, 1) for account, stake in rows.items()}
        desk.board.audit = 2
        values = {first[0]: CONVICT_FROM - 1, first[1]: CONVICT_FROM, first[2]: GUILTY_FROM}
        desk.trainer.recited = {file_name(desk, offer): value for offer, value in values.items()}
        await do(desk.auditor.step, audit(desk))
        assert said(desk) == [(2, sorted([BOB, EVE]))]
        desk.board.blamed[2, NOBODY] = (90, 2)  # of an audit that named nobody, the one before still says it
        desk.board.audit, desk.board.audit_first = 3, 1
        await do(desk.auditor.step, audit(desk))
        assert said(desk)[-1] == (3, sorted([BOB, EVE]))
        desk.trainer.recited = {file_name(desk, second[0]): GUILTY_FROM}  # of a round that no audit has looked at
        desk.board.blamed[2, NOBODY] = (90, 1)
        desk.board.audit = 4
        await do(desk.auditor.step, audit(desk))
        assert said(desk)[-1] == (4, [ANN])


async def kept_seeds(desk: Desk, number: int, kind: str, view: RoundView, purpose: bytes) -> tuple[int, int]:
    """From the record on disk: with what the same would be measured again."""
    record = desk.secrets.load(1, number, kind)
    assert record is not None
    at = replace(view, seed_height=record["seed_height"])
    return await read_seed(desk.board, at, purpose), record["own_seed"]


def file_name(desk: Desk, offer: Offer) -> str:
    path = desk.store.file_path(offer.delta_digest)
    assert path is not None
    return path.name


async def fetch(desk: Desk) -> None:
    """As the keeper does: what was accepted is here before an audit begins."""
    for number in range(1, 4):
        for _ in range(3):
            await desk.keeper.step(number, True)
            await trio.sleep(3)


@on_stepped_clock
async def test_silence_is_no_say_so_the_innocent_are_cleared_by_an_empty_list(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        await do(desk.auditor.step, audit(desk, 0))
        assert said(desk) == [(1, [])] and desk.trainer.audited == []


@on_stepped_clock
async def test_a_peer_killed_in_an_audit_says_what_it_found_before_and_finds_afresh_in_the_next(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        before = Desk(tmp_path, Jobs(nursery))
        play(before)
        await do(before.auditor.step, audit(before))
        after = Desk(tmp_path, Jobs(nursery))
        play(after)
        after.trainer.recited = dict.fromkeys((path.name for path in (tmp_path / "blobs").rglob("*")), 1_000_000)
        await do(after.auditor.step, audit(after))
        assert said(after) == said(before) and after.trainer.audited == []
        after.board.audit = 2
        await do(after.auditor.step, audit(after))
        assert said(after)[-1] == (2, sorted(PROPOSERS))
        assert after.trainer.audited[0][2] != before.trainer.audited[0][2], "own contexts are drawn each time"
        with pytest.raises(Refused):
            after.secrets.save(1, 2, "audit", {"accused": []})


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


def values_of_last(desk: Desk) -> dict[str, int]:
    return dict(desk.measurements.of(1)["audits"][-1]["values"])


async def audited(desk: Desk, count: int, number: int = 2, first: int = 1) -> None:
    desk.board.audit += 1
    desk.board.audit_first = first
    desk.trainer.audited.clear()
    await do(desk.auditor.step, audit(desk, number), 60)
    assert sum(len(names) for names, _, _ in desk.trainer.audited) == count
    assert said(desk)[-1] == (desk.board.audit, [])


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


# ---------------------------------------------------------------- what a voter refuses


@on_stepped_clock
@pytest.mark.parametrize(("audit_rounds", "refused"), [(0, []), (1, [0, 2]), (2, [0, 2])])
async def test_a_proposal_that_an_audit_would_find_guilty_is_scored_as_harmful(
    tmp_path: Path, audit_rounds: int, refused: list[int]
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.board.terms["audit_rounds"] = audit_rounds
        offers = [desk.offer(seat) for seat in range(3)]
        view = desk.view(Phase.AVAILABILITY, offers)
        await do(desk.voter.step, view)  # now they are here
        desk.trainer.recited = {
            file_name(desk, offers[0]): GUILTY_FROM, file_name(desk, offers[2]): 900_000,
            file_name(desk, offers[1]): GUILTY_FROM - 1,
        }  # fmt: skip
        await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers, seed_height=9))
        await desk.voter.step(desk.view(Phase.SCORE_REVEAL, offers, score_committed=0b10, seed_height=9))
        ((scores, _, _),) = desk.sender.sent("reveal_scores")
        assert [index for index in range(SEATS_MAX) if scores[index] == SCORE_LIMIT] == refused
        assert len(desk.trainer.audited) == (1 if audit_rounds else 0)
        for _, *seeds in desk.trainer.audited:
            assert tuple(seeds) == await kept_seeds(desk, 1, "scores", view, b"flock recital")


# ---------------------------------------------------------------- what a guilt takes out


async def adopt_first_round(desk: Desk) -> tuple[bytes, bytes]:
    """Round 1 was adopted with two of three contributions, then the audit found Eve guilty: that adapter, and it less
    hers."""
    offers = [desk.offer(seat) for seat in range(3)]
    deltas = [make_delta(100 + seat) for seat in (0, 2)]
    after = await desk.library.compute_candidate(desk.adapter, deltas)
    verdicts = [Verdict.ACCEPTED, Verdict.REJECTED_LOSS, Verdict.ACCEPTED]
    desk.settle(1, offers, verdicts=verdicts, adapter_after=after)
    desk.board.audit = 2
    desk.board.blamed = {(1, bytes(20)): (9, 1), (1, EVE): (5, 0), (1, ANN): (4, 4)}
    return after, await desk.library.compute_without(after, [(deltas, [1])])


@on_stepped_clock
@pytest.mark.parametrize("is_worse", [False, True])
async def test_a_voter_builds_on_what_is_left_after_an_audit_and_never_on_what_it_took_out(
    tmp_path: Path, is_worse: bool
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        after, without = await adopt_first_round(desk)
        offers = [desk.service.serve(make_offer(BOB, after, encode_delta(make_delta(5)), number=2))]
        candidate = await desk.library.compute_candidate(without, [make_delta(5)])
        path = await desk.library.global_path(candidate)
        desk.trainer.losses = {path.name: 9.0} if is_worse else {}
        view = desk.view(Phase.ADOPT, offers, round=2, adapter=after, proposers=(BOB,), score_revealed=0b10)
        await do(desk.voter.step, view)
        assert desk.sender.sent("attest_adoption") == [(without if is_worse else candidate,)]
        assert len({after, without, candidate, desk.adapter}) == 4


@on_stepped_clock
async def test_what_a_round_did_not_add_is_not_taken_out_later(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        after, without = await adopt_first_round(desk)
        offers = [desk.offer(seat, number=2) for seat in range(3)]
        desk.settle(2, offers, adapter_before=after, adapter_after=without)  # accepted, and not adopted
        desk.board.audit = 3
        desk.board.blamed |= {(2, bytes(20)): (9, 2), (2, BOB): (9, 0)}
        assert await desk.removal.compute_base(3, without) == without


@on_stepped_clock
async def test_without_a_proposal_of_the_guilty_s_round_the_previous_adapter_stays(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        after, _ = await adopt_first_round(desk)
        desk.service.trouble[compute_file_digest(encode_delta(make_delta(102)))] = Unavailable("gone")
        offers = [desk.service.serve(make_offer(BOB, after, encode_delta(make_delta(5)), number=2))]
        view = desk.view(Phase.ADOPT, offers, round=2, adapter=after, proposers=(BOB,), score_revealed=0b10)
        await do(desk.voter.step, view, 120)
        assert desk.sender.sent("attest_adoption") == [(after,)]


# ---------------------------------------------------------------- the functional filter


def eight(desk: Desk, twins: Sequence[int]) -> tuple[list[Offer], tuple[Account, ...]]:
    """Eight proposals, of which `twins` share a half of their weights."""
    accounts = tuple(Account(bytes([50 + seat]) * 20) for seat in range(8))
    offers = []
    for seat, account in enumerate(accounts):
        delta = make_delta(seat)
        if seat in twins:
            vector = make_delta(seat).to_float32() + make_delta(77).to_float32()
            delta = quantise(vector, delta.layout, delta.format)
        offers.append(desk.service.serve(make_offer(account, desk.adapter, encode_delta(delta))))
    return offers, accounts


async def filters_of(desk: Desk, offers: list[Offer], accounts: tuple[Account, ...], held: int) -> list[int]:
    changes = {"proposers": accounts, "held_set": held, "seed_height": 9}
    await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers, **changes))
    await desk.voter.step(desk.view(Phase.SCORE_REVEAL, offers, score_committed=0b10, **changes))
    ((_, filters, _),) = desk.sender.sent("reveal_scores")
    return list(filters)


@on_stepped_clock
@pytest.mark.parametrize(
    ("likeness", "held", "is_first", "flagged"),
    [(100, 0xFF, False, [2, 5]), (900, 0xFF, False, []), (100, 0x7F, False, []), (100, 0xFF, True, [])],
)
async def test_who_is_like_another_in_weights_and_not_in_function_is_reported_as_its_copy(
    tmp_path: Path, likeness: int, held: int, is_first: bool, flagged: list[int]
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.library.initial_digest = desk.adapter if is_first else bytes(32)  # the task's first adapter
        offers, accounts = eight(desk, (2, 5))
        desk.trainer.profiles = [[1_000 if i == j else likeness for i in range(8)] for j in range(8)]
        filters = await filters_of(desk, offers, accounts, held)
        assert [index for index in range(SEATS_MAX) if filters[index] & FILTER_NEAR_DUPLICATE] == flagged
