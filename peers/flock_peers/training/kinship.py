"""Which proposals are of one kind: by what they do to probe texts, not by what they declare. Needs torch.

Whoever learns of a domain changes the probe texts as all do that learn of it. But all that start from one adapter also
mend or worsen what that adapter does to them, whatever they learn of: after something was taken out of it, that was
most of what any of them did, and a proposal was more like strangers of its round than like its own domain in another.
So the part of a profile that goes along its start's own, and what is the same for all tokens, are left out of it.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flock_peers.training.model import AdaptedModel
from flock_peers.training.probes import compute_profiles, measure_token_losses
from flock_peers.training.recital import Suspect

LIKE_FROM = (
    0.3  # cosine of two profiles: nine of ten pairs of one domain have it, one of fifty of two (docs/experiment.md)
)

Vector = NDArray[np.float32]
Lifts = NDArray[np.float64]  # [proposals, strings], nats
Masks = NDArray[np.bool_]  # [proposals, proposals]
Seen = TypeVar("Seen")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Kinship:
    """Of the proposals of an audit, in one order."""

    likeness: NDArray[np.float64]  # [proposals, proposals]
    authors: Sequence[int]  # of each, by any number
    starts: Sequence[int]  # of each the adapter that it was trained from, by any number

    @cached_property
    def kind(self) -> Masks:
        """Of each the others of its kind. Nobody is of his own kind, nor a stranger to himself."""
        return self._others & (self.likeness >= LIKE_FROM)

    @cached_property
    def strangers(self) -> Masks:
        return self._others & ~self.kind

    @property
    def _others(self) -> Masks:
        return np.not_equal.outer(np.asarray(self.authors), np.asarray(self.authors))

    def compute_usual(self, lifts: Lifts) -> Lifts:
        """What the middle one of its kind lifts of each string (of two, their mean), so that whoever shares a phrase
        with half of its kind has not been told it by strangers; or the middle one of those that started where it did,
        if that is more: what one round teaches of a domain, the next one has learned and lifts no more.
        """
        beside = self.kind & np.equal.outer(np.asarray(self.starts), np.asarray(self.starts))
        return np.maximum(_compute_middle(lifts, self.kind), _compute_middle(lifts, beside))


def _compute_middle(lifts: Lifts, rows: Masks) -> Lifts:
    nothing = np.zeros(lifts.shape[1])
    middle = [np.median(lifts[row], axis=0) if row.any() else nothing for row in rows]
    return np.array(middle).reshape(lifts.shape)


def tell_kinship(
    model: AdaptedModel, suspects: Collection[Suspect], authors: Sequence[int], texts: NDArray[np.int64], batch: int
) -> Kinship:
    """`texts`: [texts, tokens]; `batch`: of them at once."""
    likeness, starts = compute_likeness(model, suspects, texts, batch)
    return Kinship(join_authors(likeness, authors), authors, starts)


def compute_likeness(
    model: AdaptedModel, suspects: Collection[Suspect], texts: NDArray[np.int64], batch: int
) -> tuple[NDArray[np.float64], list[int]]:
    """[proposals, proposals]: cosines of what each does to every token of the probe texts beyond what its start does;
    and which start each has."""
    base, starts = measure_token_losses(model, nothing_added(model), texts, batch), list[int]()
    numbers = dict[bytes, int]()  # by what a start is: rounds of one need not stand together

    def measure_after(suspect: Suspect) -> NDArray[np.float32]:
        return measure_token_losses(model, suspect.add_once(), texts, batch)

    def compare(start: Vector, losses: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
        starts.extend([numbers.setdefault(sha256(start.tobytes()).digest(), len(numbers))] * len(losses))
        before = measure_token_losses(model, start, texts, batch)
        usual = compute_profiles(base, [before])[0]
        return [leave_out(profile, usual) for profile in compute_profiles(before, losses)]

    profiles: list[NDArray[np.float64]] = beside_start(suspects, measure_after, compare)
    wide = np.stack(profiles)
    norms = np.sqrt((wide * wide).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(wide @ wide.T / (norms[:, None] * norms[None, :])), starts


def leave_out(profile: NDArray[np.float32], usual: NDArray[np.float32]) -> NDArray[np.float64]:
    """What of a profile [tokens] goes neither along `usual` nor is the same for all tokens."""
    rest, along = (one.astype(np.float64) - one.astype(np.float64).mean() for one in (profile, usual))
    length = float(along @ along)
    return rest - along * (float(rest @ along) / length) if length > 0 else rest


def join_authors(likeness: NDArray[np.float64], authors: Sequence[int]) -> NDArray[np.float64]:
    """Two authors are as like as the two of their proposals that are most: of broad domains one pair tells little."""
    numbers = np.unique(np.asarray(authors), return_inverse=True)[1].reshape(-1)
    between = np.full((numbers.max() + 1, numbers.max() + 1), -1.0)
    np.maximum.at(between, (numbers[:, None], numbers[None, :]), likeness)
    return between[numbers[:, None], numbers[None, :]]


def nothing_added(model: AdaptedModel) -> Vector:
    """The vector of the base model itself."""
    return np.zeros(model.layout.parameters, np.float32)


def beside_start(
    suspects: Iterable[Suspect], look: Callable[[Suspect], Seen], compare: Callable[[Vector, list[Seen]], list[Found]]
) -> list[Found]:
    """What is seen of each proposal, beside what its start shows: once for all that stand together, as those of a round
    do. Keeps what was seen of them, not the proposals."""
    found, group, start = list[Found](), list[Seen](), None
    for suspect in suspects:
        if start is not None and not np.array_equal(start, suspect.start):
            found += compare(start, group)
            group = []
        start = suspect.start
        group.append(look(suspect))
    return found if start is None else [*found, *compare(start, group)]
