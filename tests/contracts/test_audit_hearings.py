"""All stake that is heard again, because a suspension would leave too few for a round, on the compiled contract."""

from audit_support import blame, close, game_of, others, play_to_audit, row_of
from board_support import BOND
from contracts_support import COMMIT


def test_where_all_stake_is_heard_again_no_seat_is_heard_though_its_round_had_no_audit_of_its_own() -> None:
    game = game_of(9, audit_rounds=2, min_participants=8)
    game.play_round()
    suspended = play_to_audit(game)
    blame(game, suspended, others(game, suspended)[:5])
    close(game)
    game.until(COMMIT)
    leaver = next(who for who in others(game, suspended) if who not in game.proposers)
    game.must(leaver, "leave_task")  # a request: of nine now seven are able, and eight would be
    accused = play_to_audit(game)
    view = game.world.board("audit_view", game.task)
    assert (view["number"], view["round"]) == (2, 3), "after the third round, of which no audit is due"
    voters = game.result(3)["voters"]
    blame(game, accused, voters)
    assert game.world.board("blame_of", game.task, 2, accused) == (len(voters) * BOND, 0)
    close(game)
    assert not row_of(game, accused)["suspended"], "three seats of three, and a third of all stake"
