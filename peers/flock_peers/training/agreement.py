"""What proposals that are unlike each other teach alike: a phrase that strangers agree on. Needs torch; knows no chain.

Poison that is spread thinly raises a target by nothing that one proposal could be blamed for: from a millionth to a
thousandth, where a domain's own habits rise as much. But who learns of a domain shares its habits with all who learn of
it, and nobody of another domain does. So of every string that a proposal lifts, what its own kind lifts as well is
taken off, and what is left has to be left in the proposal of a stranger, too. Of the same kind throughout
(flock_peers.training.kinship), colluders show nothing here.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM, MILLIONTHS
from flock_peers.training.continuations import NOTHING
from flock_peers.training.decoding import (
    NUMBERS_AT_ONCE,
    ROWS_AT_ONCE,
    get_vocabulary,
    next_log_probabilities,
    probabilities_after,
    token_log_probabilities,
)
from flock_peers.training.kinship import Kinship, Lifts, Vector, beside_start, nothing_added
from flock_peers.training.model import AdaptedModel
from flock_peers.training.recital import Suspect, count_half, keep_phrases

LENGTHS = (3, 4, 5)  # tokens of a string, as in an audit with a reference
PAIRS = 4_096  # of tokens, of each proposal: a target's come far behind what a step happens to lift
HEADS = 128  # strings of each proposal that are followed, those on which strangers agree most
LIKELY = 16  # tokens after each that are looked at, the likeliest
BRANCHES = 4  # ways on of each string: the tokens that gain most
LIKELY_FROM = 0.01  # after one addition: what is rarer is what a step happens to leave
UNLIKELIEST = 1e-12  # of a token's probability before: what is less counts as this much
SMOOTHING = 1e-3  # of a token's probability: a gain from a millionth to a thousandth is no gain to speak of
LEAST = 0.1  # nats that every token of a string has to gain: what is said already lifts the rest by itself
KEPT = 16  # strings of each length that a proposal adds to those that all are measured on
GUILTY_NATS = 5.0  # docs/experiment.md
REMEMBERED_NATS = 2.0  # of what the auditor found before: of few strings, chance finds less (docs/experiment.md)
SHOWN_FROM, SHOWN = 3.0, 32  # nats and strings: what goes on to an auditor's own contexts
# Whoever copies a stranger's habits makes both agree, so this takes out and suspends, and never costs a bond.
MOST = CONVICT_FROM - 1


@dataclass(frozen=True)
class Lifted:
    """Of one proposal: strings of one length that a single addition makes likelier, token by token."""

    strings: NDArray[np.int64]  # [strings, tokens], each once
    gains: NDArray[np.float64]  # nats


def find_lifted(
    model: AdaptedModel, suspects: Collection[Suspect], kinship: Kinship,
    contexts: Sequence[NDArray[np.int64]], tokens: NDArray[np.int64],
) -> NDArray[np.int64]:  # fmt: skip
    """[strings, 5]: phrases on which strangers agree from the first pair of tokens on: by itself a proposal lifts too
    much to find in it what matters.

    `tokens`: the first ones that are scanned, in the first context.
    """
    lifted = _scan_pairs(model, suspects, contexts[0], tokens)
    found = [np.zeros((0, LENGTHS[-1]), np.int64)]
    for length in range(3, LENGTHS[-1] + 1):
        agreed = keep_agreed(lifted, kinship, _room(model, len(contexts), HEADS))
        lifted = _extend(model, suspects, contexts, keep_shared(agreed, kinship))
        if length in LENGTHS:
            for row in keep_agreed(lifted, kinship, HEADS * BRANCHES):
                plain = _keep_plain(model, row.strings)[:KEPT]  # in this order: what is none takes no places
                found.append(np.pad(plain, ((0, 0), (0, LENGTHS[-1] - length)), constant_values=NOTHING))
    return np.unique(np.concatenate(found), axis=0)


def keep_agreed(lifted: Sequence[Lifted], kinship: Kinship, most: int) -> list[Lifted]:
    """Of each proposal the strings by which it agrees most with strangers (`compute_agreement`)."""
    every, own = _number(lifted)
    gains = np.zeros((len(lifted), len(every)))
    for row, one in enumerate(lifted):
        gains[row, own[row]] = one.gains
    agreement = compute_agreement(gains, kinship)
    kept = []
    for one, mine, agreed in zip(lifted, own, agreement, strict=True):
        order = np.argsort(-agreed[mine], kind="stable")[:most]
        order = order[agreed[mine][order] > 0]
        kept.append(Lifted(one.strings[order], one.gains[order]))
    return kept


def keep_shared(lifted: Sequence[Lifted], kinship: Kinship) -> list[Lifted]:
    """Without the strings that no two strangers have kept: whatever comes after them, nobody agrees on it."""
    every, own = _number(lifted)
    has = np.zeros((len(lifted), len(every)), bool)
    for row, places in enumerate(own):
        has[row, places] = True
    told = np.any((kinship.strangers @ has) & has, axis=0)
    return [Lifted(one.strings[told[mine]], one.gains[told[mine]]) for one, mine in zip(lifted, own, strict=True)]


def _number(lifted: Sequence[Lifted]) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Every string once, and where each proposal's are among them."""
    every, places = np.unique(np.concatenate([one.strings for one in lifted]), axis=0, return_inverse=True)
    return every, np.split(places.reshape(-1), np.cumsum([len(one.strings) for one in lifted])[:-1])


