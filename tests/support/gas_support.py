"""What every function of the contracts costs at the largest lists there are: 64 tasks, 64 participants, 16 seats of
each role, 150 validators, 300 candidates. Plays the scenarios and notes the dearest successful call of each function.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import contracts_support
from board_support import ADAPTER, BOND, CREATOR, DOCUMENT, NEW_ADAPTER, Game
from contracts_support import (
    AUDIT,
    COMMIT,
    ENDED,
    ETHER,
    FAUCET,
    RICH,
    TERMS,
    Outcome,
    World,
    account,
    build_genesis,
    new_world,
)
from delegation_support import DelegatedGame
from gas_audit_support import play_absent, play_audits, play_missing, play_rules, play_struck
from gas_round_support import BACKER, ROWS, SEATS, gathered, play_dear_adoption, play_dear_tally, play_round, read_board
from gas_views_support import read_all
from stake_support import FOUNDERS, NEWCOMER, SHORT, make_statements, next_epoch, staking_key, staking_world, vrf_key

from flock_chain.execution import genesis_state, schedule, validators
from flock_contracts.addresses import SYSTEM
from flock_contracts.loader import load_all

VALIDATORS, CANDIDATES, EXITS = 150, 300, 8
BLOCK = 30_000_000
SMALL, LARGE, ONCE = 300_000, 3_000_000, 40_000_000
BOUNDS = {  # gas; SMALL for all others that anybody sends
    "TaskBoard.open_task": 1_000_000,  # once in a task: its terms
    "TaskBoard.leave_task": 1_500_000,  # moves up to 63 rows, and so keeps their order
    "TaskBoard.evict": 1_500_000,
    "TaskBoard.poke": 7_500_000,  # the executor starts none with less than 8 million left in the block
    "TaskBoard.tally": 6_500_000,  # of 16 accused, with all that follows: pay with delegators' parts, and an audit
    "TaskBoard.attest_guilty": 1_000_000,  # names up to 16
    "TaskBoard.approve_rules": LARGE,  # reads what all 150 members approved
    "TaskBoard.enact_rules": 1_000_000,  # once for all numbers
    "TaskBoard.confirm": 2_000_000,  # decides on 16 bonds at once
    "TaskBoard.lift": 1_500_000,
    "Delegation.note_seats": 1_000_000,  # of 16 seats, inside a draw
    "Delegation.credit": LARGE,  # likewise, inside a settlement
    "Stake.bond_validator": LARGE,  # looks for the least of 300 candidates where the list is full
    "Stake.admit": LARGE,  # reads what all 150 members approved
    "Stake.end_epoch": 25_000_000,  # the system's, once in ten minutes
    "Stake.on_restart": 25_000_000,  # the system's, in the first block after a restart
    "Stake.on_attendance": LARGE * 3,  # the system's: all 150 at once
    "Stake.initialize": ONCE, "Beacon.initialize": ONCE, "Faucet.initialize": ONCE, "TaskBoard.initialize": ONCE,
}  # fmt: skip
LIMITS = {  # what the executor gives to calls that nobody pays for; a bound stays below
    "Beacon.on_block": schedule.ON_BLOCK_GAS, "TaskBoard.poke": schedule.POKE_GAS_MIN,
    "Stake.on_attendance": validators.ATTENDANCE_GAS, "Stake.end_epoch": validators.END_EPOCH_GAS,
    "Stake.on_restart": validators.RESTART_GAS, "Stake.initialize": genesis_state.INITIALIZE_GAS,
    "TaskBoard.due_tasks": schedule.VIEW_GAS, "TaskBoard.wakeup": schedule.VIEW_GAS,
    "Stake.validators": validators.READ_GAS, "Stake.validators_of": validators.READ_GAS,
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
        play_tasks()
        play_round()
        play_dear_tally()
        play_dear_adoption()
        play_end()
        play_accusations()
        play_absence()
        play_paper_rule()
        play_full_set()
        play_stake()
        play_faucet()
        play_audits()
        play_struck()
        play_absent()
        play_missing()
        play_rules()
    return most


def play_tasks() -> None:
    """As many tasks as can run, which are walked over in every block."""
    world = new_world()
    for _ in range(ROWS):
        fee = world.board("opening_fee")
        world.must(CREATOR, "TaskBoard", "open_task", DOCUMENT, ADAPTER, {**TERMS, "wait_seconds": 90}, value=fee + 1)
    world.board("wakeup")
    world.next_block(90, pokes=False)
    world.board("due_tasks")


def play_end() -> None:
    """A proposer of invalid bytes is evicted from a full task, the creator stops it, and all coins come back."""
    game = Game(6, rounds=1, extra_rounds=1, rest_share=5_000)
    world = game.world
    for index in range(7, ROWS + 1):
        game.join(account(index))
    game.play_to_availability()
    guilty = game.proposers[0]
    for who in game.voters:
        game.attest(who, 0b110, 0b001)
    world.next_block()
    game.convict(1, 0)
    game.must(CREATOR, "stop_task")
    world.blocks(12, 90)
    assert game.phase == ENDED
    game.must(CREATOR, "evict", guilty)
    for index in range(1, ROWS + 1):
        if account(index) != guilty:
            game.must(account(index), "leave_task")
            break
    game.must(CREATOR, "withdraw_pot")
    world.blocks(8, 90)
    game.must(account(index), "withdraw_bond")
    play_exits()
    game = DelegatedGame(ROWS)
    game.bonded(BACKER, account(1), BOND)
    game.must(account(1), "leave_task")
    game.world.blocks(8, 90)
    game.says(BACKER, "withdraw_delegation", account(1))


def play_exits() -> None:
    """As many exits of one account as can wait: all but the last are free, and are taken out at once."""
    game = Game(0, wait_seconds=10**6)
    for number in range(EXITS):
        game.join(account(1))
        game.must(account(1), "leave_task")
        game.world.next_block(90 if number == EXITS - 2 else 1)
    game.world.blocks(6, 90)
    read_all(game.world, [account(1)], BACKER, task=game.task)
    game.must(account(1), "withdraw_bond")
    delegated = DelegatedGame(1, wait_seconds=10**6)
    delegated.bonded(BACKER, account(1), BOND)
    for number in range(EXITS):
        delegated.says(BACKER, "undelegate", account(1), 1)
        delegated.world.next_block(90 if number == EXITS - 1 else 1)
    delegated.must(account(1), "leave_task")
    delegated.world.blocks(6, 90)
    read_all(delegated.world, [account(1)], BACKER, task=delegated.task)
    delegated.says(BACKER, "withdraw_delegation", account(1))


def play_accusations() -> None:
    """All seats are accused: at first all are convicted by one call, and in the next round nobody decides."""
    game = gathered()
    sheets = [[100 + seat + voter for seat in range(SEATS)] for voter in range(SEATS)]
    for number in (1, 2):
        game.play_to_tally(sheets, [[3] * SEATS] * SEATS)
        game.tally()
        people = [account(index) for index in range(1, ROWS + 1)]
        for who in people if number == 1 else people[:1]:
            if game.world.board("case_view", game.task, number)["open"]:
                game.confirm(who, number, 0xFFFF)
        read_board(game, number)
    game.world.blocks(6, 30)
    game.must(CREATOR, "lift", 2)


def play_absence() -> None:
    """Who stays away too often is unseated, and comes back."""
    game = Game(6, rounds=30)
    for _ in range(200):
        game.world.next_block(30)
        away = [row["account"] for row in game.world.board("participants", game.task) if row["unseated"]]
        if away:
            game.must(away[0], "rejoin")
            return
    raise AssertionError("nobody was unseated")


def play_paper_rule() -> None:
    """An accepted round pays proposers and majority and slashes the minority and who was away, all with delegators, of
    whom some are too late for it, and an audit begins: by one poke."""
    game = gathered(voting_rule=1, rule_slash=1_000, audit_rounds=1)
    game.until(COMMIT)
    for index in range(1, ROWS + 1):
        game.world.must(CREATOR, "Delegation", "delegate", game.task, account(index), value=BOND)
    game.play_votes([NEW_ADAPTER] * 10 + [ADAPTER] * 6, away=SEATS // 3)
    assert game.phase == AUDIT and sum(game.bond_of(who) < BOND for who in game.result(1)["voters"]) == 11


def play_full_set() -> None:
    """A full set and a full list of candidates."""
    keys = [staking_key(index) for index in range(VALIDATORS)]
    rows = [(key.account, 40 * ETHER, vrf_key(key)) for key in keys]
    with patch.object(contracts_support, "GAS", ONCE):  # genesis is no transaction
        world = World(*build_genesis(0, rows, **SHORT | {"open_staking": True}))
    world.next_block(pokes=False)
    for index in range(CANDIDATES - VALIDATORS):
        world.state.set_balance(account(index), RICH)
        world.must(account(index), "Stake", "bond_validator", vrf_key(keys[0]), value=50 * ETHER)
    world.state.set_balance(SYSTEM, RICH)
    world.must(SYSTEM, "Stake", "bond_validator", vrf_key(keys[0]), value=60 * ETHER)  # one of the 300 gives way
    world.next_block(1, pokes=False)
    for _ in range(3):  # the limit of absence, reached by all 150 at once
        world.must(SYSTEM, "Stake", "on_attendance", (1 << VALIDATORS) - 1, b"")
        world.height += 1
    for key in keys[:3]:
        world.must(key.account, "Stake", "admit", account(1), 50 * ETHER)
    for key in keys:
        world.must(key.account, "Stake", "unbond", 1)  # what a restart needs again, of everybody
    next_epoch(world)
    read_all(world, [keys[-1].account], account(1))
    for kept in (VALIDATORS, 2 * VALIDATORS // 3):
        world.must(SYSTEM, "Stake", "on_restart", b"d" * 32, [key.account for key in keys[:kept]])


def play_stake() -> None:
    """What costs the same whoever else there is."""
    world = staking_world()
    for _ in range(3):
        world.next_block(10, pokes=False)
        world.must(SYSTEM, "Stake", "on_attendance", 0b100, b"")
    leaver, reporter, absent, guilty = (key.account for key in FOUNDERS)
    world.must(reporter, "Stake", "report", *make_statements(FOUNDERS[3], 1), 0)
    world.must(leaver, "Stake", "unbond", ETHER)
    next_epoch(world, 3)
    world.blocks(2, 20)
    world.must(absent, "Stake", "unjail")
    take_out(world, leaver, guilty, reporter)
    delegate(world, reporter, guilty)


def delegate(world: World, validator: bytes, guilty: bytes) -> None:
    """Somebody bonds with a validator, is paid, and leaves."""
    who = NEWCOMER.account
    world.must(validator, "Stake", "set_terms", 1_000, 10 * ETHER)
    world.must(who, "Stake", "delegate", validator, value=5 * ETHER)
    world.must(validator, "Stake", "share_reward", validator, value=ETHER)
    world.must(who, "Stake", "claim_delegation", validator)
    world.must(who, "Stake", "undelegate", validator, 5 * ETHER)
    read_all(world, [validator, guilty], who)
    wait(world, who, "withdraw_delegation", validator)


def take_out(world: World, leaver: bytes, guilty: bytes, reporter: bytes) -> None:
    """What unbonds is withdrawn, what was convicted is settled, what was reported is paid."""
    wait(world, leaver, "withdraw")
    wait(world, reporter, "settle", guilty, guilty)
    wait(world, guilty, "withdraw")
    wait(world, reporter, "claim_reward")


def wait(world: World, sender: bytes, function: str, *args: object) -> None:
    for _ in range(100):
        if world.act(sender, "Stake", function, *args).ok:
            return
        world.next_block(60, pokes=False)
    raise AssertionError(f"{function} is not possible")


def play_faucet() -> None:
    world = new_world()
    world.must(account(1), "Faucet", "drip", account(2), value=FAUCET["deposit"])
    read_all(world, [account(1), account(2)], BACKER)
    world.blocks(1, 90)
    world.must(account(1), "Faucet", "refund")


def expected() -> list[str]:
    """Every function of every contract."""
    return [
        f"{contract.name}.{entry['name']}"
        for contract in load_all().values()
        for entry in contract.abi
        if entry["type"] == "function"
    ]


def bound_of(function: str) -> int:
    contract, name = function.split(".")
    entry = next(row for row in load_all()[contract].abi if row.get("name") == name and row["type"] == "function")
    return VIEW_BOUND if entry["stateMutability"] in ("view", "pure") else BOUNDS.get(function, SMALL)
