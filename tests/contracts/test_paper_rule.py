"""The paper's voting rule on the compiled contract, and against its reference in Python."""

import pytest
from board_support import ADAPTER, BOND, CREATOR, FEE, NEW_ADAPTER, POT, Game, padded, salt_of
from contracts_support import ENDED, SCORE_REVEAL
from hypothesis import given
from hypothesis import strategies as st

from flock_chain.errors import Misuse
from flock_chain.paper_rule import ABSTAIN, compute_paper_outcome, is_acceptable
from flock_chain.tally import Verdict

SLASH = 2_000  # bps
OTHER = b"o" * 32


def paper(participants: int = 6, **terms: int) -> Game:
    return Game(participants, **{"voting_rule": 1, "rule_slash": SLASH, **terms})


def check_like_the_reference(game: Game, round: int) -> None:
    result = game.result(round)
    choices = {
        seat: game.world.board("vote_of", game.task, round, seat)
        for seat in range(len(result["voters"]))
        if result["scores_revealed"] >> seat & 1
    }
    expected = compute_paper_outcome(choices, len(result["voters"]), result["adapter_before"])
    held = [index for index in range(len(result["proposers"])) if result["held_set"] >> index & 1]
    assert {result["verdicts"][index] for index in held} == {expected.verdict}
    assert result["adapter_after"] == expected.adapter
    assert result["earning"] == sum(1 << seat for seat in expected.majority)
    assert result["tallied"] == (expected.verdict is not Verdict.VOID)


