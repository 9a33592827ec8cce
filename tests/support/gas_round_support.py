"""Rounds of 64 participants with 16 seats of each role, and delegators with all of them: what a round's end costs where
it is dearest. For gas_support.
"""

import random
from collections.abc import Sequence

from board_support import BOND, CREATOR, NEW_ADAPTER, Game, padded
from contracts_support import ADOPT, AUDIT, COMMIT, account
from delegation_support import DelegatedGame
from gas_views_support import play_between, read_all

SEATS, ROWS = 16, 64
BACKER = account(66)  # bonds with others only


def gathered(**terms: int) -> DelegatedGame:
    """Everybody takes part who can, and has delegators."""
    game = DelegatedGame(ROWS, proposers=SEATS, voters=SEATS, **terms)
    for index in range(1, ROWS + 1):
        game.bonded(BACKER, account(index), BOND)
    return game


def play_to_tally(game: Game, sheets: Sequence[Sequence[int]], filters: Sequence[Sequence[int]]) -> None:
    """Some have delegated too late for this round: what they missed is written down at its end."""
    game.until(COMMIT)
    for index in range(1, ROWS + 1):
        game.world.must(CREATOR, "Delegation", "delegate", game.task, account(index), value=BOND)
    game.play_to_tally(sheets, filters)


def play_round() -> None:
    game = gathered()
    world = game.world
    game.join(account(1))  # adds to its bond
    chance = random.Random(1)
    sheets = [[chance.randint(-999, 999) for _ in range(SEATS)] for _ in range(SEATS)]
    filters = [padded([chance.choice([0, 8]) for _ in range(SEATS)]) for _ in range(SEATS)]
    play_to_tally(game, sheets, filters)
    game.tally()
    for who in game.voters:
        game.must(who, "attest_adoption", 1, NEW_ADAPTER)
    result = game.result(1)
    world.next_block()
    for who in (*result["proposers"], *result["voters"][:-1]):  # the last leaves its pay
        if world.board("claimable", game.task, 1, who):
            game.must(who, "claim", 1)
            leave_delegation(game, who)
    read_board(game)
    first = next(account(index) for index in range(1, ROWS) if account(index) not in result["proposers"])
    game.must(first, "leave_task")
    play_between(game, CREATOR)


def leave_delegation(game: DelegatedGame, who: bytes) -> None:
    """After its pay: claims, asks for two parts, and takes what is free at once."""
    game.says(BACKER, "claim_delegation", who)
    game.says(CREATOR, "undelegate", who, BOND // 2)
    game.says(BACKER, "undelegate", who, BOND)


def play_dear_tally() -> None:
    """All proposals are accused, all voters are paid with their delegators, and an audit begins: by one call."""
    game = gathered(audit_rounds=1)
    play_to_tally(game, scores(), [padded([3] * SEATS)] * SEATS)
    game.tally()
    assert game.phase == AUDIT and game.result(1)["per_voter"] > 0


def play_dear_adoption() -> None:
    """All proposals and voters are paid with their delegators, all voters slashed for what they left undone, and an
    audit begins: by one poke."""
    game = gathered(audit_rounds=1)
    play_to_tally(game, scores(), [padded([0] * SEATS)] * SEATS)
    read_board(game)
    game.tally()
    assert game.phase == ADOPT and game.result(1)["accepted_count"] == SEATS
    game.until(AUDIT, seconds=10)
    assert all(game.bond_of(who) < BOND for who in game.voters)


def scores() -> list[list[int]]:
    return [[index + voter - 300 for index in range(SEATS)] for voter in range(SEATS)]


def read_board(game: Game, round: int = 1) -> None:
    """Of the seated, and of the last who is not."""
    everybody = [row["account"] for row in game.world.board("participants", game.task)]
    seated = [*game.result(round)["proposers"][-1:], *game.result(round)["voters"][-1:]]
    people = [*seated, *(who for who in everybody[-1:] if who not in seated)]
    read_all(game.world, people, BACKER, task=game.task, round=round, accounts=everybody)
