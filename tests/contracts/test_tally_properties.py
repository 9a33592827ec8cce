"""What a minority of a round can do, as properties of the compiled contract and of the reference in Python."""

from board_support import Game, manifest_of, padded, salt_of
from contracts_support import CHAIN_ID, COMMIT, DRAW_PROPOSERS, REVEAL, SCORE_COMMIT, SCORE_REVEAL, TALLY
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.proposal import compute_score_commitment
from flock_chain.tally import SCORE_LIMIT, Verdict, compute_tally
from flock_contracts.addresses import BOARD

VOTERS, LIARS = 7, 2  # less than a third
FEW = settings(max_examples=4, deadline=None, derandomize=True, database=None)
scores = st.integers(-SCORE_LIMIT, SCORE_LIMIT)
sheets = st.lists(st.lists(scores, min_size=3, max_size=3), min_size=VOTERS, max_size=VOTERS)


def scoring() -> Game:
    game = Game(10, voters=VOTERS)
    game.play_to_scores()
    return game


def check_bounds(medians: list[int], rows: list[list[int]]) -> None:
    """The last rows are the liars'."""
    for index, median in enumerate(medians):
        everybody = [row[index] for row in rows]
        honest = everybody[: VOTERS - LIARS]
        assert min(everybody) <= median <= max(everybody)
        assert min(honest) <= median <= max(honest)


@given(sheets)
def test_the_reference_s_medians_stay_in_the_range_of_the_honest_whatever_less_than_a_third_says(
    rows: list[list[int]],
) -> None:
    tally = compute_tally([padded(row) for row in rows], [padded([])] * VOTERS, 0b111, 20_000, 12)
    check_bounds(list(tally.medians[:3]), rows)
    assert min(tally.medians[:3]) <= tally.center <= max(tally.medians[:3])


@FEW
@given(sheets)
def test_the_contract_s_medians_are_the_reference_s_and_stay_in_the_range_of_the_honest(rows: list[list[int]]) -> None:
    game = scoring()
    for who, row in zip(game.voters, rows):
        game.commit_scores(who, row)
    game.until(SCORE_REVEAL)
    for who, row in zip(game.voters, rows):
        game.reveal_scores(who, row)
    game.until(TALLY)
    expected = game.expected_tally(1)
    for index in range(3):
        said, median = [row[index] for row in rows], expected.medians[index]
        for wrong in (min(said) - 1, max(said) + 1, median - 1, median + 1):
            medians = [*expected.medians[:index], wrong, *expected.medians[index + 1 :]]
            refused = game.send(game.voters[0], "tally", 1, medians, expected.center, expected.mad)
            assert refused.reason == "board: not the median of a proposal"
    game.tally()
    result = game.result(1)
    assert result["medians"] == list(expected.medians[:3]) and result["center"] == expected.center
    check_bounds(result["medians"], rows)


@FEW
@given(st.integers(0, 2), st.sampled_from([SCORE_LIMIT + 1, -SCORE_LIMIT - 1, 2**31, -(2**255)]))
def test_a_score_out_of_bounds_is_revealed_by_nobody(index: int, score: int) -> None:
    game = scoring()
    row = [1, 2, 3]
    row[index] = score
    for who in game.voters:
        game.commit_scores(who, row)
    game.until(SCORE_REVEAL)
    who = game.voters[0]
    refused = game.send(who, "reveal_scores", 1, padded(row), padded([]), salt_of(who, 1))
    assert refused.reason == "board: a score is out of range"


def committing() -> Game:
    game = Game()
    game.until(COMMIT)
    return game


@FEW
@given(st.permutations(range(3)), st.permutations(range(3)))
def test_of_one_content_id_the_earliest_commitment_is_the_owner_in_whatever_order_they_are_revealed(
    commits: list[int], reveals: list[int]
) -> None:
    game = committing()
    proposers, same = game.proposers, manifest_of(b"same", 1)
    for index in commits:
        game.commit(proposers[index], same)
    game.until(REVEAL)
    for index in reveals:
        game.reveal(proposers[index], same)
    expected = [Verdict.NONE if index == commits[0] else Verdict.DUPLICATE for index in range(3)]
    assert game.result(1)["verdicts"] == expected


def drawing() -> Game:
    game = Game(8, voters=5)
    game.until(DRAW_PROPOSERS)
    return game


@FEW
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_proposer_never_judges_itself_whatever_the_seeds_are(first: bytes, second: bytes) -> None:
    game = drawing()
    while game.phase != COMMIT:
        game.world.next_block(mix=first)
    proposers = game.proposers
    for who in proposers:
        game.commit(who)
    while game.phase != REVEAL:
        game.world.next_block(mix=second)
    assert set(proposers).isdisjoint(game.voters) and len(game.voters) == 5
    for who in proposers:
        game.reveal(who)
    game.world.next_block()
    sheet = (padded([-1, 0, 0]), padded([]))
    digest = compute_score_commitment(CHAIN_ID, BOARD, game.task, 1, proposers[0], *sheet, salt_of(proposers[0], 1))
    refused = game.send(proposers[0], "attest_available", 1, 1, 0)
    assert refused.reason == "board: seated in the other role"
    for who in game.voters:
        game.attest(who, 0b111)
    game.until(SCORE_COMMIT)
    assert game.send(proposers[0], "commit_scores", 1, digest).reason == "board: seated in the other role"
