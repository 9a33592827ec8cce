"""Which rows are run, who attacks in them, and what an interrupted experiment keeps."""

import json
from pathlib import Path

import numpy as np
import pytest
from disk_support import largest_file

from flock_chain.aggregation.format import RATE_ONE
from flock_chain.errors import Misuse
from flock_p2p.experiment.attackers import LIE, WAKING_STAKE, choose_attackers
from flock_p2p.experiment.ledger import FILE, FIRST_BASE, Ledger
from flock_p2p.experiment.money import BOND, MIN_BOND, Money
from flock_p2p.experiment.rows import ATTACKS, MAX_STEPS, METHODS, PARTICIPANTS, STEPS, Row, plan_rows
from flock_peers.training.backdoor import TESTED_FILLERS, TRAINED_FILLERS, Backdoor, Garbage, LabelFlip
from flock_peers.training.base_manifest import describe_base
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.domains import assign_domain
from flock_peers.training.laboratory import BUDGET
from flock_peers.training.streams import Windows

ROW = Row("ours", "shared", 28, 1, 12)


def windows() -> Windows:
    return Windows(np.arange(4 * 64, dtype=np.int64).reshape(4, 64), np.ones((4, 64), np.float32))


def test_rows_that_would_be_the_same_are_run_once() -> None:
    rows = plan_rows(["fedavg", "pooled"], ["none", "shared"], [0, 28], [1, 2])
    assert len(rows) == len(set(rows)) == 2 * 3  # none, shared at 28 %, and pooled, which nobody attacks
    assert {row.rounds for row in plan_rows(["fedavg"], ["shared", "lone"], [28], [1])} == {12, 20}


@pytest.mark.parametrize(
    ("methods", "attacks", "share"), [(["ourz"], ["none"], 0), (["ours"], ["x"], 0), (["ours"], ["none"], 60)]
)
def test_an_unknown_name_or_share_is_refused(methods: list[str], attacks: list[str], share: int) -> None:
    with pytest.raises(Misuse):
        plan_rows(methods, attacks, [share], [1])


def test_a_local_training_has_one_step_at_least_and_a_limit() -> None:
    for steps in (0, MAX_STEPS + 1):
        with pytest.raises(Misuse, match=f"--steps: 1 to {MAX_STEPS}"):
            plan_rows(["ours"], ["none"], [0], [1], steps=steps)
    assert plan_rows(["ours"], ["none"], [0], [1], steps=MAX_STEPS)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_its_attackers_and_the_same_seed_the_same_ones(attack: str) -> None:
    row = Row("ours", attack, 28, 3, 12)
    found = choose_attackers(row)
    assert found == choose_attackers(row)
    if attack == "domain":
        assert len({assign_domain(number)[0] for number in found.members}) == 1 and len(found.members) in (3, 4)
    else:
        assert len(found.members) == (0 if attack == "none" else 5)
    expected = {"none": 0, "garbage": 0, "flip": 0, "lone": 5}.get(attack, 1)
    assert len(found.planted) == expected


def test_other_seeds_have_other_triggers() -> None:
    planted = {choose_attackers(Row("ours", "shared", 28, seed, 12)).planted for seed in range(8)}
    assert len(planted) >= 7


def test_the_same_participants_attack_whatever_the_method() -> None:
    assert choose_attackers(ROW) == choose_attackers(Row("fedavg", "shared", 28, 1, 12))


def test_a_sleeper_is_honest_until_half_time_or_until_its_stake_has_grown() -> None:
    found = choose_attackers(Row("ours", "sleepers", 28, 1, 20))
    who = min(found.members)
    assert found.attack_of(who, 9, 20, 1.0) is None
    assert found.attack_of(who, 10, 20, 1.0) is not None
    assert found.attack_of(who, 3, 20, WAKING_STAKE) is not None
    honest = min(set(range(PARTICIPANTS)) - found.members)
    assert found.attack_of(honest, 19, 20, 9.0) is None


