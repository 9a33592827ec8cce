"""One run of trio for all inputs of a process: a run for each takes more time than most inputs. Uses trio's own
insides, and is for the engine's processes alone; tests give each input a run of its own.
"""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import trio
from trio._core._run import setup_runner, unrolled_run

Script = Callable[[], Coroutine[Any, Any, None]]


class Loop:
    """Stands still between two inputs. Until it is closed, no other run of trio can begin in its thread."""

    def __init__(self, clock: trio.abc.Clock | None = None) -> None:
        self._script: Script | None = None
        self._is_idle = False
        self._failure: BaseException | None = None
        self._runner = setup_runner(clock, (), False, True)  # type: ignore[arg-type] # trio-stubs have a Clock of their own
        self._steps = unrolled_run(self._runner, self._serve, ())
        self._timeout = next(self._steps)
        self._go_on()

    async def _serve(self) -> None:
        while True:
            self._task, self._is_idle = trio.lowlevel.current_task(), True
            await trio.lowlevel.wait_task_rescheduled(lambda _raise: trio.lowlevel.Abort.FAILED)
            if self._script is None:
                return
            self._failure = None
            try:
                await self._script()
            except BaseException as error:  # noqa: BLE001 - raised again where the input came from
                self._failure = error

    def run(self, script: Script) -> None:
        self._script, self._is_idle = script, False
        trio.lowlevel.reschedule(self._task)
        self._go_on()
        failure, self._failure, self._script = self._failure, None, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        self._is_idle = False
        trio.lowlevel.reschedule(self._task)
        with suppress(StopIteration):
            self._go_on()

    def _go_on(self) -> None:
        while not self._is_idle:
            events = [] if self._runner.runq else self._runner.io_manager.get_events(self._timeout)
            self._timeout = self._steps.send(events)
