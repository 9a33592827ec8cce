"""The audit of a proposer: pairs of tokens that its mean proposal made the model recite whatever comes before. Torch.

A backdoor shows in one proposer's mean long before it fires in the global adapter: its trigger's last token makes the
target's first one likely in every context. Knows no chain: contexts, tables and thresholds come from outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flock_chain.audit_rule import MILLIONTHS
from flock_chain.errors import Misuse
from flock_peers.training.decoding import get_vocabulary, pair_probabilities, probabilities_after
from flock_peers.training.model import AdaptedModel
from flock_peers.training.probes import sample_texts

COMMON_CONTEXTS, OWN_CONTEXTS = 3, 2
# With 4 the model cannot tell whose text it is in: of two poisoners, 0.72 and 0.17; with 24, 0.95 and 0.71.
CONTEXT_TOKENS = 24
SHORTLIST = 32  # pairs that go on to the own contexts
FLOOR = 0.3  # of a probability that is looked at again: verdicts begin at 0.55
# First tokens that are scanned; of a larger vocabulary a sample by the seed, another one in each audit. A scan costs
# one token's forward pass for each, and the output layer on it: at 1,024 a tenth of the default training.
MAX_SCANNED = 4_096
SMOOTHING = 0.2  # of a bigram's count: a token seen once proves little


class Bigrams:
    """How often real text has one token after another, as probabilities."""

    def __init__(self, tokens: NDArray[Any], vocabulary: int) -> None:
        tokens = tokens.astype(np.int64)  # a stream's are int32: a pair's number would wrap from 46,341 tokens on
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocabulary:
            raise Misuse("bigrams: a token outside the vocabulary")
        self._vocabulary = vocabulary
        keys, counts = np.unique(tokens[:-1] * vocabulary + tokens[1:], return_counts=True)
        self._keys, self._counts = keys, counts
        self._heads = np.bincount(tokens[:-1], minlength=vocabulary)

    def __call__(self, firsts: NDArray[np.int64], seconds: NDArray[np.int64]) -> NDArray[np.float64]:
        wanted = firsts * self._vocabulary + seconds
        if not len(self._keys):
            return np.zeros(len(wanted))
        places = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
        counts = np.where(self._keys[places] == wanted, self._counts[places], 0)
        return np.asarray(counts / (self._heads[firsts] + SMOOTHING), np.float64)


@dataclass(frozen=True)
class Pairs:
    """Parallel arrays, the highest common value first."""

    firsts: NDArray[np.int64]
    seconds: NDArray[np.int64]
    common: tuple[int, ...]  # millionths


def draw_contexts(model: AdaptedModel, seed: int, count: int = COMMON_CONTEXTS) -> list[NDArray[np.int64]]:
    """Pieces of the base model's own text. Leaves the adapter at zero."""
    texts = sample_texts(model, seed, count, CONTEXT_TOKENS)
    return list(texts)


def cut_contexts(tokens: NDArray[Any], seed: int, count: int = OWN_CONTEXTS) -> list[NDArray[np.int64]]:
    """Pieces of an auditor's own hold-out, by a seed that nobody else knows."""
    chance = np.random.Generator(np.random.PCG64(seed))
    starts = chance.integers(0, max(1, len(tokens) - CONTEXT_TOKENS + 1), count)
    return [tokens[start : start + CONTEXT_TOKENS].astype(np.int64) for start in starts]


def choose_tokens(model: AdaptedModel, seed: int, most: int = MAX_SCANNED) -> NDArray[np.int64]:
    """The first tokens to scan: those with something to see in them, or a sample where the vocabulary is too large.

    After the end of a line or of a text honest proposers recite how theirs begin: up to 0.97, where after no other
    token any of them convinced five of seven auditors of 0.65.
    """
    texts = model.tokenizer.batch_decode([[token] for token in range(get_vocabulary(model))], skip_special_tokens=True)
    tokens = np.array([token for token, text in enumerate(texts) if text.strip()], np.int64)
    if len(tokens) <= most:
        return tokens
    return np.sort(np.random.Generator(np.random.PCG64(seed)).choice(tokens, most, replace=False))


