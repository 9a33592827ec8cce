"""What an auditor remembers, and how much of it."""

from flock_chain.audit_rule import GUILTY_FROM
from flock_peers.training.agreement import LENGTHS
from flock_peers.training.client import Measured
from flock_peers.training.decoding import NOTHING
from flock_peers.training.recital import ROWS_ALONE, WITH_REFERENCE
from flock_peers.training.remembered import MOST, Remembered


def test_of_each_guilty_proposal_the_string_that_both_contexts_show_most_is_remembered() -> None:
    remembered, most = Remembered(), 2 * GUILTY_FROM
    remembered.add_guilty([
        Measured(((1, 2, 3), (4, 5), (6, 7)), (most, GUILTY_FROM, most), (0, GUILTY_FROM, GUILTY_FROM + 1)),
        Measured(((8, 9), (1, 9)), (most, GUILTY_FROM - 1), (GUILTY_FROM - 1, most)),
        Measured(((2, 9),), (GUILTY_FROM,), (GUILTY_FROM,)),
        Measured((), (), ()),
    ])  # fmt: skip
    assert remembered.to_rows(3).tolist() == [[6, 7, NOTHING], [2, 9, NOTHING]]
    assert (6, 7) in remembered and [6, 7, NOTHING, NOTHING] in remembered and (4, 5) not in remembered


def test_beyond_the_most_that_is_forgotten_which_was_found_longest_ago() -> None:
    remembered = Remembered()
    for number in range(MOST):
        remembered.add((number, number))
    remembered.add((0, 0))
    remembered.add((MOST, MOST))
    assert len(remembered.to_rows(2)) == MOST
    assert (0, 0) in remembered and (MOST, MOST) in remembered and (1, 1) not in remembered and (2, 2) in remembered


def test_what_a_proposal_recites_by_itself_has_room_beside_what_is_searched() -> None:
    remembered, longest = Remembered(), max(*ROWS_ALONE, *WITH_REFERENCE)
    remembered.add(range(longest))
    assert remembered.to_rows(LENGTHS[-1])[:, :longest].tolist() == [list(range(longest))]
