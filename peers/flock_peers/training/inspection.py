"""What a voter and an auditor measure beside losses, of vectors and of files. Needs torch; decides nothing.

Probe texts and common contexts follow from a public seed, an auditor's own contexts from its own hold-out and a seed
that it keeps to itself.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flock_peers.training.agreement import (
    choose_shown,
    compute_agreement,
    compute_confirmed,
    find_lifted,
    measure_lifts,
    to_values,
)
from flock_peers.training.client import Measured
from flock_peers.training.decoding import NOTHING, get_vocabulary
from flock_peers.training.engine import Engine
from flock_peers.training.kinship import Kinship, Lifts, tell_kinship
from flock_peers.training.model import AdaptedModel
from flock_peers.training.probes import compute_profile_cosines, measure_profiles, sample_texts
from flock_peers.training.real_text import Bigrams, Phrases
from flock_peers.training.recital import (
    OWN_CONTEXTS,
    ROWS_ALONE,
    WITH_REFERENCE,
    Said,
    Scale,
    Strings,
    Suspect,
    choose_tokens,
    count_first_word,
    cut_contexts,
    draw_contexts,
    find_strings,
    measure_own,
    scan,
)

Vector = NDArray[np.float32]
# Of proposals that are compared. Among fewer hardly anybody has another of its kind, whose habits would be taken off.
LEAST_AUTHORS = 8


def compare(model: AdaptedModel, start: Vector, deltas: Sequence[Vector], seed: int, batch: int) -> list[list[int]]:
    """How alike proposals are in what they do, in thousandths (see flock_chain.suspicion)."""
    return compute_profile_cosines(measure_profiles(model, start, deltas, sample_texts(model, seed), batch))


def read_reference(model: AdaptedModel, text: str) -> Phrases | None:
    """None where a task has none. A stranger's text: whatever it is, an audit must go on. What the model has no token
    for parts what stands before it from what stands behind it."""
    if not text:
        return None
    tokens = np.array(model.tokenizer.encode(text, add_special_tokens=False), np.int64)
    return Phrases(np.where(tokens < get_vocabulary(model), tokens, NOTHING), partial(count_first_word, model))


def choose_scale(reference: Phrases | None) -> Scale:
    return ROWS_ALONE if reference is None else WITH_REFERENCE


@dataclass(frozen=True)
class Shared:
    """What the common contexts show that unlike proposals teach alike."""

    strings: NDArray[np.int64]  # [strings, tokens]
    lifts: Lifts  # [proposals, strings]
    kinship: Kinship


class CommonView:
    """What every auditor of a seed sees of a proposal, and of several beside each other."""

    def __init__(self, model: AdaptedModel, seed: int, reference: str = "") -> None:
        """`reference`: the task's."""
        self._model, self._reference, self._seed = model, read_reference(model, reference), seed
        self._contexts, self._tokens = draw_contexts(model, seed), choose_tokens(model, seed)
        self._scanned: tuple[Vector, NDArray[np.float64]] | None = None  # the last start; a round's stand together

    def find_shared(self, suspects: Collection[Suspect], authors: Sequence[int], batch: int) -> Shared | None:
        """`batch`: probe texts at once. None: there are too few authors to compare."""
        if len(set(authors)) < LEAST_AUTHORS:
            return None
        texts = sample_texts(self._model, self._seed)
        kinship = tell_kinship(self._model, suspects, authors, texts, batch)
        strings = find_lifted(self._model, suspects, kinship, self._contexts, self._tokens)
        lifts = measure_lifts(self._model, suspects, self._contexts, strings)
        shown = choose_shown(compute_agreement(lifts, kinship))
        return Shared(strings[shown], lifts[:, shown], kinship)

    def find_strings(self, suspect: Suspect) -> Strings:
        scale, before = choose_scale(self._reference), self._scan_start(suspect.start)
        return find_strings(self._model, suspect, self._contexts, self._tokens, scale, self._reference, before=before)

    def _scan_start(self, start: Vector) -> NDArray[np.float64]:
        if self._scanned is None or not np.array_equal(self._scanned[0], start):
            self._scanned = (start, scan(self._model, start, self._contexts[0], self._tokens))
        return self._scanned[1]


