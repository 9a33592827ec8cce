"""Bonds with a participant of a task: what they weigh, earn and lose, and how they come back."""

import pytest
from board_support import BOND, FEE, Game
from contracts_support import (
    AUDIT,
    COMMIT,
    DRAW_PROPOSERS,
    ENDED,
    REVEAL,
    RICH,
    SCORE_COMMIT,
    account,
)
from delegation_support import LIMIT, ONE, THREE, TWO, DelegatedGame

from flock_contracts.addresses import DELEGATION
from flock_contracts.loader import load

DELAY = 600
P = account(1)


def pass_round(game: Game) -> None:
    """Everybody is there, so that nobody pays for an absence, and nobody holds what was proposed."""
    game.play_to_availability()
    round = game.round
    for who in game.voters:
        game.attest(who, 0)
    while game.round == round:
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


def test_pay_is_shared_by_what_weighed_less_the_commission_within_a_wei_for_each():
    game = DelegatedGame(6, commission=1_000)
    for index in range(1, 7):
        game.bonded(ONE, account(index), BOND)
        game.bonded(TWO, account(index), 2 * BOND)
    game.play_round()
    result = game.result(1)
    assert result["per_proposer"] == 60_000 and result["per_voter"] == 40_000
    seats = [(who, 60_000) for who in result["proposers"]] + [(who, 40_000) for who in result["voters"]]
    for who, pay in seats:
        others = pay * 3 // 4 * 9 // 10
        claimable = game.world.board("claimable", game.task, 1, who)
        assert pay - others <= claimable <= pay - others + 1
        assert game.claimed(who, 1) == claimable
        assert others * 2 // 3 - 1 <= game.taken(TWO, "claim_delegation", who) <= others * 2 // 3
        assert others // 3 - 1 <= game.taken(ONE, "claim_delegation", who) <= others // 3
        assert game.tries(ONE, "claim_delegation", who) == "delegation: nothing to claim"
    assert game.world.board("total_rewards") <= 6 * 2
    game.check_solvent()


def test_who_comes_after_the_close_or_asks_to_leave_has_no_part_in_the_round_and_takes_nothing_from_who_has():
    game = DelegatedGame(6)
    for index in range(1, 7):
        game.bonded(ONE, account(index), BOND)
        game.bonded(TWO, account(index), BOND)
    game.until(COMMIT)
    for index in range(1, 7):
        game.bonded(THREE, account(index), 2 * BOND)  # would be half of the pool
        game.join(account(index), 100 * BOND)  # nor does the participant's own count
        game.says(TWO, "undelegate", account(index), BOND)
    game.play_round()
    for who in game.result(1)["voters"]:
        own, others = game.claimed(who, 1), game.taken(ONE, "claim_delegation", who)
        assert own + others in (39_999, 40_000) and others in (26_665, 26_666)
        assert game.row(TWO, who)["earned"] == game.row(THREE, who)["earned"] == 0
    game.play_round()
    for who in game.result(2)["voters"]:
        assert game.row(THREE, who)["earned"] > 0 and game.row(TWO, who)["earned"] == 0
    game.check_solvent()


def test_a_participant_alone_keeps_all_of_its_pay_where_its_delegators_left_in_the_round():
    game = DelegatedGame(6)
    for index in range(1, 7):
        game.bonded(ONE, account(index), BOND)
    game.until(COMMIT)
    for index in range(1, 7):
        game.says(ONE, "undelegate", account(index), BOND)
    game.play_round()
    assert [game.claimed(who, 1) for who in game.result(1)["voters"]] == [40_000] * 3


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


def test_after_the_end_everybody_gets_everything_in_any_order():
    game = DelegatedGame(6, rounds=1, extra_rounds=0)
    for index in range(1, 7):
        game.bonded(ONE, account(index), 7)
        game.bonded(TWO, account(index), 11)
    game.play_round()
    assert game.phase == ENDED
    for index in range(1, 7):
        who = account(index)
        game.says(ONE, "undelegate", who, 7)
        game.must(who, "leave_task")
    game.world.blocks(7, 90)
    for index in range(6, 0, -1):
        who = account(index)
        assert game.taken(TWO, "withdraw_delegation", who) == 11
        assert game.taken(ONE, "withdraw_delegation", who) == 7
        game.must(who, "withdraw_bond")
        for owner in (ONE, TWO):
            game.taken(owner, "claim_delegation", who)
        game.must(who, "claim", 1)
    assert game.total("liabilities") == 0
    assert game.world.board("total_rewards") <= 6  # fractions of a wei, of each pool at most one
    game.check_solvent()


