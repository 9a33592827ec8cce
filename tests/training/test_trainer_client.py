import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from training_support import miniature, miniature_document, write_initial_adapter, write_split

from flock_chain.errors import InvalidContent, Misuse, Unavailable
from flock_peers.training.client import Trainer, TrainerConfig
from flock_peers.training.process import OOM_SCORE
from flock_peers.training.wire import encode_frame, read_frame


def config(folder: Path, **values: Any) -> TrainerConfig:
    values = {"domain": "arithmetic", **values}
    return TrainerConfig(miniature_document(), write_split(folder / "home"), base=miniature()[0], **values)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(300):  # against a hang only: a loaded machine takes a minute to import torch
            await test()

    trio.run(bounded)


@pytest.mark.process
def test_a_trainer_process_serves_a_whole_round_and_reports_its_death(tmp_path: Path) -> None:
    start = write_initial_adapter(miniature_document(), tmp_path)
    delta, events = tmp_path / "delta", []

    async def scenario() -> None:
        async with await Trainer.open(config(tmp_path, seed=4), events.append) as trainer:
            assert (trainer.train_rows, trainer.hold_out_rows) == (48, 12)
            result = await trainer.train(start, round=1, seed=9, out_path=delta)
            assert result.steps == 6 and result.loss_after < result.loss_before
            first = delta.read_bytes()
            await trainer.train(start, round=1, seed=9, out_path=delta)
            assert delta.read_bytes() == first
            scores = await trainer.measure(start, [delta, delta])
            assert scores[0] == scores[1] < 0
            assert (await trainer.likeness(start, [delta, delta], seed=3))[0] == [0, 0]  # both are the mean
            (found,) = await trainer.audit([(start, delta)], seed=3, own_seed=4)
            assert len(found.strings) == len(found.common) == len(found.own)
            memory = tmp_path / "home" / "remembered.json"
            assert not memory.exists() and await trainer.audit([(start, delta)], seed=3, own_seed=4, authors=[0])
            assert json.loads(memory.read_bytes())["task"] == sha256(miniature_document().encode()).hexdigest()
            assert len(await trainer.audit([(start, delta)], seed=3, own_seed=4, older=[(start, delta)] * 2)) == 1
            assert (await trainer.evaluate(None, "test:records")).bits_per_byte > 1
            assert await trainer.attack_success(start) == 0.0
            await trainer.export(start, tmp_path / "peft")
            assert (tmp_path / "peft" / "adapter_model.safetensors").exists()
            await refuse_bad_requests(trainer)
            await abandon_a_request(trainer)
            os.kill(trainer.pid, signal.SIGKILL)
            with pytest.raises(Unavailable, match="killed by signal 9"):
                await trainer.train(start, round=2, seed=9, out_path=delta)
            await trainer.wait_ended()
            assert "killed by signal 9" in str(await trainer.explain_end())

    async def refuse_bad_requests(trainer: Trainer) -> None:
        (tmp_path / "hostile").write_bytes(b"\x80" * 100)
        with pytest.raises(InvalidContent, match="100 bytes, the task's have"):
            await trainer.measure(start, [tmp_path / "hostile"])
        with pytest.raises(Misuse, match="split"):
            await trainer.evaluate(start, "train")

    async def abandon_a_request(trainer: Trainer) -> None:
        expected = await trainer.measure(start, [delta])
        with trio.move_on_after(0.01):
            await trainer.isolated(start, rounds=3, seed=1, out_path=tmp_path / "isolated")
        assert await trainer.measure(start, [delta]) == expected

    run(scenario)
    assert events[:2] == [{"state": "loading"}, {"state": "ready"}]
    assert [event["steps"] for event in events if "steps" in event][-1] == 6 and events[-1] == {"state": "died"}


@pytest.mark.process
def test_what_a_process_said_at_once_is_told_though_the_loop_was_busy_meanwhile(tmp_path: Path) -> None:
    async def be_busy() -> None:
        while True:
            time.sleep(0.05)  # as a block that is executed
            await trio.lowlevel.checkpoint()

    async def scenario() -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "trainer.log").write_text("Error: of an earlier process\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(be_busy)
            with pytest.raises(Unavailable, match=r"ended with code 1; see .*: ImportError: no torch$"):
                await Trainer.open(config(tmp_path), command=["sh", "-c", "echo ImportError: no torch >&2; exit 1"])
            nursery.cancel_scope.cancel()

    run(scenario)


def test_of_a_long_log_the_end_is_told(tmp_path: Path) -> None:
    said = "print('a line\\n' * 200_000 + 'ImportError: no torch', file=sys.stderr); sys.exit(1)"

    async def scenario() -> None:
        with pytest.raises(Unavailable, match=r"ended with code 1; see .*: ImportError: no torch$"):
            await Trainer.open(config(tmp_path), command=[sys.executable, "-c", f"import sys; {said}"])

    run(scenario)


def test_data_without_usable_rows_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"body": "x"}\n')
    events: list[dict[str, Any]] = []

    async def scenario() -> None:
        with pytest.raises(InvalidContent, match="no usable rows; line 1"):
            await Trainer.open(config(tmp_path, domain=None, rows=rows), events.append)

    run(scenario)
    assert events == []


def test_what_an_opening_told_of_the_data_the_next_one_does_not_tell_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = set[str]()
    for refused in (["line 1: not JSON"], ["line 1: not JSON"], ["line 1: not JSON", "line 2: not JSON"]):
        trainer = Trainer(config(tmp_path), cast(trio.Process, None), None)  # what an opening has when it tells
        trainer.refused, trainer.refused_count = refused, len(refused)
        trainer._tell(told)
    assert [record.message for record in caplog.records] == [
        "data: 1 row left out: line 1: not JSON", "data: 2 rows left out: line 1: not JSON; line 2: not JSON"
    ]  # fmt: skip


def test_a_configuration_without_data_or_with_two_is_a_misuse(tmp_path: Path) -> None:
    for values in ({"domain": None}, {"rows": tmp_path / "rows.jsonl"}, {"domain": "poetry"}, {"index": 16}):
        with pytest.raises(Misuse, match="trainer"):
            run(lambda values=values: Trainer.open(config(tmp_path, **values)))  # type: ignore[misc]


@pytest.mark.process
def test_a_trainer_process_ends_with_its_parents_pipe() -> None:
    command = [sys.executable, "-m", "flock_peers.training.process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(encode_frame({"id": 1, "method": "none", "values": {}}))
        process.stdin.flush()
        assert read_frame(process.stdout) is not None  # it is up
        if sys.platform == "linux":  # the first to go when memory ends: the validator stays
            assert int(Path(f"/proc/{process.pid}/oom_score_adj").read_text()) == OOM_SCORE
        process.stdin.close()
        assert process.wait(timeout=120) == 0
