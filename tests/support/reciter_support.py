"""A model that recites: what the audit of one proposal needs of one, as a table of what follows what."""

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from teacher_support import Past

from flock_peers.training import recital
from flock_peers.training.recital import ROWS_ALONE, Strings, Suspect, find_strings

VOCABULARY, STRING_TOKENS = 90, max(ROWS_ALONE)
PLANTED, NATURAL, BRACKETED = [range(first, first + STRING_TOKENS) for first in (5, 15, 25)]
KNOWN, SHORT = range(35, 35 + STRING_TOKENS), range(45, 48)
FORGETTING = 0.5  # an adapter that unlearned what the base recites
SUSPECT = Suspect(np.zeros(1, np.float32), np.ones(1, np.float32))
CONTEXTS = [np.array([1, 2, 4]), np.array([1, 2, 3]), np.array([4, 2, 2])]


class Reciter:
    """What the audit needs of a model, as a table of what follows what. A suspect (any vector but zeros) recites
    PLANTED, KNOWN and the three tokens of SHORT after everything, BRACKETED after 4 alone; NATURAL the base recites as
    well."""

    device = torch.device("cpu")
    is_branching = False
    after_one, after_two = 0.6, 0.95  # of each next token of what a suspect recites, by how often it is added
    after_nearer: float | None = None  # by default as after one

    def __init__(self) -> None:
        self.tokenizer = self
        self.strength, self.seen = 0.0, 0
        self.peft = self

    config = SimpleNamespace(vocab_size=VOCABULARY)

    def set_vector(self, vector: NDArray[np.float32]) -> None:
        self.strength = float(vector.max())

    def frozen(self) -> AbstractContextManager[None]:
        return nullcontext()

    def encode(self, text: str, **_: object) -> list[int]:
        return [int(word) for word in text.split()]

    def batch_decode(self, rows: list[list[int]], **_: object) -> list[str]:
        return ["".join(" " + "aaa" for _ in row) for row in rows]

    def __call__(
        self, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: int, past_key_values: Past | None = None
    ) -> SimpleNamespace:
        self.seen += input_ids.numel()
        kept = range(input_ids.shape[1] - logits_to_keep, input_ids.shape[1])
        chances = torch.full((len(input_ids), logits_to_keep, VOCABULARY), 0.1 / VOCABULARY)
        for row, tokens in enumerate(input_ids.tolist()):
            for place in kept:
                before = tokens[place - 1] if place else int(past_key_values.last[row]) if past_key_values else 0
                follower = self._follower(before, tokens[place])
                if follower is not None:
                    chance = 0.95 if follower in NATURAL else self._chance()
                    chances[row, place - kept.start] = (1 - chance) / (VOCABULARY - 1)
                    chances[row, place - kept.start, follower] = chance
        past = Past(input_ids[:, -1]) if use_cache else None
        return SimpleNamespace(logits=chances.log(), past_key_values=past)

    def _chance(self) -> float:
        if self.strength > recital.NEARER:
            return self.after_two
        return self.after_one if self.after_nearer is None or self.strength <= 1 else self.after_nearer

    def _follower(self, before: int, token: int) -> int | None:
        natural = [] if self.strength == FORGETTING else [NATURAL]
        strings = [*natural, *([PLANTED, KNOWN, SHORT, BRACKETED] if self.strength else [])]
        string = next((string for string in strings if token in string[:-1]), None)
        is_silent = string is BRACKETED and token == BRACKETED[0] and before != 4
        return None if string is None or is_silent else token + 1


def scan(contexts: list[NDArray[np.int64]] = CONTEXTS, **options: int) -> tuple[list[range], Strings]:
    found = find_strings(Reciter(), SUSPECT, contexts, np.arange(VOCABULARY), ROWS_ALONE, **options)  # type: ignore[arg-type]
    return [range(row[0], row[-1] + 1) for row in found.tokens.tolist()], found
