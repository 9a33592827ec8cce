"""The owner's base models on their way into the store."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from base_support import make_base
from clock_support import on_stepped_clock

from flock_chain.content import format_cid
from flock_chain.errors import Misuse, Unavailable
from flock_peers.base_giver import MAX_GIVEN, UNASKED_SECONDS, BaseGiver, Giving
from flock_peers.contents import Contents
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.kept_marks import BASE_GIVEN, new_task_owner, task_owner
from flock_peers.training.base_manifest import describe_base


class Desk:
    def __init__(self, path: Path, quota: int = 1 << 30) -> None:
        self.store = BlobStore(path, quota)
        self.giver = BaseGiver(Contents(self.store, None))  # type: ignore[arg-type]


async def given(desk: Desk, folder: Path) -> Giving:
    error: Misuse | None = None
    async with trio.open_nursery() as nursery:
        desk.giver.run_in(nursery)
        try:
            return desk.giver.start(folder)
        except Misuse as refusal:
            error = refusal
    raise error


@on_stepped_clock
async def test_a_folder_is_whole_in_the_store_before_its_manifest_is_and_then_kept_for_the_task(tmp_path: Path) -> None:
    desk, folder = Desk(tmp_path / "blobs"), make_base(tmp_path / "base")
    giving, base = await given(desk, folder), describe_base(folder)
    digests = {base.digest, *(file.digest for file in base.files)}
    assert giving.base == base and giving.done == giving.bytes == base.size and not giving.error
    assert giving.as_row()["base"] == format_cid(base.digest)
    assert desk.store.kept_by(BASE_GIVEN) == digests and desk.store.get_object(base.digest) == base.encode()
    desk.giver.keep_for(b"d" * 32, desk.giver.find(format_cid(base.digest)))
    await given(desk, make_base(tmp_path / "next", seed=2))
    assert desk.store.kept_by(new_task_owner(b"d" * 32)) == digests
    assert base.digest not in desk.store.kept_by(BASE_GIVEN)


@on_stepped_clock
async def test_what_became_of_an_order_is_told_though_another_one_came_after_it(tmp_path: Path) -> None:
    """Each of two orders found the other's, gave its own again, and so on: neither came to an end."""
    desk, folders = Desk(tmp_path / "blobs"), [make_base(tmp_path / str(seed), seed=seed) for seed in range(2)]
    for folder in folders:
        await given(desk, folder)
    for folder in folders:
        giving = desk.giver.ask(folder)
        assert giving is not None and giving.base == describe_base(folder)
    for number in range(MAX_GIVEN):
        await given(desk, make_base(tmp_path / f"later {number}"))
    assert desk.giver.ask(folders[0]) is None and desk.giver.ask(tmp_path) is None


