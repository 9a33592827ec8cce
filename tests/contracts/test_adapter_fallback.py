"""An adapter that was adopted and is nowhere: the stake of a task finds its way back to the one before."""

from board_support import ADAPTER, BOND, FEE, NEW_ADAPTER, POT, Game
from contracts_support import ADOPT, COMMIT, REVEAL, account

NOWHERE, LATER = b"x" * 32, b"l" * 32


def members(game: Game) -> list[bytes]:
    return [row["account"] for row in game.world.board("participants", game.task)]


def lost(participants: int = 6, **terms: int) -> Game:
    """Round 2 trains from an adapter that its voters adopted and nobody serves."""
    game = Game(participants, rounds=6, extra_rounds=0, **terms)
    game.play_round(adapter=NOWHERE)
    game.until(COMMIT)
    assert game.view["adapter"] == NOWHERE and game.round == 2
    return game


def test_two_thirds_of_the_stake_give_up_an_adapter_that_is_nowhere_and_nobody_pays_for_it() -> None:
    game = lost()
    game.commit(game.proposers[0])
    for who in members(game)[:4]:
        game.must(who, "attest_missing", 2)
    assert game.world.board("missing_stake", game.task, 2) == (4 * BOND, 6 * BOND)
    game.world.next_block()
    result = game.result(2)
    assert game.round == 3 and game.view["adapter"] == ADAPTER == result["adapter_after"]
    assert result["adapter_before"] == NOWHERE and result["share"] == 0
    assert all(game.bond_of(who) == BOND for who in members(game))
    game.play_round(adapter=NEW_ADAPTER)
    assert game.result(3)["adapter_before"] == ADAPTER and game.result(3)["adapter_after"] == NEW_ADAPTER
    game.check_solvent()


def test_less_than_two_thirds_of_the_stake_cannot_undo_an_adoption_however_many_seats_they_hold() -> None:
    game = lost(5)
    game.join(account(9), 4 * BOND)  # one that bonds as much as four others
    game.world.blocks(3, 20)  # nobody commits
    game.until(COMMIT)
    poor = [who for who in members(game) if who != account(9)]
    for who in poor:
        game.must(who, "attest_missing", game.round)
    round = game.round
    missing = sum(map(game.bond_of, poor))  # those who had a seat paid for not taking it
    assert game.world.board("missing_stake", game.task, round) == (missing, missing + 4 * BOND)
    assert 3 * missing < 2 * (missing + 4 * BOND)
    game.world.blocks(3, 20)
    assert game.round == round + 1 and game.view["adapter"] == NOWHERE


def test_what_is_bonded_after_the_close_gives_up_no_adapter() -> None:
    game = lost()
    game.join(account(1), 100 * BOND)
    game.must(account(1), "attest_missing", 2)
    assert game.world.board("missing_stake", game.task, 2) == (BOND, 6 * BOND)
    game.world.next_block()
    assert game.round == 2


def test_two_adoptions_that_are_nowhere_are_given_up_one_after_the_other() -> None:
    game = Game(rounds=8, extra_rounds=0)
    game.play_round(adapter=NEW_ADAPTER)
    game.play_round(adapter=NOWHERE)
    game.play_round(adapter=LATER)
    for expected in (NOWHERE, NEW_ADAPTER, ADAPTER):
        game.until(COMMIT)
        for who in members(game):
            game.must(who, "attest_missing", game.round)
        game.world.next_block()
        assert game.view["adapter"] == expected
    game.until(COMMIT)
    refused = game.send(account(1), "attest_missing", game.round)
    assert refused.reason == "board: the first adapter follows from the document"


def test_voting_for_the_adapter_before_once_more_is_no_adoption_to_fall_back_from() -> None:
    game = Game(rounds=6, extra_rounds=0)
    game.play_round(adapter=NEW_ADAPTER)
    game.play_round(adapter=NEW_ADAPTER)  # two thirds keep it
    game.until(COMMIT)
    for who in members(game):
        game.must(who, "attest_missing", 3)
    game.world.next_block()
    assert game.view["adapter"] == ADAPTER


def test_only_who_is_eligible_says_so_once_and_while_the_round_trains() -> None:
    game = lost()
    game.join(account(9))
    first = account(1)
    assert game.send(account(9), "attest_missing", 2).reason == "board: not eligible in this round"
    assert game.send(first, "attest_missing", 1).reason == "board: not the running round"
    for task in (0, game.task + 1):
        assert game.world.act(first, "TaskBoard", "attest_missing", task, 0).reason == "board: no such task"
    game.must(first, "attest_missing", 2)
    assert game.send(first, "attest_missing", 2).reason == "board: already said"
    for who in game.proposers:
        game.commit(who)
    game.until(REVEAL)
    assert game.send(account(2), "attest_missing", 2).reason == "board: not the phase for this"


def test_a_corrected_adapter_is_adopted_by_the_same_vote_as_any_other() -> None:
    """What an audit found guilty is taken out by voters who attest the id of the adapter without it."""
    game = Game(rounds=4, extra_rounds=0)
    game.play_round(adapter=NEW_ADAPTER)
    corrected = b"c" * 32
    round = game.play_round(adapter=corrected)
    assert game.result(round)["adapter_after"] == corrected == game.view["adapter"]
    game.until(COMMIT)
    game.play_to_tally([[-300, -200, -100], [-301, -199, -101], [-290, -210, -99]])
    game.tally()
    assert game.phase == ADOPT
    voters = game.voters
    for who, choice in zip(voters, (corrected, NEW_ADAPTER, b"e" * 32)):
        game.must(who, "attest_adoption", 3, choice)
    game.world.next_block()
    assert game.view["adapter"] == corrected  # one of three adopts nothing


def test_a_round_that_is_given_up_keeps_its_share_in_the_pot() -> None:
    game = lost()
    pot = game.world.board("task_view", game.task)["pot"]
    assert pot < POT
    for who in members(game):
        game.must(who, "attest_missing", 2)
    game.world.next_block()
    assert game.world.board("task_view", game.task)["pot"] == pot and game.world.board("burned") == FEE
