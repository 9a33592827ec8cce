"""An amount of coins is told exactly."""

import pytest

from flock_peers.coins import COIN, count_coins


@pytest.mark.parametrize(
    ("wei", "text"),
    [
        (0, "0 coins"), (1, "0.000000000000000001 coins"), (COIN, "1 coin"), (-COIN, "-1 coin"),
        (5 * COIN // 2, "2.5 coins"), (1_000 * COIN, "1000 coins"),
        (1_000 * COIN - 1, "999.999999999999999999 coins"),  # a float would say 1000
        (-COIN // 4, "-0.25 coins"),
    ],
)  # fmt: skip
def test_no_coin_is_rounded_away_and_none_is_added(wei: int, text: str) -> None:
    assert count_coins(wei) == text
