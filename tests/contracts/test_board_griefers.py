"""Participants who would live off a task or stand in its way: what they gain, and who they can hold up."""

from board_support import BOND, CREATOR, POT, Game
from contracts_support import COMMIT, ENDED, account

from flock_chain.tally import FILTER_NEAR_DUPLICATE


def members(game: Game) -> list[bytes]:
    return [row["account"] for row in game.world.board("participants", game.task)]


def test_rows_of_those_who_only_ask_to_leave_can_be_freed_where_all_are_taken() -> None:
    """A squatter that is leaving is never drawn, so never absent, so never unseated: its bond stood in no danger."""
    game = Game(64, rounds=20, extra_rounds=0, proposers=3, voters=3)
    game.until(COMMIT)
    squatter = next(who for who in members(game) if who not in game.proposers)
    game.must(squatter, "leave_task")  # a request: the voters are not drawn yet
    assert game.send(CREATOR, "evict", squatter).reason == "board: not free yet" and game.bond_of(squatter) == BOND
    game.world.blocks(3, 20)  # nobody commits
    game.until(COMMIT)
    assert game.send(CREATOR, "evict", next(who for who in members(game) if who != squatter)).reason == (
        "board: its bond suffices"
    )
    game.must(CREATOR, "evict", squatter)
    assert game.world.board("unbonding", game.task, squatter)["amount"] == BOND
    game.join(account(65))
    game.check_solvent()


def test_who_works_one_round_of_many_and_goes_shares_no_more_of_the_rest_than_of_the_rounds() -> None:
    game = Game(rounds=10, extra_rounds=0, rest_share=10_000, wait_seconds=30)
    game.play_round()
    rest = game.world.board("task_view", game.task)["pot"]
    assert rest > POT * 8 // 10
    for who in members(game):
        game.send(who, "leave_task")
    while game.phase != ENDED:
        game.world.next_block(20)
    kept = game.world.board("task_view", game.task)["pot"]
    assert rest - kept <= rest // 10
    game.check_solvent()


def test_rounds_beyond_the_guaranteed_ones_add_nothing_to_what_is_shared() -> None:
    game = Game(rounds=1, extra_rounds=8, rest_share=10_000)
    game.play_round()
    game.until(COMMIT)
    game.must(CREATOR, "stop_task")
    game.play_round()
    assert game.phase == ENDED and game.world.board("task_view", game.task)["pot"] < 12  # less than one each
    game.check_solvent()


def test_a_round_that_pays_nobody_adds_nothing_to_what_is_shared() -> None:
    game = Game(rounds=2, extra_rounds=0, rest_share=10_000)
    game.play_round()
    rest = game.world.board("task_view", game.task)["pot"]
    game.play_to_tally([[-100] * 3] * 3, [[FILTER_NEAR_DUPLICATE] * 3] * 3)  # copies, by voters who measured nothing
    game.tally()
    result = game.result(2)
    assert result["tallied"] and (result["accepted_count"], result["earning"]) == (0, 0)
    kept = game.world.board("task_view", game.task)["pot"]
    assert game.phase == ENDED and rest // 2 <= kept < rest // 2 + 12
    game.check_solvent()
