"""Edges that a mutated contract would move: what genesis refuses, when each phase ends, and limits met exactly."""

import pytest
from board_support import NEW_ADAPTER, Game
from contracts_support import (
    ADOPT,
    AVAILABILITY,
    CHAIN_TIME_GAP,
    COMMIT,
    ETHER,
    PARAMETERS,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    STAKING,
    TALLY,
    VALIDATORS,
    World,
    account,
    build_genesis,
)
from stake_support import FOUNDERS, REPORTER, make_statements, next_epoch, staking_world, weights

from flock_chain.tally import Verdict
from flock_contracts.addresses import STAKE, SYSTEM

SECONDS = {
    COMMIT: "commit_seconds", REVEAL: "reveal_seconds", AVAILABILITY: "availability_seconds",
    SCORE_COMMIT: "score_commit_seconds", SCORE_REVEAL: "score_reveal_seconds", TALLY: "tally_seconds",
    ADOPT: "adopt_seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def bare() -> World:
    """The contracts' code, before genesis has called them: every word of their state is zero."""
    world = World(*build_genesis(0, VALIDATORS))
    for contract in world.contracts.values():
        world.state.delete_storage(contract.address)
    world.state.set_balance(SYSTEM, 10**6 * ETHER)
    world.state.set_balance(STAKE, 0)
    return world


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"evidence_window": 600}, "stake: evidence must be taken while the stake is still here"),
        ({"epoch_blocks": 0}, "stake: an epoch without a block"),
        ({"absence_limit": 0}, "stake: nobody would be present enough"),
    ],
)
def test_genesis_refuses_numbers_of_staking_that_could_not_work(bare: World, change: dict, reason: str) -> None:
    value = sum(stake for _, stake, _ in VALIDATORS)
    args = (*(STAKING | change).values(), list(VALIDATORS))
    assert bare.act(SYSTEM, "Stake", "initialize", *args, value=value).reason == reason


@pytest.mark.parametrize(
    ("rows", "more", "reason"),
    [
        ([(VALIDATORS[0][0], 32 * ETHER - 1, b"k" * 32)], 0, "stake: a validator below the minimum stake"),
        ([(VALIDATORS[0][0], 32 * ETHER, bytes(32))], 0, "stake: a validator without a VRF key"),
        ([VALIDATORS[0], VALIDATORS[0]], 0, "stake: a validator twice"),
        ([VALIDATORS[0]], 1, "stake: the value is not the sum of the stakes"),
    ],
)
def test_genesis_refuses_validators_that_could_not_serve(bare: World, rows: list, more: int, reason: str) -> None:
    value = sum(stake for _, stake, _ in rows) + more
    refused = bare.act(SYSTEM, "Stake", "initialize", *STAKING.values(), rows, value=value)
    assert refused.reason == reason


def test_genesis_refuses_numbers_of_the_board_and_the_beacon_that_could_not_work(bare: World) -> None:
    def board(**change: int) -> str:
        return bare.act(SYSTEM, "TaskBoard", "initialize", *(PARAMETERS | change).values()).reason

    assert board(seed_delay=0) == "board: a seed must be unknown when its height is fixed"
    for name in (name for name in PARAMETERS if name.endswith("_slash")):
        assert board(**{name: 10_001}) == "board: a slash above the whole bond"
    assert board(seat_absence_limit=0) == "board: nobody would be seated twice"
    assert bare.act(SYSTEM, "Beacon", "initialize", 0).reason == "beacon: a gap of zero would stop chain time"
    assert bare.act(SYSTEM, "Beacon", "on_block", b"m" * 32, b"").reason == "beacon: not initialized"
    assert bare.act(account(1), "Faucet", "drip", account(2)).reason == "faucet: not initialized"
    assert CHAIN_TIME_GAP > 0


