"""The board's numbers change by two thirds of the serving set, after a delay, and never for a running round."""

from typing import Any

import pytest
from board_support import BOND, CREATOR, NEW_ADAPTER, Game
from contracts_support import (
    AVAILABILITY,
    COMMIT,
    DRAW_VOTERS,
    PARAMETERS,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    VALIDATORS,
    account,
)

from flock_contracts.addresses import STAKE

SETTERS = [who for who, _, _ in VALIDATORS]
OTHERS = PARAMETERS | {"missed_reveal_slash": 400, "task_fee": 7, "unbonding_delay": 60}


def approve(game: Game, rules: dict[str, int], voters: list[bytes] = SETTERS) -> None:
    for who in voters:
        game.world.must(who, "TaskBoard", "approve_rules", rules)


def enact(game: Game) -> Any:
    return game.world.act(CREATOR, "TaskBoard", "enact_rules")


def wait(game: Game) -> None:
    while game.world.view("Beacon", "chain_time") < game.world.board("enact_at"):
        game.world.next_block(90, pokes=False)


def test_two_thirds_of_the_serving_set_change_the_numbers_after_a_delay() -> None:
    game = Game(0)
    approve(game, OTHERS, SETTERS[:2])
    assert enact(game).reason == "board: nothing is agreed", "two of three are not more than two thirds"
    approve(game, OTHERS, SETTERS[2:])
    assert enact(game).reason == "board: not yet" and game.world.board("opening_fee") == PARAMETERS["task_fee"]
    wait(game)
    assert enact(game).ok and game.world.board("opening_fee") == 7
    assert game.world.board("rules", game.world.board("rules_version")) == OTHERS
    assert enact(game).reason == "board: nothing is agreed", "once"


def test_nobody_else_has_a_say() -> None:
    game = Game(0)
    for who in (account(1), CREATOR, STAKE):
        refused = game.world.act(who, "TaskBoard", "approve_rules", OTHERS)
        assert refused.reason == "board: only the serving set changes the numbers"
    for _ in range(3):
        approve(game, OTHERS, SETTERS[:1])
    assert game.world.board("enact_at") == 0 == game.world.board("agreements")


def test_approvals_of_different_numbers_or_of_long_ago_do_not_add_up() -> None:
    game = Game(0)
    approve(game, OTHERS, SETTERS[:2])
    approve(game, OTHERS | {"task_fee": 8}, SETTERS[2:])
    assert game.world.board("enact_at") == 0
    game.world.blocks(8, 90)
    approve(game, OTHERS, SETTERS[2:])
    assert game.world.board("enact_at") == 0, "the first two are older than one unbonding delay"


