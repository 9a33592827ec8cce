"""What a library takes from strangers: only what its content id, its round and the task's format allow."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from roles_support import DOCUMENT, PROPOSERS, Desk, Offer, make_delta, on_stepped_clock

from flock_chain.aggregation import apply, encode_delta, encode_global
from flock_chain.crypto import Account
from flock_chain.errors import InvalidContent, Refused, Unavailable
from flock_chain.proposal import decode_manifest
from flock_peers.contents import Contents
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import FETCH_SECONDS, Proposal, compute_file_digest
from flock_peers.store.blob_store import BlobStore
from flock_peers.training.document import compute_initial_adapter


async def fetch(desk: Desk, offer: Offer, seat: int = 0, number: int = 1) -> Proposal:
    return await desk.library.fetch_proposal(number, seat, PROPOSERS[seat], offer.digest, desk.adapter)


@on_stepped_clock
async def test_a_proposal_is_fetched_once_and_read_from_disk_after_that(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offer = desk.offer(0)
        first = await fetch(desk, offer)
        assert first.path.read_bytes() == offer.delta == encode_delta(first.delta)
        again = await fetch(desk, offer)
        assert again.manifest == first.manifest
        assert desk.service.asked == [offer.digest, offer.delta_digest]


@on_stepped_clock
@pytest.mark.parametrize(
    ("changes", "what"),
    [({"chain": bytes(32)}, "chain"), ({"task": 2}, "task"), ({"round": 2}, "round"),
     ({"account": PROPOSERS[1]}, "account"), ({"parent": bytes(32)}, "parent"), ({"delta_bytes": 77}, "77 bytes")],
)  # fmt: skip
async def test_a_manifest_of_elsewhere_is_refused_by_name_and_its_delta_not_fetched(
    tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offer = desk.offer(0, **changes)
        with pytest.raises(InvalidContent, match=what):
            await fetch(desk, offer)
        assert offer.delta_digest not in desk.service.asked


@on_stepped_clock
async def test_bytes_that_are_no_manifest_are_invalid_content(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        with pytest.raises(InvalidContent):
            await fetch(desk, desk.service.serve(Offer(b"no manifest", b"delta")))


@on_stepped_clock
@pytest.mark.parametrize("what", ["manifest", "delta"])
@pytest.mark.parametrize("trouble", ["stall", "lie", Unavailable("gone")])
async def test_what_cannot_be_had_is_unavailable_within_its_time(
    tmp_path: Path, what: str, trouble: Exception | str
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offer = desk.offer(0)
        desk.service.trouble[offer.digest if what == "manifest" else offer.delta_digest] = trouble
        start = trio.current_time()
        with pytest.raises(Unavailable):
            await fetch(desk, offer)
        assert trio.current_time() - start <= FETCH_SECONDS + 1


@on_stepped_clock
async def test_what_is_fetched_is_kept_once_it_passed_the_checks_and_not_before(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        good, stray = desk.offer(0), desk.offer(1, parent=bytes(32))
        bad = desk.offer(2, delta=good.delta[:-1] + b"\x80")
        await fetch(desk, good)
        for seat, offer in ((1, stray), (2, bad)):
            with pytest.raises(InvalidContent):
                await fetch(desk, offer, seat)
        assert desk.store.kept_by("own") == {desk.adapter, good.digest, good.delta_digest}


@on_stepped_clock
async def test_a_manifest_that_names_a_larger_file_of_this_peer_makes_nobody_read_it(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        path = desk.store.file_path(desk.adapter)
        assert path is not None
        os.truncate(path, 1 << 42)  # sparse: takes no room on disk, and all memory if it is read
        with pytest.raises(InvalidContent, match=f"{1 << 42} bytes, its manifest says"):
            await fetch(
                desk,
                desk.service.serve(
                    Offer(replace(decode_manifest(desk.offer(0).manifest), delta=desk.adapter).encode(), b"")
                ),
            )


@on_stepped_clock
async def test_the_round_0_adapter_is_computed_and_a_later_one_fetched(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.store.drop(desk.adapter)
        assert (await desk.library.global_path(desk.adapter)).is_file()
        assert desk.service.asked == []
        data = encode_global(apply(compute_initial_adapter(DOCUMENT), [make_delta(1)]))
        later = compute_file_digest(data)
        desk.service.files[later] = data
        assert (await desk.library.global_path(later)).read_bytes() == data


@on_stepped_clock
async def test_a_candidate_is_what_the_reference_computes_in_any_order(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        deltas = [make_delta(1), make_delta(2), make_delta(3)]
        candidate = await desk.library.compute_candidate(desk.adapter, deltas)
        assert candidate == await desk.library.compute_candidate(desk.adapter, deltas[::-1])
        path = desk.store.file_path(candidate)
        assert path is not None
        assert path.read_bytes() == encode_global(apply(compute_initial_adapter(DOCUMENT), deltas))


@on_stepped_clock
async def test_own_bytes_are_put_without_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be small, or in memory: an adapter belongs where the quota counts it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        data = bytes(range(256)) * 10_000
        digest = desk.contents.put_bytes(data)
        assert digest == compute_file_digest(data) == desk.contents.put_bytes(data)
        path = desk.store.file_path(digest)
        assert path is not None and path.read_bytes() == data
        assert digest in desk.store.kept_by("own")


@on_stepped_clock
async def test_what_a_task_left_makes_room_for_the_next_one_once_it_is_released(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        offer = desk.offer(0)
        delta = (await fetch(desk, offer)).delta
        candidate = await desk.library.compute_candidate(desk.adapter, [delta])
        desk.store.quota = desk.store.used
        with pytest.raises(Refused, match="quota"):
            desk.store.put_object(b"of the next task")
        desk.library.release(candidate)
        desk.store.put_object(bytes(desk.store.quota // 2))
        assert desk.store.file_path(candidate) is not None
        assert desk.store.file_path(desk.adapter) is None and desk.store.file_path(offer.delta_digest) is None


@on_stepped_clock
async def test_what_was_kept_before_a_restart_is_released_too_and_nothing_of_another_task(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        before = Desk(tmp_path, Jobs(nursery))
        offer = before.offer(0)
        await fetch(before, offer)
        before.contents.of("task-9").keep(offer.digest)
        desk = Desk(tmp_path, Jobs(nursery))
        desk.library.document_digest = desk.contents.put_object(b"document")
        desk.library.release(desk.adapter)
        assert desk.store.kept_by("own") == {desk.adapter, desk.library.document_digest}
        assert desk.store.kept_by("task-9") == {offer.digest}


@on_stepped_clock
async def test_who_made_a_thing_is_asked_first_and_everybody_when_it_is_gone(tmp_path: Path) -> None:
    asked: list[Sequence[Account] | None] = []

    class Service:
        async def fetch_object(self, digest: bytes, providers: Sequence[Account] | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            asked.append(providers)
            if providers is not None or digest == bytes(32):
                raise Unavailable("no provider has it")
            return b"from another"

    contents = Contents(BlobStore(tmp_path), Service())  # type: ignore[arg-type]
    assert await contents.fetch_object(bytes([1]) * 32, [PROPOSERS[0]]) == b"from another"
    assert asked == [[PROPOSERS[0]], None]
    with pytest.raises(Unavailable):
        await contents.fetch_object(bytes(32), [PROPOSERS[0]])
