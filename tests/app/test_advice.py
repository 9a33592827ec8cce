"""What a contract refuses is said in its words, and with what to do next."""

import re
from pathlib import Path

import flock_contracts
from flock_chain.execution.executor import CallReverted
from flock_p2p.advice import ADVICE, explain

SOURCES = Path(flock_contracts.__file__).parent.glob("vyper/*.vy")


def test_a_refusal_of_a_contract_says_what_to_do_next_and_keeps_its_words() -> None:
    said = explain(str(CallReverted("stake: more than is bonded")))
    assert said == "the contract refuses: stake: more than is bonded; " + ADVICE["stake: more than is bonded"]
    assert explain(f"task 1: {CallReverted('board: no such task')}") == (
        "task 1: the contract refuses: board: no such task"
    )
    assert explain("this account has 1 coin") == "this account has 1 coin"


def test_every_advice_is_about_something_that_a_contract_says() -> None:
    """So that none is left behind when a contract changes its words."""
    words = {text for path in SOURCES for text in re.findall(r'"([a-z]+: [^"]+)"', path.read_text())}
    assert len(words) > 100 and set(ADVICE) <= words
