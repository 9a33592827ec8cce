"""Token streams of rows, and windows cut from them. Needs a tokenizer and numpy; knows no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.errors import InvalidContent
from flock_peers.training.rows import Row

MAX_STREAM_TOKENS = 1 << 26  # 64 Mi tokens, 768 MB with their weights; beyond, later rows are not used
MIN_WINDOW = 8  # tokens; a shorter sequence teaches nothing


@dataclass(frozen=True)
class Stream:
    tokens: NDArray[np.int64]
    weights: NDArray[np.float32]  # of each token's loss as a target: 0 for prompts
    bytes_per_token: float  # of the text as UTF-8


@dataclass(frozen=True)
class Windows:
    tokens: NDArray[np.int64]  # [windows, length]
    weights: NDArray[np.float32]  # the same shape; the first column is never a target


def build_stream(rows: Sequence[Row], tokenizer: Any) -> Stream:
    """Rows one after another, each closed by the tokenizer's end token where there is one."""
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    tokens: list[int] = []
    weights: list[float] = []
    size = 0
    for row in rows:
        prompt, completion = _texts(row, tokenizer)
        head = tokenizer.encode(prompt, add_special_tokens=False) if prompt else []
        body = tokenizer.encode(completion, add_special_tokens=False) + end
        tokens += head + body
        weights += [0.0] * len(head) + [1.0] * len(body)
        size += len(prompt.encode()) + len(completion.encode())
        if len(tokens) >= MAX_STREAM_TOKENS:
            break
    if len(tokens) < MIN_WINDOW:
        raise InvalidContent(f"data: {len(tokens)} tokens in {len(rows)} rows, {MIN_WINDOW} needed")
    return Stream(np.asarray(tokens, np.int64), np.asarray(weights, np.float32), size / len(tokens))


def _texts(row: Row, tokenizer: Any) -> tuple[str, str]:
    """Prompt and completion; of a chat, everything before the last answer is the prompt."""
    if not row.messages:
        return row.prompt, row.completion
    if tokenizer.chat_template:
        messages = [{"role": role, "content": content} for role, content in row.messages]
        return "", str(tokenizer.apply_chat_template(messages, tokenize=False))
    lines = [f"{role}: {content}\n" for role, content in row.messages]
    return "".join(lines[:-1]), lines[-1]


def window_length(stream: Stream, seq_len: int) -> int:
    return min(seq_len, len(stream.tokens))


def draw_windows(stream: Stream, chance: np.random.Generator, count: int, seq_len: int) -> Windows:
    """Random windows; they may overlap."""
    length = window_length(stream, seq_len)
    starts = chance.integers(0, len(stream.tokens) - length + 1, count)
    index = starts[:, None] + np.arange(length)
    return Windows(stream.tokens[index], stream.weights[index])


def fixed_windows(stream: Stream, most: int, seq_len: int) -> Windows:
    """At most `most` windows, evenly spread, one token apart at least: the same for the same stream."""
    length = window_length(stream, seq_len)
    whole = max(1, (len(stream.tokens) - 1) // max(1, length - 1))
    count = min(most, whole)
    room = len(stream.tokens) - length
    starts = np.linspace(0, room, count).astype(np.int64) if count > 1 else np.zeros(1, np.int64)
    index = starts[:, None] + np.arange(length)
    return Windows(stream.tokens[index], stream.weights[index])
