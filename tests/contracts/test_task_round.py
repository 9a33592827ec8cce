"""One round of a task on the compiled contract, from the draw to the pay, with each verdict."""

import pytest
from board_support import ADAPTER, BOND, CREATOR, FEE, NEW_ADAPTER, POT, Game, manifest_of, padded
from contracts_support import ADOPT, AVAILABILITY, COMMIT, ENDED, REVEAL, SCORE_COMMIT, SCORE_REVEAL, TALLY, account

from flock_chain.tally import Verdict

THREE_SCORES = [[-300, -200, -100], [-301, -199, -101], [-290, -210, -99]]


def verdicts(game: Game, round: int = 1) -> list[int]:
    return list(game.result(round)["verdicts"])


def test_an_honest_round_pays_its_proposers_and_voters_and_adopts_their_adapter() -> None:
    game = Game()
    game.until(COMMIT)
    seated = game.proposers
    assert len(seated) == 3 and game.view["paid"]
    game.play_round()
    result = game.result(1)
    assert set(result["proposers"]).isdisjoint(result["voters"])
    assert result["verdicts"] == [Verdict.ACCEPTED] * 3
    assert result["adapter_before"] == ADAPTER and result["adapter_after"] == NEW_ADAPTER
    assert result["share"] == POT // 3
    assert result["per_proposer"] == POT // 3 * 6_000 // 10_000 // 3
    assert result["per_voter"] == (POT // 3 - POT // 3 * 6_000 // 10_000) // 3
    assert result["medians"] == [-299, -199, -99] and result["center"] == -199 and result["mad"] == 100
    for who in (*result["proposers"], *result["voters"]):
        before = game.world.balance(who)
        owed = game.world.board("claimable", game.task, 1, who)
        game.must(who, "claim", 1)
        assert game.world.balance(who) == before + owed > before
        assert game.send(who, "claim", 1).reason == "board: nothing to claim"
    assert game.world.board("total_rewards") == 0
    game.check_solvent()


def test_everybody_acting_at_once_needs_no_deadline() -> None:
    game = Game()
    started = game.world.timestamp
    game.until(COMMIT)
    game.play_round()
    assert game.world.timestamp - started < game.terms["commit_seconds"]


def test_the_new_adapter_needs_two_thirds_of_the_revealed_seats() -> None:
    game = Game()
    game.until(COMMIT)
    game.play_to_tally(THREE_SCORES)
    game.tally()
    voters = game.voters
    game.must(voters[0], "attest_adoption", 1, NEW_ADAPTER)
    game.must(voters[1], "attest_adoption", 1, ADAPTER)
    game.must(voters[2], "attest_adoption", 1, b"x" * 32)
    game.world.next_block()
    assert game.result(1)["adapter_after"] == ADAPTER == game.view["adapter"]
    assert game.result(1)["per_proposer"] > 0  # accepted proposals are paid either way


def test_two_voters_of_seven_that_revealed_cannot_adopt_though_they_are_all_that_revealed() -> None:
    game = Game(10, voters=7)
    game.play_to_scores()
    assert len(game.voters) == 7
    for who in game.voters[:2]:
        game.commit_scores(who, [-3, -2, -1])
    game.until(SCORE_REVEAL, seconds=10)
    for who in game.voters[:2]:
        game.reveal_scores(who, [-3, -2, -1])
    game.until(TALLY)
    game.tally()
    for who in game.voters[:2]:
        game.must(who, "attest_adoption", 1, NEW_ADAPTER)
    game.world.next_block()
    assert game.result(1)["adapter_after"] == ADAPTER


def test_a_loss_above_the_limit_or_far_above_the_others_is_rejected_and_costs_nothing() -> None:
    game = Game()
    game.play_to_tally([[-300, -200, 25_000], [-301, -199, 25_001], [-290, -210, 24_999]])
    game.tally()
    assert verdicts(game) == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.REJECTED_LOSS]
    rejected = game.proposers[2]
    assert game.bond_of(rejected) == BOND
    game.until(ADOPT)
    game.world.blocks(3, 10)
    assert game.world.board("claimable", game.task, 1, rejected) == 0


def test_an_outlier_below_the_limit_is_rejected_by_the_deviation() -> None:
    game = Game(10, proposers=5)
    game.play_to_tally([[-10, -11, -9, 10, 19_000]] * 3)
    game.tally()
    assert verdicts(game) == [Verdict.ACCEPTED] * 4 + [Verdict.REJECTED_LOSS]


