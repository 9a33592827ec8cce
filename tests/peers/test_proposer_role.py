"""The proposer against a scripted board: what it commits to it can open, whenever it was killed in between."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from roles_support import ACCOUNTS, CHAIN_ID, ME, TASK, Desk, FakeTrainer, do, on_stepped_clock

from flock_chain.errors import FlockError, Refused, Unavailable
from flock_chain.proposal import compute_proposal_commitment
from flock_contracts.addresses import BOARD
from flock_peers.roles.board import Phase, RoundView
from flock_peers.roles.jobs import RETRY_SECONDS, Jobs
from flock_peers.roles.proposer import MAX_FAILURES
from flock_peers.training.client import TrainerDied


def drawn(desk: Desk, phase: Phase, *, committed: int = 0, revealed: int = 0) -> RoundView:
    """This account has the second of two seats."""
    return desk.view(phase, proposers=(ACCOUNTS[0], ME), committed=committed, revealed=revealed)


@on_stepped_clock
async def test_what_is_committed_is_opened_by_the_reveal_and_fits_the_round(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk, other = Desk(tmp_path / "a", Jobs(nursery)), Desk(tmp_path / "b", Jobs(nursery))
        await do(desk.proposer.step, drawn(desk, Phase.COMMIT))
        await desk.proposer.step(drawn(desk, Phase.REVEAL, committed=2))
        ((commitment,),), ((manifest, salt),) = desk.sender.sent("commit"), desk.sender.sent("reveal")
        assert commitment == compute_proposal_commitment(CHAIN_ID, BOARD, TASK, 1, ME, manifest, salt)

        data = desk.store.get_object(manifest)
        assert data is not None
        other.service.objects[manifest] = data
        for path in (tmp_path / "a" / "blobs" / "files").iterdir():
            other.service.files[bytes.fromhex(path.name)] = path.read_bytes()
        proposal = await other.library.fetch_proposal(1, 1, ME, manifest, desk.adapter)
        assert proposal.manifest.steps == 3
        assert not list(tmp_path.glob("a/*.delta"))  # the trainer's own copy is gone


@on_stepped_clock
@pytest.mark.parametrize("is_sent", [True, False])
async def test_a_proposer_killed_after_training_commits_to_the_same_and_opens_it(tmp_path: Path, is_sent: bool) -> None:
    async with trio.open_nursery() as nursery:
        before = Desk(tmp_path, Jobs(nursery))
        await before.proposer.step(drawn(before, Phase.COMMIT))
        await trio.sleep(30)
        if is_sent:
            await before.proposer.step(drawn(before, Phase.COMMIT))
        record = before.secrets.load(TASK, 1, "proposal")
        nursery.cancel_scope.cancel()
    assert record is not None
    expected = compute_proposal_commitment(CHAIN_ID, BOARD, TASK, 1, ME, record["manifest"], record["salt"])
    assert before.sender.sent("commit") == ([(expected,)] if is_sent else [])

    async with trio.open_nursery() as nursery:
        after = Desk(tmp_path, Jobs(nursery), trainer=FakeTrainer(seed=50))
        await do(after.proposer.step, drawn(after, Phase.COMMIT))
        await after.proposer.step(drawn(after, Phase.REVEAL, committed=2))
    assert after.trainer.trained == 50  # not once more
    assert after.sender.sent("commit") == [(expected,)]
    assert after.sender.sent("reveal") == [(record["manifest"], record["salt"])]
    assert after.store.has(record["manifest"])


@on_stepped_clock
async def test_a_reveal_without_a_record_is_not_sent_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        with caplog.at_level(logging.ERROR):
            await desk.proposer.step(drawn(desk, Phase.REVEAL, committed=2))
    assert desk.sender.calls == []
    assert "record to open it with is gone" in caplog.text


@on_stepped_clock
async def test_a_commitment_whose_record_cannot_be_written_is_not_sent(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        obstacle = tmp_path / "secrets" / f"task{TASK}-round1-proposal.part"
        obstacle.mkdir()
        await do(desk.proposer.step, drawn(desk, Phase.COMMIT))
        assert desk.sender.calls == []
        obstacle.rmdir()
        await trio.sleep(RETRY_SECONDS)
        await do(desk.proposer.step, drawn(desk, Phase.COMMIT), 60)
        await desk.proposer.step(drawn(desk, Phase.COMMIT))
        assert len(desk.sender.sent("commit")) == 1


@on_stepped_clock
async def test_a_record_that_cannot_be_read_is_no_reason_to_train_anew(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        (tmp_path / "secrets" / f"task{TASK}-round1-proposal").mkdir()
        with pytest.raises(Unavailable, match="cannot be read"):
            await desk.proposer.step(drawn(desk, Phase.COMMIT))
    assert desk.trainer.trained == 0


@on_stepped_clock
@pytest.mark.parametrize(
    ("phase", "committed", "revealed"),
    [(Phase.COMMIT, 2, 0), (Phase.REVEAL, 1, 0), (Phase.REVEAL, 3, 2), (Phase.TALLY, 0, 0)],
)
async def test_what_is_done_already_or_too_late_is_not_done(
    tmp_path: Path, phase: Phase, committed: int, revealed: int
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.secrets.save(TASK, 1, "proposal", {"manifest": bytes(32), "salt": bytes(32)})
        await do(desk.proposer.step, drawn(desk, phase, committed=committed, revealed=revealed))
    assert desk.sender.calls == [] and desk.trainer.trained == 0


@on_stepped_clock
async def test_who_is_not_drawn_does_not_train(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        await do(desk.proposer.step, desk.view(Phase.COMMIT))
    assert desk.sender.calls == [] and desk.trainer.trained == 0


@on_stepped_clock
@pytest.mark.parametrize("error", [TrainerDied("trainer: out of memory"), Refused("privacy: it is not done")])
async def test_a_round_in_which_training_keeps_failing_is_skipped_with_its_reason_and_the_next_is_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: FlockError
) -> None:
    """Each try of a participant with privacy is paid for."""
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        tries: list[int] = []

        async def die(_path: Path, *, round: int, **_: object) -> None:
            tries.append(round)
            raise error

        monkeypatch.setattr(desk.trainer, "train", die)
        for _ in range(10):
            await desk.proposer.step(drawn(desk, Phase.COMMIT))
            await trio.sleep(RETRY_SECONDS + 1)
        assert tries == [1] * MAX_FAILURES and desk.sender.calls == []
        told = [row.getMessage() for row in caplog.records if str(error) in row.getMessage()]
        assert told == [
            f"train {TASK} 1 failed: {error}; trying again in {RETRY_SECONDS:.0f} s",
            f"round 1: skipped, for training failed 2 times in it: {error}",
        ], "nothing is tried again in a round that is skipped"
        assert desk.measurements.skipped_of(TASK) == {"task": TASK, "round": 1, "why": str(error)}
        await desk.proposer.step(replace(drawn(desk, Phase.COMMIT), round=2))
        await trio.sleep(RETRY_SECONDS + 1)
        assert tries[-1] == 2
        nursery.cancel_scope.cancel()
