"""What a voter and an auditor measure beside losses, from files to whole numbers. Needs torch; decides nothing.

Probe texts and common contexts follow from a public seed, an auditor's own contexts from its own hold-out and a seed
that it keeps to itself.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flock_peers.training.client import Measured
from flock_peers.training.decoding import get_vocabulary
from flock_peers.training.engine import Engine
from flock_peers.training.pair_audit import (
    Bigrams,
    Pairs,
    choose_tokens,
    cut_contexts,
    draw_contexts,
    find_pairs,
    measure_own,
)
from flock_peers.training.probes import compute_profile_cosines, measure_profiles, sample_texts


def measure_likeness(engine: Engine, global_path: Path, delta_paths: Sequence[Path], seed: int) -> list[list[int]]:
    """How alike proposals are in what they do, in thousandths (see flock_chain.suspicion)."""
    texts = sample_texts(engine.model, seed)
    start = engine.read_global(global_path).to_float32()
    deltas = [engine.read_delta(path).to_float32() for path in delta_paths]
    return compute_profile_cosines(measure_profiles(engine.model, start, deltas, texts, engine.document.budget.batch))


def audit(
    engine: Engine, global_path: Path, proposers: Sequence[Sequence[Path]], seed: int, own_seed: int
) -> list[Measured]:
    """`proposers`: the accepted deltas of each."""
    model = engine.model
    start = engine.read_global(global_path).to_float32()
    contexts = draw_contexts(model, seed)
    own_contexts = cut_contexts(engine.hold_out_stream.tokens.astype(np.int64), own_seed)
    own_table = Bigrams(_own_tokens(engine), get_vocabulary(model))
    tokens = choose_tokens(model, seed)
    results = []
    for paths in proposers:
        suspect = start + _mean(engine, paths)
        pairs = find_pairs(model, suspect, contexts, tokens)
        results.append(_to_measured(pairs, measure_own(model, suspect, pairs, own_contexts, own_table)))
    return results


def _to_measured(pairs: Pairs, own: tuple[int, ...]) -> Measured:
    names = tuple((int(first), int(second)) for first, second in zip(pairs.firsts, pairs.seconds, strict=True))
    return Measured(names, pairs.common, own)


def _own_tokens(engine: Engine) -> NDArray[np.int64]:
    return np.concatenate([engine.train_stream.tokens, engine.hold_out_stream.tokens])


def _mean(engine: Engine, paths: Sequence[Path]) -> NDArray[np.float32]:
    total = np.zeros(engine.document.layout.parameters, np.float32)
    for path in paths:
        total += engine.read_delta(path).to_float32()
    return total / np.float32(len(paths))