def test_a_round_that_rejects_most_by_loss_is_void_pays_voters_only_and_leaves_the_adapter() -> None:
    game = Game()
    game.play_to_tally([[-300, 25_000, 30_000], [-301, 25_001, 30_001], [-302, 25_002, 30_002]])
    game.tally()
    assert game.round == 2  # nobody accepted: nothing to adopt
    result = game.result(1)
    assert result["verdicts"] == [Verdict.VOID] * 3 and result["accepted_count"] == 0
    assert result["per_proposer"] == 0 and result["per_voter"] > 0
    assert result["adapter_after"] == ADAPTER
    game.check_solvent()


def test_half_of_the_input_set_rejected_by_loss_is_no_reason_to_void_the_round() -> None:
    game = Game(8, proposers=4)
    game.play_to_tally([[-300, -200, 25_000, 30_000]] * 3)
    game.tally()
    assert verdicts(game) == [Verdict.ACCEPTED] * 2 + [Verdict.REJECTED_LOSS] * 2


def test_of_two_voters_the_lower_score_is_the_median() -> None:
    game = Game()
    game.play_to_scores()
    rows = [[-3, -2, -1], [-30, -20, -10]]
    for who, scores in zip(game.voters, rows):
        game.commit_scores(who, scores)
    game.until(SCORE_REVEAL, seconds=10)
    for who, scores in zip(game.voters, rows):
        game.reveal_scores(who, scores)
    game.until(TALLY)
    game.must(CREATOR, "tally", 1, padded([-30, -20, -10]), -20, 10)


def test_norm_filters_reject_above_twice_and_accuse_above_three_times_the_median() -> None:
    game = Game()
    game.play_to_tally(THREE_SCORES, [[1, 3, 0], [1, 3, 0], [0, 0, 4]])
    game.tally()
    assert verdicts(game) == [Verdict.REJECTED_NORM, Verdict.ACCUSED_NORM, Verdict.ACCEPTED]
    assert [game.bond_of(who) for who in game.proposers] == [BOND] * 3 and game.world.board("burned") == FEE
    assert [game.held_of(who) for who in game.proposers] == [0, BOND // 2, 0]


def test_near_duplicates_earn_nothing() -> None:
    game = Game()
    game.play_to_tally(THREE_SCORES, [[0, 4, 0], [0, 4, 0], [0, 0, 0]])
    game.tally()
    assert verdicts(game) == [Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.ACCEPTED]


def test_the_norm_accusation_holds_in_a_round_that_is_void_by_loss() -> None:
    game = Game()
    game.play_to_tally([[25_000, 26_000, 30_000]] * 3, [[3, 0, 0]] * 3)
    game.tally()
    assert verdicts(game) == [Verdict.ACCUSED_NORM, Verdict.VOID, Verdict.VOID]


@pytest.mark.parametrize("bits", [0, 3])
def test_a_proposal_that_most_voters_cannot_score_is_void_whatever_its_friend_or_its_enemy_says(bits: int) -> None:
    game = Game()
    game.play_to_tally([[-300, -200, 0], [-301, -199, 0], [-290, -210, -5_000]], [[0, 0, 8], [0, 0, 8], [0, 0, bits]])
    game.tally()
    assert verdicts(game) == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.VOID]
    assert [game.held_of(who) for who in game.proposers] == [0] * 3, "two thirds of all that revealed accuse"


def test_voters_that_revealed_nothing_make_no_proposal_void_that_most_of_the_others_scored() -> None:
    game = Game(8, voters=5)
    game.play_to_scores()
    sheets = list(zip(game.voters[:3], [[-300, -200, -100]] * 3, [[0, 0, 0], [0, 0, 0], [0, 0, 8]]))
    for who, scores, bits in sheets:
        game.commit_scores(who, scores, bits)
    game.until(SCORE_REVEAL, seconds=10)
    for who, scores, bits in sheets:
        game.reveal_scores(who, scores, bits)
    game.until(TALLY)
    game.tally()
    assert verdicts(game) == [Verdict.ACCEPTED] * 3, "two of three, of five seats"


