"""What an absence costs: a small part of the bond for each seat that is held up, and in the end the seat."""

import pytest
from board_support import BOND, CREATOR, FEE, Game, padded
from contracts_support import (
    ADOPT,
    AVAILABILITY,
    COMMIT,
    ENDED,
    PARAMETERS,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    WAITING,
    account,
)

LARGE = 1_000 * BOND  # so that a tenth of a per cent of what a slash left is no fraction
LOST = LARGE * PARAMETERS["seat_absence_slash"] // 10_000
UNOPENED = LARGE * PARAMETERS["missed_reveal_slash"] // 10_000
LIMIT = PARAMETERS["seat_absence_limit"]


def row_of(game: Game, who: bytes) -> dict[str, object]:
    return dict(game.world.board("participant", game.task, who))


def play_with_an_absent_voter(game: Game, missed: int) -> bytes:
    """A round in which the first voter is away in that phase, and in all that follow."""
    game.play_to_availability()
    round, voters = game.round, game.voters
    absent, present = voters[0], voters[1:]
    scores = {who: padded([-300 + index, -200, -100]) for index, who in enumerate(voters)}
    for who in voters if missed > AVAILABILITY else present:
        game.attest(who, game.view["revealed"])
    game.until(SCORE_COMMIT, seconds=5)
    for who in voters if missed > SCORE_COMMIT else present:
        game.commit_scores(who, scores[who])
    game.until(SCORE_REVEAL, seconds=5)
    for who in voters if missed > SCORE_REVEAL else present:
        game.reveal_scores(who, scores[who])
    game.until(TALLY, seconds=5)
    game.tally()
    for who in present:
        game.must(who, "attest_adoption", round, b"n" * 32)
    while game.round == round:
        game.world.next_block(5)
    return absent


def cut(bond: int, absences: int) -> int:
    for _ in range(absences):
        bond -= bond * PARAMETERS["seat_absence_slash"] // 10_000
    return bond


def pass_without_proposals(game: Game) -> list[bytes]:
    """A round in which nobody commits; who proposed."""
    game.until(COMMIT)
    round, proposers = game.round, game.proposers
    while (game.round, game.phase) == (round, COMMIT):
        game.world.next_block(10)
    return proposers


@pytest.mark.parametrize(
    ("missed", "lost"), [(AVAILABILITY, LOST), (SCORE_COMMIT, LOST), (SCORE_REVEAL, UNOPENED), (ADOPT, LOST)]
)
def test_a_voter_that_stays_or_goes_away_loses_little_and_once(missed: int, lost: int) -> None:
    game = Game(0)
    for index in range(1, 9):
        game.join(account(index), LARGE)
    absent = play_with_an_absent_voter(game, missed)
    assert game.bond_of(absent) == LARGE - lost and game.world.board("burned") == FEE + lost
    assert row_of(game, absent)["missed"] == 1 and not row_of(game, absent)["unseated"]
    others = [row for row in game.world.board("participants", game.task) if row["account"] != absent]
    assert {(row["bond"], row["missed"]) for row in others} == {(LARGE, 0)}
    assert 0 < LOST < UNOPENED == LARGE // 100
    game.check_solvent()


def test_what_nobody_was_asked_for_is_no_absence() -> None:
    game = Game(8)
    game.play_to_availability()
    voters, proposers = game.voters, game.proposers
    for who in voters:
        game.attest(who, 0)  # nobody holds anything: the round ends here
    game.world.next_block()
    assert game.round == 2
    rows = [row_of(game, who) for who in (*voters, *proposers)]
    assert {(row["bond"], row["missed"]) for row in rows} == {(BOND, 0)}


