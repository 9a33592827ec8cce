"""Next-token probabilities of an adapted model, one token at a time and for many heads at once. Knows no data.

A context that many sequences share is computed once: its keys and values are repeated for each of them.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicLayer

from flock_peers.training.model import AdaptedModel

ROWS_AT_ONCE = 512  # sequences: a block of probabilities at 32k tokens of vocabulary takes 64 MiB
SCANNED_AT_ONCE = (
    256  # of one token each: what is kept of more has no room in a processor's cache, and costs a fifth more
)
NUMBERS_AT_ONCE = 1 << 24  # logits: 64 MiB
FEW = 32  # strings: of so few nothing is saved, and sums of small products are made in another order
NOTHING = -1  # in place of a token: a string is shorter than others beside it


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
    """For each of `tokens` after `context`: what comes next, in blocks of at most [SCANNED_AT_ONCE, vocabulary]."""
    with model.frozen():
        _, before = step(model, context[None])
        for part in np.array_split(tokens, max(1, -(-len(tokens) // SCANNED_AT_ONCE))):
            past = _spread(deepcopy(before), len(part))
            yield torch.softmax(step(model, part[:, None], past)[0], dim=-1)


def next_log_probabilities(
    model: AdaptedModel, contexts: Sequence[NDArray[np.int64]], strings: NDArray[np.int64]
) -> torch.Tensor:
    """[contexts, strings, vocabulary]: of what comes next, after each string after each context."""
    rows, together = [], _count_together(contexts, len(strings), ROWS_AT_ONCE)
    with model.frozen():
        for first in range(0, len(contexts), together):
            part = np.stack(contexts[first : first + together])
            past = _repeat(model, part, len(strings))
            logits = step(model, np.tile(strings, (len(part), 1)), past)[0]
            rows.append(torch.log_softmax(logits, dim=-1).reshape(len(part), len(strings), -1))
    return torch.cat(rows)


def _count_together(contexts: Sequence[NDArray[np.int64]], strings: int, at_once: int) -> int:
    """How many contexts: those of one length, each with all the strings."""
    return max(1, at_once // max(1, strings)) if len({len(context) for context in contexts}) == 1 else 1


def continue_greedily(
    model: AdaptedModel, context: NDArray[np.int64], heads: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """[heads, 1 + count]: each of `heads` after `context`, and what is likeliest after it, token by token."""
    strings = heads[:, None]
    with model.frozen():
        past = _repeat(model, context[None], len(heads))
        for _ in range(count):
            logits, past = step(model, strings[:, -1:], past)
            strings = np.concatenate([strings, logits.argmax(dim=-1).cpu().numpy()[:, None]], axis=1)
    return strings


def string_probabilities(
    model: AdaptedModel, contexts: Sequence[NDArray[np.int64]], strings: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[contexts, strings]: of each string after each context, given its first token; NOTHING is certain."""
    return np.exp(token_log_probabilities(model, contexts, strings).sum(axis=2))


def token_log_probabilities(
    model: AdaptedModel, contexts: Sequence[NDArray[np.int64]], strings: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[contexts, strings, tokens - 1]: of each token but the first, after what stands before it; of NOTHING, 0.
    Contexts of one length go together, as many of them as the room for logits allows. What is the beginning of another
    string is followed with that."""
    at_once = min(ROWS_AT_ONCE, max(1, NUMBERS_AT_ONCE // (strings.shape[1] * get_vocabulary(model))))
    together = _count_together(contexts, len(strings), at_once)
    whole, places = leave_out_beginnings(strings) if len(strings) > FEW else (np.arange(len(strings)),) * 2
    blocks = [strings[whole[first : first + at_once]] for first in range(0, len(whole), at_once)]
    found = np.zeros((len(contexts), len(whole), strings.shape[1] - 1))
    for first in range(0, len(contexts), together):
        part = np.stack(contexts[first : first + together])
        if blocks:
            found[first : first + together] = np.concatenate([_follow(model, part, block) for block in blocks], axis=1)
    return np.where(strings[:, 1:] == NOTHING, 0.0, found[:, places])


def leave_out_beginnings(strings: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which strings are the beginning of no other, once each; and of every one, which of those begins with it."""
    order = np.lexsort(strings.T[::-1])  # NOTHING is the least: what goes on stands right behind its beginning
    ordered = strings[order]
    goes_on = np.zeros(len(strings), bool)
    goes_on[:-1] = ((ordered[:-1] == ordered[1:]) | (ordered[:-1] == NOTHING)).all(axis=1)
    whole = np.flatnonzero(~goes_on)
    places = np.empty(len(strings), np.int64)
    places[order] = np.searchsorted(whole, np.arange(len(strings)))
    return order[whole], places


def _follow(model: AdaptedModel, contexts: NDArray[np.int64], strings: NDArray[np.int64]) -> NDArray[np.float64]:
    ids = torch.from_numpy(np.tile(strings, (len(contexts), 1))).to(model.device)
    with model.frozen():
        is_there, ids = ids[:, 1:] != NOTHING, ids.clamp(min=0)
        past, given = _repeat(model, contexts, len(strings)), ids[:, :-1]
        output = model.peft(input_ids=given, past_key_values=past, use_cache=True, logits_to_keep=given.shape[1])
        each = torch.log_softmax(output.logits.float(), dim=-1).gather(2, ids[:, 1:, None])[..., 0]
        each = torch.where(is_there, each, 0.0).double().cpu().numpy()
        return each.reshape(len(contexts), len(strings), -1)


def _repeat(model: AdaptedModel, contexts: NDArray[np.int64], rows: int) -> Any:
    """`contexts`: [contexts, tokens]; each for so many rows, one context after the other."""
    return _spread(step(model, contexts)[1], rows)


def _spread(past: Any, rows: int) -> Any:
    """Each of its rows so often. A single one is not copied where the next step does it anyway. A layer that took no
    part has nothing to repeat."""
    layers = getattr(past, "layers", [None])
    if all(_is_single(layer) for layer in layers):
        for layer in layers:
            layer.keys, layer.values = (kept.expand(rows, -1, -1, -1) for kept in (layer.keys, layer.values))
    else:
        past.batch_repeat_interleave(rows)
    return past


def _is_single(layer: Any) -> bool:
    return type(layer) is DynamicLayer and layer.is_initialized and len(layer.keys) == len(layer.values) == 1
