"""Who bonds with a validator: weight, rewards, penalties and the way out, which nobody else can lengthen."""

import pytest
from contracts_support import CHAIN_ID, ETHER, GENESIS_HASH, RICH, Reverted, account
from stake_support import (
    FOUNDERS,
    NEWCOMER,
    REPORTER,
    make_statements,
    next_epoch,
    staking_key,
    staking_world,
    vrf_key,
    weights,
)

from flock_chain.consensus.digest import ChainDomain
from flock_contracts.addresses import STAKE, SYSTEM
from flock_contracts.loader import load

A, B, C, D = (key.account for key in FOUNDERS)
ONE, TWO = NEWCOMER.account, staking_key(12).account
REPORTS = REPORTER.account
COINS = 40 * ETHER


def delegating_world(stakes=(COINS,) * 4, *, commission=0, limit=10_000 * ETHER, **changes):
    """D takes delegations."""
    world = staking_world(stakes, **changes)
    world.state.set_balance(TWO, RICH)
    world.must(D, "Stake", "set_terms", commission, limit)
    return world


def delegate(world, who, amount, where=D):
    world.must(who, "Stake", "delegate", where, value=amount)


def get_out(world, who, where=D):
    """Blocks until it is paid; what came."""
    before = world.balance(who)
    for _ in range(100):
        if (outcome := world.act(who, "Stake", "withdraw_delegation", where)).ok:
            return world.balance(who) - before
        assert outcome.reason in ("stake: it still secures a set", "stake: still unbonding")
        world.next_block(10, pokes=False)
    raise AssertionError("it never comes out")


def test_delegated_stake_weighs_like_the_validators_own_and_no_more_in_an_epoch():
    world = delegating_world()
    delegate(world, ONE, 10 * ETHER)
    next_epoch(world, 2)
    assert weights(world)[D] == 50 * ETHER
    delegate(world, TWO, 1_000 * ETHER)
    next_epoch(world, 2)
    assert weights(world)[D] == 50 * ETHER + 170 * ETHER // 4


def test_where_staking_is_closed_a_delegation_weighs_within_what_was_admitted():
    world = delegating_world(open_staking=False)
    delegate(world, ONE, 10 * ETHER)
    next_epoch(world, 2)
    assert weights(world)[D] == COINS
    for member in (A, B, C):
        world.must(member, "Stake", "admit", D, 45 * ETHER)
    next_epoch(world, 2)
    assert weights(world)[D] == 45 * ETHER


def test_a_seat_takes_the_minimum_of_the_validators_own_stake():
    world = delegating_world()
    delegate(world, ONE, 100 * ETHER)
    world.must(D, "Stake", "unbond", 9 * ETHER)
    next_epoch(world, 2)
    assert D not in weights(world)
    assert get_out_after(world, ONE, 100 * ETHER) == 100 * ETHER


def get_out_after(world, who, amount):
    world.must(who, "Stake", "undelegate", D, amount)
    return get_out(world, who)


def test_a_validator_says_how_much_it_takes_and_changes_its_commission_only_after_a_delay():
    world = staking_world()
    assert world.act(ONE, "Stake", "delegate", D, value=1).reason == "stake: the validator takes no more delegations"
    assert world.act(D, "Stake", "set_terms", 10_001, 0).reason == "stake: a commission above the whole"
    world.must(D, "Stake", "set_terms", 1_000, 5)
    assert world.act(D, "Stake", "delegate", D, value=1).reason == "stake: a validator bonds with bond_validator"
    assert world.act(ONE, "Stake", "delegate", D, value=6).reason == "stake: the validator takes no more delegations"
    world.must(ONE, "Stake", "delegate", D, value=5)
    world.must(D, "Stake", "set_terms", 9_000, 0)
    assert world.view("Stake", "terms_of", D)[:3] == (1_000, 0, 9_000)
    world.must(D, "Stake", "set_terms", 10_000, 0)  # asking again starts the delay anew
    world.next_block(89, pokes=False)
    assert world.view("Stake", "terms_of", D)[0] == 1_000
    world.next_block(1, pokes=False)
    assert world.view("Stake", "terms_of", D)[0] == 10_000


