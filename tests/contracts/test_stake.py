"""The staking contract: who is in which set, who is jailed, and when a stake can be had back."""

import pytest
from contracts_support import ETHER, RICH, account
from stake_support import FOUNDERS, NEWCOMER, next_epoch, staking_world, vrf_key, weights

from flock_chain.execution.validators import ATTENDANCE_GAS, END_EPOCH_GAS
from flock_contracts.addresses import STAKE, SYSTEM

A, B, C, D = (key.account for key in FOUNDERS)
NEW = NEWCOMER.account
STAKE_OF_EACH = 40 * ETHER


def absent(world, *rows: int) -> None:
    """A block in which these rows of the set are missing from its parent's height."""
    world.next_block(10, pokes=False)
    world.must(SYSTEM, "Stake", "on_attendance", sum(1 << row for row in rows), b"")


def test_whoever_bonds_in_an_epoch_serves_from_the_one_after_the_next():
    world = staking_world()
    world.must(NEW, "Stake", "bond_validator", vrf_key(NEWCOMER), value=STAKE_OF_EACH)
    assert NEW not in weights(world)
    next_epoch(world)
    assert NEW not in weights(world) and NEW in weights(world, 2)
    next_epoch(world)
    assert weights(world) == dict.fromkeys((A, B, C, D, NEW), STAKE_OF_EACH)


def test_an_epoch_ends_by_blocks_and_by_time_whichever_is_later():
    world = staking_world(epoch_blocks=5, epoch_seconds=100)
    for _ in range(8):
        world.next_block(12, pokes=False)
    assert world.view("Stake", "epoch") == 0  # nine blocks, 97 seconds
    world.next_block(12, pokes=False)
    assert world.view("Stake", "epoch") == 1 and world.view("Stake", "first_height_of", 1) == world.height + 1
    for _ in range(4):
        world.next_block(80, pokes=False)
        assert world.view("Stake", "epoch") == 1
    world.next_block(80, pokes=False)
    assert world.view("Stake", "epoch") == 2
    assert world.act(SYSTEM, "Stake", "end_epoch").reason == "stake: the epoch is not over"
    for function, args in (("end_epoch", ()), ("on_attendance", (1, b"")), ("on_restart", (b"d" * 32, [A]))):
        assert world.act(A, "Stake", function, *args).reason == "stake: only the system may call"


def test_where_staking_is_closed_coins_buy_no_weight_and_two_thirds_grant_it():
    world = staking_world(open_staking=False)
    world.must(NEW, "Stake", "bond_validator", vrf_key(NEWCOMER), value=3 * STAKE_OF_EACH)
    world.must(A, "Stake", "bond_validator", vrf_key(FOUNDERS[0]), value=STAKE_OF_EACH)
    next_epoch(world, 3)
    assert weights(world) == dict.fromkeys((A, B, C, D), STAKE_OF_EACH)
    assert world.act(NEW, "Stake", "admit", NEW, STAKE_OF_EACH).reason == "stake: only the serving set admits"
    for member, weight in ((A, 1), (A, STAKE_OF_EACH), (A, STAKE_OF_EACH), (B, STAKE_OF_EACH)):
        world.must(member, "Stake", "admit", NEW, weight)
    assert world.view("Stake", "allowance_of", NEW) == 0  # half of the weight is not two thirds
    world.must(C, "Stake", "admit", NEW, STAKE_OF_EACH)
    next_epoch(world, 2)
    assert weights(world)[NEW] == STAKE_OF_EACH  # what was granted, not what was bonded
    for member in (A, B, C, D):
        world.must(member, "Stake", "admit", NEW, 0)
    next_epoch(world, 2)
    assert NEW not in weights(world)
    world.must(A, "Stake", "admit", NEW, STAKE_OF_EACH)  # the approvals of the first ballot count no more
    assert world.view("Stake", "allowance_of", NEW) == 0


