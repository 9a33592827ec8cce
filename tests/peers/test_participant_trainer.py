"""The trainer that comes back, over processes that only pretend to train."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from flock_chain.errors import FlockError, InvalidContent, Unavailable
from flock_peers.training.supervised import FIRST_PAUSE_SECONDS, MAX_FAILED_OPENINGS, SupervisedTrainer, supervise

PATH = Path("x")


class FakeProcess:
    def __init__(self) -> None:
        self.is_alive, self.is_closed = True, False
        self._ended = trio.Event()
        self.on_call: Callable[[], Awaitable[Any]] = trio.lowlevel.checkpoint

    async def train(self, *_: Any, **__: Any) -> Any:
        return await self.on_call()

    isolated = measure = evaluate = attack_success = export = train

    async def close(self) -> None:
        self.is_alive, self.is_closed = False, True
        self._ended.set()

    def kill(self) -> None:
        self.is_alive = False
        self._ended.set()

    async def wait_ended(self) -> None:
        await self._ended.wait()

    async def explain_end(self) -> FlockError:
        return Unavailable("trainer: the process was killed by signal 9")

    async def die(self) -> None:
        self.kill()
        raise await self.explain_end()


class Workshop:
    """Opens processes; `errors` come first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.opened = list(errors), list[FakeProcess]()
        self.opened_at: list[float] = []

    async def __call__(self) -> Any:
        self.opened_at.append(trio.current_time())
        await trio.sleep(0.1)
        if self.errors:
            raise self.errors.pop(0)
        self.opened.append(FakeProcess())
        return self.opened[-1]


