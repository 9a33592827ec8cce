"""When phases end, what the chain is told about it, and what anybody but the one whose turn it is gets told."""

import pytest
from board_support import ADAPTER, CREATOR, NEW_ADAPTER, Game, manifest_of, padded, salt_of
from contracts_support import (
    ADOPT,
    COMMIT,
    DRAW_PROPOSERS,
    DRAW_VOTERS,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    account,
)


def test_a_phase_stays_open_for_three_blocks_however_late_they_come() -> None:
    game = Game()
    game.until(COMMIT)
    game.world.blocks(2, 90)
    assert game.phase == COMMIT and game.world.board("wakeup") == 0
    game.commit(game.proposers[0])  # late, and still in time
    game.world.next_block(0)
    assert game.phase == DRAW_VOTERS


def test_a_phase_ends_at_its_deadline_and_not_before() -> None:
    game = Game()
    game.until(COMMIT)
    deadline = game.view["deadline"]
    assert deadline == game.view["phase_started"] + game.terms["commit_seconds"] == game.world.board("wakeup")
    game.world.blocks(19)
    assert game.phase == COMMIT and game.send(account(1), "poke").reason == "board: nothing due"
    game.world.next_block(pokes=False)
    assert game.world.board("due_tasks") == [game.task]
    game.must(account(30), "poke")  # anybody
    assert game.round == 2


def test_a_standstill_costs_nobody_its_turn() -> None:
    game = Game()
    game.until(COMMIT)
    game.world.next_block(10**6)
    for who in game.proposers:
        game.commit(who)
    game.until(REVEAL)
    assert game.view["committed"] == 0b111


def test_the_chain_is_awake_while_a_seed_is_awaited_or_something_is_due() -> None:
    game = Game()
    assert game.world.board("wakeup") == 0  # enough participants
    game.world.next_block()
    assert game.phase == DRAW_PROPOSERS and game.world.board("wakeup") == 0
    game.until(COMMIT)
    assert game.world.board("wakeup") > 0
    for who in game.proposers:
        game.commit(who)
    assert game.world.board("wakeup") == 0


def test_a_draw_waits_for_the_mix_of_its_seed_height() -> None:
    game = Game()
    game.world.next_block()
    assert game.view["seed_height"] == game.world.height + 2
    game.world.next_block()
    assert game.send(CREATOR, "poke").reason == "board: nothing due"
    game.world.next_block(pokes=False)
    game.must(CREATOR, "poke")
    assert game.phase == COMMIT


@pytest.mark.parametrize("phase", [DRAW_PROPOSERS, DRAW_VOTERS])
def test_a_seed_that_left_the_ring_is_replaced_by_a_later_one(phase: int) -> None:
    game = Game()
    game.until(min(phase, COMMIT))
    if phase == DRAW_VOTERS:
        for who in game.proposers:
            game.commit(who)
        game.until(DRAW_VOTERS)
    seed_height = game.view["seed_height"]
    for _ in range(3):
        game.world.next_block(pokes=False)
    game.world.height = seed_height + 8_191
    game.world.next_block()
    assert game.phase == phase and game.view["seed_height"] == game.world.height + 2
    game.world.blocks(2)
    assert game.phase == phase + 1


def test_each_call_belongs_to_one_phase_one_round_and_one_role() -> None:
    game = Game()
    game.until(COMMIT)
    me, stranger = game.proposers[0], account(50)
    salt, zero = b"s" * 32, padded([])
    calls = {
        REVEAL: ("reveal", 1, b"m" * 32, salt),
        SCORE_COMMIT: ("commit_scores", 1, salt),
        SCORE_REVEAL: ("reveal_scores", 1, zero, zero, salt),
        TALLY: ("tally", 1, zero, 0, 0),
        ADOPT: ("attest_adoption", 1, ADAPTER),
    }
    for call in calls.values():
        assert game.send(me, *call).reason == "board: not the phase for this"
    assert game.send(me, "commit", 2, salt).reason == "board: not the running round"
    assert game.send(me, "commit", 0, salt).reason == "board: not the running round"
    assert game.send(me, "tally", 2, zero, 0, 0).reason == "board: not the running round"
    assert game.send(stranger, "commit", 1, salt).reason == "board: not seated in this round"
    assert game.send(me, "commit", 1, bytes(32)).reason == "board: an empty commitment"
    game.must(me, "commit", 1, salt)
    assert game.send(me, "commit", 1, b"t" * 32).reason == "board: already committed"


def test_a_commitment_opens_only_with_its_own_manifest_salt_and_account() -> None:
    game = Game()
    game.until(COMMIT)
    first, second, third = game.proposers
    game.commit(first)
    game.must(second, "commit", 1, b"c" * 32)
    game.until(REVEAL, seconds=10)
    manifest, salt = manifest_of(first, 1), salt_of(first, 1)
    assert game.send(second, "reveal", 1, manifest, salt).reason == "board: does not open the commitment"
    assert game.send(first, "reveal", 1, manifest, b"x" * 32).reason == "board: does not open the commitment"
    assert game.send(third, "reveal", 1, manifest, salt).reason == "board: never committed"
    game.reveal(first)
    assert game.send(first, "reveal", 1, manifest, salt).reason == "board: already revealed"


