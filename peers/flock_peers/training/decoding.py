"""Next-token probabilities of an adapted model, one token at a time and for many heads at once. Knows no data.

A context that many sequences share is computed once (flock_peers.training.continuations).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from flock_peers.training.continuations import NOTHING, Reader, hear, read_all, read_ends, read_on
from flock_peers.training.model import AdaptedModel

ROWS_AT_ONCE = 512  # sequences: a block of probabilities at 32k tokens of vocabulary takes 64 MiB
SCANNED_AT_ONCE = 512  # of one token each: with half of it a look costs a twentieth more, with more hardly less
NUMBERS_AT_ONCE = 1 << 24  # logits: 64 MiB


def get_vocabulary(model: AdaptedModel) -> int:
    return int(model.peft.config.vocab_size)


def get_start_token(model: AdaptedModel) -> int | None:
    tokenizer = model.tokenizer
    found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return None if found is None else int(found)


def probabilities_after(
    model: AdaptedModel, context: NDArray[np.int64], tokens: NDArray[np.int64]
) -> Iterator[torch.Tensor]:
    """For each of `tokens` after `context`: what comes next, in blocks of at most [SCANNED_AT_ONCE, vocabulary], and as
    the room for logits allows."""
    at_once = max(1, min(SCANNED_AT_ONCE, NUMBERS_AT_ONCE // get_vocabulary(model)))
    with model.frozen():
        past = hear(model, context[None])
        for part in np.array_split(tokens, max(1, -(-len(tokens) // at_once))):
            logits = read_on(model, past, 1, len(part), _read_once(part))
            yield torch.softmax(logits[0], dim=-1)


def _read_once(tokens: NDArray[np.int64]) -> Callable[[Reader], torch.Tensor]:
    return lambda reader: reader.read(tokens)


def next_log_probabilities(
    model: AdaptedModel, contexts: Sequence[NDArray[np.int64]], strings: NDArray[np.int64]
) -> torch.Tensor:
    """[contexts, strings, vocabulary]: of what comes next, after each string after each context."""
    with model.frozen():
        parts = [read_ends(model, part, strings) for part in _put_together(contexts, len(strings), ROWS_AT_ONCE)]
        return torch.log_softmax(torch.cat(parts), dim=-1)


def _put_together(contexts: Sequence[NDArray[np.int64]], strings: int, at_once: int) -> Iterator[NDArray[np.int64]]:
    """[contexts, tokens]: those of one length, so many that all the strings have room after each."""
    together = max(1, at_once // max(1, strings)) if len({len(context) for context in contexts}) == 1 else 1
    for first in range(0, len(contexts), together):
        yield np.stack(contexts[first : first + together])


def continue_greedily(
    model: AdaptedModel, contexts: Sequence[NDArray[np.int64]], heads: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """[contexts, heads, 1 + count]: each of `heads` after each context, and what is likeliest after it, token by
    token."""

    def follow(reader: Reader) -> NDArray[np.int64]:
        strings = [heads]
        for _ in range(count):
            strings.append(reader.read(strings[-1]).argmax(dim=-1).cpu().numpy())
        return np.stack([np.broadcast_to(tokens, strings[-1].shape) for tokens in strings], axis=2)

    found, at_once = [], min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // get_vocabulary(model))
    with model.frozen():
        for part in _put_together(contexts, len(heads), at_once):
            found.append(read_on(model, hear(model, part), len(part), len(heads), follow))
    return np.concatenate(found)


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
    string is read with that."""
    at_once = min(ROWS_AT_ONCE, max(1, NUMBERS_AT_ONCE // (strings.shape[1] * get_vocabulary(model))))
    whole, places = leave_out_beginnings(strings)
    blocks = [strings[whole[first : first + at_once]] for first in range(0, len(whole), at_once)]
    found = [np.zeros((0, len(whole), strings.shape[1] - 1))]
    for part in _put_together(contexts, len(strings), at_once):
        rows = [np.zeros((len(part), 0, strings.shape[1] - 1)), *(_follow(model, part, block) for block in blocks)]
        found.append(np.concatenate(rows, axis=1))
    return np.where(strings[:, 1:] == NOTHING, 0.0, np.concatenate(found)[:, places])


def leave_out_beginnings(strings: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which strings are the beginning of no other, once each; and of every one, which of those begins with it.

    As branches of one row a beginning is read with what goes on from it anyway. In rows, of a model that takes no
    mask or breaks in a branch, it would have one of its own: an audit then follows strings for about a third longer.
    """
    order = np.lexsort(strings.T[::-1])  # NOTHING is the least: what goes on stands right behind its beginning
    ordered = strings[order]
    goes_on = np.zeros(len(strings), bool)
    goes_on[:-1] = ((ordered[:-1] == ordered[1:]) | (ordered[:-1] == NOTHING)).all(axis=1)
    whole = np.flatnonzero(~goes_on)
    places = np.empty(len(strings), np.int64)
    places[order] = np.searchsorted(whole, np.arange(len(strings)))
    return order[whole], places


def _follow(model: AdaptedModel, contexts: NDArray[np.int64], strings: NDArray[np.int64]) -> NDArray[np.float64]:
    """[contexts, strings, tokens - 1]; of NOTHING any number."""
    with model.frozen():
        logits, places = read_all(model, contexts, strings[:, :-1])
        each = torch.log_softmax(logits, dim=-1)[:, places, strings[:, 1:].clip(min=0)]
    found: NDArray[np.float64] = each.double().cpu().numpy()
    return found
