"""Audit blame on the compiled contract: who is suspended, who is slashed, and whose bond waits for it."""

import pytest
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
from contracts_support import AUDIT, COMMIT, ENDED, WAITING, Reverted, account


def test_two_thirds_of_all_stake_in_two_audits_in_a_row_take_the_bond_and_burn_it() -> None:
    game = game_of()
    guilty = play_to_audit(game)
    blame(game, guilty, others(game, guilty)[:6])
    close(game)
    assert row_of(game, guilty)["blamed_audit"] == 1 and row_of(game, guilty)["suspended"]
    assert game.bond_of(guilty) == BOND and game.world.board("burned") == FEE
    play_to_audit(game)
    blame(game, guilty, others(game, guilty)[:6])
    close(game)
    assert game.bond_of(guilty) == 0 and game.world.board("burned") == FEE + BOND
    assert game.world.board("task_view", game.task)["carried"] == 0
    assert all(game.bond_of(who) == BOND for who in others(game, guilty))
    game.check_solvent()


def test_two_blames_in_a_row_are_one_offence_and_a_third_begins_another() -> None:
    game = game_of(audit_slash=5_000)
    guilty, bonds = b"", []
    for _ in range(4):
        first = play_to_audit(game)
        guilty = guilty or first
        blame(game, guilty, others(game, guilty)[:6])
        close(game)
        bonds.append(game.bond_of(guilty))
    assert bonds == [BOND, BOND // 2, BOND // 2, BOND // 4]


def test_what_had_a_say_in_an_audit_is_kept_for_ever_under_the_name_of_nobody() -> None:
    game = game_of()
    for number in (1, 2):
        play_to_audit(game)
        assert game.world.board("blame_of", game.task, number, bytes(20)) == (9 * BOND, number)
        clear(game)
    assert game.world.board("blame_of", game.task, 1, bytes(20)) == (9 * BOND, 1)
    play_to_audit(game)
    with pytest.raises(Reverted, match="board: not in ascending order"):
        game.must(members(game)[0], "attest_guilty", 3, [bytes(20)])


def test_one_vote_of_stake_less_than_two_thirds_takes_nothing_though_all_seats_blame() -> None:
    game = game_of()
    accused = play_to_audit(game)
    for _ in range(2):
        if game.phase != AUDIT:
            play_to_audit(game)
        voters = [who for who in game.result(game.round)["voters"] if who != accused]
        blame(game, accused, [*voters, *others(game, accused, *voters)][:5])  # of nine, six are two thirds
        close(game)
        assert row_of(game, accused)["blamed_audit"] == 0
    assert game.bond_of(accused) == BOND and game.world.board("burned") == FEE


@pytest.mark.parametrize(("blaming", "is_out"), [(4, False), (5, True)])
def test_more_than_half_of_all_stake_suspends_and_takes_nothing(blaming: int, is_out: bool) -> None:
    game = game_of(8 if not is_out else 9)
    accused = play_to_audit(game)
    voters = game.result(1)["voters"]
    blame(game, accused, [who for who in others(game, accused) if who not in voters][:blaming])
    close(game)
    row = row_of(game, accused)
    assert row["suspended"] is is_out and row["blamed_audit"] == 0 and game.bond_of(accused) == BOND


def test_whose_proposal_was_turned_away_can_be_named_and_who_showed_none_cannot() -> None:
    game = game_of()
    rejected = play_turning_away(game)
    row = row_of(game, rejected)
    assert (row["last_accepted"], row["last_held"]) == (0, 1)
    blame(game, rejected, others(game, rejected)[:6])
    close(game)
    assert row_of(game, rejected)["suspended"]


def test_a_void_audit_is_made_up_for_by_the_next_which_looks_further_back() -> None:
    game = game_of(rounds=12)
    seen = []
    for speaks in (True, True, False, True, True, True):
        play_to_audit(game)
        seen.append(game.world.board("audit_view", game.task)["first"])
        (clear if speaks else close)(game)
    assert seen == [1, 1, 2, 2, 3, 5]


def test_two_blames_with_a_clear_audit_between_them_take_nothing() -> None:
    game = game_of()
    accused = play_to_audit(game)
    blame(game, accused, others(game, accused))
    close(game)
    play_to_audit(game)
    clear(game)
    assert not row_of(game, accused)["suspended"]
    play_to_audit(game)
    blame(game, accused, others(game, accused))
    close(game)
    assert game.bond_of(accused) == BOND and row_of(game, accused)["blamed_audit"] == 3


@pytest.mark.parametrize(("blaming", "is_suspended"), [(4, False), (5, True)])
def test_five_of_seven_seats_suspend_and_the_suspended_draws_no_seat(blaming: int, is_suspended: bool) -> None:
    game = Game(20, audit_rounds=1, rounds=8, extra_rounds=0, voters=7)
    round = game.round
    game.until(COMMIT)
    game.play_to_tally([[-300 + k, -200, -100] for k in range(7)])
    game.tally()
    for who in game.voters:
        game.must(who, "attest_adoption", round, b"n" * 32)
    game.until(AUDIT)
    accused, voters = game.result(1)["proposers"][0], game.result(1)["voters"]
    blame(game, accused, voters[:blaming])
    assert game.world.board("blame_of", game.task, 1, accused) == (blaming * BOND, blaming)
    close(game)
    assert row_of(game, accused)["suspended"] is is_suspended and game.bond_of(accused) == BOND
    game.until(COMMIT)
    assert game.view["candidate_count"] == (19 if is_suspended else 20)


def test_a_bond_stays_until_two_audits_after_the_last_acceptance() -> None:
    game = game_of(12, audit_rounds=3, rounds=12)
    game.play_round()
    accepted = game.result(1)["proposers"][0]
    game.must(accepted, "leave_task")  # a request
    for round in range(2, 7):
        game.until(COMMIT)
        assert game.round == round
        assert game.send(accepted, "leave_task").reason == "board: leaving, but not free yet"
        game.world.blocks(3, 10)  # nobody commits
        if game.phase == AUDIT:
            assert game.send(accepted, "leave_task").reason == "board: leaving, but not free yet"
            clear(game)
    bond = game.bond_of(accepted)
    game.must(accepted, "leave_task")
    assert game.world.board("unbonding", game.task, accepted)["amount"] == bond > 0


def test_who_was_blamed_waits_for_the_next_audit_to_decide() -> None:
    game = game_of(12, audit_rounds=2, rounds=12)
    game.play_round()
    accused = game.result(1)["proposers"][0]
    pass_rounds(game)
    clear(game)
    pass_rounds(game)
    blame(game, accused, others(game, accused))
    close(game)
    game.until(COMMIT)
    assert game.round == 5  # two audits have closed, and the rounds after an acceptance are over
    game.must(accused, "leave_task")
    assert game.world.board("unbonding", game.task, accused)["amount"] == 0
    pass_rounds(game)
    assert game.send(accused, "leave_task").reason == "board: leaving, but not free yet"
    blame(game, accused, others(game, accused))
    bond, burned = game.bond_of(accused), game.world.board("burned")
    close(game)
    assert game.bond_of(accused) == 0 < bond <= game.world.board("burned") - burned


def test_poison_of_the_last_round_is_audited_twice_before_anybody_can_leave() -> None:
    game = game_of(audit_rounds=1, rounds=1)
    guilty = play_to_audit(game)
    assert game.world.board("audit_view", game.task)["number"] == 1
    assert game.send(guilty, "leave_task").ok and game.bond_of(guilty) == BOND  # a request
    for _ in range(2):
        assert game.phase == AUDIT and game.send(CREATOR, "withdraw_pot").reason == "board: the task has not ended"
        blame(game, guilty, others(game, guilty))
        close(game)
    assert game.phase == ENDED and game.bond_of(guilty) == 0 and game.world.board("burned") == FEE + BOND
    for who in members(game):
        game.must(who, "leave_task")
    game.check_solvent()


def test_an_audit_ends_early_when_everybody_has_spoken_and_by_itself_when_nobody_does() -> None:
    game = game_of()
    play_to_audit(game)
    for who in members(game):
        game.must(who, "attest_guilty", 1, [])
    game.world.next_block()
    assert game.phase != AUDIT and game.round == 2
    play_to_audit(game)
    game.world.blocks(3, 10)
    assert game.phase != AUDIT and game.round == 3


@pytest.mark.parametrize("in_the_audit", [False, True])
def test_a_bond_has_a_say_in_an_audit_only_if_it_was_there_when_the_round_began(in_the_audit: bool) -> None:
    game = game_of()
    game.until(COMMIT)
    rich, first = account(30), account(1)
    if not in_the_audit:
        game.join(rich, 100 * BOND)
        game.join(first, 100 * BOND)
    accused = play_to_audit(game)
    if in_the_audit:
        game.join(rich, 100 * BOND)
        game.join(first, 100 * BOND)
    assert game.world.board("audit_view", game.task)["stake"] == 9 * BOND
    late = game.send(rich, "attest_guilty", 1, [accused])
    assert late.reason == "board: nothing was bonded when the round began"
    if accused == first:
        accused = next(who for who in game.result(1)["proposers"] if who != first)
    blame(game, accused, [first])
    assert game.world.board("blame_of", game.task, 1, accused)[0] == BOND
    close(game)
    assert row_of(game, accused)["blamed_audit"] == 0
    play_to_audit(game)
    assert game.world.board("audit_view", game.task)["stake"] == (9 + 200) * BOND, "in the round after it has"


def test_an_audit_begins_though_a_slash_took_more_than_all_but_a_fresh_bond() -> None:
    game = game_of(rounds=8)
    game.until(COMMIT)
    lazy = game.proposers[0]
    game.join(lazy, 10_000 * BOND)
    pass_rounds(game)
    assert 0 < game.bond_of(lazy) - BOND < 10_000 * BOND, "its seat was held up"
    assert game.world.board("audit_view", game.task)["stake"] <= 8 * BOND
    close(game)


def test_silence_clears_nobody_until_it_has_lasted_for_three_audits() -> None:
    game = game_of(rounds=12)
    accused = play_to_audit(game)
    blame(game, accused, others(game, accused)[:6])
    close(game)
    for silent in range(1, 4):
        play_to_audit(game)
        for who in members(game)[: silent + 2]:  # at most five of nine: less than two thirds
            game.must(who, "attest_guilty", silent + 1, [])
        close(game)
        row, counted = row_of(game, accused), game.world.board("audit_view", game.task)["counted"]
        assert (row["suspended"], row["blamed_audit"], counted) == (silent < 3, 1, 1 if silent < 3 else 2)
    assert game.bond_of(accused) == BOND


def test_a_void_audit_between_two_blames_does_not_make_two_offences_of_them() -> None:
    game = game_of()
    guilty = play_to_audit(game)
    blame(game, guilty, others(game, guilty)[:6])
    close(game)
    play_to_audit(game)
    blame(game, guilty, others(game, guilty)[:1])  # all others are silent
    close(game)
    assert row_of(game, guilty)["suspended"], "a word of too few clears no more than silence"
    play_to_audit(game)
    blame(game, guilty, others(game, guilty)[:6])
    close(game)
    assert game.bond_of(guilty) == 0 and game.world.board("burned") == FEE + BOND


def test_bonds_wait_for_audits_that_count_and_no_longer_than_six() -> None:
    game = game_of(12, audit_rounds=1, rounds=12)
    accepted = play_to_audit(game)
    assert game.send(accepted, "leave_task").ok and game.bond_of(accepted) == BOND  # a request
    for audit in range(1, 7):
        assert game.send(accepted, "leave_task").reason == "board: leaving, but not free yet"
        close(game)
        if audit < 6:
            pass_rounds(game)
    game.until(COMMIT)
    game.must(accepted, "leave_task")
    assert game.world.board("unbonding", game.task, accepted)["amount"] == BOND


@pytest.mark.parametrize(("audit_rounds", "rounds"), [(4, 3), (65, 100), (100_000, 100_000)])
def test_audits_are_no_further_apart_than_the_task_is_long_and_than_anybody_waits(
    audit_rounds: int, rounds: int
) -> None:
    with pytest.raises(Reverted, match="board: terms: audit_rounds"):
        Game(0, audit_rounds=audit_rounds, rounds=rounds)
    Game(0, audit_rounds=min(audit_rounds - 1, 64), rounds=rounds)


def test_who_says_what_in_an_audit_is_checked() -> None:
    game = game_of()
    accused = play_to_audit(game)
    clean = next(who for who in members(game) if row_of(game, who)["last_held"] == 0)
    pair = sorted(game.result(1)["proposers"])
    who = next(voter for voter in game.result(1)["voters"])
    wrong = {
        "board: not the open audit": (who, 2, [accused]),
        "board: nobody judges itself": (accused, 1, [accused]),
        "board: not in ascending order": (who, 1, [pair[1], pair[0]]),
        "board: nothing was bonded when the round began": (CREATOR, 1, [accused]),
    }
    for reason, (sender, audit, names) in wrong.items():
        assert game.send(sender, "attest_guilty", audit, names).reason == reason
    assert game.send(who, "attest_guilty", 1, [accused, accused]).reason == "board: not in ascending order"
    unknown = [clean if clean != who else CREATOR]
    game.must(who, "attest_guilty", 1, sorted(pair + unknown))
    assert game.world.board("blame_of", game.task, 1, unknown[0]) == (0, 0), "it showed nothing, and is passed over"
    assert all(game.world.board("blame_of", game.task, 1, named)[0] == BOND for named in pair)
    assert game.send(who, "attest_guilty", 1, []).reason == "board: already attested"
    close(game)
    assert game.send(who, "attest_guilty", 2, []).reason == "board: not the phase for this"


def test_a_round_s_seats_are_heard_in_one_audit_alone() -> None:
    game = game_of()
    accused = play_to_audit(game)
    clear(game)
    pass_rounds(game)  # a round without voters of its own
    assert game.round == 2 and game.world.board("audit_view", game.task)["round"] == 1
    blame(game, accused, game.result(1)["voters"])
    assert game.world.board("blame_of", game.task, 2, accused)[1] == 0
    close(game)
    assert not row_of(game, accused)["suspended"]


def suspend_one_too_many(game: Game) -> bytes:
    """A round's seats suspend one of as many as a round needs; who."""
    accused = play_to_audit(game)
    blame(game, accused, game.result(game.round)["voters"])
    close(game)
    assert row_of(game, accused)["suspended"]
    return accused


def test_a_committee_that_suspends_too_many_for_a_round_does_not_end_the_task() -> None:
    game = game_of(8, min_participants=8)
    accused = suspend_one_too_many(game)
    assert (game.round, game.phase) == (1, AUDIT), "all stake is heard again at once"
    blame(game, accused, game.result(1)["voters"])  # whose seats had their say
    assert game.world.board("blame_of", game.task, 2, accused) == (3 * BOND, 0)
    close(game)
    assert game.round == 2 and not row_of(game, accused)["suspended"]
    play_to_audit(game)
    assert game.world.board("audit_view", game.task)["counted"] == 0, "one in which few spoke counts for nobody's bond"


def test_all_stake_is_not_heard_again_for_the_sake_of_a_suspended_one_that_leaves() -> None:
    game = game_of(8, min_participants=8)
    accused = play_to_audit(game)
    assert game.send(accused, "leave_task").ok  # a request
    blame(game, accused, game.result(1)["voters"])
    close(game)
    assert row_of(game, accused)["suspended"] and (game.round, game.phase) == (2, WAITING)


def test_two_thirds_of_all_stake_may_end_a_task_by_a_suspension_and_every_bond_comes_back() -> None:
    game = game_of(8, min_participants=8)
    accused = suspend_one_too_many(game)
    blame(game, accused, others(game, accused)[:6])
    close(game)
    assert (game.round, game.phase) == (2, WAITING) and row_of(game, accused)["suspended"]
    game.world.blocks(4, 90)
    assert game.phase == AUDIT  # of what was accepted only one audit has counted
    clear(game)
    assert game.phase == ENDED
    for who in members(game):
        game.must(who, "leave_task")
        assert game.world.board("unbonding", game.task, who)["amount"] == BOND
    game.check_solvent()


def test_a_creator_may_stop_a_task_while_all_stake_is_heard_again() -> None:
    game = game_of(8, min_participants=8, rounds=1, extra_rounds=4)
    suspend_one_too_many(game)
    game.must(CREATOR, "stop_task")
    for _ in range(7):
        if game.phase == ENDED:
            break
        game.world.blocks(3, 10)
    assert (game.round, game.phase) == (1, ENDED)


def test_a_task_without_audits_has_none() -> None:
    game = Game()
    game.play_round()
    assert game.phase != AUDIT and game.round == 2
    assert game.send(account(1), "attest_guilty", 1, []).reason == "board: not the phase for this"