def test_every_phase_ends_its_own_time_after_its_start_and_not_a_second_earlier() -> None:
    lengths = {name: 31 + 7 * index for index, name in enumerate(SECONDS.values())}
    game = Game(6, **lengths)
    seen = []
    for phase in (COMMIT, REVEAL, AVAILABILITY, SCORE_COMMIT, SCORE_REVEAL, TALLY, ADOPT):
        game.until(phase)
        view = game.view
        assert view["deadline"] == view["phase_started"] + lengths[SECONDS[phase]], SECONDS[phase]
        seen.append(phase)
        act = {
            COMMIT: lambda: [game.commit(who) for who in game.proposers],
            REVEAL: lambda: [game.reveal(who) for who in game.proposers],
            AVAILABILITY: lambda: [game.attest(who, 0b111) for who in game.voters],
            SCORE_COMMIT: lambda: [game.commit_scores(who, [-3, -2, -1]) for who in game.voters],
            SCORE_REVEAL: lambda: [game.reveal_scores(who, [-3, -2, -1]) for who in game.voters],
            TALLY: lambda: [game.tally()],
            ADOPT: lambda: [game.must(who, "attest_adoption", 1, NEW_ADAPTER) for who in game.voters[:2]],
        }[phase]
        act()
    assert len(seen) == len(SECONDS)
    started = game.view["phase_started"]
    while game.world.view("Beacon", "chain_time") < started + lengths["adopt_seconds"] - 1:
        game.world.next_block()
        assert game.phase == ADOPT  # one vote is missing, and its time is not over
    game.world.next_block()
    assert game.phase != ADOPT


def test_a_loss_of_exactly_the_limit_is_accepted_and_a_millionth_more_is_not() -> None:
    game = Game(6, loss_limit=20_000, mad_multiple=10**6)
    game.play_to_tally([[20_000, 20_001, 5]] * 3)
    game.tally()
    assert game.result(1)["verdicts"] == [Verdict.ACCEPTED, Verdict.REJECTED_LOSS, Verdict.ACCEPTED]


def test_a_round_of_exactly_four_is_paid_and_one_of_three_is_not() -> None:
    for people, paid in ((4, True), (3, False)):
        game = Game(people, min_participants=people)
        game.until(COMMIT)
        assert game.view["candidate_count"] == people and game.view["paid"] is paid


def test_who_a_restart_leaves_behind_is_jailed_for_exactly_the_delay() -> None:
    world = staking_world()
    world.next_block(1, pokes=False)
    world.must(SYSTEM, "Stake", "on_restart", b"d" * 32, [FOUNDERS[0].account])
    until = world.view("Beacon", "chain_time") + 30
    assert world.view("Stake", "jailed_until", FOUNDERS[1].account) == until


def test_a_tombstone_outlasts_a_jail() -> None:
    world = staking_world()
    for _ in range(3):
        world.next_block(10, pokes=False)
        world.must(SYSTEM, "Stake", "on_attendance", 0b1000, b"")
    guilty = FOUNDERS[3]
    world.must(REPORTER.account, "Stake", "report", *make_statements(guilty, 1), 0)
    next_epoch(world, 3)
    assert world.act(guilty.account, "Stake", "unjail").reason == "stake: tombstoned"


def test_a_reward_of_one_unit_is_paid() -> None:
    """A stake of 400 loses a twentieth, of which a twentieth is the reporter's."""
    world = staking_world((10**6, 10**6, 10**6, 400), min_validator_stake=1)
    guilty = FOUNDERS[3]
    world.must(REPORTER.account, "Stake", "report", *make_statements(guilty, 1), 0)
    while not world.act(REPORTER.account, "Stake", "settle", guilty.account, guilty.account).ok:
        world.next_block(30, pokes=False)
    assert world.view("Stake", "reward_of", REPORTER.account) == 1
    world.must(REPORTER.account, "Stake", "claim_reward")
    assert world.act(REPORTER.account, "Stake", "claim_reward").reason == "stake: no reward"


def test_an_offence_of_long_ago_makes_a_later_one_no_dearer() -> None:
    world = staking_world((400 * ETHER, 400 * ETHER, 40 * ETHER, 40 * ETHER))
    early, late = FOUNDERS[3], FOUNDERS[2]
    world.must(REPORTER.account, "Stake", "report", *make_statements(early, 1), 0)
    next_epoch(world, 4)
    world.blocks(4, 90)
    while world.view("Stake", "epoch_state")[1] > world.height:
        world.next_block(1, pokes=False)
    epoch = world.view("Stake", "epoch")
    total = sum(weights(world).values())
    world.must(REPORTER.account, "Stake", "report", *make_statements(late, world.height), epoch)
    while not world.act(REPORTER.account, "Stake", "settle", late.account, late.account).ok:
        world.next_block(30, pokes=False)
    alone = 3 * (40 * ETHER * ETHER // total)
    assert world.view("Stake", "unbonding_of", late.account) == 40 * ETHER - 40 * ETHER * alone // ETHER