def test_an_accepted_aggregate_pays_all_proposers_and_slashes_the_minority() -> None:
    game = paper()
    round = game.play_votes([NEW_ADAPTER, NEW_ADAPTER, ADAPTER])
    result = game.result(round)
    assert result["verdicts"] == [Verdict.ACCEPTED] * 3 and result["adapter_after"] == NEW_ADAPTER
    assert result["per_proposer"] == POT // 3 * 6_000 // 10_000 // 3
    assert [game.bond_of(who) for who in result["voters"]] == [BOND, BOND, BOND * 8 // 10]
    owed = [game.world.board("claimable", game.task, round, who) for who in result["voters"]]
    assert owed[0] == owed[1] > 0 == owed[2]
    assert game.world.board("burned") == FEE and game.world.board("total_carried") == BOND * 2 // 10
    check_like_the_reference(game, round)
    game.check_solvent()


def test_a_rejected_round_slashes_all_its_proposers_and_the_next_accepted_one_gets_it() -> None:
    game = paper(rounds=3, extra_rounds=0)
    first = game.play_votes([ADAPTER, ADAPTER, NEW_ADAPTER])
    result = game.result(first)
    assert result["verdicts"] == [Verdict.REJECTED_AGGREGATE] * 3 and result["adapter_after"] == ADAPTER
    assert [game.bond_of(who) for who in result["proposers"]] == [BOND * 8 // 10] * 3
    assert result["per_proposer"] == 0 < result["per_voter"]
    carried = 4 * BOND * 2 // 10
    assert game.world.board("task_view", game.task)["carried"] == carried == game.world.board("total_carried")
    check_like_the_reference(game, first)
    left = game.world.board("task_view", game.task)["pot"]
    second = game.play_votes([NEW_ADAPTER] * 3)
    result = game.result(second)
    assert result["share"] == left // 2 + carried
    assert game.world.board("total_carried") == 0
    paid = 3 * result["per_proposer"] + 3 * result["per_voter"]
    assert game.world.board("task_view", game.task)["pot"] == left - (paid - carried)
    check_like_the_reference(game, second)
    game.check_solvent()


def test_a_tie_pays_nobody_slashes_nobody_and_changes_nothing() -> None:
    game = paper(7, proposers=3, voters=4)
    round = game.play_votes([NEW_ADAPTER, NEW_ADAPTER, ADAPTER, ADAPTER])
    result = game.result(round)
    assert result["verdicts"] == [Verdict.VOID] * 3 and result["adapter_after"] == ADAPTER
    assert result["per_proposer"] == result["per_voter"] == 0 and not result["tallied"]
    assert all(game.bond_of(who) == BOND for who in (*result["proposers"], *result["voters"]))
    assert game.world.board("task_view", game.task)["pot"] == POT
    check_like_the_reference(game, round)


@pytest.mark.parametrize("choice", [NEW_ADAPTER, ADAPTER])
def test_who_was_served_nothing_abstains_and_is_neither_paid_nor_slashed(choice: bytes) -> None:
    game = paper(8, voters=5)
    round = game.play_votes([choice, ABSTAIN, choice, ABSTAIN, choice])
    result = game.result(round)
    assert result["tallied"] and result["earning"] == 0b10101 and result["adapter_after"] == choice
    assert [game.bond_of(who) for who in result["voters"]] == [BOND] * 5
    assert {game.world.board("participant", game.task, who)["missed"] for who in result["voters"]} == {0}
    assert game.world.board("claimable", game.task, round, result["voters"][1]) == 0
    check_like_the_reference(game, round)


def test_abstentions_decide_nothing_even_where_all_others_agree() -> None:
    game = paper(8, voters=5)
    round = game.play_votes([NEW_ADAPTER, NEW_ADAPTER, ABSTAIN, ABSTAIN, ABSTAIN])
    assert game.result(round)["verdicts"] == [Verdict.VOID] * 3 and not game.result(round)["tallied"]
    assert {game.bond_of(who) for who in game.result(round)["voters"]} == {BOND}
    check_like_the_reference(game, round)


def test_votes_for_two_candidates_do_not_add_up() -> None:
    game = paper()
    round = game.play_votes([NEW_ADAPTER, OTHER, ADAPTER])
    assert game.result(round)["verdicts"] == [Verdict.VOID] * 3
    check_like_the_reference(game, round)


def test_less_than_half_of_the_seats_decides_nothing() -> None:
    game = paper()
    round = game.play_votes([NEW_ADAPTER, None, None])
    assert game.result(round)["verdicts"] == [Verdict.VOID] * 3 and game.result(round)["adapter_after"] == ADAPTER
    check_like_the_reference(game, round)


def test_what_no_accepted_round_could_get_is_burned_at_the_end_and_never_the_creator_s() -> None:
    game = paper(rounds=1, extra_rounds=0)
    game.play_votes([ADAPTER] * 3)
    assert game.phase == ENDED
    assert game.world.board("burned") == FEE + 3 * BOND * 2 // 10 and game.world.board("total_carried") == 0
    pot = game.world.board("task_view", game.task)["pot"]
    assert pot < POT  # the voters' part is owed
    before = game.world.balance(CREATOR)
    game.must(CREATOR, "withdraw_pot")
    assert game.world.balance(CREATOR) == before + pot
    game.check_solvent()


def test_an_unopened_vote_costs_a_part_of_the_bond_which_is_burned() -> None:
    game = paper()
    game.play_to_scores()
    lazy, *others = game.voters
    for who in game.voters:
        game.commit_vote(who, NEW_ADAPTER)
    game.until(SCORE_REVEAL)
    for who in others:
        game.reveal_vote(who, NEW_ADAPTER)
    game.world.blocks(3, 10)
    assert game.bond_of(lazy) == BOND - BOND // 100 and game.world.board("burned") == FEE + BOND // 100
    assert game.result(1)["verdicts"] == [Verdict.ACCEPTED] * 3


def test_a_round_too_small_to_be_judged_slashes_and_pays_nobody() -> None:
    game = paper(3, min_participants=2)
    round = game.play_votes([ADAPTER] * 2)
    assert game.result(round)["verdicts"] == [Verdict.REJECTED_AGGREGATE]
    assert game.bond_of(game.result(round)["proposers"][0]) == BOND
    assert game.result(round)["share"] == 0


def test_a_task_takes_only_the_votes_of_its_own_rule() -> None:
    scoring, voting = Game(), paper()
    scoring.play_to_scores()
    who = scoring.voters[0]
    for voter in scoring.voters:
        scoring.commit_vote(voter, NEW_ADAPTER)
    scoring.until(SCORE_REVEAL)
    refused = scoring.send(who, "reveal_vote", 1, NEW_ADAPTER, salt_of(who, 1))
    assert refused.reason == "board: this task scores proposals"
    voting.play_to_scores()
    for voter in voting.voters:
        voting.commit_scores(voter, [-3, -2, -1])
    voting.until(SCORE_REVEAL)
    who = voting.voters[0]
    sheet = (padded([-3, -2, -1]), padded([]), salt_of(who, 1))
    assert voting.send(who, "reveal_scores", 1, *sheet).reason == "board: this task votes on the aggregate"


def test_a_vote_is_opened_once_by_its_voter_in_its_turn() -> None:
    game = paper()
    game.play_to_scores()
    first, second, third = game.voters
    early = game.send(first, "reveal_vote", 1, NEW_ADAPTER, salt_of(first, 1))
    assert early.reason == "board: not the phase for this"
    game.commit_vote(first, NEW_ADAPTER)
    game.commit_vote(second, ABSTAIN)
    game.until(SCORE_REVEAL, seconds=10)
    assert game.send(third, "reveal_vote", 1, NEW_ADAPTER, salt_of(third, 1)).reason == "board: never committed"
    assert game.send(game.proposers[0], "reveal_vote", 1, NEW_ADAPTER, bytes(32)).reason == (
        "board: seated in the other role"
    )
    other = game.send(first, "reveal_vote", 1, OTHER, salt_of(first, 1))
    assert other.reason == "board: does not open the commitment"
    game.reveal_vote(second, ABSTAIN)
    game.reveal_vote(first, NEW_ADAPTER)
    again = game.send(first, "reveal_vote", 1, NEW_ADAPTER, salt_of(first, 1))
    assert again.reason == "board: already revealed"


@pytest.mark.parametrize(
    ("before", "after", "rises", "expected"),
    [
        (2_000_000, 2_100_000, False, True),  # a loss that grew by exactly 5 %
        (2_000_000, 2_100_001, False, False),
        (2_000_000, 100, False, True),
        (-2_000_000, -2_100_000, True, True),  # the same loss as a score, with its sign turned
        (-2_000_000, -2_100_001, True, False),
        (800_000, 760_000, True, True),  # an accuracy
        (800_000, 759_999, True, False),
        (0, 0, True, True),
        (0, 1, False, False),
    ],
)
def test_the_tolerance_is_a_share_of_the_metric_s_amount_in_the_metric_s_direction(
    before: int, after: int, rises: bool, expected: bool
) -> None:
    assert is_acceptable(before, after, tolerance=50_000, rises=rises) is expected


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.integers(0, 10**6))
def test_turning_the_sign_of_a_metric_and_its_direction_changes_no_vote(before: int, after: int, eps: int) -> None:
    falling = is_acceptable(before, after, tolerance=eps, rises=False)
    assert falling == is_acceptable(-before, -after, tolerance=eps, rises=True)
    assert is_acceptable(before, before, tolerance=eps, rises=False)  # what changes nothing is never worse


def test_a_tolerance_or_a_seat_out_of_range_is_a_misuse() -> None:
    for tolerance in (-1, 10**6 + 1):
        with pytest.raises(Misuse):
            is_acceptable(1, 1, tolerance=tolerance, rises=False)
    with pytest.raises(Misuse):
        compute_paper_outcome({3: NEW_ADAPTER}, 3, ADAPTER)


@given(st.dictionaries(st.integers(0, 6), st.sampled_from([ADAPTER, NEW_ADAPTER, OTHER, ABSTAIN])))
def test_the_reference_divides_the_revealed_seats_and_adopts_only_what_more_than_half_of_them_name(
    choices: dict[int, bytes],
) -> None:
    outcome = compute_paper_outcome(choices, 7, ADAPTER)
    choices = {seat: choice for seat, choice in choices.items() if choice != ABSTAIN}
    if outcome.verdict is Verdict.VOID:
        assert outcome.majority == outcome.minority == () and outcome.adapter == ADAPTER
        return
    assert sorted((*outcome.majority, *outcome.minority)) == sorted(choices) and len(choices) >= 4
    assert len(outcome.majority) > len(outcome.minority)
    assert all((choices[seat] == outcome.adapter) == (seat in outcome.majority) for seat in choices)
