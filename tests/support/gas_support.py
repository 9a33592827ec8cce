"""What every function of the contracts costs at the largest lists there are: 64 tasks, 64 participants, 16 seats of
each role, 150 validators, 300 candidates. Plays the scenarios and notes the dearest successful call of each function.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import contracts_support
from board_support import ADAPTER, CREATOR, DOCUMENT, NEW_ADAPTER, Game, padded
from contracts_support import (
    AVAILABILITY,
    COMMIT,
    ENDED,
    ETHER,
    FAUCET,
    REVEAL,
    RICH,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    TERMS,
    WAITING,
    Outcome,
    World,
    account,
    build_genesis,
    new_world,
)
from stake_support import SHORT, make_statements, next_epoch, staking_key, vrf_key

from flock_contracts.addresses import SYSTEM
from flock_contracts.loader import load_all

SEATS, ROWS, VALIDATORS, CANDIDATES = 16, 64, 150, 300
BLOCK = 30_000_000
SMALL, LARGE, ONCE = 300_000, 3_000_000, 40_000_000
BOUNDS = {  # gas; SMALL for all others that anybody sends
    "TaskBoard.open_task": 800_000,  # once in a task: its terms
    "TaskBoard.leave_task": 1_500_000,  # moves up to 63 rows, and so keeps their order
    "TaskBoard.evict": 1_500_000,
    "TaskBoard.poke": LARGE,
    "TaskBoard.tally": LARGE,
    "Stake.bond_validator": LARGE,  # looks for the least of 300 candidates where the list is full
    "Stake.admit": LARGE,  # reads what all 150 members approved
    "Stake.end_epoch": 25_000_000,  # the system's, once in ten minutes, with its own limit (END_EPOCH_GAS)
    "Stake.on_restart": 25_000_000,  # the system's, in the first block after a restart
    "Stake.on_attendance": LARGE * 3,  # the system's: all 150 at once
    "Stake.initialize": ONCE, "Beacon.initialize": ONCE, "Faucet.initialize": ONCE, "TaskBoard.initialize": ONCE,
}  # fmt: skip
VIEW_BOUND = BLOCK // 2  # nobody pays for a view; the executor calls some in every block


@contextmanager
def noted(most: dict[str, int]) -> Iterator[None]:
    """Every successful call of any world, by "Contract.function"."""
    selectors = {
        contract.encode_selector(name): f"{contract.name}.{name}"
        for contract in map(_Named, load_all().values())
        for name in contract.functions
    }
    call = World.call

    def measured(self: World, sender: bytes, name: str, data: bytes, value: int = 0) -> Outcome:
        outcome = call(self, sender, name, data, value)
        function = selectors.get((name, data[:4]))
        if outcome.ok and function is not None:
            most[function] = max(most.get(function, 0), outcome.gas)
        return outcome

    with patch.object(World, "call", measured):
        yield


class _Named:
    """A contract's selectors."""

    def __init__(self, contract: object) -> None:
        self.name: str = contract.name  # type: ignore[attr-defined]
        self._selectors: dict[str, bytes] = contract._selectors  # type: ignore[attr-defined]
        self.functions = list(self._selectors)

    def encode_selector(self, function: str) -> tuple[str, bytes]:
        return self.name, self._selectors[function]


def measure() -> dict[str, int]:
    most: dict[str, int] = {}
    with noted(most):
        play_board()
        play_paper_rule()
        play_stake()
        play_faucet()
    return most


def play_board() -> None:
    """The last of 64 tasks, with everybody in it; the others wait, and are walked over in every block."""
    world = new_world()
    for _ in range(ROWS - 1):
        world.must(CREATOR, "TaskBoard", "open_task", DOCUMENT, ADAPTER, {**TERMS, "wait_seconds": 10**6}, value=1)
    game = Game(ROWS, world=world, proposers=SEATS, voters=SEATS, rounds=1, extra_rounds=1)
    game.join(account(1))  # adds to its bond
    chance = random.Random(1)
    sheets = [
        (padded([chance.randint(-999, 999) for _ in range(SEATS)]), padded([chance.choice([0, 8]) for _ in range(16)]))
        for _ in range(SEATS)
    ]
    game.until(COMMIT)
    for who in game.proposers:
        game.commit(who)
    game.until(REVEAL)
    for who in game.proposers:
        game.reveal(who)
    game.until(AVAILABILITY)
    for who in game.voters:
        game.attest(who, 0xFFFF)
    game.until(SCORE_COMMIT)
    for who, sheet in zip(game.voters, sheets):
        game.commit_scores(who, *sheet)
    game.until(SCORE_REVEAL)
    for who, sheet in zip(game.voters, sheets):
        game.reveal_scores(who, *sheet)
    game.until(TALLY)
    game.tally()
    for who in game.voters:
        game.must(who, "attest_adoption", 1, NEW_ADAPTER)
    result = game.result(1)
    world.next_block()
    for who in (*result["proposers"], *result["voters"]):
        if world.board("claimable", game.task, 1, who):
            game.must(who, "claim", 1)
    read_views(game)
    end(game)


