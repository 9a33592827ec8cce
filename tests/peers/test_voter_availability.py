"""What a voter attests: only what is here and well formed is held, only what is here and malformed is invalid."""

import errno
from pathlib import Path
from typing import Any

import pytest
import trio
from roles_support import Desk, Offer, do, make_delta, on_stepped_clock

from flock_chain.aggregation import encode_delta
from flock_chain.errors import Misuse, Refused, Unavailable
from flock_peers.roles.board import Phase
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.voter import AVAILABILITY_SECONDS, Held


async def attest(desk: Desk, offers: list[Offer], **changes: int) -> tuple[int, int]:
    await do(desk.voter.step, desk.view(Phase.AVAILABILITY, offers, **changes))
    ((held, invalid),) = desk.sender.sent("attest_available")
    return held, invalid


def malform(delta: bytes) -> bytes:
    """The right size and header, but no canonical delta."""
    return delta[:-1] + b"\x80"


@on_stepped_clock
async def test_well_formed_proposals_are_attested_as_held(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        assert await attest(desk, [desk.offer(0), desk.offer(1), desk.offer(2)]) == (0b111, 0)


@on_stepped_clock
async def test_only_what_was_revealed_is_looked_for(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        assert await attest(desk, offers, revealed=0b10) == (0b10, 0)
        assert offers[0].digest not in desk.service.asked


@on_stepped_clock
async def test_a_malformed_delta_is_attested_as_invalid(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        bad = desk.offer(1, delta=malform(encode_delta(make_delta(1))))
        assert await attest(desk, [desk.offer(0), bad]) == (0b01, 0b10)


@on_stepped_clock
@pytest.mark.parametrize("changes", [{"round": 2}, {"task": 2}, {"parent": bytes(32)}, {"delta_bytes": 5}])
async def test_a_manifest_of_another_round_or_size_is_attested_as_invalid(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        assert await attest(desk, [desk.offer(0, **changes), desk.offer(1)]) == (0b10, 0b01)


@on_stepped_clock
@pytest.mark.parametrize(
    "trouble",
    ["stall", "lie", Unavailable("gone"), Refused("disk quota"), Misuse("is being written already"),
     OSError(errno.ENOSPC, "no space left"), MemoryError()],
)  # fmt: skip
@pytest.mark.parametrize("what", ["manifest", "delta"])
async def test_what_cannot_be_had_is_neither_held_nor_invalid_and_does_not_end_the_voter(
    tmp_path: Path, trouble: Exception | str, what: str
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1)]
        desk.service.trouble[offers[1].digest if what == "manifest" else offers[1].delta_digest] = trouble
        assert await attest(desk, offers) == (0b01, 0)


@on_stepped_clock
async def test_a_store_without_room_does_not_end_the_voter(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.store.quota = desk.store.used
        assert await attest(desk, [desk.offer(0)]) == (0, 0)


@on_stepped_clock
async def test_a_provider_that_stalls_does_not_delay_the_attestation_of_the_others(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offers = [desk.offer(0), desk.offer(1), desk.offer(2)]
        desk.service.trouble[offers[0].delta_digest] = "stall"
        await do(desk.voter.step, desk.view(Phase.AVAILABILITY, offers), AVAILABILITY_SECONDS + 1)
        assert desk.sender.sent("attest_available") == [(0b110, 0)]


@on_stepped_clock
async def test_a_large_delta_has_a_share_of_the_tasks_phase_to_arrive_in(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.board.terms["availability_seconds"] = 600
        offers = [desk.offer(0), desk.offer(1)]
        desk.service.seconds = {offers[0].delta_digest: 150.0, offers[1].delta_digest: 500.0}
        await do(desk.voter.step, desk.view(Phase.AVAILABILITY, offers), 250)
        assert desk.sender.sent("attest_available") == [(0b01, 0)]


@on_stepped_clock
async def test_what_is_remembered_of_a_round_is_indices_and_no_weights(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        jobs = Jobs(nursery)
        desk = Desk(tmp_path, jobs)
        await attest(desk, [desk.offer(0)])
        assert jobs.ensure(("hold", 1, 1), trio.sleep_forever) == Held((0,), ())


@on_stepped_clock
async def test_who_has_attested_already_does_not_again(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        await do(desk.voter.step, desk.view(Phase.AVAILABILITY, [desk.offer(0)], attested=0b10))
        assert desk.sender.calls == []