def test_rewards_are_shared_by_stake_less_the_commission_to_the_unit():
    world = delegating_world(commission=1_000)
    delegate(world, ONE, 30 * ETHER)
    delegate(world, TWO, 10 * ETHER)
    world.must(A, "Stake", "share_reward", D, value=80_000)
    delegate(world, TWO, 20 * ETHER)  # has no part in what was shared before
    assert world.view("Stake", "delegation_reward_of", D, ONE) == 27_000
    for who, reward in ((ONE, 27_000), (TWO, 9_000)):
        before = world.balance(who)
        world.must(who, "Stake", "claim_delegation", D)
        assert world.balance(who) - before == reward
        assert world.act(who, "Stake", "claim_delegation", D).reason == "stake: no reward"
    before = world.balance(D)
    world.must(D, "Stake", "claim_reward")
    assert world.balance(D) - before == 44_000 and world.view("Stake", "total_rewards") == 0


def test_a_delegator_loses_the_same_share_and_the_reporter_gains_nothing_of_it():
    world = delegating_world((10_000 * ETHER, COINS, COINS, COINS))
    delegate(world, ONE, 60 * ETHER)
    world.must(REPORTS, "Stake", "report", *make_statements(FOUNDERS[3], 1), 0)
    assert world.view("Stake", "delegation_of", D, ONE) == (0, 60 * ETHER)
    assert world.act(ONE, "Stake", "undelegate", D, 1).reason == "stake: more than is bonded"
    assert world.act(ONE, "Stake", "delegate", D, value=1).reason == "stake: tombstoned"
    assert get_out(world, ONE) == 57 * ETHER
    assert world.view("Stake", "burned") == 3 * ETHER and world.view("Stake", "total_rewards") == 0
    world.must(TWO, "Stake", "settle", D, D)
    assert world.view("Stake", "reward_of", REPORTS) == 2 * ETHER // 20


def test_self_reporting_loses_whatever_others_have_bonded():
    """Were the reporter's part taken of delegations too, 32 own coins and 5,000 of others would make it a business."""
    world = delegating_world((10_000 * ETHER, COINS, COINS, 32 * ETHER))
    delegate(world, ONE, 5_000 * ETHER)
    world.must(REPORTS, "Stake", "report", *make_statements(FOUNDERS[3], 1), 0)
    before = world.balance(D)
    while not world.act(D, "Stake", "withdraw").ok:
        world.next_block(10, pokes=False)
    get_out(world, ONE)
    world.must(REPORTS, "Stake", "claim_reward")
    assert world.balance(D) - before + world.balance(REPORTS) - RICH < 31 * ETHER


def test_what_is_on_its_way_out_is_slashed_and_what_was_free_before_is_not():
    world = delegating_world()
    for who in (ONE, TWO):
        delegate(world, who, 2 * ETHER)
    next_epoch(world, 2)
    world.must(ONE, "Stake", "undelegate", D, 2 * ETHER)
    while world.view("Stake", "delegation_release_at", D, ONE) > world.view("Beacon", "chain_time"):
        world.next_block(10, pokes=False)
    world.must(TWO, "Stake", "undelegate", D, 2 * ETHER)
    next_epoch(world)
    height, epoch = world.height, world.view("Stake", "epoch") - 1
    world.must(REPORTS, "Stake", "report", *make_statements(FOUNDERS[3], height), epoch)
    assert get_out(world, ONE) == 2 * ETHER  # was free, though it had not come for it
    assert get_out(world, TWO) < 2 * ETHER


def test_tiny_exits_of_one_delegator_do_not_hold_up_another():
    world = delegating_world()
    for who in (ONE, TWO):
        delegate(world, who, 10 * ETHER)
    next_epoch(world, 3)
    world.must(ONE, "Stake", "undelegate", D, 10 * ETHER)
    asked = world.view("Stake", "epoch")
    for _ in range(8):
        world.must(TWO, "Stake", "undelegate", D, 1)
        next_epoch(world)
    assert world.view("Stake", "delegation_release_at", D, ONE) == world.view("Stake", "ended_at", asked + 1) + 90
    assert get_out(world, ONE) == 10 * ETHER


