"""What every function costs at the largest lists there are, and that it stays under its bound."""

import pytest
from contracts_support import GAS
from gas_support import ONCE, bound_of, expected, measure


@pytest.fixture(scope="module")
def gas() -> dict[str, int]:
    return measure()


def test_almost_every_call_that_somebody_can_send_is_measured(gas: dict[str, int]) -> None:
    """A new function belongs into a scenario of gas_support; a tenth may wait for one."""
    missing = [function for function in expected() if function not in gas]
    assert 10 * len(missing) <= len(expected()), missing


def test_no_call_costs_more_than_its_bound_at_the_largest_lists(gas: dict[str, int]) -> None:
    assert {function: used for function, used in gas.items() if used > bound_of(function)} == {}


def test_no_bound_but_genesis_reaches_a_block() -> None:
    assert all(bound_of(function) < GAS for function in expected())
    assert bound_of("Stake.initialize") == ONCE > GAS  # 150 validators; nobody pays, and every peer does it once
