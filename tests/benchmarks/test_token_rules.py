"""Other rules of when an audit takes a bond: what each of them takes one for."""

import pytest
from board_model import BoardModel
from board_model_rows import Audit, Member
from board_support import ADAPTER
from contracts_support import TERMS, account
from economy_sight_support import Looks, Measured
from token_rules import DETECTION, board_of, economy_of

from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM

WHO = account(1)


def slashed(rule: str, audits: list[tuple[int, int]]) -> bool:
    """Audits that count, after rounds 1, 2 and on: of nine stakes how many name it, and its last proposal's round."""
    board: BoardModel = board_of(rule)(TERMS | {"audit_rounds": 1, "audit_slash": 10_000}, 0, 1, 1, ADAPTER)
    board.members[WHO] = Member(1_000, 1)
    for number, (stake, shown) in enumerate(audits, 1):
        board.number = board.counted_audits = number
        board.members[WHO].last_held = shown
        board.audit = Audit(9, 9, [], number)
        board.note_blame(WHO, stake)
    return board.members[WHO].bond == 0


@pytest.mark.parametrize(
    ("audits", "taking"),
    [
        ([(6, 1), (6, 1)], {"now"}),  # one proposal, twice
        ([(6, 1), (0, 1), (6, 3)], {"row", "ever"}),  # another one, once each
        ([(6, 1), (0, 1), (0, 3), (0, 3), (6, 5)], {"ever"}),  # one between has passed two audits
        ([(6, 1), (0, 1), (0, 3), (5, 3), (6, 5)], {"row", "ever"}),  # and one that the half names has not
        ([(6, 1), (6, 1), (0, 1), (6, 4), (6, 4)], {"now", "row", "ever", "row-twice"}),
        ([(7, 1), (7, 1)], {"now", "75"}),
        ([(9, 1), (9, 1)], {"now", "75", "80", "90"}),
    ],
)
def test_each_rule_takes_a_bond_for_what_it_says(audits: list[tuple[int, int]], taking: set[str]) -> None:
    rules = ("now", "row", "ever", "row-twice", "75", "80", "90")
    assert {rule for rule in rules if slashed(rule, audits)} == taking


def strikes_out(rule: str, shown: str) -> bool:
    """Proposals in order, each seen by two audits: named in the first one (s), or passed (p)."""
    board: BoardModel = board_of(rule)(TERMS | {"audit_rounds": 1}, 0, 1, 1, ADAPTER)
    board.members[WHO] = Member(1_000, 1)
    board.audit = Audit(9, 9, [], 1)
    for place, kind in enumerate(shown):
        board.members[WHO].last_held = 2 * place + 1
        for number in (2 * place + 1, 2 * place + 2):
            board.number = number
            board.note_strike(WHO, kind == "s" and number % 2 == 1, is_void=False)
    return board.records[WHO].expelled


@pytest.mark.parametrize(
    ("shown", "expelling"),
    [
        ("sss", {"now", "fade", "of-five", "kept", "two"}),
        ("ss", {"two"}),
        ("sspss", {"fade", "of-five", "kept", "two"}),
        ("spsps", {"of-five", "kept"}),
        ("sppsps", {"kept"}),
        ("pps", set()),
    ],
)
def test_each_rule_expels_for_what_it_says(shown: str, expelling: set[str]) -> None:
    assert {rule for rule in ("now", "fade", "of-five", "kept", "two") if strikes_out(rule, shown)} == expelling


def test_where_two_thirds_of_the_others_take_a_bond_liars_with_a_third_of_all_take_that_of_who_has_half() -> None:
    """Why the accused's own stake is among all: 34 of 100 name it, which are two thirds of the other 50."""
    found = {}
    for rule in ("now", "others"):
        board: BoardModel = board_of(rule)(TERMS | {"audit_rounds": 1, "audit_slash": 10_000}, 0, 1, 1, ADAPTER)
        board.members[WHO] = Member(50, 1, last_held=1)
        board.close, board.audit = 2, Audit(100, 9, [], 1)
        for number in (1, 2):
            board.number = board.counted_audits = number
            board.note_blame(WHO, 34)
        found[rule] = board.members[WHO].bond
    assert found == {"now": 50, "others": 0}


@pytest.mark.parametrize(("rule", "taken"), [("now", 0), ("one-limit", 2)])
def test_by_one_limit_what_is_found_twice_takes_the_bond_though_it_is_little(rule: str, taken: int) -> None:
    measured = Measured(DETECTION, "matched")
    little: list[int | None] = [(GUILTY_FROM + CONVICT_FROM) // 2] * 10
    measured.looks = {"matched": {0: [Looks([0] * 10, [little, little])]}}
    economy = economy_of(rule, "always", measured, 4, 1)
    for _ in range(60):
        economy.play_round()
    assert economy.seen.malicious_slashed_by_audits == taken and economy.seen.honest_slashes == 0
