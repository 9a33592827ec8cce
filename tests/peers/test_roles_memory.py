"""What a role writes down before it commits, and the background jobs that it starts."""

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from flock_chain.errors import InvalidEncoding, Refused, Unavailable
from flock_peers.roles.jobs import MAX_FINISHED, RETRY_SECONDS, Jobs
from flock_peers.roles.secrets import RoundSecrets


def test_a_record_survives_and_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    RoundSecrets(tmp_path / "s").save(1, 2, "scores", {"salt": b"x" * 32, "scores": [-5, 0]})
    again = RoundSecrets(tmp_path / "s")
    assert again.load(1, 2, "scores") == {"salt": b"x" * 32, "scores": [-5, 0]}
    assert again.load(1, 3, "scores") is None
    (path,) = (tmp_path / "s").iterdir()
    assert path.stat().st_mode & 0o077 == 0


def test_a_record_is_synced_before_it_is_seen_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed to on the strength of a record must survive the machine, too."""
    events: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (events.append(name), real(*args))[1])
    RoundSecrets(tmp_path).save(1, 1, "scores", {"salt": b"x"})
    assert events == ["fsync", "replace", "fsync"]


def test_without_room_for_the_record_nothing_may_be_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    secrets = RoundSecrets(tmp_path)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Unavailable, match=r"nothing is committed, its scores could not be kept: .*the disk is full"):
        secrets.save(1, 1, "scores", {"salt": b"x"})
    assert secrets.load(1, 1, "scores") is None


def test_a_second_different_record_of_one_commitment_is_refused(tmp_path: Path) -> None:
    secrets = RoundSecrets(tmp_path)
    secrets.save(1, 1, "proposal", {"salt": b"a"})
    secrets.save(1, 1, "proposal", {"salt": b"a"})
    with pytest.raises(Refused, match="committed already"):
        secrets.save(1, 1, "proposal", {"salt": b"b"})
    assert secrets.load(1, 1, "proposal") == {"salt": b"a"}


def test_a_torn_record_is_an_error_and_not_another_salt(tmp_path: Path) -> None:
    secrets = RoundSecrets(tmp_path)
    secrets.save(1, 1, "proposal", {"salt": b"a" * 32})
    (path,) = tmp_path.iterdir()
    os.truncate(path, 5)
    with pytest.raises(InvalidEncoding):
        secrets.load(1, 1, "proposal")


def test_a_job_runs_once_and_its_result_stays() -> None:
    async def main() -> None:
        runs = []

        async def work() -> str:
            runs.append(trio.current_time())
            await trio.sleep(1)
            return "done"

        async with trio.open_nursery() as nursery:
            jobs = Jobs(nursery)
            assert jobs.ensure(("a",), work) is None
            assert jobs.ensure(("a",), work) is None
            await trio.sleep(2)
            assert jobs.ensure(("a",), work) == "done"
            assert len(runs) == 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_failed_job_is_tried_again_after_a_pause_and_never_before() -> None:
    async def main() -> None:
        runs = []

        async def work() -> str:
            runs.append(trio.current_time())
            if len(runs) == 1:
                raise Unavailable("not here yet")
            return "done"

        async with trio.open_nursery() as nursery:
            jobs = Jobs(nursery)
            jobs.ensure(("a",), work)
            await trio.sleep(RETRY_SECONDS / 2)
            jobs.ensure(("a",), work)
            await trio.sleep(RETRY_SECONDS / 4)
            assert len(runs) == 1
            await trio.sleep(RETRY_SECONDS)
            jobs.ensure(("a",), work)
            await trio.sleep(0.1)
            assert jobs.ensure(("a",), work) == "done"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_work_for_a_round_that_is_over_is_cancelled() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            jobs = Jobs(nursery)
            jobs.ensure(("train", 1, 1), trio.sleep_forever)
            jobs.ensure(("train", 1, 2), lambda: trio.sleep(5))
            await trio.testing.wait_all_tasks_blocked()
            jobs.cancel_all_but(lambda key: key[2] == 2)
            await trio.testing.wait_all_tasks_blocked()
            assert not jobs.is_running(("train", 1, 1))
            assert jobs.is_running(("train", 1, 2))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_job_that_fails_of_anything_is_tried_again_and_ends_nobody() -> None:
    """A full disk, a quota, a stranger's bytes: none of them may reach the nursery of the peer."""
    errors = [OSError(28, "No space left on device"), MemoryError(), ExceptionGroup("g", [Refused("quota")])]

    async def main() -> None:
        async def work() -> str:
            if errors:
                raise errors.pop()
            return "done"

        async with trio.open_nursery() as nursery:
            jobs = Jobs(nursery)
            for _ in range(4):
                jobs.ensure(("a",), work)
                await trio.sleep(RETRY_SECONDS)
            assert jobs.ensure(("a",), work) == "done"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_what_is_remembered_of_jobs_is_bounded() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise Unavailable("not here")

        async with trio.open_nursery() as nursery:
            jobs = Jobs(nursery)
            for number in range(2 * MAX_FINISHED):
                jobs.ensure(("ok", number), lambda: trio.sleep(0))
                jobs.ensure(("bad", number), fail)
                await trio.testing.wait_all_tasks_blocked()
            assert len(jobs._results) == len(jobs._failed_at) == MAX_FINISHED

    trio.run(main)