def test_the_rest_of_the_pot_is_shared_as_the_pay_of_the_seats_was():
    game = DelegatedGame(6, commission=5_000, rounds=2, extra_rounds=2, rest_share=10_000)
    for index in range(1, 7):
        game.bonded(ONE, account(index), BOND)
        game.bonded(TWO, account(index), 2 * BOND)
    game.play_round()
    for index in range(1, 7):
        game.says(TWO, "undelegate", account(index), 2 * BOND)  # shares the rest of the first round's seats alone
        game.bonded(THREE, account(index), BOND)
    game.until(COMMIT)
    game.must(account(0), "stop_task")
    second = game.play_round()
    assert game.phase == ENDED
    rest = game.world.board("claimable", game.task, 1, game.result(1)["voters"][0])
    before = {owner: game.world.balance(owner) for owner in (ONE, TWO, THREE)}
    total = game.world.board("total_rewards")
    owed = sum(game.world.board("claimable", game.task, round, account(index)) for round in (1, second)
               for index in range(1, 7))  # fmt: skip
    assert rest > 0
    for index in range(1, 7):
        for owner in before:
            game.taken(owner, "claim_delegation", account(index))
            assert game.row(owner, account(index))["earned"] == 0
    gained = {owner: game.world.balance(owner) - start for owner, start in before.items()}
    assert total - 40 <= owed + sum(gained.values()) <= total
    assert 0 < gained[THREE] < gained[ONE] and gained[TWO] > 0


def test_another_commission_holds_one_unbonding_delay_later_and_for_seats_that_are_drawn_then():
    game = DelegatedGame(4, commission=1_000)
    game.says(P, "set_terms", 9_000, LIMIT)
    offer = game.world.view("Delegation", "offer_of", game.task, P)
    assert (offer["commission"], offer["next_commission"]) == (1_000, 9_000)
    game.world.blocks(6, 90)
    game.says(P, "set_terms", 8_000, LIMIT)  # asking again starts the delay anew
    game.world.blocks(6, 90)
    game.world.next_block(59)
    assert game.world.view("Delegation", "offer_of", game.task, P)["commission"] == 1_000
    game.world.next_block(1)
    assert game.world.view("Delegation", "offer_of", game.task, P)["commission"] == 8_000


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


REFUSES = bytes.fromhex("5f5ffd")


def calls_back(function: str, *arguments: object) -> bytes:
    """Code that stores its calldata's words in memory and calls the delegation contract when it is paid."""
    data = load("Delegation").encode(function, *arguments)
    words = [data[at : at + 32].ljust(32, b"\0") for at in range(0, len(data), 32)]
    code = b"".join(b"\x7f" + word + b"\x61" + (32 * at).to_bytes(2, "big") + b"\x52" for at, word in enumerate(words))
    call = bytes.fromhex("5f5f61") + len(data).to_bytes(2, "big") + bytes.fromhex("5f5f73") + DELEGATION
    return code + call + bytes.fromhex("5af100")


CALLS = [
    calls_back("withdraw_delegation", 1, P),
    calls_back("claim_delegation", 1, P),
    calls_back("undelegate", 1, P, 1),
]


@pytest.mark.parametrize("code", [REFUSES, *CALLS], ids=["refuses", "withdraws", "claims", "undelegates"])
def test_a_delegator_that_refuses_coins_or_calls_back_gets_its_own_once_and_holds_up_nobody(code: bytes):
    game = DelegatedGame(6)
    for owner in (ONE, TWO):
        game.bonded(owner, P, BOND)
    game.play_round()
    while game.phase != ENDED:
        game.world.next_block(90)
    kept = game.row(ONE, P)["stake"]  # less what its absences cost
    for owner in (ONE, TWO):
        game.says(owner, "undelegate", P, kept)
    game.must(P, "leave_task")
    game.world.state.set_code(ONE, code)
    before = game.world.balance(ONE)
    earned = game.row(ONE, P)["earned"]
    assert game.wait_for(TWO, P) == kept > BOND * 9 // 10
    game.must(P, "withdraw_bond")
    if code == REFUSES:
        assert game.taken(ONE, "withdraw_delegation", P) == 0
        game.world.state.set_code(ONE, b"")
    game.says(ONE, "withdraw_delegation", P)
    assert game.tries(ONE, "withdraw_delegation", P) == "delegation: nothing is unbonding"
    assert earned > 0
    game.says(ONE, "claim_delegation", P)
    assert game.world.balance(ONE) == before + kept + earned
    game.check_solvent()
