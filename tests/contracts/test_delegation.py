"""Bonds with a participant of a task: what they weigh and lose, and how they come back."""

from audit_support import blame, clear, close, others, play_to_audit
from board_support import BOND, FEE, Game
from contracts_support import (
    AUDIT,
    COMMIT,
    DRAW_PROPOSERS,
    REVEAL,
    RICH,
    SCORE_COMMIT,
    account,
)
from delegation_support import ONE, THREE, TWO, DelegatedGame

DELAY = 600
P = account(1)


def pass_round(game: Game, until: int | None = None) -> None:
    """Everybody is there, so that nobody pays for an absence, and nobody holds what was proposed."""
    game.play_to_availability()
    round = game.round
    for who in game.voters:
        game.attest(who, 0)
    while game.round == round and game.phase != until:
        game.world.next_block(20)


def test_what_is_delegated_weighs_in_the_next_draw_and_makes_nobody_a_participant():
    game = DelegatedGame(6)
    game.bonded(ONE, P, 4 * BOND)
    game.until(DRAW_PROPOSERS)
    game.world.next_block()
    game.bonded(TWO, account(2), BOND)  # after the close
    game.until(COMMIT)
    assert game.weights() == 10 * BOND
    pass_round(game)
    game.until(COMMIT)
    assert game.weights() == 11 * BOND
    row = game.world.board("participant", game.task, P)
    assert row["bond"] == BOND and game.world.view("Delegation", "offer_of", game.task, P)["pool"] == 4 * BOND
    game.check_solvent()


def test_a_participant_whose_own_bond_is_below_the_minimum_has_no_seat_however_much_others_bonded():
    game = DelegatedGame(7, min_bond=BOND - 5, rounds=9)  # less than a hundredth
    game.bonded(ONE, P, 4 * BOND)
    game.until(COMMIT)
    while P not in game.proposers:
        pass_round(game)
        game.until(COMMIT)
    for who in game.proposers:
        game.commit(who)
    game.until(REVEAL)
    for who in game.proposers:
        if who != P:
            game.reveal(who)
    round = game.round
    while game.round == round:
        game.world.next_block(10)  # never opened: a hundredth is gone
    lost = BOND - game.bond_of(P)
    assert lost == BOND // 100 and game.row(ONE, P)["stake"] == 4 * BOND - 4 * lost
    game.until(COMMIT)
    everybody = [account(index) for index in range(1, 8)]
    assert game.weights() == sum(game.bond_of(who) for who in everybody if who != P)
    game.join(P, lost)
    pass_round(game)
    game.until(COMMIT)
    assert game.weights() == sum(map(game.bond_of, everybody)) + 4 * BOND - 4 * lost


def test_a_participant_takes_what_it_says_and_at_most_four_times_its_own_bond():
    game = DelegatedGame(4)
    takes_no_more = "delegation: the participant takes no more"
    assert game.delegate(ONE, P, 0).reason == "delegation: bond more than nothing"
    assert game.delegate(P, P, 1).reason == "delegation: a participant bonds with join_task"
    assert game.delegate(ONE, account(9), 1).reason == takes_no_more
    game.join(account(9))
    assert game.delegate(ONE, account(9), 1).reason == takes_no_more  # it never said how much
    assert game.delegate(ONE, P, 4 * BOND + 1).reason == takes_no_more
    game.bonded(ONE, P, 4 * BOND)
    assert game.delegate(TWO, P, 1).reason == takes_no_more
    game.join(P, 1)
    game.says(P, "set_terms", 0, 4 * BOND + 2)
    assert game.delegate(TWO, P, 3).reason == takes_no_more
    game.bonded(TWO, P, 2)
    game.says(P, "set_terms", 0, 0)
    assert game.row(TWO, P)["stake"] == 2  # what is there stays
    game.until(COMMIT)
    game.must(P, "leave_task")
    assert game.delegate(THREE, P, 1).reason == "delegation: the participant is leaving"
    assert game.tries(P, "set_terms", 10_001, 0) == "delegation: a commission above the whole"


