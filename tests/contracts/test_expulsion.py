"""Three proposals in a row for which more than half of all stake names their author, on the compiled contract: it is
out of the task for good, and its bond comes back to it. A suspension, too, waits for who leaves and comes back.
"""

from audit_support import (
    blame,
    clear,
    close,
    game_of,
    members,
    others,
    pass_rounds,
    play_to_audit,
    play_turning_away,
    row_of,
)
from board_support import BOND, CREATOR, FEE, Game
from contracts_support import AUDIT, COMMIT, PARAMETERS, account
from delegation_support import ONE, DelegatedGame

WHO = account(1)  # thrice the bond of the others, so that it is drawn: of eleven bonds six are more than half
HALF = 6
TERMS = {"proposers": 6, "voters": 3, "rounds": 60}


def task_of() -> Game:
    game = game_of(9, **TERMS)
    game.join(WHO, 2 * BOND)
    return game


def propose(game: Game) -> None:
    """To the audit of a round in which it proposed."""
    for _ in range(6):
        play_to_audit(game)
        if WHO in game.result(game.round)["proposers"]:
            return
        clear(game)
    raise AssertionError("it was never drawn")


def name(game: Game, blamers: int = HALF) -> None:
    """Everybody speaks, so that the audit counts."""
    audit, speakers = game.world.board("audit_view", game.task)["number"], others(game, WHO)
    for at, who in enumerate(speakers):
        game.must(who, "attest_guilty", audit, [WHO] if at < blamers else [])
    close(game)


def strike(game: Game) -> None:
    """For a new proposal; and back from its suspension."""
    propose(game)
    name(game)
    assert row_of(game, WHO)["suspended"]


def back(game: Game) -> None:
    while row_of(game, WHO)["suspended"]:
        play_to_audit(game)
        clear(game)


def strikes_of(game: Game) -> object:
    return row_of(game, WHO)["strikes"]


def test_three_proposals_in_a_row_that_more_than_half_of_all_stake_names_expel_and_every_bond_comes_back() -> None:
    game = DelegatedGame(9, bond=BOND, audit_rounds=1, extra_rounds=0, **TERMS)
    game.join(WHO, 2 * BOND)
    game.bonded(ONE, WHO, BOND)
    for count in (1, 2, 3):
        propose(game)
        name(game, 7)  # of twelve bonds: its delegator's is one
        row = row_of(game, WHO)
        assert row["strikes"] == count and row["suspended"] and (row["leaving_at"] > 0) is (count == 3)
        if count < 3:
            back(game)
    assert game.send(WHO, "leave_task").reason == "board: leaving, but not free yet", "another audit may yet convict it"
    assert game.send(account(2), "evict", WHO).reason == "board: not free yet"
    assert game.delegate(ONE, WHO, 1).reason == "delegation: the participant is leaving"
    for _ in range(2):
        play_to_audit(game)
        assert WHO not in (*game.result(game.round)["proposers"], *game.result(game.round)["voters"])
        audit = game.world.board("audit_view", game.task)
        assert (audit["stake"], audit["auditors"]) == (8 * BOND, 8), "its bond has no say, though it is still there"
        late = game.send(WHO, "attest_guilty", audit["number"], [])
        assert late.reason == "board: nothing was bonded when the round began"
        for who in others(game, WHO)[:6]:
            game.must(who, "attest_guilty", audit["number"], [])
        close(game)
    assert not row_of(game, WHO)["suspended"], "cleared, and yet it comes not back"
    game.until(COMMIT)
    assert game.view["candidate_count"] == 8
    game.must(account(2), "evict", WHO)  # anybody may
    assert game.world.board("unbonding", game.task, WHO)["amount"] == 3 * BOND
    assert game.world.board("burned") == FEE and all(game.bond_of(who) == BOND for who in members(game))
    again = game.world.act(WHO, "TaskBoard", "join_task", game.task, b"domain".ljust(32), value=BOND)
    assert again.reason == "board: expelled"
    game.join(account(40))  # who is new may come
    assert game.wait_for(ONE, WHO) == BOND
    game.check_solvent()


def test_one_proposal_makes_one_strike_in_however_many_audits_it_is_named() -> None:
    game = task_of()
    strike(game)
    for _ in range(3):
        play_to_audit(game)
        name(game)
        assert strikes_of(game) == 1 and row_of(game, WHO)["suspended"]


def test_a_later_proposal_that_two_audits_pass_wipes_strikes_out_and_one_that_the_second_names_adds_one() -> None:
    game = task_of()
    strike(game)
    back(game)
    propose(game)
    close(game)  # silence: it counts for nothing
    assert strikes_of(game) == 1
    play_to_audit(game)
    clear(game)
    assert strikes_of(game) == 1, "one audit has passed it"
    play_to_audit(game)
    name(game)
    assert strikes_of(game) == 2
    back(game)
    propose(game)
    clear(game)
    assert strikes_of(game) == 2, "what passed of the one before is no part of this one's two"
    play_to_audit(game)
    clear(game)
    assert strikes_of(game) == 0
    assert row_of(game, WHO)["leaving_at"] == 0


