"""The abstract protocol explored exhaustively for given weights and ANY number of views.

An over-approximation: Byzantine validators sign everything, a certificate is seen by all the moment it could exist,
honest validators act in any order. Votes of a view depend only on certificates of earlier views and on the view's own
notarization, so views are explored in order, and a later view needs to know only: may a fresh block be proposed, may x
or y be proposed again, was x or y finalized. That is a handful of states, so the exploration is complete.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, combinations_with_replacement
from typing import NamedTuple

WRONG_RULES = ("no parent check", "no gap check", "double notarize", "finalize after nullify")


class Abstract(NamedTuple):
    """What a view leaves behind for the next."""

    fresh: bool = True  # every earlier view is nullified
    again_x: bool = False
    again_y: bool = False
    final_x: bool = False
    final_y: bool = False


@lru_cache(maxsize=4_096)
def _sums(weights: tuple[int, ...], choices: int, cap: int, overlapping: bool) -> frozenset[tuple[int, ...]]:
    """All ways in which honest weight can split over `choices` statements; nobody votes twice unless `overlapping`."""
    found = {(0,) * choices}
    for weight in weights:
        step = set()
        for row in found:
            step.add(row)
            for index in range(choices):
                step.add((*row[:index], min(cap, row[index] + weight), *row[index + 1 :]))
            if overlapping:
                step.add(tuple(min(cap, amount + weight) for amount in row))
        found = step
    return frozenset(found)


class Model:
    """`honest`: the weights of those who keep the rules, less the one in `wrong`."""

    def __init__(self, honest: Sequence[int], byzantine: int, quorum: int, wrong: str = "") -> None:
        self._honest = tuple(sorted(honest))
        self._byzantine, self._quorum, self._wrong = byzantine, quorum, wrong

    def _certifies(self, weight: int) -> bool:
        return weight + self._byzantine >= self._quorum

    def _notarizations(self, may_x: bool, may_y: bool) -> set[tuple[bool, bool]]:
        """Which of x and y this view may notarize. Without anything to propose, Byzantine votes alone remain."""
        rows = _sums(self._honest, 2, self._quorum, self._wrong == "double notarize")
        return {(self._certifies(x if may_x else 0), self._certifies(y if may_y else 0)) for x, y in rows}

    def _votes(self) -> Iterator[tuple[bool, bool, bool]]:
        """Which of: x final, y final, the view nullified."""
        if self._wrong == "finalize after nullify":
            nullify = self._certifies(sum(self._honest))
            rows = {(x, y, gap) for x, y in _sums(self._honest, 2, self._quorum, False) for gap in (0, 1)}
            for x, y, gap in rows:
                yield self._certifies(x), self._certifies(y), bool(gap) and nullify
            return
        for x, y, gap in _sums(self._honest, 3, self._quorum, False):
            yield self._certifies(x), self._certifies(y), self._certifies(gap)

    def after_view(self, state: Abstract) -> set[Abstract]:
        """Every state that one more view may lead to."""
        unchecked = self._wrong == "no parent check"
        may_x, may_y = (state.fresh or again or unchecked for again in (state.again_x, state.again_y))
        votes = set(self._votes())
        return {self._join(state, notarized, vote) for notarized in self._notarizations(may_x, may_y) for vote in votes}

    def _join(self, state: Abstract, notarized: tuple[bool, bool], vote: tuple[bool, bool, bool]) -> Abstract:
        final_x, final_y, nullified = vote
        gap = nullified or self._wrong == "no gap check"
        return Abstract(
            state.fresh and gap,
            notarized[0] or (state.again_x and gap),
            notarized[1] or (state.again_y and gap),
            state.final_x or (notarized[0] and final_x),
            state.final_y or (notarized[1] and final_y),
        )


def find_fork(honest: Sequence[int], byzantine: int, quorum: int, wrong: str = "") -> list[Abstract] | None:
    """A run, view by view, that finalizes two blocks; None: no run of any length does."""
    model, start = Model(honest, byzantine, quorum, wrong), Abstract()
    before: dict[Abstract, Abstract] = {start: start}
    todo = [start]
    while todo:
        state = todo.pop()
        for found in sorted(model.after_view(state)):
            if found in before:
                continue
            before[found] = state
            if found.final_x and found.final_y:
                return _path(before, found)
            todo.append(found)
    return None


def _path(before: dict[Abstract, Abstract], state: Abstract) -> list[Abstract]:
    path = [state]
    while before[path[-1]] != path[-1]:
        path.append(before[path[-1]])
    return path[::-1]


# ---------------------------------------------------------------- what is proved and what is refuted


Case = tuple[tuple[int, ...], int, int, str]  # as `find_fork` takes it


class Claim(NamedTuple):
    text: str
    safe: bool  # what must come out
    holds: bool
    cases: int


def max_byzantine(total: int) -> int:
    return (total - 1) // 3


def _check(text: str, safe: bool, cases: Sequence[Case]) -> Claim:
    return Claim(text, safe, all((find_fork(*case) is None) == safe for case in cases), len(cases))


def _equal(sizes: Sequence[int], quorum: str = "all but a third", more: int = 0, wrong: str = "") -> list[Case]:
    found: list[Case] = []
    for n in sizes:
        f = max_byzantine(n)
        sizes_of = {"all but a third": n - f, "2f": 2 * f, "2f + 1": 2 * f + 1, "majority": n // 2 + 1}
        found.append(((1,) * (n - f - more), f + more, sizes_of[quorum], wrong))
    return found


def _unequal(validators: int, most: int, *, by_heads: bool = False) -> list[Case]:
    """Every multiset of weights, with every set of Byzantine validators that leaves no room for one more."""
    found: list[Case] = []
    for weights in combinations_with_replacement(range(1, most + 1), validators):
        total = sum(weights)
        bound = max_byzantine(total)
        for size in range(validators):
            for chosen in combinations(range(validators), size):
                bad = sum(weights[index] for index in chosen)
                rest = [weight for index, weight in enumerate(weights) if index not in chosen]
                if bad <= bound < bad + min(rest):
                    heads = ((1,) * len(rest), size, validators - max_byzantine(validators), "")
                    found.append(heads if by_heads else (tuple(rest), bad, total - bound, ""))
    return sorted(set(found))


def prove(largest: int = 40, weighted: int = 6, heaviest: int = 4) -> list[Claim]:
    """Every claim, decided. `largest`: validators of equal weight; `weighted` and `heaviest`: of unequal weight."""
    sizes = [*range(4, min(largest, 25) + 1), *(n for n in (31, 40) if n <= largest)]
    unequal = [case for n in range(3, weighted + 1) for case in _unequal(n, heaviest)]
    claims = [
        _check(f"n = 4..{sizes[-1]} of equal weight, quorum of all but a third", True, _equal(sizes)),
        _check(f"3..{weighted} validators of every weight up to {heaviest}, quorum of weight", True, unequal),
        _check("one Byzantine validator too many, n = 3f + 1", False, _equal((4, 7, 10, 13), more=1)),
        _check("quorum of 2f", False, _equal((4, 7, 10), "2f")),
        _check("quorum of 2f + 1 where n is not 3f + 1", False, _equal((5, 6, 8, 9), "2f + 1")),
        _check("quorum of a majority", False, _equal((5, 7, 8, 10), "majority")),
        _check("heads counted instead of weight", False, _heads_that_break(4, 4)),
    ]
    return [*claims, *(_check(f"wrong rule: {rule}", False, _with_wrong_rule(rule)) for rule in WRONG_RULES)]


def _with_wrong_rule(rule: str) -> list[Case]:
    """For equal weights, and for all unequal ones where anybody may misbehave at all."""
    unequal = [case for n in (4, 5) for case in _unequal(n, 4) if case[1]]
    return [*_equal((4, 7), wrong=rule), *((honest, bad, quorum, rule) for honest, bad, quorum, _ in unequal)]


def _heads_that_break(validators: int, heaviest: int) -> list[Case]:
    """Of the sets in which light Byzantine validators are many heads."""
    cases = _unequal(validators, heaviest, by_heads=True)
    return [case for case in cases if case[1] >= 2 * case[2] - validators]
