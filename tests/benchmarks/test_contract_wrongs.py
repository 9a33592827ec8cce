"""The wrong contracts of the rows of invariants, as text: a campaign takes hours, and says late what no longer fits."""

from pathlib import Path

from contract_wrongs import MORE, WRONG

CONTRACTS = Path(__file__).parents[2] / "contracts"


def test_each_wrong_contract_changes_one_place_of_the_sources_of_today() -> None:
    vyper = CONTRACTS / "flock_contracts" / "vyper"
    texts = {wrong.module: (vyper / f"{wrong.module}.vy").read_text("utf-8") for wrong in (*WRONG, *MORE)}
    unfit = [wrong for wrong in (*WRONG, *MORE) if texts[wrong.module].count(wrong.before) != 1]
    assert unfit == [] and all(wrong.after != wrong.before for wrong in (*WRONG, *MORE))


def test_each_wrong_contract_belongs_to_a_row_of_the_tables() -> None:
    lines = (CONTRACTS / "README.md").read_text("utf-8").splitlines()
    strays = {w.sentence for w in (*WRONG, *MORE) if not any(line.startswith(f"| {w.sentence}") for line in lines)}
    assert strays == set()