def test_a_voter_attests_once_and_only_what_was_revealed() -> None:
    game = Game()
    game.until(COMMIT)
    game.play_to_availability(game.proposers[:2])
    voter, proposer = game.voters[0], game.proposers[0]
    assert game.send(voter, "attest_available", 1, 0b11, 0b10).reason == "board: held and invalid overlap"
    assert game.send(voter, "attest_available", 1, 0b100, 0).reason == "board: a proposal that was not revealed"
    assert game.send(voter, "attest_available", 1, 0, 1 << 20).reason == "board: a proposal that was not revealed"
    assert game.send(proposer, "attest_available", 1, 1, 0).reason == "board: seated in the other role"
    game.attest(voter, 0b01)
    assert game.send(voter, "attest_available", 1, 0b11, 0).reason == "board: already attested"


def test_scores_are_committed_once_bounded_and_kept_to_the_input_set() -> None:
    game = Game()
    game.play_to_scores()
    voters = game.voters
    sheets = [([10**9, -(10**9), 0], [8, 0, 15]), ([10**9 + 1, 0, 0], [0, 0, 0]), ([0, 0, 0], [16, 0, 0])]
    for who, (scores, filters) in zip(voters, sheets):
        game.commit_scores(who, scores, filters)
    assert game.send(voters[0], "commit_scores", 1, b"x" * 32).reason == "board: already committed"
    game.until(SCORE_REVEAL)
    args = (padded([0, 0, 0]), padded([0, 0, 0]), salt_of(voters[0], 1))
    assert game.send(voters[0], "reveal_scores", 1, *args).reason == "board: does not open the commitment"
    game.reveal_scores(voters[0], *sheets[0])
    args = (padded(sheets[0][0]), padded(sheets[0][1]), salt_of(voters[0], 1))
    assert game.send(voters[0], "reveal_scores", 1, *args).reason == "board: already revealed"
    for who, sheet, reason in zip(voters[1:], sheets[1:], ("a score is out of range", "an unknown filter bit")):
        args = (padded(sheet[0]), padded(sheet[1]), salt_of(who, 1))
        assert game.send(who, "reveal_scores", 1, *args).reason == f"board: {reason}"
    shown = game.world.board("score_of", game.task, 1, 0)
    assert (tuple(shown[0]), tuple(shown[1])) == (padded(sheets[0][0]), padded(sheets[0][1]))
    assert game.world.act(CREATOR, "TaskBoard", "score_of", game.task, 1, 1).reason == "board: no scores revealed"


def test_a_score_outside_the_input_set_is_refused() -> None:
    game = Game()
    game.play_to_availability()
    for who in game.voters:
        game.attest(who, 0b011)
    game.until(SCORE_COMMIT)
    for who, scores, filters in zip(game.voters, ([0, 0, 7], [0, 1], [2, 1]), ([0], [0, 0, 8], [0])):
        game.commit_scores(who, scores, padded(filters))
    game.until(SCORE_REVEAL)
    for who, scores, filters in list(zip(game.voters, ([0, 0, 7], [0, 1]), ([0], [0, 0, 8]))):
        args = (padded(scores), padded(filters), salt_of(who, 1))
        assert game.send(who, "reveal_scores", 1, *args).reason == "board: an entry outside the input set"
    game.reveal_scores(game.voters[2], [2, 1])


def test_only_true_lower_medians_are_tallied() -> None:
    game = Game()
    game.play_to_tally([[-300, -200, -100], [-301, -199, -101], [-290, -210, -99]])
    claims = [
        ([-300, -199, -99], -199, 100, "not the median of a proposal"),
        ([-299, -200, -100], -200, 100, "not the median of a proposal"),
        ([-300, -200, -100, 1], -200, 100, "not the median of a proposal"),
        ([-300, -200, -100], -199, 100, "not the center of the medians"),
        ([-300, -200, -100], -200, 99, "not the median deviation"),
    ]
    for medians, center, mad, reason in claims:
        assert game.send(CREATOR, "tally", 1, padded(medians), center, mad).reason == f"board: {reason}"
    game.must(account(60), "tally", 1, padded([-300, -200, -100]), -200, 100)


def test_a_voter_adopts_once_and_only_if_it_revealed() -> None:
    game = Game()
    game.play_to_scores()
    for who in game.voters[:2]:
        game.commit_scores(who, [-3, -2, -1])
    game.until(SCORE_REVEAL, seconds=10)
    for who in game.voters[:2]:
        game.reveal_scores(who, [-3, -2, -1])
    game.until(TALLY)
    game.tally()
    first, _, absent = game.voters
    assert game.send(absent, "attest_adoption", 1, NEW_ADAPTER).reason == "board: only who revealed scores"
    assert game.send(first, "attest_adoption", 1, bytes(32)).reason == "board: no adapter is named"
    game.must(first, "attest_adoption", 1, NEW_ADAPTER)
    assert game.send(first, "attest_adoption", 1, ADAPTER).reason == "board: already attested"
    assert game.send(game.proposers[0], "attest_adoption", 1, ADAPTER).reason == "board: seated in the other role"


def test_every_step_of_a_round_is_logged() -> None:
    game = Game()
    game.until(COMMIT)
    who = game.proposers[0]
    name, values = game.commit(who).logs[0]
    assert name == "Committed" and values["account"] == who and values["round"] == 1
    for other in game.proposers[1:]:
        game.commit(other)
    game.world.next_block(pokes=False)
    names = [name for name, _ in game.must(CREATOR, "poke").logs]
    assert names == ["SeedHeight", "PhaseChanged"]
    game.world.blocks(2, 1)
    assert game.phase == REVEAL