@on_stepped_clock
async def test_what_no_joiner_could_train_is_not_published(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "blobs")
    with pytest.raises(Misuse, match="auto_map"):
        await given(desk, make_base(tmp_path / "code", config={"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(Misuse, match=r"no config\.json"):
        await given(desk, tmp_path)
    folder = make_base(tmp_path / "parts")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(Misuse, match="1 of 2 parts of the weights"):
        await given(desk, folder)
    assert not desk.store.used


def make_sparse(folder: Path, size: int) -> Path:
    """A base model whose weights take no room on the disk, and minutes to read."""
    with (make_base(folder) / "model.safetensors").open("r+b") as file:
        file.truncate(size)
    return folder


@on_stepped_clock
async def test_what_its_size_refuses_is_not_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "blobs", quota=8 << 30)
    kept = await given(desk, make_base(tmp_path / "base"))
    with pytest.raises(Misuse, match=r"model\.safetensors has 141000000000 bytes, 17179869184 are allowed; save the"):
        await given(desk, make_sparse(tmp_path / "huge", 141_000_000_000))
    assert desk.store.kept_by(BASE_GIVEN) >= {kept.base.digest}  # type: ignore[union-attr]
    giving = await given(desk, make_sparse(tmp_path / "large", 16 << 30))
    assert "disk quota" in giving.error and not giving.read


@on_stepped_clock
async def test_what_is_here_already_needs_no_room_again(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base", rows=4_096)
    size = describe_base(folder).size
    desk = Desk(tmp_path / "blobs", quota=size * 3 // 2)
    for _ in range(2):
        giving = await given(desk, folder)
        assert giving.base is not None and giving.read == giving.done == giving.bytes == size


def test_what_nobody_waits_for_any_more_is_read_no_further_and_the_next_one_can_begin(tmp_path: Path) -> None:
    clock = trio.testing.MockClock()

    async def until(condition: Callable[[], object]) -> None:
        """It works in threads, which no clock drives."""
        while not condition():
            await trio.lowlevel.checkpoint()

    async def test() -> None:
        desk, folder = Desk(tmp_path / "blobs", quota=1 << 40), make_sparse(tmp_path / "large", 16 << 30)
        async with trio.open_nursery() as nursery:
            desk.giver.run_in(nursery)
            giving = desk.giver.start(folder)
            await until(lambda: giving.read)
            assert desk.giver.now is giving
            assert desk.giver.start(folder) is giving, "the same order once more goes on with it"
            with pytest.raises(Unavailable, match=r"large: \d+ of 17180 MB read\); try again when it is over"):
                desk.giver.start(make_base(tmp_path / "base"))
            for _ in range(3):
                clock.jump(UNASKED_SECONDS - 1)
                await trio.testing.wait_all_tasks_blocked()
                assert desk.giver.ask(folder) is giving and not giving.error
            clock.jump(UNASKED_SECONDS)
            await until(lambda: giving.error)
            assert "asks no more" in giving.error and giving.read < 16 << 30 and desk.giver.now is None
            last = desk.giver.start(tmp_path / "base")
            await until(lambda: last.base)
            nursery.cancel_scope.cancel()

    trio.run(test, clock=clock)


@on_stepped_clock
async def test_without_the_room_nothing_is_copied_and_the_reason_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "blobs", quota=50_000)
    giving = await given(desk, make_base(tmp_path / "base", rows=4_096))
    assert "disk quota" in giving.error and giving.base is None and not desk.store.used


@on_stepped_clock
async def test_what_no_task_can_be_opened_on_any_more_holds_nobodys_room(tmp_path: Path) -> None:
    """A part that was stored before it failed, and what a process gave that was killed, were needed for good."""
    desk, folder = Desk(tmp_path / "blobs"), make_base(tmp_path / "base", rows=4_096)
    giving, base = await given(desk, folder), describe_base(folder)
    assert giving.base is not None and desk.store.kept_by(BASE_GIVEN)
    again = Desk(tmp_path / "blobs")
    assert not again.store.kept_by(BASE_GIVEN) and again.store.has(base.files[0].digest)
    small = Desk(tmp_path / "small", quota=base.size)  # which the lists of chunks exceed
    failed = await given(small, folder)
    assert failed.done and "disk quota" in failed.error and not small.store.kept_by(BASE_GIVEN)


@on_stepped_clock
async def test_what_was_not_given_by_this_process_is_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "blobs")
    with pytest.raises(Misuse, match="was not published by this peer since it was started"):
        desk.giver.find("bafkrei")
    with pytest.raises(Unavailable, match="only starting"):
        desk.giver.start(make_base(tmp_path / "base"))


@on_stepped_clock
async def test_a_participants_own_folder_is_served_to_others_for_as_long_as_the_task_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = make_base(tmp_path / "base", rows=4_096)
    for quota, is_served in ((1 << 30, True), (50_000, False)):
        desk = Desk(tmp_path / f"blobs{quota}", quota)
        async with trio.open_nursery() as nursery:
            desk.giver.run_in(nursery)
            desk.giver.share(5, folder)
        assert (describe_base(folder).digest in desk.store.kept_by(task_owner(5))) == is_served
    assert "is not served to others: disk quota" in caplog.text