def test_a_manifest_belongs_to_its_earliest_commitment_however_late_it_is_revealed() -> None:
    game = Game()
    game.until(COMMIT)
    first, second, third = game.proposers
    same = manifest_of(first, 1)
    game.commit(second, same)
    game.commit(first, same)
    game.commit(third)
    game.until(REVEAL)
    game.reveal(first, same)
    game.reveal(third)
    assert verdicts(game) == [Verdict.NONE] * 3
    game.reveal(second, same)
    assert verdicts(game) == [Verdict.DUPLICATE, Verdict.NONE, Verdict.NONE]
    game.until(AVAILABILITY)
    for who in game.voters:
        game.attest(who, 0b111)
    game.until(SCORE_COMMIT)
    assert game.view["held_set"] == 0b110


def test_a_manifest_of_an_earlier_round_is_a_duplicate_for_ever() -> None:
    game = Game()
    round = game.play_round()
    old = manifest_of(game.result(round)["proposers"][0], round)
    game.until(COMMIT)
    copier = game.proposers[0]
    game.commit(copier, old)
    game.until(REVEAL, seconds=10)
    game.reveal(copier, old)
    assert verdicts(game, 2)[0] == Verdict.DUPLICATE
    game.world.blocks(2)
    assert game.round == 3  # nothing was left to judge


def test_a_copy_of_an_earlier_round_is_the_copier_s_fault_and_not_of_who_sits_where_the_owner_sat() -> None:
    game = Game()
    round = game.play_round()
    old = manifest_of(game.result(round)["proposers"][0], round)
    game.until(COMMIT)
    honest, copier = game.proposers[:2]
    game.commit(copier, old)  # before the other
    game.commit(honest)
    game.until(REVEAL, seconds=10)
    game.reveal(honest)
    game.reveal(copier, old)
    assert verdicts(game, 2)[:2] == [Verdict.NONE, Verdict.DUPLICATE]


def test_invalid_bytes_put_the_bond_at_stake_and_what_nobody_holds_is_void() -> None:
    game = Game()
    game.play_to_availability()
    game.attest(game.voters[0], 0b001, 0b010)
    game.attest(game.voters[1], 0b001, 0b110)
    game.attest(game.voters[2], 0b101, 0b000)
    game.until(SCORE_COMMIT)
    assert game.view["held_set"] == 0b001
    assert verdicts(game) == [Verdict.NONE, Verdict.INVALID, Verdict.VOID]
    assert [game.held_of(who) for who in game.proposers] == [0, BOND, 0]
    assert [game.bond_of(who) for who in game.proposers] == [BOND] * 3 and game.world.board("burned") == FEE
    game.check_solvent()


def test_absent_voters_count_among_the_seats_so_that_a_lone_voter_fixes_nothing() -> None:
    game = Game()
    game.play_to_availability()
    game.attest(game.voters[0], 0b111)
    game.world.blocks(3, 10)
    assert verdicts(game) == [Verdict.VOID] * 3 and game.round == 2