def test_a_slash_takes_the_same_part_of_the_pool_also_of_what_is_leaving():
    game = DelegatedGame(14)
    game.play_to_availability()
    guilty = game.proposers[0]
    game.bonded(ONE, guilty, 3 * BOND)  # fresh: it weighs nothing, and yet answers for its participant
    game.says(ONE, "undelegate", guilty, BOND)
    game.bonded(TWO, guilty, BOND)
    for who in game.voters:
        game.attest(who, 0b110, 0b001)
    game.until(SCORE_COMMIT)
    assert game.delegate(THREE, guilty, 1).reason == "delegation: the participant is accused"
    game.convict(1, 0)
    assert game.bond_of(guilty) == 0 and game.row(ONE, guilty)["stake"] == game.row(ONE, guilty)["leaving"] == 0
    assert game.world.board("burned") == FEE + BOND and game.total("burned") == 4 * BOND
    assert game.delegate(TWO, guilty, 1).reason == "delegation: the participant takes no more"
    game.join(guilty, 10)
    game.bonded(TWO, guilty, 40)  # a new pool; who lost everything has no part in it
    assert game.row(TWO, guilty)["stake"] == 40 and game.row(ONE, guilty)["stake"] == 0
    assert game.tries(ONE, "undelegate", guilty, 1) == "delegation: nothing is bonded there"
    game.check_solvent()


def test_a_delegator_of_who_is_free_unbonds_at_once_and_after_the_same_delay():
    game = DelegatedGame(14)
    game.bonded(ONE, P, BOND)
    assert game.tries(ONE, "undelegate", P, BOND + 1) == "delegation: more than is bonded"
    assert game.tries(ONE, "undelegate", P, 0) == "delegation: leave with more than nothing"
    game.says(ONE, "undelegate", P, BOND)
    row = game.row(ONE, P)
    assert (row["stake"], row["leaving"], row["unbonding"]) == (0, 0, BOND)
    assert row["release_at"] == game.world.timestamp + DELAY
    assert game.tries(ONE, "withdraw_delegation", P) == "delegation: still unbonding"
    assert game.wait_for(ONE, P) == BOND and game.world.balance(ONE) == RICH
    assert game.tries(ONE, "withdraw_delegation", P) == "delegation: nothing is unbonding"
    assert game.total("total_unbonding") == game.total("total_delegated") == 0
    game.check_solvent()


def test_a_participant_that_is_accepted_in_every_round_cannot_keep_a_delegator():
    game = DelegatedGame(6, rounds=9)
    game.until(COMMIT)
    who = game.proposers[0]
    game.bonded(ONE, who, BOND)
    game.bonded(TWO, who, BOND)
    game.says(ONE, "undelegate", who, BOND)  # round 1
    for round in (1, 2, 3):
        game.play_round()
        assert game.round == round + 1
        game.until(COMMIT)
        if round < 3:
            assert game.tries(ONE, "undelegate", who, 0) == "delegation: leaving, but not free yet"
            assert not game.row(ONE, who)["is_out"]
        game.says(TWO, "undelegate", who, 1)  # another's requests change nothing for the first
    assert game.row(ONE, who)["is_out"] and not game.row(TWO, who)["is_out"]
    game.says(ONE, "undelegate", who, 0)
    assert game.wait_for(ONE, who) == BOND


def test_where_there_are_audits_a_delegation_waits_for_two_of_them():
    game = DelegatedGame(9, rounds=12, audit_rounds=2)
    game.until(COMMIT)
    who = game.proposers[0]
    game.bonded(ONE, who, BOND)
    game.says(ONE, "undelegate", who, BOND)
    seen = []
    for _ in range(400):
        if game.row(ONE, who)["is_out"]:
            break
        if game.phase == COMMIT and not game.world.board("task_view", game.task)["ended"]:
            game.play_to_tally([[-300, -200, -100]] * 3)
            game.tally()
            for voter in game.voters:
                game.must(voter, "attest_adoption", game.round, b"n" * 32)
        game.world.next_block(5)
        seen.append(game.world.board("audit_view", game.task)["number"] - 1)
    assert game.row(ONE, who)["is_out"] and game.round >= 5
    assert seen[-1] == 6  # nobody spoke in them, so that every third one counts