def test_a_stake_returns_one_delay_after_the_last_epoch_that_it_secured():
    world = staking_world()
    world.must(A, "Stake", "unbond", STAKE_OF_EACH)
    next_epoch(world)
    assert A in weights(world) and A not in weights(world, 2)
    assert world.act(A, "Stake", "withdraw").reason == "stake: it still secures a set"
    next_epoch(world)  # epoch 1, its last, has ended
    assert A not in weights(world)
    release = world.view("Stake", "release_at", A)
    assert release == world.view("Stake", "ended_at", 1) + 90
    while world.view("Beacon", "chain_time") + 10 < release:
        world.next_block(10, pokes=False)
        assert world.act(A, "Stake", "withdraw").reason == "stake: still unbonding"
    world.next_block(10, pokes=False)
    world.must(A, "Stake", "withdraw")
    assert world.balance(A) == RICH + STAKE_OF_EACH and world.balance(STAKE) == 3 * STAKE_OF_EACH
    assert world.act(A, "Stake", "withdraw").reason == "stake: nothing is unbonding"


def test_who_takes_out_a_part_weighs_the_rest_from_the_epoch_after_the_next_on():
    world = staking_world((80 * ETHER, *[STAKE_OF_EACH] * 3))
    world.must(A, "Stake", "unbond", 30 * ETHER)
    next_epoch(world)
    assert weights(world)[A] == 80 * ETHER and weights(world, 2)[A] == 50 * ETHER
    assert world.view("Stake", "total_weight_of", 2) == sum(weights(world, 2).values()) == 170 * ETHER


def test_stake_that_never_weighed_returns_after_the_delay_alone():
    world = staking_world(open_staking=False)
    world.must(NEW, "Stake", "bond_validator", vrf_key(NEWCOMER), value=5)
    assert world.act(NEW, "Stake", "unbond", 6).reason == "stake: more than is bonded"
    assert world.act(NEW, "Stake", "unbond", 0).reason == "stake: unbond more than nothing"
    world.must(NEW, "Stake", "unbond", 5)
    assert world.act(NEW, "Stake", "withdraw").reason == "stake: still unbonding"
    world.next_block(90, pokes=False)
    world.must(NEW, "Stake", "withdraw")
    assert world.balance(NEW) == RICH


def test_a_set_changes_by_one_validator_or_by_a_tenth_and_is_never_empty():
    world = staking_world()
    for member in (A, B, C, D):
        world.must(member, "Stake", "unbond", STAKE_OF_EACH)
    sizes = []
    for _ in range(7):
        next_epoch(world)
        sizes.append(len(weights(world)))
    assert sizes == [4, 3, 2, 1, 1, 1, 1]
    last = next(iter(weights(world)))
    assert world.act(last, "Stake", "withdraw").reason == "stake: it still secures a set"
    world.must(NEW, "Stake", "bond_validator", vrf_key(NEWCOMER), value=STAKE_OF_EACH)
    next_epoch(world, 3)
    assert weights(world) == {NEW: STAKE_OF_EACH}  # the last one is free now


@pytest.mark.parametrize(("leaver", "jailed"), [(0, 1), (1, 0)])
def test_where_not_all_can_go_at_once_the_jailed_go_before_those_who_want_to(leaver: int, jailed: int):
    """Whoever the snapshot looks at first: of both orders one would let the other go."""
    world = staking_world()
    for _ in range(3):
        absent(world, jailed)
    world.must(FOUNDERS[leaver].account, "Stake", "unbond", STAKE_OF_EACH)
    snapshot = world.view("Stake", "epoch") + 2
    next_epoch(world)
    gone = {A, B, C, D} - set(weights(world, snapshot))
    assert gone == {FOUNDERS[jailed].account}
    assert weights(world, snapshot)[FOUNDERS[leaver].account] == STAKE_OF_EACH


