"""Reads every view of every contract in a world, and sends what another of the contracts alone may: for the gas of all
functions. Knows no scenario; gas_support reads where the lists are largest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from board_support import BOND
from contracts_support import COMMIT, PARAMETERS, TERMS, World
from delegation_support import DelegatedGame

from flock_contracts.addresses import BOARD, DELEGATION, SYSTEM
from flock_contracts.loader import load_all

SEATS = 16
READING = ("view", "pure")


def read_all(world: World, people: Sequence[bytes], owner: bytes, **others: Any) -> None:
    """Every view, of each of these people in turn; what reverts in this world is read in another one."""
    known = {
        "height": world.height, "close_height": world.height - 1, "terms": TERMS, "rules": PARAMETERS, "owner": owner,
        "epoch": world.view("Stake", "epoch"), "task": 1, "round": 1, "audit": 1, "voter_index": 0, "pay": 1, "rest": 1,
        "accounts": [], "uint256": 1, **others,
    }  # fmt: skip
    for contract in load_all().values():
        for entry in contract.abi:
            if entry["type"] == "function" and entry["stateMutability"] in READING:
                _read(world, contract.name, entry, people, known)


def _read(
    world: World, contract: str, entry: Mapping[str, Any], people: Sequence[bytes], known: Mapping[str, Any]
) -> None:
    kinds = [field["type"] for field in entry["inputs"]]
    for who in people if "address" in kinds else people[:1]:
        named = {**known, "account": who, "address": who}
        values = [named.get(field["name"], named.get(field["type"])) for field in entry["inputs"]]
        world.act(SYSTEM, contract, entry["name"], *values)


def play_between(game: DelegatedGame, owner: bytes) -> None:
    """What the board tells the delegation contract, of 16 with fresh delegations, and what that asks the board; as if
    the one were the sender. Leaves books that agree with nothing."""
    world, task = game.world, game.task
    game.until(COMMIT)
    round, drawn = game.round, game.proposers
    rows = [row for row in world.board("participants", task) if not row["leaving_at"]]
    people = [row["account"] for row in rows if row["account"] not in drawn][:SEATS]
    for who in people:
        game.bonded(owner, who, BOND)

    def tell(function: str, *args: Any) -> None:
        world.must(BOARD, "Delegation", function, task, *args)

    tell("note_seats", round, people, [4 * BOND] * len(people), world.height - 1)
    tell("credit", round, people, 10**6)
    tell("hold", round, people[0], BOND // 2, BOND)
    tell("convict", round, people[0])
    tell("cut", people[1], 5_000)
    tell("close", people[2], world.timestamp)
    world.must(DELEGATION, "TaskBoard", "pay_delegator", owner, 1)