def test_who_asked_to_leave_waits_while_its_participant_is_blamed_once_and_loses_with_it():
    """Two audits that count have passed since it asked, but the second may be the first half of a conviction."""
    game = DelegatedGame(9, rounds=12, audit_rounds=1)
    game.until(COMMIT)
    who = game.proposers[0]
    game.bonded(ONE, who, BOND)
    game.says(ONE, "undelegate", who, BOND)
    play_to_audit(game)
    clear(game)
    for speaks in (True, False):  # the third is void
        pass_round(game, AUDIT)
        blame(game, who, others(game, who)[: 8 * speaks])
        close(game)
    game.until(COMMIT)
    assert game.round == 4 and game.world.board("audit_view", game.task)["counted"] == 2
    assert game.tries(ONE, "undelegate", who, 0) == "delegation: leaving, but not free yet"
    pass_round(game, AUDIT)
    blame(game, who, others(game, who))
    close(game)
    assert game.bond_of(who) == 0 and game.total("burned") >= BOND - 5 and game.total("total_delegated") == 0
    game.check_solvent()


def test_leaving_stake_weighs_no_more_from_the_next_round_on():
    game = DelegatedGame(6)
    for index in range(1, 7):
        game.bonded(ONE, account(index), 2 * BOND)
    game.until(COMMIT)
    game.says(ONE, "undelegate", P, BOND)
    game.world.next_block()
    game.says(ONE, "undelegate", P, BOND // 2)
    assert game.weights() == 18 * BOND
    pass_round(game)
    game.until(COMMIT)
    assert game.weights() == 16 * BOND + BOND // 2


def test_who_leaves_a_task_frees_its_delegators_and_has_none_when_it_comes_back():
    game = DelegatedGame(8)
    game.bonded(ONE, P, 2 * BOND)
    game.bonded(TWO, P, BOND)
    game.must(P, "leave_task")
    assert game.total("total_delegated") == 0 and game.total("total_unbonding") == 3 * BOND
    assert game.tries(ONE, "undelegate", P, 1) == "delegation: nothing is bonded there"
    game.world.next_block(90)
    game.join(P)
    game.bonded(ONE, P, 5)
    assert game.row(ONE, P)["stake"] == 5 and game.row(ONE, P)["unbonding"] == 2 * BOND
    row = game.row(TWO, P)
    assert row["stake"] == 0 and row["unbonding"] == BOND and row["release_at"] == game.world.timestamp + DELAY - 90
    assert game.wait_for(ONE, P) == 2 * BOND
    assert game.taken(TWO, "withdraw_delegation", P) == BOND
    assert game.row(ONE, P)["stake"] == 5
    game.check_solvent()


def test_delegators_keep_no_participant_and_the_eviction_of_one_frees_them():
    game = DelegatedGame(14)
    game.play_to_availability()
    guilty = game.proposers[0]
    for who in game.voters:
        game.attest(who, 0b110, 0b001)
    game.until(SCORE_COMMIT)
    game.convict(1, 0)
    game.join(guilty, 99)
    game.bonded(ONE, guilty, 9)
    while game.round == 1:
        game.world.next_block(20)
    game.must(ONE, "evict", guilty)
    assert game.row(ONE, guilty)["unbonding"] == 9 and game.wait_for(ONE, guilty) == 9


def test_a_participant_speaks_in_audits_with_all_that_is_bonded_with_it():
    game = DelegatedGame(6, audit_rounds=1, rounds=8)
    game.bonded(ONE, P, 3 * BOND)
    game.play_to_tally([[-300, -200, -100]] * 3)
    game.tally()
    for who in game.voters:
        game.must(who, "attest_adoption", 1, b"n" * 32)
    game.until(AUDIT)
    assert game.world.board("audit_view", game.task)["stake"] == 9 * BOND
    game.bonded(TWO, P, BOND)  # has no say: it was not there when the round began
    accused = next(who for who in game.result(1)["proposers"] if who != P)
    game.must(P, "attest_guilty", 1, [accused])
    assert game.world.board("blame_of", game.task, 1, accused)[0] == 4 * BOND
    assert game.send(ONE, "attest_guilty", 1, [accused]).reason == "board: nothing was bonded when the round began"
