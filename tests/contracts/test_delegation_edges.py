"""Where a delegation meets what else happens: other numbers of the board, accusations, a participant that goes."""

from board_support import BOND, Game
from contracts_support import (
    AUDIT,
    AVAILABILITY,
    COMMIT,
    PARAMETERS,
    REVEAL,
    SCORE_COMMIT,
    TALLY,
    VALIDATORS,
    account,
    new_world,
)
from delegation_support import ONE, THREE, TWO, DelegatedGame

P = account(1)
DELAY = PARAMETERS["unbonding_delay"]
ACCUSED_NORM = 3  # filter bits


def accuse_of_invalid_bytes(game: Game, who: bytes) -> None:
    """In a round that has it among its proposers, at its availability; all seats say so."""
    bit = 1 << game.proposers.index(who)
    for voter in game.voters:
        game.attest(voter, 0b111 & ~bit, bit)
    game.until(SCORE_COMMIT)


def accuse_of_norm(game: Game, who: bytes) -> None:
    for voter in game.voters:
        game.attest(voter, game.view["revealed"])
    game.until(SCORE_COMMIT)
    bits = [ACCUSED_NORM if proposer == who else 0 for proposer in game.proposers]
    scores = [-300, -200, -100]
    for voter in game.voters:
        game.commit_scores(voter, scores, [*bits, *[0] * 13])
    game.world.next_block()
    for voter in game.voters:
        game.reveal_scores(voter, scores, [*bits, *[0] * 13])
    game.until(TALLY)
    game.tally()


def test_a_conviction_takes_of_the_pool_what_it_takes_of_the_bond_whatever_the_numbers_have_become():
    world = new_world()
    for setter, _, _ in VALIDATORS:
        world.must(setter, "TaskBoard", "approve_rules", PARAMETERS | {"invalid_bytes_slash": 1})
    world.blocks(7, 90)
    game = DelegatedGame(14, world=world)
    game.play_to_availability()
    who = game.proposers[0]
    game.bonded(ONE, who, 3 * BOND)
    accuse_of_invalid_bytes(game, who)
    world.must(account(0), "TaskBoard", "enact_rules")
    while game.round == 1:
        world.next_block(5)
    game.until(COMMIT)  # with the other numbers
    game.convict(1, 0)
    assert game.bond_of(who) == game.row(ONE, who)["stake"] == 0
    game.check_solvent()


def test_who_asked_to_leave_long_ago_waits_while_its_participant_is_accused_and_no_longer():
    """What is held is a part of the whole pool: nobody gets out before it is decided, at the others' cost."""
    game = DelegatedGame(6, rounds=8)
    people = [account(index) for index in range(1, 7)]
    for who in people:
        game.bonded(ONE, who, BOND)
    game.until(COMMIT)
    for who in people:
        game.says(ONE, "undelegate", who, BOND)
    for round in (2, 3):
        while game.round < round:
            game.world.next_block(10)  # nobody commits
        game.until(COMMIT)
    game.play_to_availability()
    accused = game.proposers[0]
    for voter in game.voters:
        game.attest(voter, 0, 1)
    while game.round == 3:
        game.world.next_block(5)
    assert game.round == 4 and game.held_of(accused) > 0
    assert game.row(ONE, accused)["is_out"] is False
    assert game.tries(ONE, "undelegate", accused, 0) == "delegation: leaving, but not free yet"
    game.says(ONE, "undelegate", next(who for who in people if who != accused), 0)
    while game.world.board("case_view", game.task, 3)["open"] and not game.send(ONE, "lift", 3).ok:
        game.world.next_block(30)
    game.says(ONE, "undelegate", accused, 0)
    assert game.row(ONE, accused)["unbonding"] == BOND


def play_to_audit(game: Game) -> None:
    game.until(COMMIT)
    round = game.round
    game.play_to_tally([[-300 + voter, -200, -100] for voter in range(3)])
    game.tally()
    for voter in game.voters:
        game.must(voter, "attest_adoption", round, bytes([round]) * 32)
    game.until(AUDIT)