@pytest.mark.parametrize("delay", [1, 10**9])
def test_an_approval_lasts_as_long_as_the_numbers_in_force_say_and_not_those_that_are_asked_for(delay: int) -> None:
    game, asked = Game(0), OTHERS | {"unbonding_delay": delay, "rules_delay": delay}
    approve(game, asked, SETTERS[:2])
    game.world.blocks(PARAMETERS["unbonding_delay"] // 60 + 1, 60)
    approve(game, asked, SETTERS[2:])
    assert game.world.board("enact_at") == 0, "two approvals are too old"
    game.world.blocks(2, 60)
    approve(game, asked, SETTERS[:2])
    agreed = game.world.view("Beacon", "chain_time") + PARAMETERS["rules_delay"]
    assert game.world.board("enact_at") == agreed, "the third still counts; the time to leave is that of today"


def test_a_later_agreement_replaces_the_one_that_waits() -> None:
    game = Game(0)
    approve(game, OTHERS)
    approve(game, OTHERS | {"task_fee": 9})
    wait(game)
    assert enact(game).ok and game.world.board("opening_fee") == 9
    approve(game, OTHERS, SETTERS[2:])
    assert game.world.board("enact_at") == 0, "what was said before an agreement is over with it"


def test_a_running_round_keeps_the_numbers_with_which_it_began() -> None:
    game = Game(8, commit_seconds=5_000)
    game.until(COMMIT)
    approve(game, OTHERS)
    wait(game)
    assert enact(game).ok
    lost = []
    for _ in range(2):
        game.until(COMMIT)
        lazy, *others = game.proposers
        bond = game.bond_of(lazy)
        for who in (lazy, *others):
            game.commit(who)
        game.until(REVEAL)
        for who in others:
            game.reveal(who)
        round = game.round
        while game.round == round:
            game.world.next_block(10)
        lost.append((bond - game.bond_of(lazy), bond))
    slashes = [PARAMETERS["missed_reveal_slash"], 400]
    assert [amount for amount, _ in lost] == [bond * bps // 10_000 for (_, bond), bps in zip(lost, slashes)]


def test_a_running_round_keeps_each_of_its_numbers_and_the_next_one_has_the_others() -> None:
    game = Game(9, voters=6, commit_seconds=5_000)
    game.until(COMMIT)
    slashes = dict.fromkeys(("invalid_bytes_slash", "norm_slash", "missed_reveal_slash", "seat_absence_slash"), 5)
    others = {"seed_delay": 9, "phase_min_blocks": 20, "seat_absence_limit": 1}
    approve(game, PARAMETERS | slashes | others | {"unbonding_delay": 7, "bond_unlock_rounds": 0})
    wait(game)
    assert enact(game).ok
    standing = game.world.board("standing", game.task, account(1))
    assert [standing[name] for name in ("unbonding_delay", "unlock_rounds")] == [600, 2], "delegators', too"
    for who in game.proposers:
        game.commit(who)
    game.until(DRAW_VOTERS)
    assert game.view["seed_height"] == game.world.height + PARAMETERS["seed_delay"]
    game.until(REVEAL)
    for who in game.proposers:
        game.reveal(who)
    game.until(AVAILABILITY)
    (lazy, silent, *rest), proposers = game.voters, game.proposers
    for who in (silent, *rest):
        game.attest(who, 0b110, 0b001)
    game.until(SCORE_COMMIT, seconds=10, limit=4)
    assert game.held_of(proposers[0]) == BOND
    for who in (silent, *rest):
        game.commit_scores(who, [0, -200, -100], [0, 3, 0])
    game.until(SCORE_REVEAL, seconds=10, limit=4)
    for who in rest:
        game.reveal_scores(who, [0, -200, -100], [0, 3, 0])
    game.until(TALLY, seconds=10, limit=4)
    game.tally()
    assert game.held_of(proposers[1]) == BOND // 2
    for who in rest:
        game.must(who, "attest_adoption", 1, NEW_ADAPTER)
    game.world.next_block()
    rows = {row["account"]: row for row in game.world.board("participants", game.task)}
    assert [rows[who]["bond"] for who in (lazy, silent)] == [BOND - BOND // 1_000, BOND - BOND // 100]
    assert not any(row["unseated"] for row in rows.values())
    assert game.round == 2 and game.view["seed_height"] == game.world.height + 9


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed_delay": 0}, {"seed_delay": 65}, {"phase_min_blocks": 65}, {"norm_slash": 10_001},
        {"seat_absence_slash": 10_001}, {"seat_absence_limit": 0}, {"bond_unlock_rounds": 65},
        {"unbonding_delay": 10**9 + 1}, {"rules_delay": 10**9 + 1}, {"task_fee": 1 << 128},
    ],
)  # fmt: skip
def test_numbers_that_would_stop_the_board_or_keep_a_bond_are_refused(wrong: dict[str, int]) -> None:
    game = Game(0)
    assert game.world.act(SETTERS[0], "TaskBoard", "approve_rules", PARAMETERS | wrong).reason.startswith("board: ")


def test_a_bond_that_was_given_before_comes_back_under_the_numbers_of_its_round() -> None:
    game = Game(8)
    game.play_to_availability()
    approve(game, OTHERS)
    outsider = next(
        row["account"]
        for row in game.world.board("participants", 1)
        if row["account"] not in (*game.proposers, *game.voters)
    )
    game.must(outsider, "leave_task")
    assert game.world.board("unbonding", 1, outsider)["amount"] == BOND
    release = game.world.board("unbonding", 1, outsider)["release_at"]
    assert release == game.world.view("Beacon", "chain_time") + PARAMETERS["unbonding_delay"]


def test_who_was_accepted_stays_for_as_many_rounds_as_the_running_one_says() -> None:
    game = Game(14, rounds=5, commit_seconds=5_000)
    game.play_round()
    game.until(COMMIT)
    approve(game, PARAMETERS | {"bond_unlock_rounds": 0})
    wait(game)
    assert enact(game).ok
    for who in game.proposers:
        game.commit(who)
    game.until(REVEAL)
    free = next(who for who in game.result(1)["proposers"] if who not in (*game.proposers, *game.voters))
    game.must(free, "leave_task")
    assert game.bond_of(free) == BOND and game.send(free, "leave_task").reason == "board: leaving, but not free yet"
