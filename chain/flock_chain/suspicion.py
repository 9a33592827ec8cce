"""The functional residual filter: which proposals are more alike in their weights than in what they do. Pure integers.

Honest proposals of one domain have similar weights because they do similar things; colluders who plant the same trigger
have similar weights and, on text without the trigger, nothing else in common. Not so at a task's first adapter, whose
B is zero: there all changes lie close together, the filter flagged 20 of 320 honest proposals and hardly more of the
poisoned (docs/experiment.md), and voters do not ask it. Knows no labels, no model and no votes: cosines of weights are
exact, cosines of profiles (what each proposal does to texts drawn after the commitments) are a
voter's measurement, rounded to thousandths.
"""

from collections.abc import Sequence

from flock_chain.aggregation.measure import ONE, compute_cosine
from flock_chain.errors import Misuse
from flock_chain.tally import NORM_BITS

# Of a round. A profile is centred on the mean of its round, and with few proposals that mean is mostly the proposal
# itself: among n unrelated ones the centred cosines scatter around -1 / (n - 1), and at 3 a quarter of the honest ones
# was flagged while a lone backdoor passed. Of six, three honest ones in 42,192 were (docs/experiment.md), so that two
# of a round of eight may be missing, or too long, and the rest is still compared. Below that there are the norm filter
# and the audits.
MIN_PROPOSALS = 6
MILLE = 1_000  # of a profile's cosine
MARGIN_PER_MILLE = 60  # by so much two proposals may be more alike in weights than in function


def choose_compared(filters: Sequence[int]) -> list[int]:
    """Places of the proposals that have a part in it, by the bits that anybody can recompute: all but those whose norm
    turns them away, which must not be what the others are measured against. By the cosines of that time one of four
    times the others' norm had five and six honest proposals of seven turned away, two rounds in a row, for one bond
    (docs/experiment-results.md).
    """
    return [place for place, bits in enumerate(filters) if not bits & NORM_BITS]


def compute_cosines(gram: Sequence[Sequence[int]]) -> list[list[int]]:
    """Cosines of the weights less their mean, in units of 1 / ONE, from the round's Gram matrix: of the proposals as
    they are, or of all brought to one length, whichever is less.

    Less the mean, as the profiles are: what all proposals of a round share (0.2 between any two domains of the shipped
    base) is no likeness of two of them. As they are, three that share a change, each just below twice the median norm,
    move that mean so far that honest ones seem alike, for which they lose no bond; of one length nobody's part in it is
    more than another's (docs/experiment.md).
    """
    size = len(gram)
    level = [[_cosine(gram[i][j], gram[i][i], gram[j][j]) for j in range(size)] for i in range(size)]
    rows = zip(_compute_centred(gram), _compute_centred(level), strict=True)
    return [[min(pair) for pair in zip(*both, strict=True)] for both in rows]


def _compute_centred(gram: Sequence[Sequence[int]]) -> list[list[int]]:
    """Exact: the dots of size x S_i - sum(S) follow from the matrix."""
    size, rows, total = len(gram), [sum(row) for row in gram], sum(map(sum, gram))
    centred = [
        [size * size * gram[i][j] - size * (rows[i] + rows[j]) + total for j in range(size)] for i in range(size)
    ]
    return [[_cosine(centred[i][j], centred[i][i], centred[j][j]) for j in range(size)] for i in range(size)]


def _cosine(dot: int, first: int, second: int) -> int:
    """0 where a proposal is the mean itself."""
    return compute_cosine(dot, first, second) if first > 0 and second > 0 else 0


def find_suspects(
    cosines: Sequence[Sequence[int]], profiles: Sequence[Sequence[int]], margin: int = MARGIN_PER_MILLE
) -> frozenset[int]:
    """Indices of the proposals that the filter flags; none where there are fewer than MIN_PROPOSALS.

    `cosines`: of the weights, in units of 1 / ONE. `profiles`: of the profiles, in thousandths. Both symmetric, and of
    what is left after the mean of the round is taken away.
    """
    _check(cosines, profiles)
    edges = _find_edges(cosines, profiles, margin)
    flagged: set[int] = set()
    for cosine, first, second in edges:
        known = (first in flagged) + (second in flagged)
        if known == 0 or (known == 1 and 2 * cosine >= edges[0][0]):
            flagged |= {first, second}
    return frozenset(flagged)


def find_possible_suspects(cosines: Sequence[Sequence[int]], margin: int = MARGIN_PER_MILLE) -> frozenset[int]:
    """Who could be flagged at all, whatever the profiles were: what anybody can recompute of a voter's word."""
    size = len(cosines)
    if size < MIN_PROPOSALS:
        return frozenset()
    pairs = [(i, j) for j in range(size) for i in range(j) if _is_edge(cosines[i][j], 0, margin)]
    return frozenset(index for pair in pairs for index in pair)


def _find_edges(
    cosines: Sequence[Sequence[int]], profiles: Sequence[Sequence[int]], margin: int
) -> list[tuple[int, int, int]]:
    """(cosine, i, j), the most alike first; equal ones in the order of their indices."""
    size = len(cosines)
    if size < MIN_PROPOSALS:
        return []
    edges = [
        (cosines[i][j], i, j)
        for i in range(size)
        for j in range(i + 1, size)
        if _is_edge(cosines[i][j], profiles[i][j], margin)
    ]
    return sorted(edges, key=lambda edge: (-edge[0], edge[1], edge[2]))


def _is_edge(cosine: int, profile: int, margin: int) -> bool:
    return MILLE * cosine > (max(0, profile) + margin) * ONE


def _check(cosines: Sequence[Sequence[int]], profiles: Sequence[Sequence[int]]) -> None:
    size = len(cosines)
    if any(len(row) != size for row in (*cosines, *profiles)) or len(profiles) != size:
        raise Misuse("suspicion: cosines and profiles are square and of one size")