def test_stake_that_secured_this_epoch_waits_for_its_end_even_where_newer_stake_covers_the_weight():
    world = delegating_world(epoch_seconds=200)
    delegate(world, ONE, 2 * ETHER)
    next_epoch(world, 2)
    delegate(world, TWO, 5 * ETHER)
    world.must(ONE, "Stake", "undelegate", D, 2 * ETHER)
    for _ in range(10):
        world.next_block(10, pokes=False)
    assert world.act(ONE, "Stake", "withdraw_delegation", D).reason == "stake: it still secures a set"
    assert get_out(world, ONE) == 2 * ETHER


REFUSES = bytes.fromhex("5f5ffd")


def calls_back(function, *arguments):
    """Code that stores its calldata's words in memory and calls the staking contract when it is paid."""
    data = load("Stake").encode(function, *arguments)
    words = [data[at : at + 32].ljust(32, b"\0") for at in range(0, len(data), 32)]
    code = b"".join(b"\x7f" + word + b"\x61" + (32 * at).to_bytes(2, "big") + b"\x52" for at, word in enumerate(words))
    call = (
        bytes.fromhex("5f5f61")
        + len(data).to_bytes(2, "big")
        + bytes.fromhex("5f5f73")
        + STAKE
        + bytes.fromhex("5af100")
    )
    return code + call


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("withdraw_delegation", (D,)), ("claim_delegation", (D,)), ("undelegate", (D, 1)), ("settle", (D, ONE))],
)
def test_a_receiver_that_calls_back_gets_what_is_its_own_once(function, arguments):
    world = delegating_world()
    for who in (ONE, TWO):
        delegate(world, who, 5 * ETHER)
    world.must(ONE, "Stake", "undelegate", D, 4 * ETHER)
    world.state.set_code(ONE, calls_back(function, *arguments))
    assert get_out(world, ONE) == 4 * ETHER
    held = sum(world.view("Stake", name) for name in ("total_staked", "total_unbonding", "total_rewards", "burned"))
    assert world.balance(STAKE) == held == 4 * COINS + 6 * ETHER
    world.must(TWO, "Stake", "undelegate", D, 5 * ETHER)
    assert get_out(world, TWO) == 5 * ETHER


def test_a_receiver_that_refuses_coins_holds_up_nobody():
    world = delegating_world()
    for who in (ONE, TWO):
        delegate(world, who, 5 * ETHER)
        world.must(who, "Stake", "undelegate", D, 5 * ETHER)
    world.state.set_code(ONE, REFUSES)
    assert get_out(world, TWO) == 5 * ETHER
    with pytest.raises(Reverted):
        world.must(ONE, "Stake", "withdraw_delegation", D)
    world.state.set_code(ONE, b"")
    assert get_out(world, ONE) == 5 * ETHER
    for who in (ONE, TWO):
        assert world.act(who, "Stake", "withdraw_delegation", D).reason == "stake: nothing is unbonding"


def test_no_call_of_an_account_grows_dear_with_many_delegators_and_candidates():
    """The dearest is a bond into a full list of candidates; a peer's orders bring 6 million gas."""
    world = delegating_world()
    for index in range(296):
        world.state.set_balance(account(index), RICH)
        world.must(account(index), "Stake", "bond_validator", vrf_key(NEWCOMER), value=100 * ETHER)
    for index in range(296):
        world.must(account(index), "Stake", "delegate", D, value=ETHER)
    gas = {}
    gas["bond"] = world.must(ONE, "Stake", "bond_validator", vrf_key(NEWCOMER), value=101 * ETHER).gas
    gas["delegate"] = world.must(TWO, "Stake", "delegate", D, value=ETHER).gas
    gas["share"] = world.must(TWO, "Stake", "share_reward", D, value=ETHER).gas
    gas["undelegate"] = world.must(TWO, "Stake", "undelegate", D, ETHER).gas
    gas["report"] = world.must(TWO, "Stake", "report", *make_statements(FOUNDERS[3], 1), 0).gas
    assert gas.pop("bond") < 5_000_000
    assert max(gas.values()) < 400_000, gas


def test_who_was_leaving_when_a_restart_in_the_first_epoch_left_it_out_gets_out():
    world = delegating_world()
    delegate(world, ONE, 5 * ETHER)
    next_block_before(world)
    world.must(D, "Stake", "unbond", COINS)
    world.must(ONE, "Stake", "undelegate", D, 5 * ETHER)
    world.must(SYSTEM, "Stake", "on_restart", b"d" * 32, sorted([A, B, C]))
    assert get_out(world, ONE) == 5 * ETHER
    before = world.balance(D)
    world.must(D, "Stake", "withdraw")
    assert world.balance(D) - before == COINS


