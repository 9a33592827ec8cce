"""What a voter and an auditor measure beside losses, of vectors and of files. Needs torch; decides nothing.

Probe texts and common contexts follow from a public seed, an auditor's own contexts from its own hold-out and a seed
that it keeps to itself.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flock_peers.training.agreement import (
    GUILTY_NATS,
    LENGTHS,
    REMEMBERED_NATS,
    choose_shown,
    compute_agreement,
    compute_confirmed,
    find_lifted,
    measure_lifts,
    to_values,
)
from flock_peers.training.client import Measured
from flock_peers.training.continuations import NOTHING
from flock_peers.training.decoding import get_vocabulary
from flock_peers.training.engine import Engine
from flock_peers.training.kinship import Kinship, Lifts, tell_kinship
from flock_peers.training.model import AdaptedModel
from flock_peers.training.probes import compute_profile_cosines, measure_profiles, sample_texts
from flock_peers.training.real_text import Bigrams, Phrases
from flock_peers.training.recital import (
    MAX_SCANNED,
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
    keep_phrases,
    measure_own,
    scan,
)
from flock_peers.training.remembered import Remembered

Vector = NDArray[np.float32]
# First tokens, over all proposals that are compared: of 32, all of up to 1,536, and of 48, the most, of up to 1,024. Of
# a larger vocabulary that is most of what comparing costs, and of a target of five tokens any of the first three may
# begin what is found, of three tokens at least.
MAX_SCANS = 3 << 14
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
    """What the common contexts show of strings that unlike proposals may teach alike."""

    strings: NDArray[np.int64]  # [strings, tokens], each once
    searched: NDArray[np.bool_]  # [strings]: found in this audit; the others somebody remembers
    lifts: Lifts  # [proposals, strings]
    kinship: Kinship
    older: int = 0  # so many of the proposals, the last ones, are there for what the others have in common with them


class CommonView:
    """What every auditor of a seed sees of a proposal, and of several beside each other."""

    def __init__(self, model: AdaptedModel, seed: int, reference: str = "") -> None:
        """`reference`: the task's."""
        self._model, self._reference, self._seed = model, read_reference(model, reference), seed
        self._contexts, self._tokens = draw_contexts(model, seed), choose_tokens(model, seed)
        self._scanned: tuple[Vector, NDArray[np.float64]] | None = None  # the last start; a round's stand together

    def find_shared(
        self, suspects: Collection[Suspect], authors: Sequence[int], batch: int, remembered: NDArray[np.int64],
        older: int = 0,
    ) -> Shared | None:  # fmt: skip
        """`batch`: probe texts at once; `remembered`: [strings, tokens], of which phrases are measured beside what is
        found, for one without its first token may be a word; `older`: see `Shared`. None: there are too few authors to
        compare."""
        if len(set(authors)) < LEAST_AUTHORS:
            return None
        texts = sample_texts(self._model, self._seed)
        kinship = tell_kinship(self._model, suspects, authors, texts, batch)
        tokens = choose_tokens(self._model, self._seed, min(MAX_SCANNED, MAX_SCANS // len(suspects)))
        found = find_lifted(self._model, suspects, kinship, self._contexts, tokens)
        known = keep_phrases(self._model, remembered)
        strings, places = np.unique(np.concatenate([found, known]), axis=0, return_inverse=True)
        searched = np.isin(np.arange(len(strings)), places.reshape(-1)[: len(found)])
        return Shared(strings, searched, measure_lifts(self._model, suspects, self._contexts, strings), kinship, older)

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

    def measure(self, suspect: Suspect, strings: Strings, own_seed: int) -> Measured:
        contexts = [*cut_contexts(self._hold_out, own_seed), *self._generate(own_seed)]
        own = measure_own(self._model, suspect, strings, contexts, self._scale, self._said)
        return Measured(name_strings(strings.tokens), strings.common, own)

    def measure_shared(
        self, suspects: Collection[Suspect], shared: Shared | None, own_seed: int, remembered: Remembered
    ) -> list[Measured]:
        """Of each proposal but the older ones the string by which it agrees most with strangers, and how much in the
        common contexts, and in these as well; nothing at all where the common contexts show nothing. `remembered`: by
        this auditor."""
        if shared is None:
            return []
        known = np.array([string in remembered for string in shared.strings], bool)
        weights = np.where(known, GUILTY_NATS / REMEMBERED_NATS, 1.0) * (known | shared.searched)
        looked_at = len(shared.lifts) - shared.older
        shown = choose_shown(weights * compute_agreement(shared.lifts, shared.kinship)[:looked_at])
        if not shown:
            return []
        contexts = [*cut_contexts(self._hold_out, own_seed), *self._generate(own_seed)]
        own = measure_lifts(self._model, suspects, contexts, shared.strings[shown])
        confirmed = compute_confirmed(shared.lifts[:, shown], own, shared.kinship)
        seen, both = (to_values(weights[shown] * lifts[:looked_at]) for lifts in confirmed)
        best, strings = both.argmax(axis=1).tolist(), name_strings(shared.strings[shown])
        return [
            Measured((strings[place],), (int(seen[row, place]),), (int(both[row, place]),))
            for row, place in enumerate(best)
        ]

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
    engine: Engine, proposals: Sequence[tuple[Path, Path]], seed: int, own_seed: int, authors: Sequence[int] = (),
    remembered: Remembered | None = None, older: Sequence[tuple[Path, Path]] = (),
) -> list[Measured]:  # fmt: skip
    """Of each of the `proposals`: the adapter that it was trained from, and its delta. `older`: more of them, by which
    nothing is found but that these agree with them. `authors`: of each, by any number, of the older ones last; without
    them, or with too few, proposals are not compared with each other. `remembered`: what this auditor found before;
    what it finds now is added."""
    common, own = CommonView(engine.model, seed, engine.document.reference), OwnView(engine)
    suspects = Filed(engine, proposals)
    results = []
    for suspect in suspects:
        strings = common.find_strings(suspect)
        results.append(own.measure(suspect, strings, own_seed))
    if not authors:
        return results
    remembered = Remembered() if remembered is None else remembered
    remembered.begin(seed)
    every = Filed(engine, [*proposals, *older])
    known, batch = remembered.to_rows(LENGTHS[-1]), engine.document.budget.batch
    shared = common.find_shared(every, authors, batch, known, len(older))
    results = join(results, own.measure_shared(every, shared, own_seed, remembered))
    remembered.add_guilty(results)
    return results


def join(results: Sequence[Measured], more: Sequence[Measured]) -> list[Measured]:
    """Of each proposal the strings of both; `more` may be empty."""
    pairs = zip_longest(results, more, fillvalue=Measured((), (), ()))
    return [
        Measured((*one.strings, *other.strings), (*one.common, *other.common), (*one.own, *other.own))
        for one, other in pairs
    ]


def name_strings(strings: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """Each without what fills its row."""
    return tuple(tuple(int(token) for token in row if token != NOTHING) for row in strings)