def test_a_proposal_named_in_a_void_audit_can_make_a_second_strike_when_its_author_was_cleared_and_showed_another() -> (
    None
):
    """The board is told names, and not for which proposal: what is still looked at may be what they mean."""
    game = task_of()
    propose(game)
    shown = game.round
    blame(game, WHO, others(game, WHO)[:HALF])  # more than half of all, and less than two thirds: nobody else speaks
    close(game)
    assert strikes_of(game) == 1 and game.world.board("audit_view", game.task)["counted"] == 0
    play_to_audit(game)
    clear(game)
    propose(game)
    assert game.world.board("audit_view", game.task)["first"] <= shown < game.round
    name(game)
    assert strikes_of(game) == 2 and row_of(game, WHO)["suspended"]


def test_half_of_all_stake_strikes_nobody_and_the_seats_of_a_round_do_not_either() -> None:
    game = game_of(10, proposers=6, voters=3, rounds=12)
    for _ in range(3):
        accused = play_to_audit(game)
        voters = game.result(game.round)["voters"]
        blame(game, accused, [*voters, *others(game, accused, *voters)][:5])
        close(game)
        assert row_of(game, accused)["suspended"] and row_of(game, accused)["strikes"] == 0


def test_three_of_four_stakes_strike_and_two_of_three_do_not_in_a_task_that_is_too_small_to_slash() -> None:
    for people, strikes in ((4, 1), (3, 0)):
        game = game_of(people, proposers=1, voters=3, min_participants=0)
        game.play_to_scores()
        game.until(AUDIT, seconds=10)
        accused = game.result(1)["proposers"][0]
        blame(game, accused, others(game, accused))
        close(game)
        row = row_of(game, accused)
        assert row["suspended"] and row["strikes"] == strikes
    game.until(AUDIT, seconds=10)
    blame(game, accused, others(game, accused))
    close(game)
    assert game.bond_of(accused) == BOND, "two thirds of three, twice, take nothing either"


def test_an_expelled_owner_comes_back_as_a_second_account_with_a_second_bond_while_the_first_is_locked() -> None:
    game = task_of()
    for count in (1, 2, 3):
        propose(game)
        name(game)
        if count < 3:
            back(game)
    expelled_in, second = game.round, account(40)
    joined = game.join(second, 3 * BOND)
    game.until(COMMIT)
    while not (evicted := game.send(CREATOR, "evict", WHO)).ok:
        assert evicted.reason == "board: not free yet"
        play_to_audit(game)
        audit = game.world.board("audit_view", game.task)["number"]
        assert all(game.send(who, "attest_guilty", audit, []).ok for who in others(game, WHO, second))
        close(game)
        game.until(COMMIT)
    assert game.round == expelled_in + 2, "two audits more"
    release_at = game.world.board("unbonding", game.task, WHO)["release_at"]
    assert release_at - game.world.view("Beacon", "chain_time") == PARAMETERS["unbonding_delay"]
    assert game.bond_of(second) == game.world.board("unbonding", game.task, WHO)["amount"] == 3 * BOND
    assert row_of(game, second)["strikes"] == 0, "it may be named for three proposals of its own"
    assert joined.gas + evicted.gas < 600_000 and game.world.board("burned") == FEE
    game.check_solvent()


def test_who_leaves_suspended_is_suspended_when_it_comes_back_until_an_audit_that_counts_clears_it() -> None:
    game = task_of()
    strike(game)
    assert game.send(WHO, "leave_task").ok
    play_to_audit(game)
    name(game)
    play_to_audit(game)
    close(game)  # silence clears nobody
    game.until(COMMIT)
    game.must(WHO, "leave_task")
    assert game.world.board("unbonding", game.task, WHO)["amount"] == 3 * BOND
    game.join(WHO)
    row = row_of(game, WHO)
    assert row["suspended"] and row["strikes"] == 1 and row["last_held"] == 0
    play_to_audit(game)
    assert game.view["candidate_count"] == 8
    clear(game)
    assert not row_of(game, WHO)["suspended"] and strikes_of(game) == 1
    game.until(COMMIT)
    assert game.view["candidate_count"] == 9


def test_whoever_leaves_during_an_audit_takes_nobody_s_word_about_others_along() -> None:
    """An auditor says once whom it found, from its disk: where that was refused for one name, the others went free."""
    game = game_of(12, audit_rounds=2, rounds=12)
    leaver = play_turning_away(game)
    for _ in range(2):
        pass_rounds(game)
        clear(game)
    guilty = play_turning_away(game)
    pass_rounds(game)
    audit = game.world.board("audit_view", game.task)
    assert (audit["number"], audit["first"]) == (3, 3), "what the leaver showed, in round 1, is not looked at any more"
    both, auditors = sorted([leaver, guilty]), others(game, leaver, guilty)
    game.must(auditors[0], "attest_guilty", 3, both)
    before = game.world.board("blame_of", game.task, 3, leaver)
    game.must(leaver, "leave_task")
    assert leaver not in members(game)
    for who in auditors[1:]:
        game.must(who, "attest_guilty", 3, both)
    assert game.world.board("blame_of", game.task, 3, leaver) == before
    close(game)
    assert game.world.board("audit_view", game.task)["counted"] == 3
    row = row_of(game, guilty)
    assert row["suspended"] and row["strikes"] == 1 and row["blamed_audit"] == 3
    game.check_solvent()
