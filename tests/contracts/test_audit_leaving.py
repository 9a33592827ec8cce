"""Who may leave, and when, in a task with audits, of which nothing was accepted: on the compiled contract."""

from audit_support import blame, clear, close, game_of, members, others, pass_rounds, play_turning_away, row_of
from board_support import Game
from contracts_support import AUDIT, COMMIT, ENDED, WAITING

NOT_YET = "board: leaving, but not free yet"


def turned_away(**terms: int) -> tuple[Game, bytes]:
    """Audits follow rounds 2, 4 and so on; a participant that proposed in round 1 alone, in vain, and asks to leave."""
    game = game_of(12, **{"audit_rounds": 2, "rounds": 12, **terms})
    leaver = play_turning_away(game)
    pass_rounds(game)
    row = row_of(game, leaver)
    assert (row["last_accepted"], row["last_held"]) == (0, 1) and leaver not in game.proposers
    game.must(leaver, "leave_task")
    return game, leaver


def leave(game: Game, who: bytes) -> None:
    """With all that it has."""
    bond = game.bond_of(who)
    game.must(who, "leave_task")
    assert who not in members(game) and game.world.board("unbonding", game.task, who)["amount"] == bond
    game.check_solvent()


def test_who_was_turned_away_stays_until_two_audits_have_looked_and_brings_back_its_strike_with_another_bond() -> None:
    """It was free in the audit itself: it came back with a new bond, and what was said of it there struck nobody."""
    game, leaver = turned_away()
    blame(game, leaver, others(game, leaver)[:7])  # of twelve: more than half, and less than two thirds
    assert game.phase == AUDIT and game.send(leaver, "leave_task").reason == NOT_YET
    assert game.send(others(game, leaver)[0], "evict", leaver).reason == "board: its bond suffices"
    for who in others(game, leaver)[7:]:
        game.must(who, "attest_guilty", 1, [])
    close(game)
    game.until(COMMIT)
    assert game.send(leaver, "leave_task").reason == NOT_YET, "a second one looks at it"
    pass_rounds(game)
    clear(game)
    blamed = row_of(game, leaver)
    assert not blamed["suspended"] and blamed["strikes"] == 1
    leave(game, leaver)
    game.join(leaver)
    assert row_of(game, leaver)["strikes"] == 1


def test_a_void_audit_frees_nobody_that_was_turned_away_and_the_third_does() -> None:
    game, leaver = turned_away()
    for _ in range(3):  # the third counts, whoever is silent
        close(game)
        game.until(COMMIT)
        assert game.send(leaver, "leave_task").reason == NOT_YET
        pass_rounds(game)
    clear(game)
    leave(game, leaver)


def test_who_was_blamed_for_what_was_turned_away_waits_for_the_audit_that_may_convict_it() -> None:
    game, leaver = turned_away()
    clear(game)
    pass_rounds(game)
    blame(game, leaver, others(game, leaver))
    close(game)
    pass_rounds(game)
    assert game.send(leaver, "leave_task").reason == NOT_YET, "two audits have looked, and the second blamed it"
    blame(game, leaver, others(game, leaver))
    close(game)
    assert game.bond_of(leaver) == 0


def test_a_task_that_comes_to_no_audit_frees_who_showed_something_by_ending() -> None:
    game = game_of(8, min_participants=8, audit_rounds=4)
    game.play_to_scores()
    shown = game.proposers[0]
    game.until(COMMIT, seconds=20)  # nobody scores: the round is void, and its proposals were held all the same
    assert row_of(game, shown)["last_held"] == 1
    game.must(shown, "leave_task")  # a request: too few are left for another round
    game.until(WAITING, seconds=20)
    assert game.send(shown, "leave_task").reason == NOT_YET
    game.until(ENDED, seconds=90)
    for who in members(game):
        leave(game, who)