def test_an_unopened_commitment_costs_a_small_part_of_the_bond_as_proposer_and_as_voter() -> None:
    game = Game()
    game.until(COMMIT)
    for who in game.proposers:
        game.commit(who)
    game.until(REVEAL)
    lazy = game.proposers[0]
    for who in game.proposers[1:]:
        game.reveal(who)
    game.until(AVAILABILITY, seconds=5)
    assert verdicts(game)[0] == Verdict.UNOPENED and game.bond_of(lazy) == BOND - BOND // 100
    for who in game.voters:
        game.attest(who, 0b110)
    game.until(SCORE_COMMIT)
    for who in game.voters:
        game.commit_scores(who, [0, -20, -10])
    game.until(SCORE_REVEAL)
    game.reveal_scores(game.voters[0], [0, -20, -10])
    game.until(TALLY, seconds=5)
    assert [game.bond_of(who) for who in game.voters] == [BOND, BOND - BOND // 100, BOND - BOND // 100]
    game.check_solvent()


def test_who_never_commits_loses_its_turn_and_nothing_else() -> None:
    game = Game()
    game.until(COMMIT)
    absent = game.proposers[0]
    game.play_to_availability(game.proposers[1:])
    assert game.bond_of(absent) == BOND and verdicts(game)[0] == Verdict.NONE


@pytest.mark.parametrize("reached", [COMMIT, REVEAL, SCORE_COMMIT, SCORE_REVEAL, TALLY])
def test_a_round_in_which_everybody_vanishes_passes_and_keeps_its_share_in_the_pot(reached: int) -> None:
    game = Game()
    game.until(COMMIT)
    if reached == REVEAL:
        for who in game.proposers:
            game.commit(who)
    elif reached == SCORE_COMMIT:
        game.play_to_scores()
    elif reached == SCORE_REVEAL:
        game.play_to_scores()
        for who in game.voters:
            game.commit_scores(who, [-3, -2, -1])
    elif reached == TALLY:
        game.play_to_tally(THREE_SCORES)
    for _ in range(40):
        if game.round == 2:
            break
        game.world.next_block(10)
    result = game.result(1)
    assert game.round == 2 and result["settled"] and not result["tallied"]
    assert result["per_proposer"] == result["per_voter"] == 0
    assert game.world.board("task_view", game.task)["pot"] == POT
    game.check_solvent()


def test_with_fewer_than_four_eligible_a_round_runs_unpaid_and_unslashed() -> None:
    game = Game(3, min_participants=2, voters=3)
    game.until(COMMIT)
    assert len(game.proposers) == 1 and not game.view["paid"]
    game.commit(game.proposers[0])
    game.until(REVEAL)
    assert len(game.voters) == 2
    game.reveal(game.proposers[0])
    game.until(AVAILABILITY)
    for who in game.voters:
        game.attest(who, 0, 1)
    game.world.next_block()
    assert verdicts(game) == [Verdict.INVALID] and game.bond_of(game.result(1)["proposers"][0]) == BOND
    assert game.result(1)["share"] == 0


def test_a_small_round_adopts_and_pays_nothing() -> None:
    game = Game(3, min_participants=2, voters=3)
    game.play_round()
    result = game.result(1)
    assert result["verdicts"] == [Verdict.ACCEPTED] and result["adapter_after"] == NEW_ADAPTER
    assert result["share"] == result["per_proposer"] == result["per_voter"] == 0
    assert game.world.board("task_view", game.task)["pot"] == POT


def test_a_constant_or_empty_score_vector_earns_nothing() -> None:
    game = Game()
    game.play_to_tally([[-5, -5, -5], [-300, -200, -100], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [8, 8, 8]])
    game.tally()
    game.world.blocks(4, 10)
    owed = [game.world.board("claimable", game.task, 1, who) for who in game.result(1)["voters"]]
    assert owed[0] == owed[2] == 0 and owed[1] > 0


def test_a_single_proposal_cannot_be_scored_differently_so_its_voters_are_paid() -> None:
    game = Game(4)
    game.play_to_tally([[-5], [-5], [-5]])
    game.tally()
    game.world.blocks(4, 10)
    assert all(game.world.board("claimable", game.task, 1, who) > 0 for who in game.result(1)["voters"])


def test_a_pot_is_spent_over_the_rounds_and_its_rest_returns_to_the_creator() -> None:
    game = Game()
    left = POT
    for _ in range(3):
        round = game.play_round()
        result = game.result(round)
        assert result["share"] == left // (4 - round)
        assert game.result(1)["manifests"] == [manifest_of(who, 1) for who in game.result(1)["proposers"]]
        left -= 3 * result["per_proposer"] + 3 * result["per_voter"]
    assert game.phase == ENDED
    assert game.world.board("task_view", game.task)["pot"] == left < 10
    before = game.world.balance(CREATOR)
    game.must(CREATOR, "withdraw_pot")
    assert game.world.balance(CREATOR) == before + left
    game.check_solvent()


def test_a_task_without_a_pot_runs_and_owes_nobody_anything() -> None:
    game = Game(pot=0)
    for _ in range(3):
        game.play_round()
    assert game.phase == ENDED and game.world.board("total_rewards") == 0
    assert game.send(CREATOR, "withdraw_pot").reason == "board: the pot is empty"


def test_the_creator_stops_only_when_the_guaranteed_rounds_are_run_or_running() -> None:
    game = Game(0, rounds=1)
    refused = game.send(CREATOR, "stop_task")
    assert refused.reason == "board: guaranteed rounds are left", "the last of them waits for people: it does not run"
    game = Game()
    game.until(COMMIT)
    assert game.send(CREATOR, "stop_task").reason == "board: guaranteed rounds are left"
    game.play_round()
    assert game.send(account(1), "stop_task").reason == "board: only the creator may stop"
    game.must(CREATOR, "stop_task")
    game.play_round()
    assert game.phase == ENDED and game.round == 2
