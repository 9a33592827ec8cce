"""What somebody with little or worthless stake tries against the stake, the exit and the entry of others."""

import pytest
from contracts_support import ETHER, RICH, account
from stake_support import (
    FOUNDERS,
    NEWCOMER,
    REPORTER,
    SHORT,
    make_statements,
    next_epoch,
    staking_key,
    staking_world,
    vrf_key,
    weights,
)

from flock_contracts.addresses import SYSTEM

A, B, C, D = (key.account for key in FOUNDERS)
NEW = NEWCOMER.account
COINS = 40 * ETHER


def bond(world, key, amount):
    world.state.set_balance(key.account, RICH)
    world.must(key.account, "Stake", "bond_validator", vrf_key(key), value=amount)


def settle(world, key):
    """Blocks until the penalty is taken; what is left of the stake."""
    while not world.act(REPORTER.account, "Stake", "settle", key.account, key.account).ok:
        world.next_block(10, pokes=False)
    return world.view("Stake", "unbonding_of", key.account)


def convict(world, key, epoch=0):
    world.must(REPORTER.account, "Stake", "report", *make_statements(key, world.height), epoch)


def test_tiny_exits_of_one_do_not_hold_up_the_exit_of_another():
    world = staking_world((200 * ETHER, COINS, COINS, COINS))
    world.must(B, "Stake", "unbond", COINS)
    for _ in range(4):
        world.must(A, "Stake", "unbond", 1)
        next_epoch(world)
    assert world.view("Stake", "weight_of", B) == 0


def test_tiny_changes_of_the_members_do_not_keep_a_newcomer_out():
    world = staking_world()
    bond(world, NEWCOMER, COINS)
    for index in range(6):
        world.must((A, B)[index % 2], "Stake", "unbond", 1)
        bond(world, FOUNDERS[2], 2)
        next_epoch(world)
    assert world.view("Stake", "weight_of", NEW) == COINS


def test_coins_that_never_weighed_convict_nobody_and_make_no_offence_dearer():
    world = staking_world((10_000 * ETHER, COINS, COINS, COINS), open_staking=False)
    bond(world, NEWCOMER, 100_000 * ETHER)
    outcome = world.act(NEW, "Stake", "report", *make_statements(NEWCOMER, 1), 0)
    assert outcome.reason == "stake: the signer never had a seat"
    bond(world, FOUNDERS[2], 100_000 * ETHER)  # a member's bond beyond what it may weigh
    convict(world, FOUNDERS[2])
    convict(world, FOUNDERS[3])
    assert settle(world, FOUNDERS[3]) == 38 * ETHER  # two of 40 in 10,120: still a twentieth


def test_offences_of_the_smallest_seats_do_not_bury_the_large_ones():
    """Whoever attacked with much adds offences of little, so that the sum would be cut off before its own."""
    world = staking_world(
        (200 * ETHER, 100 * ETHER, 100 * ETHER, 100 * ETHER), min_validator_stake=1, epoch_blocks=1, epoch_seconds=0
    )
    small = [staking_key(index) for index in range(20, 60)]
    for key in small:
        bond(world, key, 1)
    next_epoch(world, 2)
    convict(world, FOUNDERS[3], 2)
    convict(world, FOUNDERS[2], 2)
    for key in small:
        convict(world, key, 2)
    gas = world.must(SYSTEM, "Stake", "offence_count").gas
    assert world.view("Stake", "offence_count") == 42 and gas > 0
    assert settle(world, FOUNDERS[3]) == 0  # 200 of 500, three times


def test_the_penalty_does_not_depend_on_how_many_were_convicted_before():
    """Gas of the settlement grows with the logarithm of the number of offences."""
    world = staking_world(min_validator_stake=1, epoch_blocks=1, epoch_seconds=0)
    small = [staking_key(index) for index in range(20, 84)]
    for key in small:
        bond(world, key, 1)
    next_epoch(world, 2)
    for key in small:
        convict(world, key, 2)
    for _ in range(12):
        world.next_block(10, pokes=False)
    gas = [world.must(REPORTER.account, "Stake", "settle", key.account, key.account).gas for key in small[1:3]]
    assert max(gas) < 160_000


@pytest.mark.parametrize("order", [(2, 3), (3, 2)])
def test_the_order_of_the_evidence_is_irrelevant_with_a_set_change_between(order):
    world = staking_world((1_000 * ETHER, 500 * ETHER, 70 * ETHER, COINS))
    for index in order:
        pair = make_statements(FOUNDERS[index], 1)
        world.must(REPORTER.account, "Stake", "report", *pair, 0)
        next_epoch(world, 2)
    share = 70 * 10**18 // 1_610 + 40 * 10**18 // 1_610
    for index, stake in ((2, 70 * ETHER), (3, COINS)):
        assert settle(world, FOUNDERS[index]) == stake - stake * 3 * share // 10**18


def test_a_second_account_as_reporter_does_not_make_self_reporting_pay():
    world = staking_world((10_000 * ETHER, COINS, COINS, COINS))
    convict(world, FOUNDERS[3])
    left = settle(world, FOUNDERS[3])
    world.must(REPORTER.account, "Stake", "claim_reward")
    both = left + world.balance(REPORTER.account) - RICH
    assert both == COINS - 2 * ETHER * 19 // 20  # the least that an offence costs, less a twentieth of it


@pytest.mark.parametrize("late", [0, 1])
def test_an_old_approval_no_longer_admits(late: int):
    """It counts for one unbonding delay, and not a second longer."""
    world = staking_world(open_staking=False)
    bond(world, NEWCOMER, COINS)
    for voter in (A, B):
        world.must(voter, "Stake", "admit", NEW, COINS)
    for seconds in (SHORT["unbonding_delay"] // 2, SHORT["unbonding_delay"] // 2 + late):
        world.next_block(seconds, pokes=False)
    world.must(C, "Stake", "admit", NEW, COINS)
    assert world.view("Stake", "allowance_of", NEW) == (0 if late else COINS)
    for voter in (A, B) if late else ():
        world.must(voter, "Stake", "admit", NEW, COINS)
    assert world.view("Stake", "allowance_of", NEW) == COINS


def test_a_restart_finds_room_for_whom_it_keeps_in_a_full_list_of_candidates():
    world = staking_world()
    world.must(A, "Stake", "unbond", COINS)
    next_epoch(world)  # A serves the next epoch still, and is no candidate any more
    for index in range(297):
        world.state.set_balance(account(index), RICH)
        world.must(account(index), "Stake", "bond_validator", vrf_key(NEWCOMER), value=100 * ETHER)
    assert A in weights(world) and not world.view("Stake", "is_candidate", A)
    world.must(SYSTEM, "Stake", "on_restart", b"d" * 32, sorted([A, C]))
    assert set(weights(world)) == {A, C} and world.view("Stake", "is_candidate", A)
    next_epoch(world, 3)
    assert C in weights(world) and len(weights(world)) > 1


def test_jailed_for_ever_or_not_a_stake_can_be_had_back():
    world = staking_world()
    for _ in range(3):
        world.next_block(10, pokes=False)
        world.must(SYSTEM, "Stake", "on_attendance", 8, b"")
    world.must(D, "Stake", "unbond", COINS)
    while not world.act(D, "Stake", "withdraw").ok:
        world.next_block(10, pokes=False)
    assert world.balance(D) == RICH + COINS
