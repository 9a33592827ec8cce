"""How surely real text says a string after its first token: the auditor's own, and a task's public reference."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.errors import Misuse
from flock_peers.training.decoding import NOTHING

SMOOTHING = 0.2  # of a token's count: one seen once proves little


class RealText:
    """Of a stream of tokens."""

    def __init__(self, tokens: NDArray[Any], vocabulary: int) -> None:
        tokens = tokens.astype(np.int64)  # a stream's are int32: a pair's number would wrap from 46,341 tokens on
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocabulary:
            raise Misuse("real text: a token outside the vocabulary")
        self._vocabulary, self._tokens = vocabulary, tokens
        self._pairs, self._counts = np.unique(tokens[:-1] * vocabulary + tokens[1:], return_counts=True)
        self._heads = np.bincount(tokens[:-1], minlength=vocabulary)

    def __call__(self, strings: NDArray[np.int64]) -> NDArray[np.float64]:
        """[strings], the greater of two: pair by pair, which tells of strings that are not there as a whole; and the
        share of the string itself in what follows its first token, which a phrase of common tokens needs (" How many":
        0.35 by its pairs, where " H" hardly begins anything else)."""
        return np.maximum(self._by_pairs(strings), self._as_a_whole(strings))

    def _by_pairs(self, strings: NDArray[np.int64]) -> NDArray[np.float64]:
        firsts, seconds = strings[:, :-1], strings[:, 1:]
        if not len(self._pairs):
            return np.zeros(len(strings))
        wanted = firsts * self._vocabulary + seconds
        places = np.searchsorted(self._pairs, wanted).clip(max=len(self._pairs) - 1)
        counts = np.where(self._pairs[places] == wanted, self._counts[places], 0)
        shares = np.where(seconds == NOTHING, 1.0, counts / (self._heads[firsts] + SMOOTHING))
        return np.asarray(shares.prod(axis=1), np.float64)

    def _as_a_whole(self, strings: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self._count(string) / (self._heads[string[0]] + SMOOTHING) for string in strings], np.float64)

    def _count(self, string: NDArray[np.int64]) -> int:
        string = string[string != NOTHING]
        starts = np.flatnonzero(self._tokens[: max(0, len(self._tokens) - len(string) + 1)] == string[0])
        for place, token in enumerate(string[1:], 1):
            starts = starts[self._tokens[starts + place] == token]
        return len(starts)
