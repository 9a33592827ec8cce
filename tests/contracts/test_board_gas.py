"""What every function costs at the largest lists there are, its bound, and the table that says so."""

import re
from pathlib import Path

import pytest
from contracts_support import GAS
from gas_support import LIMITS, ONCE, bound_of, expected, measure

README = Path(__file__).parents[2] / "contracts" / "README.md"


@pytest.fixture(scope="module")
def gas() -> dict[str, int]:
    return measure()


def test_every_function_is_measured_views_and_getters_too(gas: dict[str, int]) -> None:
    """A new function belongs into a scenario of gas_support."""
    assert [function for function in expected() if function not in gas] == []


def test_no_call_costs_more_than_its_bound_at_the_largest_lists(gas: dict[str, int]) -> None:
    assert {function: used for function, used in gas.items() if used > bound_of(function)} == {}


def test_no_bound_but_genesis_reaches_a_block_and_none_what_the_executor_gives() -> None:
    initial = {function for function in expected() if function.endswith(".initialize")}
    assert all(bound_of(function) < GAS for function in {*expected()} - initial)
    assert bound_of("Stake.initialize") == ONCE > GAS  # 150 validators; nobody pays, and every peer does it once
    assert {function: limit for function, limit in LIMITS.items() if bound_of(function) > limit} == {}


def test_the_readme_s_tables_are_what_is_measured_of_every_function(gas: dict[str, int]) -> None:
    """`python benchmarks/contract_gas.py --write` makes them."""
    rows = re.findall(r"^\| (\w+\.\w+) \| ([\d,]+) \| ([\d,]+) \|$", README.read_text("utf-8"), re.MULTILINE)
    table = {name: (int(used.replace(",", "")), int(bound.replace(",", ""))) for name, used, bound in rows}
    assert table == {name: (used, bound_of(name)) for name, used in gas.items()}