def test_an_account_that_never_acts_pays_for_each_seat_and_is_drawn_no_more() -> None:
    game = Game(0, rounds=12, proposers=1, voters=3, min_participants=4)
    for index in range(1, 5):
        game.join(account(index), LARGE)
    seen = pass_without_proposals(game)
    while game.phase != WAITING:
        seen += pass_without_proposals(game)
    idle = next(who for who in seen if seen.count(who) == LIMIT)
    assert seen[-1] == idle and max(map(seen.count, seen)) == LIMIT
    row = row_of(game, idle)
    assert row["unseated"] and row["missed"] == LIMIT
    assert row["bond"] == cut(LARGE, LIMIT) and LARGE - row["bond"] == game.world.board("burned") - FEE - sum(
        LARGE - cut(LARGE, seen.count(who)) for who in {*seen} - {idle}
    )
    assert game.send(CREATOR, "evict", idle).reason == "board: its bond suffices"
    game.join(account(20))
    assert game.world.next_block() == [game.task]  # four again, without the idle one
    for _ in range(2):
        assert idle not in pass_without_proposals(game)
    game.must(idle, "leave_task")
    game.check_solvent()


def test_who_is_unseated_comes_back_by_a_message_for_the_round_after() -> None:
    game = Game(4, rounds=30, proposers=1, voters=3, min_participants=3)
    gone: list[bytes] = []
    while not gone:
        pass_without_proposals(game)
        gone = [row["account"] for row in game.world.board("participants", game.task) if row["unseated"]]
    game.world.next_block()
    assert game.send(gone[0], "rejoin").ok and game.send(gone[0], "rejoin").reason == "board: not unseated"
    game.until(COMMIT)
    assert game.view["candidate_count"] == 3, "its round had begun"
    assert row_of(game, gone[0])["missed"] == 0
    pass_without_proposals(game)
    game.until(COMMIT)
    assert game.view["candidate_count"] in (3, 4)
    assert game.send(account(30), "rejoin").reason == "board: not unseated"


def test_doing_ones_part_once_makes_up_for_the_absences_before() -> None:
    game = Game(4, rounds=30, proposers=1, voters=3)
    for _ in range(20):
        game.until(COMMIT)
        proposer = game.proposers[0]
        before = row_of(game, proposer)["missed"]
        if before == LIMIT - 1:
            break
        pass_without_proposals(game)
    assert before == LIMIT - 1
    game.commit(proposer)
    game.world.blocks(3)
    game.reveal(proposer)
    round = game.round
    while game.round == round:
        game.world.next_block(10)
    row = row_of(game, proposer)
    assert row["missed"] == 0 and not row["unseated"]


def test_holding_up_every_round_costs_a_tenth_of_a_per_cent_each_time() -> None:
    """The cheapest way to hold up a task: never act, and come back as soon as one is unseated."""
    game = Game(0, rounds=40, extra_rounds=0, proposers=1, voters=3, min_participants=2)
    lazy = account(1)
    game.join(lazy, 10_000 * LARGE)  # drawn first, nearly always
    for index in range(2, 6):
        game.join(account(index), LARGE)
    held_up = 0
    for _ in range(12):
        held_up += pass_without_proposals(game) == [lazy]
        if row_of(game, lazy)["unseated"]:
            game.must(lazy, "rejoin")
    assert held_up >= 9
    assert game.bond_of(lazy) == cut(10_000 * LARGE, held_up)
    game.check_solvent()


def test_the_unseated_make_room_where_all_rows_are_taken() -> None:
    game = Game(63, rounds=400, extra_rounds=0, proposers=16, voters=3, min_participants=2)
    gone: list[bytes] = []
    while not gone:
        pass_without_proposals(game)
        gone = [row["account"] for row in game.world.board("participants", game.task) if row["unseated"]]
    assert game.send(CREATOR, "evict", gone[0]).reason == "board: its bond suffices"
    game.join(account(65))
    game.must(CREATOR, "evict", gone[0])
    assert game.world.board("unbonding", game.task, gone[0])["amount"] == BOND - 1  # 0.1 % of 999 is no unit
    assert game.phase != ENDED
    game.check_solvent()
