"""What the calls of a round cost at most: the largest round there is, 64 participants and 16 seats of each role."""

import random

import pytest
from board_support import NEW_ADAPTER, Game, padded
from contracts_support import ADOPT, AVAILABILITY, COMMIT, REVEAL, SCORE_COMMIT, SCORE_REVEAL, TALLY, account

LARGE, SMALL = 3_000_000, 200_000


@pytest.fixture(scope="module")
def gas() -> dict[str, int]:
    game, most = Game(0, proposers=16, voters=16), dict[str, int]()
    world, act = game.world, game.world.act
    chance = random.Random(1)

    def measured(sender: bytes, name: str, function: str, *args: object, value: int = 0) -> object:
        outcome = act(sender, name, function, *args, value=value)
        most[function] = max(most.get(function, 0), outcome.gas)
        return outcome

    world.act = measured  # type: ignore[method-assign, assignment]
    sheets = [
        (padded([chance.randint(-999, 999) for _ in range(16)]), padded([chance.choice([0, 8]) for _ in range(16)]))
        for _ in range(16)
    ]
    for index in range(1, 65):
        game.join(account(index))
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
    assert game.phase == ADOPT
    voters = game.voters
    for who in voters:
        game.must(who, "attest_adoption", 1, NEW_ADAPTER)
    world.next_block()
    for who in voters:
        game.must(who, "claim", 1)
    return most


def test_the_largest_calls_stay_far_below_a_block(gas: dict[str, int]) -> None:
    assert {name for name in ("poke", "tally") if gas[name] > LARGE} == set()


def test_the_calls_of_participants_stay_small(gas: dict[str, int]) -> None:
    names = ("commit", "reveal", "attest_available", "commit_scores", "reveal_scores", "attest_adoption", "claim")
    assert {name: gas[name] for name in names if gas[name] > SMALL} == {}
    assert gas["join_task"] < 250_000  # once in a task: its row
