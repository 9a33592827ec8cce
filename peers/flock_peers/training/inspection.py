"""What a voter and an auditor measure beside losses, of vectors and of files. Needs torch; decides nothing.

Probe texts and common contexts follow from a public seed, an auditor's own contexts from its own hold-out and a seed
that it keeps to itself.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flock_peers.training.client import Measured
from flock_peers.training.decoding import NOTHING, get_vocabulary
from flock_peers.training.engine import Engine
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
)

Vector = NDArray[np.float32]


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


class CommonView:
    """What every auditor of a seed sees of a proposal."""

    def __init__(self, model: AdaptedModel, seed: int, reference: str = "") -> None:
        """`reference`: the task's."""
        self._model, self._reference = model, read_reference(model, reference)
        self._contexts, self._tokens = draw_contexts(model, seed), choose_tokens(model, seed)

    def find_strings(self, suspect: Suspect) -> Strings:
        scale = choose_scale(self._reference)
        return find_strings(self._model, suspect, self._contexts, self._tokens, scale, self._reference)


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


def audit(engine: Engine, proposals: Sequence[tuple[Path, Path]], seed: int, own_seed: int) -> list[Measured]:
    """`proposals`: of each the adapter that it was trained from, and its delta."""
    common, own = CommonView(engine.model, seed, engine.document.reference), OwnView(engine)
    results = []
    for start, delta in proposals:
        suspect = Suspect(engine.read_global(start).to_float32(), engine.read_delta(delta).to_float32())
        strings = common.find_strings(suspect)
        names = tuple(tuple(int(token) for token in row if token != NOTHING) for row in strings.tokens)
        results.append(Measured(names, strings.common, own.measure(suspect, strings, own_seed)))
    return results
