"""What a thousand accounts of one owner cost on a network with a faucet, and what they do not get."""

import pytest
from board_support import Game
from contracts_support import ETHER, FAUCET, TERMS, World, account, new_world

from flock_contracts.addresses import FAUCET as FAUCET_ADDRESS

SYBILS, SAMPLE = 1_000, 4
MIN_BOND = ETHER  # of a task, here


@pytest.fixture(scope="module")
def world() -> World:
    world = new_world()
    world.state.set_balance(FAUCET_ADDRESS, 20_000 * ETHER)
    return world


def gas_of_one(world: World, game: Game, index: int) -> int:
    """From nothing to a row in a task: a faucet call of a helper, and a bond."""
    sybil = account(5_000 + index)
    drip = world.must(account(20 + index), "Faucet", "drip", sybil, value=FAUCET["deposit"])
    assert world.balance(sybil) == FAUCET["amount"]
    return drip.gas + world.must(sybil, "TaskBoard", "join_task", game.task, b"domain".ljust(32), value=MIN_BOND).gas


def test_a_thousand_sybils_cost_their_bonds_and_two_calls_each(world: World) -> None:
    game = Game(0, world=world, **{**TERMS, "min_bond": MIN_BOND, "min_participants": 64})
    first, *others = [gas_of_one(world, game, index) for index in range(SAMPLE)]
    assert round(first, -3) == 435_000 and {round(gas, -3) for gas in others} == {350_000}, "as the threat table says"
    assert SYBILS * first < 15 * 30_000_000  # fifteen blocks of nothing else, at the base fee of 1 wei
    locked = SYBILS * MIN_BOND
    assert locked == 1_000 * ETHER  # and each is as slashable as anybody's
    assert SYBILS * FAUCET["amount"] == 10 * locked  # what a faucet gives would pay for it: it is for test networks
    for index in range(SAMPLE, 64):
        who = account(5_000 + index)
        world.state.set_balance(who, MIN_BOND)
        world.must(who, "TaskBoard", "join_task", game.task, b"domain".ljust(32), value=MIN_BOND)
    late = account(6_000)
    world.state.set_balance(late, MIN_BOND)
    refused = world.act(late, "TaskBoard", "join_task", game.task, b"domain".ljust(32), value=MIN_BOND)
    assert refused.reason == "board: the task is full"


def test_sybils_with_a_faucets_coins_weigh_nothing_in_consensus(world: World) -> None:
    before = world.view("Stake", "validators")
    for index in range(SAMPLE):
        who = account(7_000 + index)
        world.state.set_balance(who, 100 * ETHER)
        world.must(who, "Stake", "bond_validator", bytes([index + 1]) * 32, value=50 * ETHER)
    while world.view("Stake", "epoch") < 3:
        world.next_block(90, pokes=False)
        world.height += 30
    assert world.view("Stake", "validators") == before
