"""Texts that the base model makes of a seed, and what proposals do to them. Needs torch; knows no round and no vote.

The seed is chain randomness that nobody knew when the proposals were committed, so no proposal was trained to look
harmless on just these texts. A profile is the loss change at every token of them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from flock_chain.errors import Misuse
from flock_peers.training.continuations import step
from flock_peers.training.decoding import get_start_token, get_vocabulary
from flock_peers.training.model import AdaptedModel

TEXTS, TOKENS = 40, 48  # 1,880 losses
MAX_CHANGE = 4.0  # nats: one proposal that breaks the model must not be all of the mean from which others are told
MILLE = 1_000


def sample_texts(model: AdaptedModel, seed: int, count: int = TEXTS, length: int = TOKENS) -> NDArray[np.int64]:
    """[count, length] from the base model alone, at its own temperature. Leaves the adapter at zero.

    The same seed gives the same texts on the same build of torch; elsewhere a rare token may differ, and then the rest
    of its text: voters' measurements are close, not equal, and a quorum decides.
    """
    chance = np.random.Generator(np.random.PCG64(seed))
    model.set_vector(np.zeros(model.layout.parameters, np.float32))
    start = get_start_token(model)
    first = np.full((count, 1), start) if start is not None else chance.integers(0, get_vocabulary(model), (count, 1))
    tokens, past = first.astype(np.int64), None
    with model.frozen():
        for _ in range(length):
            logits, past = step(model, tokens[:, -1:], past)
            cumulated = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1).cpu().numpy()
            marks = chance.random((count, 1)) * cumulated[:, -1:]
            chosen = (cumulated < marks).sum(axis=1).clip(max=cumulated.shape[1] - 1)
            tokens = np.concatenate([tokens, chosen[:, None]], axis=1)
    return tokens[:, 1:]


def measure_profiles(
    model: AdaptedModel, start: NDArray[np.float32], deltas: Sequence[NDArray[np.float32]], texts: NDArray[np.int64],
    batch: int,
) -> NDArray[np.float32]:  # fmt: skip
    """[deltas, tokens]: nats by which each token of the texts is harder under start + delta than under start."""
    before = measure_token_losses(model, start, texts, batch)
    return compute_profiles(before, [measure_token_losses(model, start + delta, texts, batch) for delta in deltas])


def compute_profiles(before: NDArray[np.float32], after: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Of losses under a start, and under what each of several adds to it."""
    changes = [losses - before for losses in after]
    finite = np.nan_to_num(np.stack(changes), nan=MAX_CHANGE, posinf=MAX_CHANGE, neginf=-MAX_CHANGE)
    return np.clip(finite, -MAX_CHANGE, MAX_CHANGE)


def measure_token_losses(
    model: AdaptedModel, vector: NDArray[np.float32], texts: NDArray[np.int64], batch: int
) -> NDArray[np.float32]:
    model.set_vector(vector)
    parts = []
    with model.frozen():
        for first in range(0, len(texts), batch):
            tokens = texts[first : first + batch]
            logits = model.logits(tokens)[:, :-1]
            targets = torch.from_numpy(tokens[:, 1:]).to(logits.device)
            losses = torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none"
            )
            parts.append(losses.cpu().numpy().astype(np.float32))
    return np.concatenate(parts)


def compute_profile_cosines(profiles: NDArray[np.float32]) -> list[list[int]]:
    """Cosines of the profiles less their mean, in thousandths; one that equals the mean is unlike everything."""
    if profiles.ndim != 2:
        raise Misuse("profiles: one row for each proposal")
    centred = profiles.astype(np.float64) - profiles.astype(np.float64).mean(axis=0)
    norms = np.sqrt((centred * centred).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = centred @ centred.T / (norms[:, None] * norms[None, :])
    rounded = np.rint(np.nan_to_num(cosines, nan=0.0) * MILLE).astype(np.int64)
    return [[int(value) for value in row] for row in rounded]
