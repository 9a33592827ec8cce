"""A task in each phase of its first round, in worlds in which coins of every kind may go out; what must hold there."""

from collections import Counter
from collections.abc import Iterable
from functools import cache

from board_support import BOND, NEW_ADAPTER, Game, padded
from calldata_support import CALLERS, FOUNDERS, Call
from calldata_ways_support import BACKER, CANDIDATE, LEFT, PEOPLE, SUBMITTER
from contracts_support import (
    ADOPT,
    AUDIT,
    AVAILABILITY,
    CHAIN_TIME_GAP,
    DRAW_VOTERS,
    ENDED,
    ETHER,
    FAUCET,
    RICH,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    WAITING,
    World,
    build_genesis,
)
from fast_world_support import FastWorld, Known
from stake_support import FOUNDERS as KEYS
from stake_support import vrf_key

from flock_chain.tally import FILTER_NORM_REJECT, FILTER_NORM_SLASH
from flock_contracts.addresses import BY_NAME
from flock_contracts.loader import load_all

GAS_BOUND = 3_000_000  # a tenth of a block: whatever its bytes, one call cannot fill one
PHASES = range(WAITING, ENDED + 1)
SCORES, ACCUSING = (-3, -2, -1), (FILTER_NORM_REJECT | FILTER_NORM_SLASH, 0, 0)  # so from its tally on a case is open
HELD = [*CALLERS, *BY_NAME.values()]
NAMES = {(entry.name, entry._selectors[word]): word for entry in load_all().values() for word in entry._selectors}