def test_who_bonds_in_an_audit_shares_the_next_pay_like_who_came_too_late_for_the_last():
    game = DelegatedGame(6, audit_rounds=1, rounds=4, extra_rounds=0)
    people = [account(index) for index in range(1, 7)]
    for who in people:
        game.bonded(ONE, who, BOND)
    game.until(COMMIT)
    for who in people:
        game.bonded(TWO, who, BOND)
    play_to_audit(game)
    for who in people:
        game.bonded(THREE, who, BOND)
    game.world.blocks(3, 10)
    play_to_audit(game)
    late, later = ([game.row(owner, who)["earned"] for who in people] for owner in (TWO, THREE))
    assert game.round == 2 and late == later and sum(late) > 0


def test_of_two_accusations_each_takes_of_the_pool_the_part_that_it_holds_of_the_bond():
    game = DelegatedGame(6, world=new_world(), rounds=30, min_bond=BOND // 4)
    for index in range(1, 7):
        game.bonded(ONE, account(index), 2 * BOND)
    game.play_to_availability()
    who, first = game.proposers[0], 1
    accuse_of_norm(game, who)
    assert game.held_of(who) == BOND // 2
    while game.round == first:
        game.world.next_block(5)
    game.until(COMMIT)
    while who not in game.proposers:
        for proposer in game.proposers:
            game.commit(proposer)
        game.until(REVEAL)
        number = game.round
        for proposer in game.proposers:
            game.reveal(proposer)
        game.until(AVAILABILITY)
        for voter in game.voters:
            game.attest(voter, 0)
        while game.round == number:
            game.world.next_block()
        game.until(COMMIT)
    game.play_to_availability()
    second, index = game.round, game.proposers.index(who)
    accuse_of_invalid_bytes(game, who)
    assert game.held_of(who) == game.bond_of(who), "the rest"
    bond, stake = game.bond_of(who), game.row(ONE, who)["stake"]
    game.convict(second, index)
    assert game.bond_of(who) == bond // 2 and game.row(ONE, who)["stake"] == stake // 2
    game.convict(first, 0)
    assert game.bond_of(who) == game.row(ONE, who)["stake"] == 0
    game.check_solvent()


def test_what_unbonds_keeps_its_own_delay_when_its_owner_leaves_once_more_or_the_participant_does():
    game = DelegatedGame(2, min_participants=3, wait_seconds=10**6)
    game.bonded(ONE, P, 3 * BOND)
    parts, dates = (BOND, BOND // 4, 2 * BOND - BOND // 4), []
    for leave in (
        lambda: game.says(ONE, "undelegate", P, parts[0]),
        lambda: game.says(ONE, "undelegate", P, parts[1]),
        lambda: game.must(P, "leave_task"),
    ):
        leave()
        dates.append(game.world.timestamp + DELAY)
        game.world.next_block(90)
    for index, date in enumerate(dates):
        while (left := date - 1 - game.world.timestamp) > 0:
            game.world.next_block(min(left, 90))
        row = game.row(ONE, P)
        assert (row["free"], row["unbonding"], row["release_at"]) == (0, sum(parts[index:]), date)
        assert game.tries(ONE, "withdraw_delegation", P) == "delegation: still unbonding"
        game.world.next_block(1)
        assert game.row(ONE, P)["free"] == game.taken(ONE, "withdraw_delegation", P) == parts[index]
    assert game.total("liabilities") == 0
    game.check_solvent()


def test_only_the_board_says_who_sits_earns_loses_and_goes_and_only_the_delegation_contract_asks_it_for_pay():
    game = DelegatedGame(4)
    game.bonded(ONE, P, BOND)
    calls: list[tuple[str, tuple[object, ...]]] = [
        ("note_seats", (1, [P], [BOND], 0)), ("credit", (1, [P], 1)), ("cut", (P, 1)), ("hold", (1, P, 1, 2)),
        ("convict", (1, P)), ("close", (P, 0)),
    ]  # fmt: skip
    for who in (ONE, P, account(0)):
        for function, arguments in calls:
            assert game.tries(who, function, *arguments) == "delegation: only the board may call"
        refused = game.world.act(who, "TaskBoard", "pay_delegator", who, 1)
        assert refused.reason == "board: only the delegation contract may call"
    assert game.row(ONE, P)["stake"] == BOND
    for function, arguments in (("set_terms", (0, 1)), ("delegate", (P,))):
        refused = game.world.act(ONE, "Delegation", function, game.task + 1, *arguments)
        assert refused.reason == "delegation: no such task"
