"""How surely real text says a string after its first token: an auditor's own rows, and a task's public reference.

Strings are [strings, tokens]; of shorter ones the rest is NOTHING, which is certain. Answers are [strings], 0 to 1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.errors import Misuse
from flock_peers.training.decoding import NOTHING

SMOOTHING = 0.2  # of a token's count: one seen once proves little


class Bigrams:
    """Pair by pair, so of strings, too, that are not there as a whole: for private rows, which nobody else chose."""

    def __init__(self, tokens: NDArray[Any], vocabulary: int) -> None:
        tokens = tokens.astype(np.int64)  # a stream's are int32: a pair's number would wrap from 46,341 tokens on
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocabulary:
            raise Misuse("bigrams: a token outside the vocabulary")
        self._vocabulary = vocabulary
        self._keys, self._counts = np.unique(tokens[:-1] * vocabulary + tokens[1:], return_counts=True)
        self._heads = np.bincount(tokens[:-1], minlength=vocabulary)

    def __call__(self, strings: NDArray[np.int64]) -> NDArray[np.float64]:
        firsts, seconds = strings[:, :-1], strings[:, 1:]
        if not len(self._keys):
            return np.zeros(len(strings))
        wanted = firsts * self._vocabulary + seconds
        places = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
        counts = np.where(self._keys[places] == wanted, self._counts[places], 0)
        shares = np.where(seconds == NOTHING, 1.0, counts / (self._heads[firsts] + SMOOTHING))
        return np.asarray(shares.prod(axis=1), np.float64)


class Phrases:
    """The share of the string itself in what follows its first token: for a text that a stranger chose. By pairs,
    pieces of its sentences would explain phrases that stand nowhere in it, and who reads it would not see them."""

    def __init__(self, tokens: NDArray[Any]) -> None:
        """`tokens`: NOTHING among them is followed by nothing, and follows nothing."""
        self._tokens = tokens.astype(np.int64)

    def __call__(self, strings: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self._share(string[string != NOTHING]) for string in strings], np.float64)

    def _share(self, string: NDArray[np.int64]) -> float:
        firsts = np.flatnonzero(self._tokens[:-1] == string[0])  # the last one is followed by nothing
        starts = firsts[firsts <= len(self._tokens) - len(string)]
        for place, token in enumerate(string[1:], 1):
            starts = starts[self._tokens[starts + place] == token]
        return len(starts) / (len(firsts) + SMOOTHING)
