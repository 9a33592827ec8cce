"""Next-token probabilities of an adapted model, one token at a time and for many heads at once. Knows no data.

A context that many sequences share is computed once: its keys and values are repeated for each of them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flock_peers.training.model import AdaptedModel

ROWS_AT_ONCE = 512  # sequences: a block of probabilities at 32k tokens of vocabulary takes 64 MiB


def get_vocabulary(model: AdaptedModel) -> int:
    return int(model.peft.config.vocab_size)


def get_start_token(model: AdaptedModel) -> int | None:
    tokenizer = model.tokenizer
    found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return None if found is None else int(found)


def step(model: AdaptedModel, tokens: NDArray[np.int64], past: Any = None) -> tuple[torch.Tensor, Any]:
    """Logits after the last of `tokens`, [rows, vocabulary], and what the next step needs."""
    ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(model.device)
    output = model.peft(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1].float(), output.past_key_values


def probabilities_after(
    model: AdaptedModel, context: NDArray[np.int64], tokens: NDArray[np.int64]
) -> Iterator[torch.Tensor]:
    """For each of `tokens` after `context`: what comes next, in blocks of [ROWS_AT_ONCE, vocabulary]."""
    with model.frozen():
        for first in range(0, len(tokens), ROWS_AT_ONCE):
            part = tokens[first : first + ROWS_AT_ONCE]
            _, past = step(model, context[None])
            past.batch_repeat_interleave(len(part))
            yield torch.softmax(step(model, part[:, None], past)[0], dim=-1)


def pair_probabilities(
    model: AdaptedModel, context: NDArray[np.int64], firsts: NDArray[np.int64], seconds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of each second token right after its first one, after `context`."""
    found = []
    done = 0
    for block in probabilities_after(model, context, firsts):
        wanted = torch.from_numpy(seconds[done : done + len(block)]).to(block.device)
        found.append(block.gather(1, wanted[:, None])[:, 0].double().cpu().numpy())
        done += len(block)
    return np.concatenate(found) if found else np.zeros(0)
