"""Beacon and faucet on their compiled code."""

from contracts_support import (
    CHAIN_TIME_GAP,
    ETHER,
    FAUCET,
    FAUCET_FUNDS,
    GENESIS_TIME,
    PARAMETERS,
    RICH,
    STAKING,
    account,
    build_genesis,
    new_world,
)
from event_replay_support import FaucetIndex, Replay
from fast_world_support import FastWorld, Known

from flock_contracts.addresses import BEACON, BOARD, SYSTEM
from flock_contracts.addresses import FAUCET as FAUCET_ADDRESS

ME, OTHER, NEWCOMER = account(1), account(2), account(1_000)


def test_everything_is_initialized_once_and_by_the_system_only() -> None:
    world = new_world()
    calls = {
        "Beacon": (90,),
        "Stake": (*STAKING.values(), []),
        "Faucet": (1, 1, 1),
        "TaskBoard": tuple(PARAMETERS.values()),
    }
    for name, args in calls.items():
        assert world.act(SYSTEM, name, "initialize", *args).reason.endswith("already initialized")
        assert world.act(ME, name, "initialize", *args).reason.endswith("only the system may call")


def test_a_standstill_counts_as_one_gap_of_chain_time() -> None:
    world = new_world()
    start = world.view("Beacon", "chain_time")
    world.next_block(5)
    world.next_block(0)
    assert world.view("Beacon", "chain_time") == start + 5
    world.next_block(1_000_000)
    assert world.view("Beacon", "chain_time") == start + 5 + CHAIN_TIME_GAP
    assert start == GENESIS_TIME + 1


def test_the_system_writes_one_mix_a_height_and_nobody_else_does() -> None:
    world = new_world()
    world.next_block(mix=b"m" * 32)
    assert world.view("Beacon", "mix", world.height) == b"m" * 32
    assert world.act(SYSTEM, "Beacon", "on_block", b"x" * 32, b"").reason == "beacon: this height has its mix"
    assert world.act(ME, "Beacon", "on_block", b"x" * 32, b"").reason == "beacon: only the system may call"
    assert not world.view("Beacon", "has_mix", world.height + 1)
    assert world.act(ME, "Beacon", "mix", world.height + 1).reason == "beacon: no mix of this height"
    assert not world.view("Beacon", "has_mix", 0)


def test_the_height_of_the_first_call_gets_no_mix_afterwards() -> None:
    """At genesis that is 0, and block 0 has no other calls; what the contract says holds at any height."""
    world = new_world()
    world.state.delete_storage(BEACON)
    world.must(SYSTEM, "Beacon", "initialize", CHAIN_TIME_GAP)
    assert world.view("Beacon", "last_height") == world.height > 0
    assert world.act(SYSTEM, "Beacon", "on_block", b"x" * 32, b"").reason == "beacon: this height has its mix"


def test_a_mix_that_left_the_ring_is_unknown() -> None:
    world = new_world()
    world.next_block()
    old = world.height
    world.height += 8_191
    world.next_block()
    assert world.view("Beacon", "has_mix", world.height) and not world.view("Beacon", "has_mix", old)


def test_a_newcomer_is_served_once_and_the_submitter_gets_its_deposit_back_later() -> None:
    world = new_world()
    world.must(ME, "Faucet", "drip", NEWCOMER, value=FAUCET["deposit"])
    assert world.balance(NEWCOMER) == FAUCET["amount"]
    assert world.act(OTHER, "Faucet", "drip", NEWCOMER, value=ETHER).reason == "faucet: the newcomer was served before"
    assert (
        world.act(ME, "Faucet", "drip", account(1_001), value=ETHER).reason
        == "faucet: the submitter has a live deposit"
    )
    assert world.act(OTHER, "Faucet", "drip", account(1_001), value=1).reason == "faucet: the value is not the deposit"
    assert world.act(ME, "Faucet", "refund").reason == "faucet: the deposit is still locked"
    assert world.act(OTHER, "Faucet", "refund").reason == "faucet: no live deposit"
    world.next_block(60)
    world.must(ME, "Faucet", "refund")
    assert world.balance(ME) == RICH
    assert world.act(ME, "Faucet", "refund").reason == "faucet: no live deposit"


def test_deposits_are_never_given_to_newcomers() -> None:
    world = new_world()
    for index in range(2):
        world.must(account(10 + index), "Faucet", "drip", account(1_000 + index), value=ETHER)
        world.next_block(59)
    assert world.balance(FAUCET_ADDRESS) == FAUCET_FUNDS - 20 * ETHER + 2 * ETHER
    assert world.view("Faucet", "left") == 5 * ETHER
    assert world.act(account(12), "Faucet", "drip", account(1_002), value=ETHER).reason == "faucet: empty"
    world.next_block(60)
    for index in range(2):
        world.must(account(10 + index), "Faucet", "refund")


def test_accounts_that_serve_each_other_get_a_sixteenth_of_the_faucet_in_a_locks_time() -> None:
    """Each is served, pays a deposit of it and serves a next one; without the bound 1,000 coins last two minutes."""
    world = new_world(accounts=1)
    funds = 1_000 * ETHER
    world.state.set_balance(FAUCET_ADDRESS, funds)
    assert world.view("Faucet", "left") == funds // 16
    served, number = [account(0)], 1_000
    for window in range(1, 11):
        for helper in list(served):
            world.act(helper, "Faucet", "refund")
            if world.act(helper, "Faucet", "drip", account(number), value=FAUCET["deposit"]).ok:
                served.append(account(number))
                number += 1
        kept = world.balance(FAUCET_ADDRESS) - world.view("Faucet", "deposits")
        assert kept >= funds * 15**window // 16**window
        world.next_block(60)
    assert len(served) > 30 and funds // 2 < kept < funds * 65 // 100  # they take what there is, and no more
    reason = "faucet: this window's coins are given; later there are more"
    world.must(account(0), "Faucet", "refund")
    for index in range(8):
        world.state.set_balance(account(50 + index), RICH)
        outcome = world.act(account(50 + index), "Faucet", "drip", account(5_000 + index), value=FAUCET["deposit"])
    assert outcome.reason == reason and world.view("Faucet", "left") < FAUCET["amount"]


def test_who_knows_the_events_knows_the_faucet() -> None:
    base, root = build_genesis(4)
    world = FastWorld(base, root, Known(base))
    replay = Replay(world, {"Faucet": FaucetIndex()})
    for submitter, newcomer, seconds in ((0, 1_000, 1), (1, 1_001, 90), (0, 1_002, 90)):
        world.next_block(seconds)
        world.act(account(submitter), "Faucet", "refund")
        world.act(account(submitter), "Faucet", "drip", account(newcomer), value=ETHER)
        replay.compare()
    assert [name for name, _ in replay.logs["Faucet"]] == ["Dripped", "Dripped", "Refunded"]


def test_a_newcomer_that_takes_no_coins_blocks_nobody() -> None:
    world = new_world()
    assert not world.act(ME, "Faucet", "drip", BOARD, value=ETHER).ok
    assert world.act(ME, "Faucet", "drip", bytes(20), value=ETHER).reason == "faucet: no newcomer is named"
    world.must(ME, "Faucet", "drip", NEWCOMER, value=ETHER)
