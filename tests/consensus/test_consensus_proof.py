"""`prove`: the abstract protocol explored exhaustively for a number of validators and ANY number of views.

An over-approximation: Byzantine validators sign everything, a certificate is seen by all the moment it could exist,
honest validators act in any order. Votes of a view depend only on certificates of earlier views and on the view's own
notarization, so views are explored in order, and a later view needs to know only: may a fresh block be proposed, may x
or y be proposed again, was x or y finalized. That is a handful of states, so the exploration is complete.
"""

from typing import NamedTuple

import pytest


class Abstract(NamedTuple):
    fresh: bool = True  # every earlier view is nullified
    again_x: bool = False
    again_y: bool = False
    final_x: bool = False
    final_y: bool = False


def _after_view(state: Abstract, n: int, byzantine: int, quorum: int, wrong: str) -> set[Abstract]:
    """Every state that one more view may lead to."""
    honest, found = n - byzantine, set()
    may_x = state.fresh or state.again_x or wrong == "no parent check"
    may_y = state.fresh or state.again_y or wrong == "no parent check"
    for notarize_x in range(honest + 1 if may_x else 1):
        rest = honest if wrong == "double notarize" else honest - notarize_x
        for notarize_y in range(rest + 1 if may_y else 1):
            found |= _after_votes(
                state,
                honest,
                byzantine,
                quorum,
                wrong,
                (notarize_x + byzantine >= quorum, notarize_y + byzantine >= quorum),
            )
    return found


def _after_votes(
    state: Abstract, honest: int, byzantine: int, quorum: int, wrong: str, notarized: tuple[bool, bool]
) -> set[Abstract]:
    found = set()
    for final_x in range(honest + 1 if notarized[0] else 1):
        for final_y in range(honest + 1 - final_x if notarized[1] else 1):
            complaining = honest if wrong == "finalize after nullify" else honest - final_x - final_y
            for nullify in range(complaining + 1):
                gap = nullify + byzantine >= quorum or wrong == "no gap check"
                found.add(
                    Abstract(
                        state.fresh and gap,
                        notarized[0] or (state.again_x and gap),
                        notarized[1] or (state.again_y and gap),
                        state.final_x or (notarized[0] and final_x + byzantine >= quorum),
                        state.final_y or (notarized[1] and final_y + byzantine >= quorum),
                    )
                )
    return found


def prove(n: int, byzantine: int, quorum: int, wrong: str = "") -> bool:
    """True: no run of any length finalizes two blocks. False: some run of this abstraction does."""
    seen = {Abstract()}
    todo = [Abstract()]
    while todo:
        for state in _after_view(todo.pop(), n, byzantine, quorum, wrong) - seen:
            if state.final_x and state.final_y:
                return False
            seen.add(state)
            todo.append(state)
    return True


def _max_byzantine(n: int) -> int:
    return (n - 1) // 3


@pytest.mark.parametrize("n", [*range(4, 20), 25])
def test_the_rules_are_safe_with_a_quorum_of_all_but_a_third(n: int) -> None:
    assert prove(n, _max_byzantine(n), n - _max_byzantine(n))


@pytest.mark.parametrize("n", [4, 7, 10, 13])
def test_one_byzantine_validator_too_many_is_unsafe(n: int) -> None:
    assert not prove(n, _max_byzantine(n) + 1, n - _max_byzantine(n))


@pytest.mark.parametrize("n", [4, 7, 10])
def test_a_quorum_of_2f_is_refuted(n: int) -> None:
    assert not prove(n, _max_byzantine(n), 2 * _max_byzantine(n))


@pytest.mark.parametrize("n", [5, 6, 8, 9])
def test_a_quorum_of_2f_plus_1_is_refuted_where_n_is_not_3f_plus_1(n: int) -> None:
    assert not prove(n, _max_byzantine(n), 2 * _max_byzantine(n) + 1)


@pytest.mark.parametrize("wrong", ["no parent check", "no gap check", "double notarize", "finalize after nullify"])
def test_a_missing_rule_is_refuted(wrong: str) -> None:
    assert not prove(4, 1, 3, wrong)
