"""What a participant says in an audit: whom it names, for what, and once."""

from pathlib import Path

import pytest
import trio
from auditor_support import ANN, BOB, EVE, audit, fetch, file_name, kept_seeds, play, said
from roles_support import PROPOSERS, Desk, do, on_stepped_clock

from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM
from flock_chain.errors import Refused
from flock_peers.roles.board import NOBODY
from flock_peers.roles.jobs import Jobs


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
