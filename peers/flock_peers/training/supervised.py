"""A trainer that comes back: opened beside its users, reopened with a pause when its process died. No torch here.

Has the methods of `Trainer`. A training that its caller gave up is ended with the process, which cannot be interrupted
otherwise and would keep the next request waiting.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import trio

from flock_chain.errors import FlockError, Unavailable
from flock_peers.training.client import EvaluateResult, Measured, Pairs, Progress, TrainResult

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 60.0  # between two openings; doubled each time until a call succeeds
ANSWER_SECONDS = 900.0  # for a measurement or an export: several phases of any task; then its process hangs
MAX_FAILED_OPENINGS = 5  # in a row; a machine that is merely short of memory has had half a minute by then

Result = TypeVar("Result")


class Process(Protocol):
    """A `Trainer`, as far as it is used from here."""

    @property
    def is_alive(self) -> bool: ...

    async def train(self, global_path: Path, *, round: int, seed: int, out_path: Path) -> TrainResult: ...
    async def isolated(self, start_path: Path, *, rounds: int, seed: int, out_path: Path) -> TrainResult: ...
    async def measure(self, global_path: Path, delta_paths: Sequence[Path]) -> list[int]: ...
    async def likeness(self, global_path: Path, delta_paths: Sequence[Path], *, seed: int) -> list[list[int]]: ...
    async def audit(
        self, proposals: Pairs, *, seed: int, own_seed: int, authors: Sequence[int] = (), older: Pairs = ()
    ) -> list[Measured]: ...
    async def evaluate(self, adapter_path: Path | None, split: str) -> EvaluateResult: ...
    async def attack_success(self, adapter_path: Path | None) -> float: ...
    async def export(self, global_path: Path, folder: Path) -> None: ...
    async def wait_ended(self) -> None: ...
    async def explain_end(self) -> FlockError: ...
    async def close(self) -> None: ...


Opener = Callable[[], Awaitable[Process]]


class SupervisedTrainer:
    """Use `supervise`. A call waits until the process is open; it raises what ended the supervision for good."""

    def __init__(self, open_process: Opener, progress: Progress | None = None) -> None:
        """`progress`: is told where none will be open any more."""
        self._open_process, self._progress = open_process, progress
        self._process: Process | None = None
        self._turn = trio.Lock()
        self._changed = trio.Event()
        self._is_wanted = trio.Event()  # a process is to be opened
        self._is_wanted.set()
        self._has_died = False
        self._pause = FIRST_PAUSE_SECONDS
        self.failure: FlockError | None = None  # for good

    async def run(self) -> None:
        """Keeps a process open until cancelled, or until it cannot be opened: then `failure` says why."""
        try:
            async with trio.open_nursery() as nursery:
                while self.failure is None:
                    await self._is_wanted.wait()
                    if self._has_died:
                        log.warning("the trainer's process died; opening another in %.0f s", self._pause)
                        await self._wait_a_while()
                    await self._open()
                    if self._process is not None:
                        nursery.start_soon(self._watch, self._process)
                nursery.cancel_scope.cancel()
        finally:
            await self._drop()

    async def _watch(self, process: Process) -> None:
        """One that dies while nobody asks it for anything is replaced then, not in the middle of a round."""
        await process.wait_ended()
        async with self._turn:  # whoever asked it for something says so itself
            if self._process is process:
                log.warning("%s", await process.explain_end())
                await self._replace(died=True)

    async def _open(self) -> None:
        for attempt in range(1, MAX_FAILED_OPENINGS + 1):
            try:
                self._process = await self._open_process()
                self._is_wanted = trio.Event()
                break
            except Exception as error:  # noqa: BLE001 - a task's edge: a trainer that cannot start must not end the peer
                is_final = (isinstance(error, FlockError) and not isinstance(error, Unavailable)) or (
                    attempt == MAX_FAILED_OPENINGS
                )
                if is_final:
                    self.failure = error if isinstance(error, FlockError) else Unavailable(f"trainer: {error!r}")
                    if self._progress is not None:
                        self._progress({"state": "failed"})
                    break
                log.warning("the trainer cannot be opened: %s; trying again in %.0f s", error, self._pause)
                await self._wait_a_while()
        self._tell()

    async def _wait_a_while(self) -> None:
        await trio.sleep(self._pause)
        self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_open(self) -> Process:
        """Raises what made the opening fail for good."""
        while self._process is None:
            if self.failure is not None:
                raise type(self.failure)(str(self.failure))
            await self._changed.wait()
        return self._process

    async def wait_failed(self) -> FlockError:
        """Returns when no trainer will open any more."""
        while self.failure is None:
            await self._changed.wait()
        return self.failure

    async def _call(self, work: Callable[[Process], Awaitable[Result]], *, is_long: bool = False) -> Result:
        async with self._turn:
            process = await self.wait_open()
            try:
                result = await (work(process) if is_long else _answer_in_time(process, work))
            except FlockError:
                if not process.is_alive:
                    await self._replace(died=True)
                raise
            except BaseException:  # given up by the caller, or an answer that is none
                if is_long or not process.is_alive:
                    await self._replace(died=not process.is_alive)
                raise
            self._pause = FIRST_PAUSE_SECONDS
            return result

    async def _replace(self, *, died: bool) -> None:
        """In the turn of the call that failed or was given up."""
        await self._drop()
        self._has_died = died
        self._is_wanted.set()

    async def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with trio.CancelScope(shield=True):
                await process.close()

    # What a Trainer can do

    async def train(self, global_path: Path, *, round: int, seed: int, out_path: Path) -> TrainResult:
        return await self._call(
            lambda process: process.train(global_path, round=round, seed=seed, out_path=out_path), is_long=True
        )

    async def isolated(self, start_path: Path, *, rounds: int, seed: int, out_path: Path) -> TrainResult:
        return await self._call(
            lambda process: process.isolated(start_path, rounds=rounds, seed=seed, out_path=out_path), is_long=True
        )

    async def measure(self, global_path: Path, delta_paths: Sequence[Path]) -> list[int]:
        return await self._call(lambda process: process.measure(global_path, delta_paths))

    async def likeness(self, global_path: Path, delta_paths: Sequence[Path], *, seed: int) -> list[list[int]]:
        return await self._call(lambda process: process.likeness(global_path, delta_paths, seed=seed))

    async def audit(
        self, proposals: Pairs, *, seed: int, own_seed: int, authors: Sequence[int] = (), older: Pairs = ()
    ) -> list[Measured]:
        seeds = {"seed": seed, "own_seed": own_seed}
        return await self._call(lambda process: process.audit(proposals, **seeds, authors=authors, older=older))

    async def evaluate(self, adapter_path: Path | None, split: str) -> EvaluateResult:
        return await self._call(lambda process: process.evaluate(adapter_path, split))

    async def attack_success(self, adapter_path: Path | None) -> float:
        return await self._call(lambda process: process.attack_success(adapter_path))

    async def export(self, global_path: Path, folder: Path) -> None:
        await self._call(lambda process: process.export(global_path, folder))


async def _answer_in_time(process: Process, work: Callable[[Process], Awaitable[Result]]) -> Result:
    with trio.move_on_after(ANSWER_SECONDS):
        return await work(process)
    await process.close()
    raise Unavailable(f"trainer: no answer within {ANSWER_SECONDS:.0f} s; another process is opened")


@asynccontextmanager
async def supervise(open_process: Opener, progress: Progress | None = None) -> AsyncIterator[Any]:
    """A `SupervisedTrainer` that is being opened; closed at the end."""
    trainer = SupervisedTrainer(open_process, progress)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trainer.run)
        try:
            yield trainer
        finally:
            nursery.cancel_scope.cancel()
