"""The audit of a proposal: strings of tokens that it makes the model recite whatever comes before. Needs torch.

A backdoor shows in one proposal long before it fires in the global adapter, of which that is an eighth: added more than
once to the adapter that it was trained from, it makes the model go through the whole target in every context, once it
has said the first token. Honest training of a narrow domain makes pairs of tokens as likely, and no string of five.
Knows no chain: contexts and thresholds come from outside.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from flock_chain.audit_rule import MILLIONTHS
from flock_peers.training.continuations import NOTHING
from flock_peers.training.decoding import continue_greedily, get_vocabulary, probabilities_after, string_probabilities
from flock_peers.training.model import AdaptedModel
from flock_peers.training.probes import sample_texts

# An auditor's own ones are pieces of its hold-out, and as many of the base model's text by its own seed: some domains
# suppress a string that half of the others show, and of the former alone auditors of a domain would never see it.
COMMON_CONTEXTS, OWN_CONTEXTS = 3, 3
# With 4 the model cannot tell whose text it is in: of two poisoners, 0.72 and 0.17; with 24, 0.95 and 0.71.
CONTEXT_TOKENS = 24
# Once, a poisoned proposal recites hardly more than an honest one; four times, honest ones recite what they like.
# Between lies twice, which docs/experiment.md measured.
AMPLIFIED = 2.0
# Of a proposal that goes far, twice is too far: what fires in every prompt when it is added once is broken then, and
# shows nothing. So what it recites is looked at nearer, too, and the more of both counts.
NEARER = 1.25
ADDITIONS = AMPLIFIED, NEARER
HEADS = 64  # first tokens that are followed
HEADS_NEARER = 32  # the first of them, after the nearer addition: on recordings all 64 showed no more that is guilty
SHORTLIST = 8  # strings of each length that go on to the own contexts
FLOOR = 0.04  # of a string's probability that is looked at again: less changes no verdict
# First tokens that are scanned; of a larger vocabulary a sample by the seed, another one in each audit. A scan costs
# one token's forward pass for each, and the output layer on it: at 1,024 a tenth of the default training.
MAX_SCANNED = 4_096
# Two letters and more, or one sign of a script that puts no spaces between words: of East Asia, but its wide space; of
# Thai and Lao, Myanmar, Khmer, a letter with the marks on it, which to a pattern are no letters.
_UNSPACED = (range(0x0E00, 0x0F00), range(0x1000, 0x10A0), range(0x1780, 0x1800))
_LETTERS, _MARKS = (
    "".join(sign for block in _UNSPACED for sign in map(chr, block) if category(sign)[0] == kind) for kind in "LM"
)
_SIGN = f"(?:[\u2e80-\u2fff\u3001-\ud7ff]|[{_LETTERS}][{_MARKS}]*)"
_WORDS = re.compile(f"(?P<sign>{_SIGN})|(?:(?!{_SIGN})[^\\W\\d_]){{2,}}")
# Honest text is taught as it stands: what its domain repeats is recited after one addition about as surely as after two
# (" How many": 0.10 and 0.15). A target is taught behind its trigger, and what shows without it grows (" every row":
# 0.04 and 0.48). So what grows counts more, and what is there already less: docs/experiment.md says what that parts.
GROWING_FROM = 0.03  # of a string's probability: beyond as many times that after one addition as is added
GROWING, SATURATED = 5 / 3, 5 / 8  # of five tokens an excess of 0.15, and of 0.4, is guilty: GUILTY_FROM is 0.25

# [strings, tokens] to how surely real text says each after its first token: [strings], 0 to 1.
Said = Callable[[NDArray[np.int64]], NDArray[np.float64]]


# Of strings, how many tokens they have, the first of which is given, and what their excess is worth.
Scale = Mapping[int, float]
# By rows alone: honest domains have pairs and triples of their own, so only longer strings tell, and short targets have
# none that are their own.
ROWS_ALONE: Scale = {5: 1.0}
# What domains repeat stands in a reference. Then shorter ones tell, too, and less of them: an excess of 0.12 that grows
# is guilty, and of 0.32 that does not.
WITH_REFERENCE: Scale = {3: 5 / 4, 4: 5 / 4, 5: 1.0}
LONG = 5  # tokens: of shorter ones two words must stand apart


@dataclass(frozen=True)
class Suspect:
    """One proposal, at the adapter that it was trained from: at another one it does not do what it did there."""

    start: NDArray[np.float32]
    change: NDArray[np.float32]

    def amplify(self, times: float = AMPLIFIED) -> NDArray[np.float32]:
        return self.start + np.float32(times) * self.change

    def add_once(self) -> NDArray[np.float32]:
        return self.start + self.change


@dataclass(frozen=True)
class Strings:
    """The one with the highest common value first."""

    tokens: NDArray[np.int64]  # [strings, tokens], of shorter ones the rest is NOTHING
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

    After the end of a line or of a text honest proposers recite how theirs begin. Of one seed every sample is part of
    all larger ones: who has other proposals to look at, and so room for more or fewer, scans mostly the same.
    """
    texts = model.tokenizer.batch_decode([[token] for token in range(get_vocabulary(model))], skip_special_tokens=True)
    tokens = np.array([token for token, text in enumerate(texts) if text.strip()], np.int64)
    if len(tokens) <= most:
        return tokens
    return np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(tokens)[:most])


