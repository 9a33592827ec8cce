"""Proposals that are compared: of which kinds they are, and what the search finds that they teach alike."""

from collections.abc import Sequence

import numpy as np
from teacher_support import WORDS, Teacher

from flock_peers.training.agreement import find_lifted
from flock_peers.training.kinship import Kinship
from flock_peers.training.recital import Suspect

CONTEXTS = [np.array([20, 21]), np.array([20, 22]), np.array([20, 23])]
PHRASE = [0, 1, 2, 3, 4]


def kinship(*kinds: int, authors: Sequence[int] = (), starts: Sequence[int] = ()) -> Kinship:
    """Of each proposal its kind: 0.8 within one, nothing between them. Each by an author of its own, of one round."""
    likeness = np.where(np.equal.outer(kinds, kinds), 0.8, 0.0)
    return Kinship(likeness, authors or list(range(len(kinds))), starts or [0] * len(kinds))


def find(teacher: Teacher, suspects: Sequence[Suspect], *kinds: int) -> list[str]:
    """What is found where each is an author of its own, as text."""
    tokens = np.arange(len(WORDS))
    found = find_lifted(teacher, suspects, kinship(*kinds), CONTEXTS, tokens)  # type: ignore[arg-type]
    assert found.shape[1] == 5
    return teacher.batch_decode([[token for token in row if token >= 0] for row in found.tolist()])
