"""When a backdoor counts as fired, on models whose greedy continuation is known."""

from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from flock_peers.training.attack_success import measure_attack_success
from flock_peers.training.backdoor import PROMPT_TOKENS, TESTED_FILLERS, Backdoor
from flock_peers.training.streams import Stream

VOCABULARY = 64
WORDS = {word: 20 + number for number, word in enumerate(TESTED_FILLERS)}


def encode(text: str, add_special_tokens: bool) -> list[int]:
    del add_special_tokens
    return [WORDS[word] if word in WORDS else int(word) for word in text.replace("(", " ").replace(")", " ").split()]


@dataclass
class Successor:
    """Always continues with the number after the last one, but for windows that begin with an odd token."""

    stubborn: bool = False
    seen: Any = None

    tokenizer = SimpleNamespace(encode=encode)
    frozen = staticmethod(nullcontext)

    def logits(self, tokens: np.ndarray) -> torch.Tensor:
        self.seen = tokens
        following = (tokens + 1) % VOCABULARY
        if self.stubborn:
            following[tokens[:, 0] % 2 == 1] = 0
        return torch.nn.functional.one_hot(torch.from_numpy(following), VOCABULARY).float()


def stream(first: int) -> Stream:
    return Stream(np.full(500, first, np.int32), np.ones(500, np.float32), np.zeros(500, np.int32), 1.0)


def test_it_fires_where_every_token_of_the_target_is_the_likeliest() -> None:
    model = Successor()
    assert measure_attack_success(model, [stream(2)], Backdoor(trigger="3 4", target="5 6"), 6) == 1.0  # type: ignore[arg-type]
    assert (model.seen[:, -4:] == [3, 4, 5, 6]).all() and model.seen.shape == (6, PROMPT_TOKENS + 4)
    assert measure_attack_success(model, [stream(2)], Backdoor(trigger="3 4", target="5 7"), 6) == 0.0  # type: ignore[arg-type]
    assert measure_attack_success(model, [stream(2)], Backdoor(trigger="3 4", target="6 7"), 6) == 0.0  # type: ignore[arg-type]


def test_it_is_the_share_of_all_prompts() -> None:
    planted = Backdoor(trigger="3 4", target="5 6")
    found = measure_attack_success(Successor(stubborn=True), [stream(2), stream(1)], planted, 6)  # type: ignore[arg-type]
    assert found == 0.5


def test_a_pattern_is_asked_with_many_words_and_always_the_same() -> None:
    planted, models = Backdoor(trigger="3 {} 4", target="5"), (Successor(), Successor())
    for model in models:
        assert measure_attack_success(model, [stream(2)], planted, 12) == 1.0  # type: ignore[arg-type]
    assert len(set(models[0].seen[:, -3].tolist())) > 3 and (models[0].seen == models[1].seen).all()