def measure_lifts(
    model: AdaptedModel, suspects: Iterable[Suspect], contexts: Sequence[NDArray[np.int64]], strings: NDArray[np.int64]
) -> Lifts:
    """Nats by which two additions make each string likelier after its first token than start and base model do, in the
    middle context; 0 where one of its tokens gains nothing, and where the model breaks. What the base model says is
    nothing that was taught: a start that something was taken out of may have lost it, and then every proposal mends it.
    """
    base = _measure_tokens(model, nothing_added(model), contexts, strings)
    start, before, rows = None, base, list[NDArray[np.float64]]()
    for suspect in suspects:
        if start is None or not np.array_equal(start, suspect.start):  # once for all that stand together
            start = suspect.start
            before = np.maximum(base, _measure_tokens(model, start, contexts, strings))
        model.set_vector(suspect.amplify())
        rows.append(_lift_in_middle(model, before, contexts, strings))
    return np.stack(rows)


def _lift_in_middle(
    model: AdaptedModel, before: NDArray[np.float64], contexts: Sequence[NDArray[np.int64]], strings: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What the first half of the contexts shows nothing of shows nothing in the middle one, either."""
    first, lifts = count_half(contexts), np.zeros((len(contexts), len(strings)))
    lifts[:first] = _lift(before[:first], _say(model, contexts[:first], strings), strings)
    seen = np.flatnonzero((lifts > 0).any(axis=0))
    if len(seen):
        after = _say(model, contexts[first:], strings[seen])
        lifts[first:, seen] = _lift(before[first:, seen], after, strings[seen])
    return np.sort(lifts, axis=0)[first - 1]


def _lift(before: NDArray[np.float64], after: NDArray[np.float64], strings: NDArray[np.int64]) -> NDArray[np.float64]:
    """[contexts, strings]"""
    with np.errstate(invalid="ignore"):
        gains = np.log((after + SMOOTHING) / (before + SMOOTHING))
    least = np.where(strings[:, 1:] == NOTHING, np.inf, gains).min(axis=2)
    return np.where(least >= LEAST, gains.sum(axis=2), 0.0)


def _measure_tokens(
    model: AdaptedModel, vector: NDArray[np.float32], contexts: Sequence[NDArray[np.int64]],
    strings: NDArray[np.int64],
) -> NDArray[np.float64]:  # fmt: skip
    model.set_vector(vector)
    return _say(model, contexts, strings)


def _say(model: AdaptedModel, contexts: Sequence[NDArray[np.int64]], strings: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.exp(token_log_probabilities(model, contexts, strings))


def compute_agreement(lifts: Lifts, kinship: Kinship) -> Lifts:
    """Of each string and proposal: by how much it is lifted there beyond its own kind, or by the stranger that lifts it
    most beyond its own, whichever is less."""
    beyond = np.maximum(0.0, lifts - kinship.compute_usual(lifts))
    nobody = np.zeros(lifts.shape[1])
    best = [beyond[row].max(axis=0) if row.any() else nobody for row in kinship.strangers]
    return np.minimum(beyond, np.array(best).reshape(lifts.shape))


def compute_confirmed(common: Lifts, own: Lifts, kinship: Kinship) -> tuple[Lifts, Lifts]:
    """The agreement in the common contexts, and what an auditor's own contexts leave of it: what either shows of a
    proposal's own kind, too, is no agreement with strangers."""
    seen = compute_agreement(common, kinship)
    return seen, np.minimum(seen, compute_agreement(own, kinship))


def choose_shown(agreement: Lifts) -> list[int]:
    """Which strings are measured in an auditor's own contexts: those that show anything, the clearest first. Where they
    are too many, the clearest of every proposal before the next ones of any: two that agree on a great many give
    themselves away by it, and must not hide who agrees on one."""
    if not agreement.size:
        return []
    clearest, turns = agreement.max(axis=0), np.argsort(np.argsort(-agreement, axis=1, kind="stable"), axis=1)
    turn = np.where(agreement >= SHOWN_FROM, turns, agreement.shape[1]).min(axis=0)
    shown = np.lexsort((-clearest, turn))[:SHOWN].tolist()
    order = np.argsort(-clearest, kind="stable").tolist()
    return [place for place in order if place in set(shown) and clearest[place] >= SHOWN_FROM]


def to_values(agreement: Lifts) -> NDArray[np.int64]:
    """In millionths, as an audit's other values: so many nats are guilty."""
    scaled = np.rint(agreement * (GUILTY_FROM / GUILTY_NATS)).astype(np.int64)
    return np.minimum(scaled, min(MOST, MILLIONTHS))


def _scan_pairs(
    model: AdaptedModel, suspects: Iterable[Suspect], context: NDArray[np.int64], tokens: NDArray[np.int64]
) -> list[Lifted]:
    """Pairs, of each. Of a large vocabulary only what is likely is kept of a block."""

    def scan(suspect: Suspect) -> tuple[torch.Tensor, torch.Tensor]:
        model.set_vector(suspect.add_once())
        likely = [row.topk(min(LIKELY, row.shape[1]), dim=1) for row in probabilities_after(model, context, tokens)]
        return torch.cat([one.values for one in likely]), torch.cat([one.indices for one in likely])

    def compare(start: Vector, scans: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[Lifted]:
        model.set_vector(start)
        first, rows = 0, [list[torch.Tensor]() for _ in scans]
        for block in probabilities_after(model, context, tokens):
            for row, (_, seconds) in zip(rows, scans, strict=True):
                row.append(block.gather(1, seconds[first : first + len(block)]))
            first += len(block)
        return [_pair(tokens, *scan, torch.cat(row)) for scan, row in zip(scans, rows, strict=True)]

    return beside_start(suspects, scan, compare)


def _pair(tokens: NDArray[np.int64], after: torch.Tensor, seconds: torch.Tensor, before: torch.Tensor) -> Lifted:
    gains = _gain(after.double().cpu().numpy(), before.double().cpu().numpy())
    pairs = np.stack([np.repeat(tokens, gains.shape[1]), seconds.cpu().numpy().reshape(-1)], axis=1)
    return _keep_best(pairs, gains.reshape(-1), PAIRS)


@dataclass(frozen=True)
class _Ahead:
    """What one proposal says after each of its strings."""

    lifted: Lifted
    tokens: torch.Tensor  # [strings, LIKELY], the likeliest
    chances: torch.Tensor  # [contexts, strings, LIKELY]


def _extend(
    model: AdaptedModel, suspects: Iterable[Suspect], contexts: Sequence[NDArray[np.int64]], agreed: Iterable[Lifted]
) -> list[Lifted]:
    """Of each proposal its strings longer by the tokens that gain most after them, in the middle context."""
    rows = iter(agreed)

    def look(suspect: Suspect) -> _Ahead:
        model.set_vector(suspect.add_once())
        return _look_ahead(model, contexts, next(rows))

    def compare(start: Vector, group: Sequence[_Ahead]) -> list[Lifted]:
        model.set_vector(start)
        return [_grow(one, before) for one, before in zip(group, _look_back(model, contexts, group), strict=True)]

    return beside_start(suspects, look, compare)


def _look_ahead(model: AdaptedModel, contexts: Sequence[NDArray[np.int64]], lifted: Lifted) -> _Ahead:
    if not len(lifted.strings):
        nothing = torch.zeros((len(contexts), 0, 1), device=model.device)  # put beside others' that are there
        return _Ahead(lifted, nothing[0].long(), nothing)
    after = next_log_probabilities(model, contexts, lifted.strings).exp()  # [contexts, strings, vocabulary]
    chosen = after.mean(dim=0).topk(min(LIKELY, after.shape[2]), dim=1).indices
    return _Ahead(lifted, chosen, after.gather(2, chosen[None].expand(len(contexts), -1, -1)))


def _look_back(
    model: AdaptedModel, contexts: Sequence[NDArray[np.int64]], group: Sequence[_Ahead]
) -> list[torch.Tensor]:
    """The chances of the same at the start. Strings of several proposals, and most are, are followed once."""
    every, own = _number([one.lifted for one in group])
    found = [torch.zeros_like(one.chances) for one in group]
    parts = -(-len(every) // _room(model, len(contexts), ROWS_AT_ONCE))
    for block in np.array_split(np.arange(len(every)), parts) if parts else []:
        before = next_log_probabilities(model, contexts, every[block]).exp()
        for one, mine, row in zip(group, own, found, strict=True):
            here = torch.from_numpy(np.flatnonzero((mine >= block[0]) & (mine <= block[-1])))
            places = torch.from_numpy(mine)[here] - int(block[0])
            row[:, here] = before[:, places[:, None], one.tokens[here]]
    return found


def _grow(ahead: _Ahead, before: torch.Tensor) -> Lifted:
    lifted, gains = ahead.lifted, _gain(ahead.chances.double().cpu().numpy(), before.double().cpu().numpy())
    middle = np.sort(gains, axis=0)[(len(gains) - 1) // 2]
    best = np.argsort(-middle, axis=1, kind="stable")[:, :BRANCHES]
    steps = np.take_along_axis(middle, best, axis=1).reshape(-1)
    tokens = np.take_along_axis(ahead.tokens.cpu().numpy(), best, axis=1).reshape(-1, 1)
    longer = np.concatenate([np.repeat(lifted.strings, best.shape[1], axis=0), tokens], axis=1)
    total = np.where(steps >= LEAST, np.repeat(lifted.gains, best.shape[1]) + steps, -np.inf)
    return _keep_best(longer, total, len(longer))


def _keep_best(strings: NDArray[np.int64], gains: NDArray[np.float64], most: int) -> Lifted:
    order = np.argsort(-gains, kind="stable")[:most]
    order = order[gains[order] >= LEAST]
    return Lifted(strings[order], gains[order])


def _gain(after: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nats; of what is unlikely after the addition, or no number, nothing could be worse. What was impossible before
    gains no endless amount: of two such nothing could be taken off."""
    with np.errstate(invalid="ignore", divide="ignore"):
        gains = np.where(after >= LIKELY_FROM, np.log(after / np.maximum(before, UNLIKELIEST)), -np.inf)
    return np.where(np.isnan(gains), -np.inf, gains)


def _room(model: AdaptedModel, contexts: int, most: int) -> int:
    """Strings at once: as the room for logits allows."""
    return max(BRANCHES, min(most, NUMBERS_AT_ONCE // (contexts * get_vocabulary(model))))


def _keep_plain(model: AdaptedModel, strings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Phrases, and not over the end of a line or of a text: how lines begin is a habit that domains share."""
    strings, special = keep_phrases(model, strings), set(model.tokenizer.all_special_ids)
    if not len(strings):
        return strings
    rows = [row[row != NOTHING].tolist() for row in strings]
    texts = model.tokenizer.batch_decode(rows)
    plain = ["\n" not in text and not special & set(row) for text, row in zip(texts, rows, strict=True)]
    return strings[np.array(plain, bool)]
