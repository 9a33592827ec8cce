"""What delegators of a participant are paid: of each round, of the pot's rest, and each once."""

import pytest
from board_support import BOND
from contracts_support import COMMIT, ENDED, account
from delegation_support import LIMIT, ONE, THREE, TWO, DelegatedGame

from flock_contracts.addresses import DELEGATION
from flock_contracts.loader import load

P = account(1)


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
