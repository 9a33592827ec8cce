"""What this peer would have got alone: trained beside a task's end, on request. Knows no round and no other peer."""

import logging
from typing import Any

import trio

from flock_chain.errors import Unavailable
from flock_peers.home import Home
from flock_peers.roles.participant import Participant

log = logging.getLogger(__name__)


class Baseline:
    """`result` is there once the training, which nobody waits for, has ended well."""

    def __init__(self, home: Home, seed: int) -> None:
        self._home, self._seed = home, seed
        self._running = 0
        self._nursery: trio.Nursery | None = None
        self.result: dict[str, Any] | None = None

    @property
    def is_running(self) -> bool:
        return self._running > 0

    def run_in(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start(self, participant: Participant | None, rounds: int) -> None:
        if self._nursery is None or participant is None or participant.trainer is None:
            raise Unavailable("baseline: this peer takes part in no task")
        self._nursery.start_soon(self.run, participant, rounds)

    async def run(self, participant: Participant, rounds: int) -> None:
        self._running += 1
        try:
            library, trainer = participant.library, participant.trainer
            assert library is not None
            out = self._home.folder("training") / "isolated.safetensors"
            start = await library.global_path(library.initial_digest)
            await trainer.isolated(start, rounds=rounds, seed=self._seed, out_path=out)
            result = await trainer.evaluate(out, "test")
            self.result = {"mean": result.bits_per_byte, "domains": dict(result.domains)}
        except Exception:  # a request's edge: it answered long ago
            log.exception("the baseline could not be trained")
        finally:
            self._running -= 1
