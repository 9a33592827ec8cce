"""What a contract refuses is said in its words, and with what to do next."""

import re
from dataclasses import asdict
from pathlib import Path

from contracts_support import account, new_world

import flock_contracts
from flock_chain.execution.executor import CallReverted
from flock_p2p.advice import ADVICE, TERMS, explain
from flock_peers.roles.board import PAID_FROM
from flock_peers.tasks import Terms

SOURCES = Path(flock_contracts.__file__).parent.glob("vyper/*.vy")


def test_a_refusal_of_a_contract_says_what_to_do_next_and_keeps_its_words() -> None:
    said = explain(str(CallReverted("stake: more than is bonded")))
    assert said == "the contract refuses: stake: more than is bonded; " + ADVICE["stake: more than is bonded"]
    assert explain(f"task 1: {CallReverted('board: no such task')}") == (
        "task 1: the contract refuses: board: no such task"
    )
    assert explain("this account has 1 coin") == "this account has 1 coin"


def test_what_is_said_of_a_term_that_is_refused_is_what_the_contract_takes() -> None:
    world, terms = new_world(accounts=1), asdict(Terms(rounds=1))

    def ask(name: str, value: int) -> str:
        return world.act(account(0), "Limits", "takes_terms", terms | {name: value}).reason

    for name, (least, most) in TERMS.items():
        assert ask(name, least) == ask(name, most) == ""
        assert {ask(name, value) for value in (least - 1, most + 1) if value >= 0} == {f"board: terms: {name}"}
        assert f"from {least} to {most}" in ADVICE[f"board: terms: {name}"]
    assert ask("audit_rounds", 2) == "board: terms: audit_rounds"  # of one round
    assert ask("wait_seconds", 1) == ask("wait_seconds", 31_536_000) == ""
    assert ask("wait_seconds", 0) == ask("wait_seconds", 31_536_001) == "board: terms: seconds"
    assert set(asdict(Terms())) - set(TERMS) == {"audit_rounds"} | {name for name in terms if name.endswith("_seconds")}


def test_the_participants_from_which_a_round_pays_are_as_many_as_the_contract_has() -> None:
    source = (Path(flock_contracts.__file__).parent / "vyper" / "types.vy").read_text()
    assert f"\nPAID_FROM: constant(uint256) = {PAID_FROM} " in source


def test_every_advice_is_about_something_that_a_contract_says() -> None:
    """So that none is left behind when a contract changes its words."""
    words = {text for path in SOURCES for text in re.findall(r'"([a-z]+: [^"]+)"', path.read_text())}
    assert len(words) > 100 and set(ADVICE) <= words
