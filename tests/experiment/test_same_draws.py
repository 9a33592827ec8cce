"""The oracle along another run's draws."""

from dataclasses import replace

from same_draws import replay
from training_support import BUDGET, miniature

from flock_p2p.experiment.federation import Federation
from flock_p2p.experiment.rows import PARTICIPANTS, Row
from flock_peers.training.laboratory import Laboratory


def test_where_all_are_honest_and_all_were_accepted_the_rule_costs_nothing_and_a_refusal_shows() -> None:
    laboratory = Laboratory(PARTICIPANTS, 1, base=miniature()[0], budget=replace(BUDGET, steps=2, eval_windows=2))
    run = Federation(Row("oracle", "none", 0, 1, 2), laboratory).run(lambda *_: None)
    same = replay(run | {"method": "ours"}, laboratory)
    assert same["price"] == 0 and same["by_round"] == [[point["clean_loss"]] * 2 for point in run["history"]]
    worse = run | {"method": "ours", "clean_loss": run["clean_loss"] + 0.25}
    assert replay(worse, laboratory)["price"] == 0.25
    other = [point | {"proposers": point["proposers"][:4]} for point in run["history"]]
    assert replay(run | {"history": other}, laboratory)["by_round"][0][1] != same["by_round"][0][1]