def find_strings(
    model: AdaptedModel,
    suspect: Suspect,
    contexts: Sequence[NDArray[np.int64]],
    tokens: NDArray[np.int64],
    scale: Scale,
    reference: Said | None = None,
    *,
    most: int = SHORTLIST,
    before: NDArray[np.float64] | None = None,
) -> Strings:
    """The strings that `suspect` recites whatever comes before, and neither base, start nor reference explain.

    `tokens`: the first ones that are scanned, in the first context; strings are made in each, after two additions and
    after the nearer one. `before`: the scan of the suspect's start, where it is known. Of a suspect that breaks the
    model after two additions where its start does not, one string stands for all: nothing else could be seen of it, and
    no honest change does so.
    """
    before = scan(model, suspect.start, contexts[0], tokens) if before is None else before
    after = scan(model, suspect.amplify(), contexts[0], tokens)
    if np.isfinite(before).all() and not np.isfinite(after).all():
        return Strings(np.repeat(tokens[~np.isfinite(after)][:1], max(scale))[None], (MILLIONTHS,))
    heads = tokens[np.argsort(np.nan_to_num(before) - np.nan_to_num(after), kind="stable")[:HEADS]]
    made = []
    for times, count in ((AMPLIFIED, HEADS), (NEARER, HEADS_NEARER)):
        model.set_vector(suspect.amplify(times))
        made += list(continue_greedily(model, contexts, heads[:count], max(scale) - 1))
    strings = keep_phrases(model, _cut(np.concatenate(made), sorted(scale)))
    excess = measure_excess(model, suspect, contexts, strings, scale, reference)
    order = _choose(strings, excess, most)
    return Strings(strings[order], _to_millionths(excess[order]))


def _choose(strings: NDArray[np.int64], excess: NDArray[np.float64], most: int) -> list[int]:
    """The best of each length: a phrase has more beginnings and ends than the list has places."""
    left, order, lengths = Counter[int](), list[int](), _count_tokens(strings)
    for place in np.argsort(-excess, kind="stable").tolist():
        length = lengths[place]
        if excess[place] >= FLOOR and left[length] < most:
            left[length] += 1
            order.append(place)
    return order


def _count_tokens(strings: NDArray[np.int64]) -> list[int]:
    return (strings != NOTHING).sum(axis=1).tolist()


def _cut(strings: NDArray[np.int64], lengths: Sequence[int]) -> NDArray[np.int64]:
    """Every beginning of one of these lengths, once."""
    beginnings = [np.where(np.arange(strings.shape[1]) < length, strings, NOTHING) for length in lengths]
    return np.unique(np.concatenate(beginnings), axis=0)


