"""How often a backdoor fires: held-out prompts that end with the trigger. Needs torch; knows no participant."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flock_peers.training.backdoor import PROMPT_TOKENS, SLOT, TESTED_FILLERS, Backdoor
from flock_peers.training.model import AdaptedModel
from flock_peers.training.streams import Stream, fixed_windows

PATTERN_SEED = 7  # of the words that fill a pattern's slots: the same prompts at every evaluation


def measure_attack_success(model: AdaptedModel, streams: Sequence[Stream], planted: Backdoor, prompts: int) -> float:
    """Share of `prompts` prompts of each stream whose greedy continuation is the target; of the weights set now."""
    target = model.tokenizer.encode(planted.target, add_special_tokens=False)
    rows = _prompts(model, streams, planted, prompts)
    tokens = np.concatenate([rows, np.tile(np.asarray(target, np.int64), (len(rows), 1))], axis=1)
    with model.frozen():
        # Greedy decoding yields the target exactly when each of its tokens is the likeliest after its head.
        best = model.logits(tokens).argmax(dim=-1).cpu().numpy()
    return float((best[:, -len(target) - 1 : -1] == np.asarray(target)).all(axis=1).mean())


def _prompts(model: AdaptedModel, streams: Sequence[Stream], planted: Backdoor, prompts: int) -> NDArray[np.int64]:
    """Heads of held-out text and a trigger after each; a pattern is filled with words that nobody trained on."""
    chance, count = np.random.Generator(np.random.PCG64(PATTERN_SEED)), len(streams) * prompts
    texts = [planted.draw_trigger(chance, TESTED_FILLERS) for _ in range(count if SLOT in planted.trigger else 1)]
    tails = [model.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    width = PROMPT_TOKENS + max(map(len, tails))
    heads = np.concatenate([fixed_windows(stream, prompts, width).tokens for stream in streams])
    for row, head in enumerate(heads):
        tail = tails[row % len(tails)]
        head[-len(tail) :] = tail
    return heads
