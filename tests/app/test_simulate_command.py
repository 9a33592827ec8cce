"""`simulate` as people and programs call it."""

import json

import pytest

from flock_chain.errors import Misuse
from flock_p2p.arguments.simulate import SIMULATED_FAULTS
from flock_p2p.cli import main
from flock_p2p.simulate import campaign
from flock_p2p.simulate.judge import DURABILITY
from flock_p2p.simulate.mutants import MUTANTS
from flock_p2p.simulate.scenario import NAMES, Scenario, describe, draw_scenario


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["simulate", *arguments])
    return code, capsys.readouterr().out


def test_a_campaign_counts_what_happened_and_repeats_itself(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--schedules", "12", "--seed", "40", "--json")
    code, first = _run(capsys, *arguments)
    row = json.loads(first)
    assert code == 0 and row["schedules"] == 12 and row["run_twice"] == 2
    assert row["heights"] > 12 and row["schedules_with"]
    assert json.loads(_run(capsys, *arguments)[1])["digest"] == row["digest"]


def test_two_processes_do_the_same_as_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "CHUNK", 4)
    rows = [json.loads(_run(capsys, "--schedules", "8", "--json", "--jobs", jobs)[1]) for jobs in ("1", "2")]
    assert rows[0]["digest"] == rows[1]["digest"]


def test_the_named_faults_are_those_of_every_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _run(capsys, "--schedules", "5", "--validators", "5", "--faults", "crash,liar", "--json")
    assert code == 0 and json.loads(out)["schedules_with"] == {"crash": 5, "liar": 5}
    code, out = _run(capsys, "--schedules", "1", "--faults", "none")
    assert code == 0 and out.rstrip().endswith("every property held")
    assert set(SIMULATED_FAULTS) == set(NAMES)


@pytest.mark.parametrize(
    "arguments",
    [("--faults", "rain"), ("--validators", "0"), ("--seed", "-1"), ("--schedules", "0"), ("--jobs", "0")],
)
def test_wrong_arguments_are_named(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert main(["simulate", *arguments]) == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_proof_is_printed_claim_by_claim(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _run(capsys, "--prove")
    assert code == 0 and out.count("refuted") >= 9 and out.count("safe") == 2 and "NOT" not in out


def test_a_log_names_the_scenario_and_every_event(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _run(capsys, "--log", "--seed", "3")
    assert code == 0 and out.startswith(f"Scenario({describe(draw_scenario(3))})")
    assert "decides" in out and "NOTARIZE" in out and "digest" in out


def test_a_violation_ends_in_a_seed_and_a_small_schedule(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = next(mutant.variant for mutant in MUTANTS if mutant.name == "never syncs")
    plan = campaign.Plan(7, 3, variant=variant)
    monkeypatch.setattr("flock_p2p.commands.simulate._plan", lambda _arguments: plan)
    code, out = _run(capsys)
    assert code == 1 and f"VIOLATED  {DURABILITY}" in out and "seed      7" in out and "every property held" not in out
    assert out.count(" ms  ") < 60
    code, out = _run(capsys, "--json")
    assert code == 1 and json.loads(out)["violation"]["property"] == DURABILITY


def test_the_mutation_campaign_prints_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(mutant for mutant in MUTANTS if mutant.name in ("never syncs", "buffers without bound"))
    monkeypatch.setattr("flock_p2p.simulate.mutation.run_mutation_campaign.__defaults__", (few,))
    code, out = _run(capsys, "--mutants", "--schedules", "2")
    assert code == 0 and "2 of 2 killed" in out and DURABILITY in out
    row = json.loads(_run(capsys, "--mutants", "--schedules", "2", "--json")[1])
    assert row["killed"] == 2 and {"mutant", "schedules", "property", "seed"} <= set(row["mutants"][0])


def test_faults_that_do_not_exist_are_refused_before_anything_runs() -> None:
    with pytest.raises(Misuse, match="rain"):
        draw_scenario(1, None, {"rain"})
    assert describe(Scenario(seed=4, byzantine=0, bad_blocks=0.0)) == "seed=4"