def next_block_before(world):
    """Still in epoch 0."""
    world.next_block(0, pokes=False)
    assert world.view("Stake", "epoch") == 0


def test_who_served_the_first_epoch_until_a_restart_waits_for_its_end():
    world = delegating_world(epoch_seconds=300)
    delegate(world, ONE, 10 * ETHER)
    world.must(SYSTEM, "Stake", "on_restart", b"d" * 32, sorted([A, B, C]))
    world.must(ONE, "Stake", "undelegate", D, 10 * ETHER)
    world.must(D, "Stake", "unbond", COINS)
    for _ in range(10):
        world.next_block(10, pokes=False)
    for who, call in ((ONE, ("withdraw_delegation", D)), (D, ("withdraw",))):
        assert world.act(who, "Stake", *call).reason == "stake: it still secures a set"
    assert get_out(world, ONE) == 10 * ETHER


@pytest.mark.parametrize("restarts", [1, 2])
def test_what_secures_the_set_of_a_restart_is_slashed_though_it_was_about_to_be_free(restarts):
    """A restart gives back for two epochs the weight that a snapshot had taken: who left is needed so much longer."""
    world = delegating_world(epoch_blocks=12)
    delegate(world, ONE, 4 * ETHER)
    next_epoch(world, 2)
    world.must(ONE, "Stake", "undelegate", D, 4 * ETHER)
    world.must(D, "Stake", "unbond", COINS)
    next_epoch(world)
    assert world.view("Stake", "weight_of", D) == 0
    for index in range(restarts):
        document = bytes([index + 1]) * 32
        world.must(SYSTEM, "Stake", "on_restart", document, sorted([A, B, D]))
        next_epoch(world)
    for _ in range(10):
        world.next_block(10, pokes=False)
    assert D in weights(world) and world.view("Beacon", "chain_time") > world.view("Stake", "started_at") + 90
    for who, call in ((ONE, ("withdraw_delegation", D)), (D, ("withdraw",))):
        assert world.act(who, "Stake", *call).reason == "stake: it still secures a set"
    domain = ChainDomain(CHAIN_ID, GENESIS_HASH, ((0, document),))
    pair = make_statements(FOUNDERS[3], world.height, domain)
    world.must(REPORTS, "Stake", "report", *pair, world.view("Stake", "epoch"))
    assert get_out(world, ONE) < 4 * ETHER


def test_who_leaves_in_the_first_epoch_waits_for_the_second_which_genesis_serves_too():
    world = delegating_world(epoch_seconds=300)
    delegate(world, ONE, 10 * ETHER)
    world.must(ONE, "Stake", "undelegate", D, 5 * ETHER)
    next_epoch(world)
    assert world.act(ONE, "Stake", "withdraw_delegation", D).reason == "stake: it still secures a set"


def test_a_restart_long_ago_makes_no_later_exit_shorter():
    world = delegating_world()
    delegate(world, ONE, 4 * ETHER)
    next_epoch(world, 2)
    world.must(D, "Stake", "unbond", 5 * ETHER)
    next_epoch(world)
    world.must(SYSTEM, "Stake", "on_restart", b"d" * 32, sorted([A, B, C, D]))
    next_epoch(world, 3)
    world.must(ONE, "Stake", "undelegate", D, 4 * ETHER)
    next_epoch(world)
    assert world.view("Stake", "delegation_release_at", D, ONE) == 2**256 - 1


def test_what_is_free_in_the_second_of_the_conviction_is_out_of_reach():
    world = delegating_world()
    delegate(world, ONE, 2 * ETHER)
    next_epoch(world, 2)
    world.must(ONE, "Stake", "undelegate", D, 2 * ETHER)
    while (free := world.view("Stake", "delegation_release_at", D, ONE)) > world.view("Beacon", "chain_time"):
        world.next_block(10, pokes=False)
    assert free == world.view("Beacon", "chain_time")
    epoch = world.view("Stake", "epoch")
    height = world.view("Stake", "first_height_of", epoch) - 1
    world.must(REPORTS, "Stake", "report", *make_statements(FOUNDERS[3], height), epoch - 1)
    assert get_out(world, ONE) == 2 * ETHER