def opened() -> Game:
    """Before anybody can be drawn: some have left, bonded, delegated and asked the faucet, long enough ago."""
    founders = [(key.account, 40 * ETHER, vrf_key(key)) for key in KEYS]
    world = World(*build_genesis(12, founders, epoch_blocks=2))  # epochs end with their time
    world.next_block(pokes=False)
    game = Game(0, world=world, rounds=1, extra_rounds=0, audit_rounds=1, rest_share=5_000, wait_seconds=100_000)
    for who in FOUNDERS:
        world.state.set_balance(who, RICH)
    for who in (*LEFT, *PEOPLE[:2]):
        game.join(who)
    for who in LEFT:
        game.must(who, "leave_task")
    for who in PEOPLE[:2]:
        world.must(who, "Delegation", "set_terms", game.task, 1_000, 2 * BOND)
        world.must(BACKER, "Delegation", "delegate", game.task, who, value=BOND)
        world.must(BACKER, "Delegation", "undelegate", game.task, who, BOND // 4)
    world.must(CANDIDATE, "Stake", "bond_validator", b"k" * 32, value=40 * ETHER)
    world.must(CANDIDATE, "Stake", "unbond", 30 * ETHER)
    for who in FOUNDERS[:2]:
        world.must(who, "Stake", "set_terms", 1_000, 10 * ETHER)
        world.must(BACKER, "Stake", "delegate", who, value=5 * ETHER)
        world.must(BACKER, "Stake", "share_reward", who, value=ETHER)
        world.must(BACKER, "Stake", "undelegate", who, 2 * ETHER)
    world.must(SUBMITTER, "Faucet", "drip", CALLERS[0], value=FAUCET["deposit"])
    world.blocks(24, CHAIN_TIME_GAP)
    for who in PEOPLE[2:]:
        game.join(who)
    return game


@cache
def worlds() -> dict[int, tuple[World, bytes, Known]]:
    """In each phase of the task's first round, and after its end."""
    game, found = opened(), dict[int, tuple[World, bytes, Known]]()
    known = Known(game.world.base)
    for phase in PHASES:
        if phase == DRAW_VOTERS:
            for who in game.proposers:
                game.commit(who)
        elif phase == AVAILABILITY:
            for who in game.proposers:
                game.reveal(who)
        elif phase == SCORE_COMMIT:
            for who in game.voters:
                game.attest(who, 0b111)
        elif phase == SCORE_REVEAL:
            for who in game.voters:
                game.commit_scores(who, SCORES, padded(ACCUSING))
        elif phase == TALLY:
            for who in game.voters:
                game.reveal_scores(who, SCORES, padded(ACCUSING))
        elif phase == ADOPT:
            game.tally()
        elif phase == AUDIT:
            for who in game.voters:
                game.must(who, "attest_adoption", 1, NEW_ADAPTER)
        game.until(phase, seconds=15 if phase == ENDED else 1)
        root = game.world.kept_root()
        found[phase] = game.world, root, known
        game.world = reopened(game.world, root, known)  # the one that was kept stays as it is
    return found


def reopened(world: World, root: bytes, known: Known) -> FastWorld:
    other = FastWorld(world.base, root, known)
    other.height, other.timestamp = world.height, world.timestamp
    other.state.execution_context = world.state.execution_context
    return other


def pass_time(world: World, seconds: int) -> None:
    """In as many blocks as it takes: a gap between two counts so much at most."""
    while seconds > 0:
        world.next_block(min(seconds, CHAIN_TIME_GAP))
        seconds -= CHAIN_TIME_GAP


def coins_of(world: World, accounts: Iterable[bytes]) -> int:
    return sum(world.balance(who) for who in accounts)


def check_money(world: FastWorld) -> None:
    """What each contract holds is what it owes, by its own totals."""
    for name, totals in {
        "TaskBoard": ("liabilities",), "Delegation": ("liabilities",),
        "Stake": ("total_staked", "total_unbonding", "total_rewards", "burned"),
    }.items():  # fmt: skip
        owed = sum(world.stored(name, total) for total in totals)
        assert world.balance(BY_NAME[name]) == owed, name
    assert world.balance(BY_NAME["Faucet"]) >= world.number("Faucet", "deposits")
    assert world.balance(BY_NAME["Beacon"]) == world.balance(BY_NAME["Limits"]) == 0


def check_rows(world: FastWorld) -> None:
    """Totals equal their rows; whoever has one is among the callers."""
    tasks = range(1, world.board("task_count") + 1)
    pairs = [(task, who) for task in tasks for who in CALLERS]
    bonds = sum(row["bond"] for task in tasks for row in world.board("participants", task))
    assert bonds == world.board("total_bonds")
    unbonding = sum(world.stored("TaskBoard", "unbonding", *pair)["amount"] for pair in pairs)
    assert unbonding == world.board("total_unbonding")
    assert sum(world.board("task_view", task)["pot"] for task in tasks) == world.board("total_pots")
    pools = sum(world.view("Delegation", "offer_of", *pair)["pool"] for pair in pairs)
    assert pools == world.view("Delegation", "total_delegated")
    for total, part in (("total_staked", "staked_with"), ("total_unbonding", "leaving_with")):
        assert sum(world.number("Stake", part, who) for who in CALLERS) == world.view("Stake", total), total


def check_calls(phase: int, rows: list[Call | int]) -> Counter[str]:
    """What the calls came to: how many did something, and of which coins went out; a number is so many seconds.

    Raises AssertionError where one breaks an invariant, and Reverted where one stops the system's own calls."""
    world = reopened(*worlds()[phase])
    coins, seen, found = coins_of(world, HELD), world.board("progress", 1), Counter[str]()
    for row in rows:
        if isinstance(row, int):
            pass_time(world, row)
        else:
            sender, name, data, value = row
            before = coins_of(world, BY_NAME.values())
            outcome = world.call(sender, name, data, value)
            assert outcome.gas <= GAS_BOUND, (name, data.hex(), outcome.gas)
            if not outcome.ok:
                continue
            found["accepted"] += 1
            found[f"accepted {name}.{NAMES[name, data[:4]]}"] += 1
            if before + value > coins_of(world, BY_NAME.values()):
                found["paid"] += 1
                found[f"paid by {name}.{NAMES[name, data[:4]]}"] += 1
        check_money(world)
        now = world.stored("TaskBoard", "progress", 1)
        assert now >= seen, "rounds and phases only move forward"
        seen = now
    check_rows(world)
    assert coins_of(world, HELD) <= coins
    return found
