"""What a voter thinks of the adapter that a round's accepted proposals would give. Measures it; decides nothing.

Also ahead of time: a voter foresees who is accepted by its own scores, and has measured when the tally says the same.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from flock_chain.errors import Unavailable
from flock_chain.tally import Verdict, compute_tally
from flock_peers.roles.board import RoundView
from flock_peers.roles.library import Library, Proposal

Find = Callable[[RoundView, Sequence[int], float], Awaitable[tuple[dict[int, Proposal], list[int]]]]


class Evaluating(Protocol):
    async def evaluate(self, adapter_path: Path | None, split: str) -> Any: ...


@dataclass(frozen=True)
class Weighed:
    """A candidate beside what it builds on, on the own hold-out."""

    candidate: bytes  # content id
    before: float  # nats per token, of what it builds on
    after: float


class CandidateScale:
    """Weighs one candidate at a time, and knows the last one."""

    def __init__(self, library: Library, trainer: Evaluating, find: Find) -> None:
        self._library, self._trainer, self._find = library, trainer, find
        self._turn = trio.Lock()  # who asks for what is being weighed waits for it
        self._known: tuple[tuple[Any, ...], Weighed] | None = None

    async def weigh(self, view: RoundView, accepted: Sequence[int], base: bytes, seconds: float) -> Weighed:
        """`base`: the adapter that the candidate adds to. `seconds`: for proposals that are not here yet.

        Raises FlockError where the candidate cannot be had.
        """
        name = (view.task, view.round, base, tuple(accepted))
        async with self._turn:
            if self._known is None or self._known[0] != name:
                self._known = (name, await self._weigh(view, accepted, base, seconds))
            return self._known[1]

    async def _weigh(self, view: RoundView, accepted: Sequence[int], base: bytes, seconds: float) -> Weighed:
        found, _ = await self._find(view, accepted, seconds)
        if len(found) < len(accepted):
            raise Unavailable("an accepted proposal is not here yet, so the candidate cannot be computed")
        candidate = await self._library.compute_candidate(base, [found[index].delta for index in accepted])
        before, after = await self._measure(base), await self._measure(candidate)
        return Weighed(candidate, before, after)

    async def _measure(self, adapter: bytes) -> float:
        loss: float = (await self._trainer.evaluate(await self._library.global_path(adapter), "hold_out")).loss
        return loss


def foresee_accepted(record: Mapping[str, Any], held_set: int, terms: Mapping[str, int]) -> list[int]:
    """By the tally of the own scores alone: mostly right, and costs a measurement where it is not."""
    tally = compute_tally([record["scores"]], [record["filters"]], held_set, terms["loss_limit"], terms["mad_multiple"])
    return [index for index, verdict in enumerate(tally.verdicts) if verdict is Verdict.ACCEPTED]