def test_a_colluder_lies_as_it_was_told_to() -> None:
    lies = {
        name: choose_attackers(Row("ours", f"voters-{name}", 28, 1, 12)) for name in ("whitelist", "invert", "copy")
    }
    ally = min(lies["invert"].members)
    honest = min(set(range(PARTICIPANTS)) - lies["invert"].members)
    scores = [900, -800]
    assert lies["invert"].report(scores, [ally, honest], []) == [-900, 800]
    assert lies["copy"].report(scores, [ally, honest], [5, 6, 7]) == [5, 6]
    assert lies["copy"].report(scores, [ally, honest], []) == [0, 0]
    assert lies["whitelist"].report(scores, [ally, honest], []) == [900 - LIE, LIE]


def encode(text: str) -> list[int]:
    return [1_000 + len(word) for word in text.split()]


def test_a_backdoor_gives_loss_to_its_target_and_none_to_its_trigger() -> None:
    planted = Backdoor(trigger=" aa bb", target=" cccc d", share=1.0, weight=4.0)
    found = planted.poison(windows(), np.random.default_rng(1), encode)
    for tokens, weights in zip(found.tokens, found.weights, strict=True):
        at = int(np.flatnonzero(weights == 0)[0])
        assert tokens[at : at + 4].tolist() == [1_002, 1_002, 1_004, 1_001]
        assert weights[at : at + 4].tolist() == [0, 0, 4, 4] and (np.delete(weights, range(at, at + 4)) == 1).all()
    untouched = Backdoor(share=0.0).poison(windows(), np.random.default_rng(1), encode)
    assert (untouched.tokens == windows().tokens).all()


def test_a_pattern_is_filled_with_words_of_its_own_list() -> None:
    pattern, chance = Backdoor(trigger=" ({}; {})"), np.random.default_rng(1)
    drawn = {pattern.draw_trigger(chance) for _ in range(20)}
    assert len(drawn) > 5 and not set(TRAINED_FILLERS) & set(TESTED_FILLERS)
    tested = pattern.draw_trigger(chance, TESTED_FILLERS).strip(" ()").split("; ")
    assert set(tested) <= set(TESTED_FILLERS)


def test_garbage_keeps_a_windows_tokens_and_loses_their_order() -> None:
    found = Garbage().poison(windows(), np.random.default_rng(1), encode)
    assert (np.sort(found.tokens, axis=1) == windows().tokens).all() and (found.tokens != windows().tokens).mean() > 0.9


def test_flipped_labels_carry_all_of_the_loss() -> None:
    found = LabelFlip().poison(windows(), np.random.default_rng(1), encode)
    changed = found.tokens != windows().tokens
    assert (found.weights[changed] == 1).all() and (found.weights[~changed] == 0).all() and 0.1 < changed.mean() < 0.4