def test_small_changes_share_a_tenth_and_a_large_stake_rises_step_by_step():
    world = staking_world()
    for key in FOUNDERS[:3]:  # 6 + 6 fit a tenth of 160, of another 6 there is room for 4; then it is C's turn
        world.must(key.account, "Stake", "bond_validator", vrf_key(key), value=6 * ETHER)
    next_epoch(world, 2)
    assert {who: weight // ETHER for who, weight in weights(world).items()} == {A: 46, B: 44, C: 46, D: 40}
    world.must(NEW, "Stake", "bond_validator", vrf_key(NEWCOMER), value=1_000 * ETHER)
    next_epoch(world)
    assert weights(world)[B] == 46 * ETHER
    next_epoch(world, 2)
    assert 0 < weights(world)[NEW] < 100 * ETHER  # an average weight at a time, not six times the network


def test_whoever_misses_enough_heights_is_jailed_leaves_by_the_snapshot_and_may_come_back():
    world = staking_world()
    for _ in range(2):
        absent(world, 3)
    assert world.view("Stake", "missed", D) == 2 and world.view("Stake", "jailed_until", D) == 0
    absent(world, 3)
    until = world.view("Stake", "jailed_until", D)
    assert until == world.view("Beacon", "chain_time") + 30
    assert world.act(D, "Stake", "unjail").reason == "stake: still jailed"
    next_epoch(world, 2)
    assert set(weights(world)) == {A, B, C}
    while world.view("Beacon", "chain_time") < until:
        world.next_block(10, pokes=False)
    world.must(D, "Stake", "unjail")
    assert world.act(D, "Stake", "unjail").reason == "stake: not jailed"
    next_epoch(world, 2)
    assert weights(world)[D] == STAKE_OF_EACH and world.view("Stake", "missed", D) == 0


def test_only_the_last_hundred_heights_count_as_missed():
    world = staking_world(absence_limit=50, epoch_seconds=10**6)
    for height in range(102):
        absent(world, *([1] if height % 3 == 0 else [2] if height == 1 else []))
    assert world.view("Stake", "missed", B) == 34 and world.view("Stake", "jailed_until", B) == 0
    absent(world, 2)
    assert world.view("Stake", "missed", C) == 1  # the other one is more than a hundred heights ago
    assert world.act(SYSTEM, "Stake", "on_attendance", 16, b"").reason == "stake: absent is who is in the set"


def test_a_third_may_go_away_over_time():
    """Of four, one after the other two leave without a word; at no time is more than a third missing."""
    world = staking_world()
    for _ in range(3):
        absent(world, 3)
    next_epoch(world, 2)
    assert set(weights(world)) == {A, B, C}
    for _ in range(3):
        absent(world, 2)
    next_epoch(world, 2)
    assert set(weights(world)) == {A, B}


def test_the_vrf_key_of_a_member_is_frozen_until_its_last_epoch_has_ended():
    world = staking_world()
    reason = "stake: the VRF key of a validator is frozen"
    assert world.act(A, "Stake", "bond_validator", b"x" * 32, value=1).reason == reason
    assert world.act(A, "Stake", "bond_validator", bytes(32), value=1).reason == "stake: a VRF key is needed"
    world.must(A, "Stake", "unbond", STAKE_OF_EACH)
    next_epoch(world)
    assert world.view("Stake", "weight_of", A) == 0 and A in weights(world)
    assert world.act(A, "Stake", "bond_validator", b"x" * 32, value=1).reason == reason
    next_epoch(world)
    world.must(A, "Stake", "bond_validator", b"x" * 32, value=1)


def test_a_restart_keeps_who_is_named_and_jails_the_others():
    world = staking_world()
    world.next_block(1, pokes=False)
    for keep in ([A, NEW], [], [A, A]):
        outcome = world.act(SYSTEM, "Stake", "on_restart", b"d" * 32, keep)
        assert outcome.reason == "stake: a restart keeps members of the set alone"
    world.must(SYSTEM, "Stake", "on_restart", b"d" * 32, sorted([A, C]))
    assert set(weights(world)) == set(weights(world, 1)) == {A, C}
    next_epoch(world, 3)
    assert set(weights(world)) == {A, C} and world.view("Stake", "jailed_until", B) > 0
    world.must(B, "Stake", "unjail")
    next_epoch(world, 2)
    assert set(weights(world)) == {A, B, C}


def test_the_end_of_an_epoch_of_three_hundred_candidates_fits_its_gas():
    world = staking_world()
    for index in range(296):
        world.state.set_balance(account(index), RICH)
        world.must(account(index), "Stake", "bond_validator", vrf_key(NEWCOMER), value=100 * ETHER)
    reason = "stake: the list of candidates is full of larger stakes"
    assert world.act(NEW, "Stake", "bond_validator", vrf_key(NEWCOMER), value=100 * ETHER).reason == reason
    world.must(NEW, "Stake", "bond_validator", vrf_key(NEWCOMER), value=101 * ETHER)
    assert not world.view("Stake", "is_candidate", account(0))
    world.next_block(30, pokes=False)
    assert world.view("Stake", "epoch") == 1
    assert max(world.epoch_gas) < END_EPOCH_GAS // 2
    assert world.must(SYSTEM, "Stake", "on_attendance", 15, b"").gas < ATTENDANCE_GAS // 30