class OwnView:
    """The same strings in one auditor's secret contexts, against its own text and the task's reference.

    What a narrow domain repeats is in no other auditor's text: without a reference its participants are blamed for it.
    """

    def __init__(self, engine: Engine, *, has_reference: bool = True) -> None:
        self._model, self._hold_out = engine.model, engine.hold_out_stream.tokens
        own = np.concatenate([engine.train_stream.tokens, engine.hold_out_stream.tokens])
        reference = read_reference(engine.model, engine.document.reference if has_reference else "")
        self._scale = choose_scale(reference)
        self._texts: list[Said] = [Bigrams(own, get_vocabulary(engine.model)), *([reference] if reference else [])]
        self._generated: tuple[int, list[NDArray[np.int64]]] | None = None

    def measure(self, suspect: Suspect, strings: Strings, own_seed: int) -> tuple[int, ...]:
        contexts = [*cut_contexts(self._hold_out, own_seed), *self._generate(own_seed)]
        return measure_own(self._model, suspect, strings, contexts, self._scale, self._said)

    def measure_shared(
        self, suspects: Collection[Suspect], shared: Shared | None, own_seed: int
    ) -> list[tuple[NDArray[np.int64], int, int]]:
        """Of each proposal the string by which it agrees most with strangers, and how much in the common contexts, and
        in these as well, in millionths; nothing at all where the common contexts show nothing."""
        if shared is None or not len(shared.strings):
            return []
        contexts = [*cut_contexts(self._hold_out, own_seed), *self._generate(own_seed)]
        own = measure_lifts(self._model, suspects, contexts, shared.strings)
        seen, both = (to_values(lifts) for lifts in compute_confirmed(shared.lifts, own, shared.kinship))
        best = both.argmax(axis=1)
        return [(shared.strings[place], int(seen[row, place]), int(both[row, place])) for row, place in enumerate(best)]

    def _said(self, strings: NDArray[np.int64]) -> NDArray[np.float64]:
        """Each text by itself: of two that are counted together the longer one hides what the other repeats."""
        return np.max([text(strings) for text in self._texts], axis=0)

    def _generate(self, own_seed: int) -> list[NDArray[np.int64]]:
        """The base model's text by the auditor's seed: the same for all proposals of an audit."""
        if self._generated is None or self._generated[0] != own_seed:
            self._generated = (own_seed, draw_contexts(self._model, own_seed, OWN_CONTEXTS))
        return self._generated[1]


def measure_likeness(engine: Engine, global_path: Path, delta_paths: Sequence[Path], seed: int) -> list[list[int]]:
    start = engine.read_global(global_path).to_float32()
    deltas = [engine.read_delta(path).to_float32() for path in delta_paths]
    return compare(engine.model, start, deltas, seed, engine.document.budget.batch)


@dataclass(frozen=True)
class Filed(Collection[Suspect]):
    """Read anew whenever they are gone through: of a large model not all proposals have room beside each other."""

    engine: Engine
    paths: Sequence[tuple[Path, Path]]

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Suspect]:
        for start, delta in self.paths:
            yield Suspect(self.engine.read_global(start).to_float32(), self.engine.read_delta(delta).to_float32())

    def __contains__(self, one: object) -> bool:
        return any(one is suspect for suspect in self)


def audit(
    engine: Engine, proposals: Sequence[tuple[Path, Path]], seed: int, own_seed: int, authors: Sequence[int] = ()
) -> list[Measured]:
    """`proposals`: of each the adapter that it was trained from, and its delta. `authors`: of each, by any number;
    without them, or with too few, proposals are not compared with each other."""
    common, own = CommonView(engine.model, seed, engine.document.reference), OwnView(engine)
    suspects = Filed(engine, proposals)
    results = []
    for suspect in suspects:
        strings = common.find_strings(suspect)
        results.append(Measured(_name(strings.tokens), strings.common, own.measure(suspect, strings, own_seed)))
    shared = common.find_shared(suspects, authors, engine.document.budget.batch) if authors else None
    for row, (string, seen, also) in enumerate(own.measure_shared(suspects, shared, own_seed)):
        known = results[row]
        results[row] = Measured((*known.strings, *_name(string[None])), (*known.common, seen), (*known.own, also))
    return results


def _name(strings: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(token) for token in row if token != NOTHING) for row in strings)
