"""The document of other numbers: one form, one hash, nothing left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flock_chain.board_rules import MAX_NUMBER, NAMES, BoardRules, decode_board_rules
from flock_chain.errors import InvalidEncoding, Misuse
from flock_contracts.loader import load

RULES = BoardRules(b"g" * 32, dict.fromkeys(NAMES, 7))
numbers = st.fixed_dictionaries({name: st.integers(0, MAX_NUMBER) for name in NAMES})


@given(numbers)
def test_a_document_is_read_as_it_was_written(values: dict[str, int]) -> None:
    rules = BoardRules(b"g" * 32, values)
    assert decode_board_rules(rules.encode()) == rules
    other = rules.change({"task_fee": values["task_fee"] ^ 1})
    assert other.hash != rules.hash and other.change({"task_fee": values["task_fee"]}).hash == rules.hash


def test_the_names_are_those_of_the_board_in_its_order() -> None:
    entry = next(row for row in load("TaskBoard").abi if row.get("name") == "approve_rules")
    assert tuple(part["name"] for part in entry["inputs"][0]["components"]) == NAMES


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"{}", "not of format 1"),
        (RULES.encode().replace(b'"format":1', b'"format":2'), "not of format 1"),
        (RULES.encode().replace(b'"task_fee":"7",', b""), "it must name"),
        (RULES.encode().replace(b'"7"', b'"-7"', 1), "no number in digits"),
        (RULES.encode().replace(b'"7"', b"7", 1), "no number in digits"),
        (RULES.encode().replace(b'"7"', b'"07"', 1), "not the canonical form"),
        (RULES.encode().replace(b'"7"', b'"' + b"9" * 78 + b'"', 1), "above 2^256"),
        (RULES.encode() + b"\n", "not the canonical form"),
        (b" " * 5_000, "larger than"),
    ],
)
def test_another_form_is_refused_by_name(data: bytes, word: str) -> None:
    with pytest.raises(InvalidEncoding) as refused:
        decode_board_rules(data)
    assert word in str(refused.value)


def test_a_number_that_there_is_not_cannot_be_changed() -> None:
    with pytest.raises(Misuse, match="no number task_feee"):
        RULES.change({"task_feee": 1})
