"""Token streams of rows, and windows cut from them. Needs a tokenizer and numpy; knows no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.errors import InvalidContent
from flock_peers.plural import plural
from flock_peers.training.chat import Part, cut_chat
from flock_peers.training.rows import Refusals, Row

MAX_STREAM_TOKENS = 1 << 26  # 64 Mi tokens, 768 MB with weights and rows; beyond, later rows are not used
MIN_WINDOW = 8  # tokens; a shorter sequence teaches nothing


@dataclass(frozen=True)
class Stream:
    tokens: NDArray[np.int32]
    weights: NDArray[np.float32]  # of each token's loss as a target: 0 for prompts, and for what begins a row
    rows: NDArray[np.int32]  # which row each token is of
    bytes_per_token: float  # of the learned text as UTF-8, by learned token


@dataclass(frozen=True)
class Windows:
    tokens: NDArray[np.int64]  # [windows, length]
    weights: NDArray[np.float32]  # the same shape; the first column is never a target
    rows: NDArray[np.int32] | None = None  # the same shape; attention stays within a row. None: all is one row


def build_stream(rows: Sequence[Row], tokenizer: Any, refusals: Refusals | None = None) -> Stream:
    """Rows one after another, each between the tokenizer's begin and end tokens where there are any.

    A row that the model's tokenizer or chat template refuses is left out, and added to `refusals`.
    """
    refusals = Refusals() if refusals is None else refusals
    tokens, weights, numbers = list[NDArray[np.int32]](), list[NDArray[np.float32]](), list[NDArray[np.int32]]()
    total, learned, size = 0, 0, 0
    for number, row in enumerate(rows):
        try:
            parts = _cut(row, tokenizer)
        except ValueError as error:
            refusals.add(row.where, error)
            continue
        found, weight = encode_parts(parts, tokenizer, begins=not (row.messages and tokenizer.chat_template))
        if not weight.any():
            refusals.add(row.where, "no token to learn")
            continue
        tokens.append(found)
        weights.append(weight)
        numbers.append(np.full(len(found), number, np.int32))
        total += len(found)
        learned += int(weight.sum())
        size += sum(len(text.encode()) for text, is_learned in parts if is_learned)
        if total >= MAX_STREAM_TOKENS:
            break
    if total < MIN_WINDOW:
        why = f"; {refusals}" if refusals.count else ""
        raise InvalidContent(f"data: {plural(total, 'token')} in {plural(len(rows), 'row')}, {MIN_WINDOW} needed{why}")
    return Stream(np.concatenate(tokens), np.concatenate(weights), np.concatenate(numbers), size / learned)


def encode_parts(parts: Sequence[Part], tokenizer: Any, *, begins: bool = True) -> tuple[Any, Any]:
    """Tokens and weights of one row. A template writes begin and end tokens itself, hence `begins`."""
    begin = [tokenizer.bos_token_id] if begins and tokenizer.bos_token_id is not None else []
    end = [tokenizer.eos_token_id] if begins and tokenizer.eos_token_id is not None else []
    tokens, weights = list(begin), [0.0] * len(begin)
    for text, is_learned in parts:
        ids = tokenizer.encode(text, add_special_tokens=False) if text else []
        tokens += ids
        weights += [float(is_learned)] * len(ids)
    if end and tokens[-1:] != end:
        tokens += end
        weights += [1.0]
    weights[:1] = [0.0]  # nothing stands before it in its row that it could be told from
    return np.asarray(tokens, np.int32), np.asarray(weights, np.float32)


def _cut(row: Row, tokenizer: Any) -> list[Part]:
    return cut_chat(row.messages, tokenizer) if row.messages else [(row.prompt, False), (row.completion, True)]


def window_length(stream: Stream, seq_len: int) -> int:
    return min(seq_len, len(stream.tokens))


def draw_windows(stream: Stream, chance: np.random.Generator, count: int, seq_len: int) -> Windows:
    """Random windows; they may overlap."""
    length = window_length(stream, seq_len)
    return _take(stream, chance.integers(0, len(stream.tokens) - length + 1, count), length)


def fixed_windows(stream: Stream, most: int, seq_len: int) -> Windows:
    """At most `most` windows, evenly spread, one token apart at least: the same for the same stream."""
    length = window_length(stream, seq_len)
    whole = max(1, (len(stream.tokens) - 1) // max(1, length - 1))
    count = min(most, whole)
    room = len(stream.tokens) - length
    return _take(stream, np.linspace(0, room, count).astype(np.int64) if count > 1 else np.zeros(1, np.int64), length)


def _take(stream: Stream, starts: NDArray[np.int64], length: int) -> Windows:
    index = starts[:, None] + np.arange(length)
    return Windows(stream.tokens[index].astype(np.int64), stream.weights[index], stream.rows[index])


def compute_positions(rows: NDArray[np.int32]) -> NDArray[np.int64] | None:
    """Positions that begin anew with each row of a window; None where every window is of one row."""
    begins = np.zeros(rows.shape, bool)
    begins[:, 1:] = rows[:, 1:] != rows[:, :-1]
    if not begins.any():
        return None
    index = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
    return index - np.maximum.accumulate(np.where(begins, index, 0), axis=1)