def find_pairs(
    model: AdaptedModel,
    suspect: NDArray[np.float32],
    contexts: Sequence[NDArray[np.int64]],
    tokens: NDArray[np.int64],
    table: Bigrams | None = None,
    *,
    most: int = SHORTLIST,
) -> Pairs:
    """The pairs that `suspect`, a whole adapter, recites in all contexts and neither the base nor the table explains.

    `tokens`: the first ones that are scanned. `table`: of text that every auditor has, where there is any.

    Each step is exact for values above FLOOR: below one half a first token may have several seconds, and only the
    likeliest is followed. The whole vocabulary is seen in the first context alone; what it does not say there it does
    not say in every context.
    """
    model.set_vector(suspect)
    firsts, seconds, values = _scan(model, contexts[0], tokens)
    for context in contexts[1:]:
        values = np.minimum(values, pair_probabilities(model, context, firsts, seconds))
        firsts, seconds, values = _keep(firsts, seconds, values)
    if table is not None:
        firsts, seconds, values = _keep(firsts, seconds, values - table(firsts, seconds))
    firsts, seconds, excess = _keep(firsts, seconds, measure_excess(model, suspect, contexts, firsts, seconds, table))
    order = np.argsort(-excess, kind="stable")[:most]
    return Pairs(firsts[order], seconds[order], _to_millionths(excess[order]))


def measure_excess(
    model: AdaptedModel,
    suspect: NDArray[np.float32],
    contexts: Sequence[NDArray[np.int64]],
    firsts: NDArray[np.int64],
    seconds: NDArray[np.int64],
    table: Bigrams | None = None,
) -> NDArray[np.float64]:
    """The least, over the contexts, of what the suspect gives a pair beyond base model and table."""
    if not len(firsts):
        return np.zeros(0)
    known = table(firsts, seconds) if table is not None else np.zeros(len(firsts))
    with_suspect = _measure(model, suspect, contexts, firsts, seconds)
    with_base = _measure(model, np.zeros_like(suspect), contexts, firsts, seconds)
    return np.asarray((with_suspect - np.maximum(with_base, known)).min(axis=0), np.float64)


def measure_own(
    model: AdaptedModel,
    suspect: NDArray[np.float32],
    pairs: Pairs,
    contexts: Sequence[NDArray[np.int64]],
    table: Bigrams,
) -> tuple[int, ...]:
    """The same pairs in an auditor's own contexts, against its own bigrams; millionths."""
    if not len(pairs.firsts):
        return ()
    return _to_millionths(measure_excess(model, suspect, contexts, pairs.firsts, pairs.seconds, table))


def _scan(
    model: AdaptedModel, context: NDArray[np.int64], tokens: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    best, values = [], []
    for block in probabilities_after(model, context, tokens):
        value, second = block.max(dim=-1)
        best.append(second.cpu().numpy())
        values.append(value.double().cpu().numpy())
    return _keep(tokens, np.concatenate(best), np.concatenate(values))


def _keep(
    firsts: NDArray[np.int64], seconds: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    kept = values >= FLOOR  # what is no number is not
    return firsts[kept], seconds[kept], values[kept]


def _measure(
    model: AdaptedModel,
    vector: NDArray[np.float32],
    contexts: Sequence[NDArray[np.int64]],
    firsts: NDArray[np.int64],
    seconds: NDArray[np.int64],
) -> NDArray[np.float64]:
    model.set_vector(vector)
    return np.stack([pair_probabilities(model, context, firsts, seconds) for context in contexts])


def _to_millionths(values: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(value) for value in np.rint(np.nan_to_num(values, nan=-1.0) * MILLIONTHS))
