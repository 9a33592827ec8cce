"""A row's draws with the oracle, and its decisions under another rule of removal."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import same_decisions
import same_draws
from training_support import BUDGET, miniature

from flock_chain.aggregation import Format, Layout, apply, from_floats, quantise, take_out
from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM
from flock_chain.errors import Misuse
from flock_p2p.experiment.federation import Federation
from flock_p2p.experiment.money import Money
from flock_p2p.experiment.rows import OUR_RATE, PARTICIPANTS, Row
from flock_peers.tasks import Terms
from flock_peers.training.laboratory import Laboratory


@pytest.fixture(scope="module")
def laboratory() -> Laboratory:
    return Laboratory(PARTICIPANTS, 1, base=miniature()[0], budget=replace(BUDGET, steps=2, eval_windows=2))


@pytest.fixture(scope="module")
def run(laboratory: Laboratory) -> dict[str, Any]:
    """All are honest, and all were accepted."""
    return Federation(Row("oracle", "none", 0, 1, 2), laboratory).run(lambda *_: None) | {"method": "ours"}


def test_a_rule_costs_what_it_lacks_of_the_oracle_and_a_refusal_shows(
    laboratory: Laboratory, run: dict[str, Any]
) -> None:
    same = same_draws.replay(run | {"clean_loss": run["clean_loss"] + 0.25}, laboratory)
    assert same["price"] == 0.25 and same["by_round"] == [[point["clean_loss"]] * 2 for point in run["history"]]
    other = [point | {"proposers": point["proposers"][:4]} for point in run["history"]]
    assert same_draws.replay(run | {"history": other}, laboratory)["by_round"][0][1] != same["by_round"][0][1]


def test_decisions_that_took_nothing_out_give_the_same_losses_again_and_other_draws_are_refused(
    laboratory: Laboratory, run: dict[str, Any]
) -> None:
    who = run["history"][0]["proposers"][0]

    def words(value: int) -> list[dict[str, object]]:
        values = [None if judge == who else value for judge in range(PARTICIPANTS)]
        return [{"values": [[1, who, values]]}, {"values": []}]

    again = same_decisions.replay(run | {"audits": words(0)}, laboratory, 4, is_mean=True)
    assert [loss for loss, _ in again["by_round"]] == [point["clean_loss"] for point in run["history"]]
    rate = {"rate": 1_000}
    slow = same_decisions.replay(run | {"audits": words(0)}, laboratory, 4, is_mean=True, **rate)
    assert (slow["rate"], again["rate"]) == (1_000, OUR_RATE) and slow["by_round"][0] != again["by_round"][0]
    with pytest.raises(Misuse, match="draws"):  # whom all named would have been suspended
        same_decisions.replay(run | {"audits": words(900_000)}, laboratory, 4, is_mean=True)


@pytest.mark.parametrize(("limit", "slashes"), [(GUILTY_FROM, [(7, Terms.audit_slash)]), (CONVICT_FROM, [])])
def test_auditors_say_again_what_they_said_by_the_limit_that_their_row_was_run_by(
    limit: int, slashes: list[tuple[int, int]]
) -> None:
    record = [{"values": [[1, 7, [GUILTY_FROM] * PARTICIPANTS]]}] * 2
    attackers: Any = SimpleNamespace(members=frozenset())
    money, laboratory = Money(PARTICIPANTS, 2, 0), cast(Laboratory, None)
    told = same_decisions.Told(laboratory, attackers, money, record=record, convict_from=limit)
    assert told.hold(1, [0]) == [] and money.suspended == {7}
    assert told.hold(2, [0]) == slashes


def test_what_is_left_of_a_round_keeps_its_weight_or_becomes_a_mean_again() -> None:
    layout, format = Layout.of({"x": (2, 32)}), Format()
    deltas = [quantise(np.full(64, size, np.float32), layout, format) for size in (0.25, 0.25, 0.5, 0.5)]
    start = from_floats(np.zeros(64, np.float32), layout, format)
    after = apply(start, deltas)
    assert same_decisions.subtract(after, deltas, [2, 3]).to_float32()[0] == pytest.approx(0.125, abs=0.01)
    assert take_out(after, deltas, [2, 3]).to_float32()[0] == pytest.approx(0.25, abs=0.01)