def run(workshop: Workshop, test: Callable[[SupervisedTrainer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with supervise(workshop) as trainer:
            await test(trainer)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert all(process.is_closed for process in workshop.opened)


async def train(trainer: SupervisedTrainer) -> Any:
    return await trainer.train(PATH, round=1, seed=0, out_path=PATH)


def test_a_dead_process_is_replaced_after_a_pause() -> None:
    workshop = Workshop()

    async def test(trainer: SupervisedTrainer) -> None:
        await train(trainer)
        first = workshop.opened[0]
        first.on_call = first.die
        with pytest.raises(Unavailable, match="killed"):
            await trainer.measure(PATH, [])
        before = trio.current_time()
        await train(trainer)
        assert len(workshop.opened) == 2 and first.is_closed
        assert trio.current_time() - before >= FIRST_PAUSE_SECONDS

    run(workshop, test)


def test_a_process_that_dies_while_nobody_asks_it_for_anything_is_replaced_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its owner was told that it was ready, until the next round needed it."""
    workshop = Workshop()

    async def test(trainer: SupervisedTrainer) -> None:
        await train(trainer)
        workshop.opened[0].kill()
        await trio.sleep(FIRST_PAUSE_SECONDS + 1)
        assert len(workshop.opened) == 2 and workshop.opened[0].is_closed
        await train(trainer)
        assert [row.getMessage() for row in caplog.records] == [
            "trainer: the process was killed by signal 9",
            f"the trainer's process died; opening another in {FIRST_PAUSE_SECONDS:.0f} s",
        ]

    run(workshop, test)


def test_an_owner_is_told_that_no_other_process_is_opened() -> None:
    """The last word was the dead process' own: that another one is opened."""
    told: list[dict[str, Any]] = []

    async def main() -> None:
        async with supervise(Workshop(Unavailable("died"), InvalidContent("no model")), told.append) as trainer:
            await trainer.wait_failed()
        assert told == [{"state": "failed"}]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_pause_grows_while_processes_keep_dying() -> None:
    workshop = Workshop()

    async def test(trainer: SupervisedTrainer) -> None:
        for _ in range(4):
            process = await trainer.wait_open()
            assert isinstance(process, FakeProcess)
            process.on_call = process.die
            with pytest.raises(Unavailable):
                await train(trainer)
        await trainer.wait_open()
        gaps = [b - a for a, b in pairwise(workshop.opened_at)]
        assert all(later > 1.5 * earlier for earlier, later in pairwise(gaps))
        await train(trainer)  # one success, and the next pause is the first again
        process = await trainer.wait_open()
        process.on_call = process.die  # type: ignore[attr-defined]
        with pytest.raises(Unavailable):
            await train(trainer)
        died_at = trio.current_time()
        await trainer.wait_open()
        assert workshop.opened_at[-1] - died_at == pytest.approx(FIRST_PAUSE_SECONDS)

    run(workshop, test)


def test_a_training_that_is_given_up_is_ended_with_its_process() -> None:
    workshop = Workshop()

    async def test(trainer: SupervisedTrainer) -> None:
        process = await trainer.wait_open()
        assert isinstance(process, FakeProcess)
        process.on_call = trio.sleep_forever
        with trio.move_on_after(5):
            await train(trainer)
        assert process.is_closed
        with trio.fail_after(1):
            await trainer.evaluate(None, "test")
        assert len(workshop.opened) == 2

    run(workshop, test)


def test_whoever_gives_up_waiting_for_its_turn_ends_nobody_elses_training() -> None:
    workshop = Workshop()

    async def test(trainer: SupervisedTrainer) -> None:
        process = await trainer.wait_open()
        assert isinstance(process, FakeProcess)
        process.on_call = lambda: trio.sleep(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(train, trainer)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(1):
                await train(trainer)
            assert process.is_alive
        assert len(workshop.opened) == 1

    run(workshop, test)


def test_a_process_that_never_answers_a_measurement_is_replaced() -> None:
    workshop = Workshop()

    async def test(trainer: SupervisedTrainer) -> None:
        process = await trainer.wait_open()
        process.on_call = trio.sleep_forever  # type: ignore[attr-defined]
        with pytest.raises(Unavailable, match="no answer within"):
            await trainer.measure(PATH, [])
        assert workshop.opened[0].is_closed
        await trainer.measure(PATH, [])
        assert len(workshop.opened) == 2

    run(workshop, test)


def test_an_error_of_a_living_process_is_passed_on_and_replaces_nothing() -> None:
    workshop = Workshop()

    async def test(trainer: SupervisedTrainer) -> None:
        async def refuse() -> None:
            raise InvalidContent("delta: 3 bytes")

        process = await trainer.wait_open()
        assert isinstance(process, FakeProcess)
        process.on_call = refuse
        with pytest.raises(InvalidContent):
            await trainer.measure(PATH, [])
        assert process.is_alive and len(workshop.opened) == 1

    run(workshop, test)


def test_a_task_that_the_trainer_refuses_fails_for_good_and_tells_every_caller() -> None:
    workshop = Workshop(InvalidContent("base model: wrong hash"))

    async def test(trainer: SupervisedTrainer) -> None:
        for _ in range(2):
            with pytest.raises(InvalidContent, match="wrong hash"):
                await train(trainer)
        assert isinstance(await trainer.wait_failed(), InvalidContent)

    run(workshop, test)


def test_a_trainer_that_never_opens_is_given_up_after_the_named_number_of_attempts() -> None:
    workshop = Workshop(*[OSError(12, "Cannot allocate memory")] * 99)

    async def test(trainer: SupervisedTrainer) -> None:
        with trio.fail_after(120):
            await trainer.wait_failed()
        assert len(workshop.opened_at) == MAX_FAILED_OPENINGS

    run(workshop, test)


def test_closing_does_not_wait_for_the_pause() -> None:
    workshop = Workshop()

    async def test(trainer: SupervisedTrainer) -> None:
        trainer._pause = 1_000.0
        process = await trainer.wait_open()
        assert isinstance(process, FakeProcess)
        process.on_call = process.die
        with pytest.raises(Unavailable):
            await train(trainer)

    async def main() -> None:
        started = trio.current_time()
        async with supervise(workshop) as trainer:
            await test(trainer)
        assert trio.current_time() - started < 5

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
