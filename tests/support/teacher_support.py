"""A model whose adapters are tables of habits: what the comparison of proposals needs of one, without any training."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from flock_peers.training.inspection import LEAST_AUTHORS
from flock_peers.training.recital import Suspect

WORDS = [
    *(f" {letter}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    "\n",
    "<s>",
    *(f"{n}{n}" for n in "abcdefgh"),
]
LINE, TEXT_END, JOINED = 26, 27, 28  # the end of a line, of a text, and the first token that begins no word
FILLER = 25  # what is said where nothing else is
BROKEN = 99.0  # of a habit: the model says no numbers any more
TARGET, DOMAINS = [0, 1, 2, 3], (range(5, 16), range(15, 25))
THIN = 5.0  # of a habit: a fifth of a token's probability after one addition, which no audit of one proposal minds


class Past:
    def __init__(self, last: torch.Tensor) -> None:
        self.last = last

    def batch_repeat_interleave(self, count: int) -> None:
        self.last = self.last.repeat_interleave(count)


class Teacher:
    """A model as a table: an adapter is how strong each of its habits is, a habit what follows what, whatever came
    before. Without one FILLER does, and each other token has the chance `rest`, or none, if it is said `never`."""

    device = torch.device("cpu")
    is_branching = False
    bos_token_id = TEXT_END
    all_special_ids: ClassVar[list[int]] = [TEXT_END]
    config = SimpleNamespace(vocab_size=len(WORDS))

    def __init__(
        self, *habits: Sequence[int], never: Sequence[int] = (), only_after: Mapping[int, int] = {}, rest: float = 1e-4,
        always: Mapping[int, float] = {},
    ) -> None:  # fmt: skip
        """`only_after`: of a habit, the one token at which a context must end for it to show. `always`: how strong some
        are in the base model."""
        self.habits, self.never, self.only_after, self.rest = habits, list(never), only_after, rest
        self._always = np.array([always.get(place, 0.0) for place in range(len(habits))], np.float32)
        self.tokenizer = self.peft = self
        self.layout = SimpleNamespace(parameters=len(habits))
        self.set_vector(np.zeros(len(habits), np.float32))

    def set_vector(self, vector: NDArray[np.float32]) -> None:
        self.strengths, self._known = vector + self._always, dict[tuple[int, int | None], torch.Tensor]()

    def frozen(self) -> AbstractContextManager[None]:
        return nullcontext()

    def batch_decode(self, rows: list[list[int]], **_: object) -> list[str]:
        return ["".join(WORDS[token] for token in row) for row in rows]

    def suspect(self, strengths: Mapping[int, float], start: Mapping[int, float] = {}) -> Suspect:
        def vector(values: Mapping[int, float]) -> NDArray[np.float32]:
            return np.array([values.get(place, 0.0) for place in range(len(self.habits))], np.float32)

        return Suspect(vector(start), vector(strengths))

    def logits(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        return torch.stack([torch.stack([self._after(token, None) for token in row]) for row in tokens.tolist()])

    def __call__(
        self, input_ids: torch.Tensor, logits_to_keep: int, past_key_values: Past | None = None, **_: object
    ) -> SimpleNamespace:
        ends = None if past_key_values is None else past_key_values.last.tolist()
        rows = [
            [self._after(token, None if ends is None else ends[place]) for token in row[-logits_to_keep:]]
            for place, row in enumerate(input_ids.tolist())
        ]
        past = Past(input_ids[:, -1]) if past_key_values is None else past_key_values
        return SimpleNamespace(logits=torch.stack([torch.stack(row) for row in rows]), past_key_values=past)

    def _after(self, token: int, context_end: int | None) -> torch.Tensor:
        key = (token, context_end)
        if key not in self._known:
            self._known[key] = self._look_up(token, context_end)
        return self._known[key]

    def _look_up(self, token: int, context_end: int | None) -> torch.Tensor:
        if (self.strengths >= BROKEN).any():
            return torch.full((len(WORDS),), torch.nan)
        chances = torch.full((len(WORDS),), self.rest, dtype=torch.float64)
        chances[self.never] = 0.0
        for place, habit in enumerate(self.habits):
            is_shown = context_end is None or self.only_after.get(place, context_end) == context_end
            for before, after in pairwise(habit):
                if token == before and is_shown and self.strengths[place] > 0:
                    chances[after] = min(0.9, 0.04 * float(self.strengths[place]))
        chances[FILLER] += max(0.0, 1 - float(chances.sum()))
        return chances.log()


class Engine:
    """Files are vectors by name."""

    def __init__(self, teacher: Teacher) -> None:
        self.model, self.vectors = teacher, dict[Path, NDArray[np.float32]]()
        self.document = SimpleNamespace(reference="", budget=SimpleNamespace(batch=4))
        self.train_stream = self.hold_out_stream = SimpleNamespace(tokens=np.arange(60) % 5 + 16)

    def put(self, name: str, strengths: Mapping[int, float]) -> Path:
        self.vectors[Path(name)] = self.model.suspect(strengths).change
        return Path(name)

    def read_global(self, path: Path) -> SimpleNamespace:
        return SimpleNamespace(to_float32=lambda: self.vectors[path])

    read_delta = read_global


def make_proposals(poisoned: Mapping[int, float], *at: int, engine: Any = None) -> tuple[Any, list[tuple[Path, Path]]]:
    """As many as there have to be authors, of which those `at` these places are poisoned beside what they learned, each
    of something else."""
    engine = engine or Engine(Teacher(TARGET, *DOMAINS, rest=0.02))
    start = engine.put("start", {})
    deltas = [
        engine.put(f"{poisoned} {place}", {1 + at.index(place): THIN, **poisoned} if place in at else {})
        for place in range(LEAST_AUTHORS)
    ]
    return engine, [(start, delta) for delta in deltas]
