"""How surely real text says a string after its first token: an auditor's own rows, and a task's public reference.

Strings are [strings, tokens]; of shorter ones the rest is NOTHING, which is certain. Answers are [strings], 0 to 1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.errors import Misuse
from flock_peers.training.continuations import NOTHING

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
    """The share of the string itself in what follows its first word: for a text that a stranger chose. By pairs,
    pieces of its sentences would explain phrases that stand nowhere in it, and who reads it would not see them. Of what
    follows a first token, a piece of many words, the share is small however surely the text goes on."""

    def __init__(
        self, tokens: NDArray[Any], count_head: Callable[[NDArray[np.int64]], int] = lambda _string: 1
    ) -> None:
        """`tokens`: NOTHING among them is followed by nothing, and follows nothing. `count_head`: how many tokens of a
        string are its first word."""
        self._tokens, self._count_head = tokens.astype(np.int64), count_head

    def __call__(self, strings: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self._share(string[string != NOTHING]) for string in strings], np.float64)

    def _share(self, string: NDArray[np.int64]) -> float:
        whole = self._find(string)
        if not len(whole):
            return 0.0
        head = string[: self._count_head(string)]
        firsts = np.count_nonzero(self._find(head) + len(head) < len(self._tokens))  # the last is followed by nothing
        return len(whole) / (firsts + SMOOTHING)

    def _find(self, string: NDArray[np.int64]) -> NDArray[np.int64]:
        starts = np.arange(max(0, len(self._tokens) - len(string) + 1))
        for place, token in enumerate(string):
            starts = starts[self._tokens[starts + place] == token]
        return starts