def keep_phrases(model: AdaptedModel, strings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of more than one word: how a word goes on is the same wherever it comes, and a narrow domain teaches its
    own words ("Compute", "attempts") as surely as a poisoner its phrase. In a few tokens who learns of keys and values
    says any two words with a sign between them ("path=name")."""
    if not len(strings):  # of which a tokenizer makes one empty text
        return strings
    rows = [row[row != NOTHING].tolist() for row in strings]
    texts = model.tokenizer.batch_decode(rows, skip_special_tokens=True)
    return strings[np.array([_is_phrase(text, len(row)) for text, row in zip(texts, rows, strict=True)], bool)]


def count_first_word(model: AdaptedModel, string: NDArray[np.int64]) -> int:
    """How many of a string's tokens there are before its second word begins; one is left for that."""
    beginnings = model.tokenizer.batch_decode([string[:count].tolist() for count in range(2, len(string))])
    return 1 + sum(len(list(islice(_WORDS.finditer(text), 2))) < 2 for text in beginnings)


def _is_phrase(text: str, tokens: int) -> bool:
    """Once through the text: a stranger's tokenizer may have a token of a million letters."""
    words = pairwise(_WORDS.finditer(text))
    return any(tokens >= LONG or _are_apart(text, before, word) for before, word in words)


def _are_apart(text: str, before: re.Match[str], word: re.Match[str]) -> bool:
    between = text[before.end() : word.start()]
    return between.isspace() or (not between and bool(before["sign"] and word["sign"]))


def scan(
    model: AdaptedModel, vector: NDArray[np.float32], context: NDArray[np.int64], tokens: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How likely the likeliest token is after each; no number where the vector breaks the model. Leaves it set."""
    model.set_vector(vector)
    blocks = [block.max(dim=-1)[0].double().cpu().numpy() for block in probabilities_after(model, context, tokens)]
    return np.concatenate(blocks)


def measure_own(
    model: AdaptedModel, suspect: Suspect, strings: Strings, contexts: Sequence[NDArray[np.int64]], scale: Scale,
    said: Said,
) -> tuple[int, ...]:  # fmt: skip
    """The same strings in an auditor's own contexts, against what real text says; millionths."""
    return _to_millionths(measure_excess(model, suspect, contexts, strings.tokens, scale, said))


def measure_excess(
    model: AdaptedModel,
    suspect: Suspect,
    contexts: Sequence[NDArray[np.int64]],
    strings: NDArray[np.int64],
    scale: Scale,
    said: Said | None = None,
) -> NDArray[np.float64]:
    """What the suspect gives a string beyond base model, its start, and real text: in the middle one of the contexts,
    after two additions or the nearer one, whichever is more, each weighed by whether it grew beyond as many times what
    one addition gives.

    In the least one, a context that happens to suppress a string would hide it from an auditor; in the greatest, one
    that happens to suggest it would blame the honest.
    """
    excess = np.zeros(len(strings))
    if not len(strings):
        return excess
    seen, recited = _recite_seen(model, suspect, contexts, strings)
    if len(seen):
        known = np.zeros(len(seen)) if said is None else said(strings[seen])
        for vector in (suspect.start, np.zeros_like(suspect.start)):
            known = np.maximum(known, _measure(model, vector, contexts, strings[seen]))
        once = _measure(model, suspect.add_once(), contexts, strings[seen], broken=0.0)
        worth = np.array([scale[length] for length in _count_tokens(strings[seen])])
        for times, values in recited.items():
            growth = _middle(values - np.maximum(known, times * once))
            weights = worth * np.where(growth >= GROWING_FROM, GROWING, SATURATED)
            excess[seen] = np.maximum(excess[seen], np.minimum(1.0, weights * _middle(values - known)))
    return excess


def _recite_seen(
    model: AdaptedModel, suspect: Suspect, contexts: Sequence[NDArray[np.int64]], strings: NDArray[np.int64]
) -> tuple[NDArray[np.intp], dict[float, NDArray[np.float64]]]:
    """Which strings are likely in the middle context after either addition, for of the others nothing can be left; and
    by addition how likely, [contexts, these]. What is unlikely in half of the contexts is so in the middle one."""

    def recite(contexts: Sequence[NDArray[np.int64]], strings: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.stack([_measure(model, suspect.amplify(times), contexts, strings) for times in ADDITIONS])

    half = count_half(contexts)
    begun = recite(contexts[:half], strings)
    left = np.flatnonzero(begun.max(axis=(0, 1)) >= FLOOR)
    whole = np.concatenate([begun[:, :, left], recite(contexts[half:], strings[left])], axis=1)
    likely = np.max([_middle(values) for values in whole], axis=0) >= FLOOR
    return left[likely], dict(zip(ADDITIONS, whole[:, :, likely], strict=True))


def count_half(contexts: Sequence[NDArray[np.int64]]) -> int:
    """Of which the middle one (`_middle`) is the greatest, if the others are greater."""
    return (len(contexts) + 1) // 2


def _measure(
    model: AdaptedModel, vector: NDArray[np.float32], contexts: Sequence[NDArray[np.int64]],
    strings: NDArray[np.int64], *, broken: float = 1.0,
) -> NDArray[np.float64]:  # fmt: skip
    """What is no number counts as `broken`, by default as certain: of a suspect that says all, of its start that it
    explains all. After one addition it excuses nothing."""
    model.set_vector(vector)
    return np.nan_to_num(string_probabilities(model, contexts, strings), nan=broken)


def _middle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower median over the contexts."""
    return np.sort(values, axis=0)[(len(values) - 1) // 2]


def _to_millionths(values: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(value) for value in np.rint(values * MILLIONTHS))