def end(game: Game) -> None:
    """Everybody's first leaves, one is evicted, and the creator stops the task and takes the rest of its pot."""
    world = game.world
    game.must(CREATOR, "stop_task")
    game.until(COMMIT)
    for who in game.proposers[1:]:
        game.commit(who)
    game.until(REVEAL, seconds=30)
    world.blocks(4, 90)  # nobody reveals: each loses a part of its bond
    game.until(ENDED, seconds=90)
    short = min((row for row in world.board("participants", game.task)), key=lambda row: int(row["bond"]))
    assert short["bond"] < 1_000
    for who in [row["account"] for row in world.board("participants", game.task)][:2]:
        game.must(who, "leave_task")
    game.must(CREATOR, "withdraw_pot")
    world.blocks(8, 90)
    game.must(account(1), "withdraw_bond")
    other = Game(4, world=world, min_bond=1_000)  # who lost anything is below the minimum
    other.until(COMMIT)
    for who in other.proposers:
        other.commit(who)
    other.until(REVEAL, seconds=30)
    for index in range(5, 5 + ROWS - 4):
        other.join(account(index))
    guilty = other.proposers[0]
    other.until(WAITING if other.view["candidate_count"] < 4 else COMMIT, seconds=30, limit=20)
    world.blocks(12, 90)
    other.must(CREATOR, "evict", guilty)


def read_views(game: Game) -> None:
    world, who = game.world, account(1)
    for name, *args in (
        ("participants", game.task), ("participant", game.task, who), ("task_view", game.task),
        ("round_view", game.task), ("round_result", game.task, 1), ("claimable", game.task, 1, account(1)),
        ("progress", game.task), ("liabilities",), ("unbonding", game.task, who), ("due_tasks",), ("wakeup",),
    ):  # fmt: skip
        world.board(name, *args)


def play_paper_rule() -> None:
    game = Game(2 * SEATS, proposers=SEATS, voters=SEATS, voting_rule=1, rule_slash=1_000)
    game.play_votes([NEW_ADAPTER if seat % 3 else ADAPTER for seat in range(SEATS)])


def play_stake() -> None:
    """A full set and a full list of candidates; one of them comes, goes, is absent, and signs against itself."""
    keys = [staking_key(index) for index in range(VALIDATORS)]
    rows = [(key.account, 40 * ETHER, vrf_key(key)) for key in keys]
    with patch.object(contracts_support, "GAS", ONCE):  # genesis is no transaction
        world = World(*build_genesis(0, rows, **SHORT | {"open_staking": True, "epoch_blocks": 4}))
    for key in (*keys, staking_key(200)):
        world.state.set_balance(key.account, RICH)
    world.next_block(pokes=False)
    for index in range(CANDIDATES - VALIDATORS):
        world.state.set_balance(account(index), RICH)
        world.must(account(index), "Stake", "bond_validator", vrf_key(keys[0]), value=50 * ETHER)
    world.must(staking_key(200).account, "Stake", "bond_validator", vrf_key(keys[0]), value=60 * ETHER)
    everybody = (1 << VALIDATORS) - 1
    for _ in range(3):  # the limit of absence: all 150 are jailed at once
        world.next_block(10, pokes=False)
        world.must(SYSTEM, "Stake", "on_attendance", everybody, b"")
    for key in keys:
        world.must(key.account, "Stake", "admit", account(1), 50 * ETHER)
    for index in (3, 4):
        pair = make_statements(keys[index], 1)
        world.must(keys[0].account, "Stake", "report", *pair, 0)
    world.must(keys[1].account, "Stake", "unbond", ETHER)
    next_epoch(world, 2)
    world.blocks(8, 20)
    world.must(keys[2].account, "Stake", "unjail")
    for name, *args in (("validators",), ("validators_of", world.view("Stake", "epoch")), ("epoch_state",)):
        world.view("Stake", name, *args)
    take_out(world, keys[1].account, keys[3].account, keys[0].account)
    members = [row["account"] for row in world.view("Stake", "validators")]
    world.must(SYSTEM, "Stake", "on_restart", b"d" * 32, members[: 2 * len(members) // 3])


def take_out(world: World, leaver: bytes, guilty: bytes, reporter: bytes) -> None:
    """What unbonds is withdrawn, what was convicted is settled, what was reported is paid."""
    for sender, function, args in (
        (leaver, "withdraw", ()), (reporter, "settle", (guilty,)), (guilty, "withdraw", ()),
        (reporter, "claim_reward", ()),
    ):  # fmt: skip
        for _ in range(200):
            if world.act(sender, "Stake", function, *args).ok:
                break
            world.next_block(60, pokes=False)


def play_faucet() -> None:
    world = new_world()
    world.must(account(1), "Faucet", "drip", account(2), value=FAUCET["deposit"])
    world.blocks(1, 90)
    world.must(account(1), "Faucet", "refund")


def expected() -> list[str]:
    """Every function that changes state, but those that only genesis calls."""
    return [
        f"{contract.name}.{entry['name']}"
        for contract in load_all().values()
        for entry in contract.abi
        if entry["type"] == "function"
        and entry["stateMutability"] in ("payable", "nonpayable")
        and entry["name"] != "initialize"
    ]


def bound_of(function: str) -> int:
    contract, name = function.split(".")
    entry = next(row for row in load_all()[contract].abi if row.get("name") == name and row["type"] == "function")
    return VIEW_BOUND if entry["stateMutability"] in ("view", "pure") else BOUNDS.get(function, SMALL)