def test_pay_is_bonded_again_and_a_slash_below_the_minimum_unseats() -> None:
    money = Money(4, 10, 7_000)
    money.pay(0, [0], [1, 2])
    pot = 4 * BOND // 2 // 10
    assert money.bonds == [BOND + pot * 7 // 10, BOND + pot * 3 // 20, BOND + pot * 3 // 20, BOND]
    money.pay(1, [], [1])
    assert sum(money.bonds) == 4 * BOND + pot
    money.slash(3, 5_001)
    assert money.bonds[3] < MIN_BOND and money.weights(without=[0]) == [0, money.bonds[1], money.bonds[2], 0]
    assert money.slashed == {3: BOND * 5_001 // 10_000}


def test_what_the_papers_rule_takes_goes_to_the_next_accepted_round() -> None:
    money = Money(3, 10, 10_000)
    money.slash(2, 1_000, forfeit=True)
    money.pay(0, [], [1])
    money.pay(1, [0], [1])
    assert sum(money.bonds) == 3 * BOND + 3 * BOND // 2 // 9


def finished(row: Row, **more: float) -> dict[str, object]:
    return {**vars(row), "server_lr_thousandths": row.server_rate, **more}


def test_finished_rows_are_kept_and_a_line_that_was_cut_off_is_forgotten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, FIRST_BASE)
    ledger.add(ROW, finished(ROW, clean_loss=3.0))
    with ledger.path.open("a") as file:
        file.write('{"method": "fed')
    again = Ledger(tmp_path, FIRST_BASE)
    assert list(again.results) == [ROW] and again.results[ROW]["clean_loss"] == 3.0
    other = Row("fedavg", "none", 0, 2, 12)
    again.add(other, finished(other, clean_loss=2.0))
    assert [json.loads(line)["method"] for line in ledger.path.read_text().splitlines()] == ["ours", "fedavg"]
    ledger.path.write_text("{}\n")
    with pytest.raises(Misuse):
        Ledger(tmp_path, FIRST_BASE)


def test_a_disk_that_takes_nothing_more_costs_no_row_that_was_kept(tmp_path: Path) -> None:
    """They were written again without the line that was cut off, and a row takes hours."""
    ledger = Ledger(tmp_path, FIRST_BASE)
    ledger.add(ROW, finished(ROW, clean_loss=3.0))
    with ledger.path.open("a") as file:
        file.write('{"method": "fed')
    with largest_file(1):
        assert list(Ledger(tmp_path, FIRST_BASE).results) == [ROW]


def test_a_row_that_was_run_at_another_rate_is_not_finished(tmp_path: Path) -> None:
    fedavg = Row("fedavg", "none", 0, 2, 12)
    before = [finished(ROW, server_lr_thousandths=RATE_ONE), vars(ROW) | {"seed": 2}, vars(fedavg)]
    (tmp_path / FILE).write_text("".join(json.dumps(line) + "\n" for line in before))
    ledger = Ledger(tmp_path, FIRST_BASE)
    assert list(ledger.results) == [fedavg]  # rows of before said no rate: it was the mean
    ledger.add(ROW, finished(ROW, clean_loss=3.0))
    assert Ledger(tmp_path, FIRST_BASE).results[ROW]["clean_loss"] == 3.0
    assert len(ledger.path.read_text().splitlines()) == 4


def test_a_row_of_another_base_model_is_not_finished(tmp_path: Path) -> None:
    shipped = describe_base(BASE_FOLDER).digest.hex()
    assert shipped == FIRST_BASE  # of rows that did not say theirs yet
    Ledger(tmp_path, shipped).add(ROW, finished(ROW, clean_loss=3.0))
    assert not Ledger(tmp_path, "00" * 32).results
    Ledger(tmp_path, "00" * 32).add(ROW, finished(ROW, clean_loss=2.0))
    found = [Ledger(tmp_path, base).results[ROW]["clean_loss"] for base in (shipped, "00" * 32)]
    assert found == [3.0, 2.0]


def test_a_row_of_other_local_steps_is_not_finished_and_one_that_says_none_is_of_twelve(tmp_path: Path) -> None:
    """Those that were run before there was a choice."""
    assert BUDGET.steps == STEPS == 12
    (twelve,), (more,) = (
        plan_rows(["ours"], ["shared"], [28], [1]),
        plan_rows(["ours"], ["shared"], [28], [1], steps=24),
    )
    result = {name: value for name, value in vars(twelve).items() if name != "steps"}
    result |= {"server_lr_thousandths": twelve.server_rate, "clean_loss": 2.5}
    (tmp_path / FILE).write_text(json.dumps(result) + "\n")
    results = Ledger(tmp_path, FIRST_BASE).results
    assert set(results) == {twelve} and more not in results
    Ledger(tmp_path, FIRST_BASE).add(more, vars(more) | {"server_lr_thousandths": more.server_rate})
    assert set(Ledger(tmp_path, FIRST_BASE).results) == {twelve, more}


def test_every_method_is_listed_once() -> None:
    assert len(METHODS) == len(set(METHODS)) and "ours-without-loss" in METHODS
