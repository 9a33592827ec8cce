"""Attacks of the threat table in contracts/README.md that no other file plays from end to end."""

from board_support import ADAPTER, BOND, CREATOR, FEE, NEW_ADAPTER, Game, padded
from contracts_support import COMMIT, ENDED, PARAMETERS, SCORE_COMMIT, SCORE_REVEAL, TALLY, account, new_world

from flock_chain.tally import FILTER_NO_SCORE, FILTER_NORM_REJECT, FILTER_NORM_SLASH, Verdict

SCORES = (-300, -200, -100)


def test_a_voter_that_is_served_nothing_says_so_and_keeps_bond_and_seat_and_the_round_goes_on() -> None:
    """Framing: proposers serve everybody but one. It holds nothing, scores nothing and keeps the adapter before."""
    game = Game()
    game.play_to_availability()
    framed, *others = game.voters
    game.attest(framed, 0)
    for who in others:
        game.attest(who, game.view["revealed"])
    game.until(SCORE_COMMIT)
    blind = [0, 0, 0], padded([FILTER_NO_SCORE] * 3)
    game.commit_scores(framed, *blind)
    for who in others:
        game.commit_scores(who, SCORES)
    game.until(SCORE_REVEAL)
    game.reveal_scores(framed, *blind)
    for who in others:
        game.reveal_scores(who, SCORES)
    game.until(TALLY)
    game.tally()
    for who in game.voters:
        game.must(who, "attest_adoption", 1, ADAPTER if who == framed else NEW_ADAPTER)
    game.world.next_block()
    row = game.world.board("participant", game.task, framed)
    assert (row["bond"], row["held"], row["missed"], row["unseated"], row["suspended"]) == (BOND, 0, 0, False, False)
    assert game.world.board("burned") == FEE, "nobody lost anything"
    assert game.result(1)["adapter_after"] == NEW_ADAPTER and game.result(1)["verdicts"] == [Verdict.ACCEPTED] * 3
    owed = {who: game.world.board("claimable", game.task, 1, who) for who in (framed, *others)}
    assert owed[framed] == 0 < min(owed[who] for who in others), "what it could not score is not paid"


def test_a_creator_with_a_committee_and_half_of_the_stake_has_nothing_of_the_bonds_that_he_takes() -> None:
    """All voters accuse an honest proposer, his friend convicts it alone: that is burned, and pay is paid."""
    world, friend = new_world(), account(20)
    his = world.balance(CREATOR) + world.balance(friend)
    game = Game(world=world, rounds=1, extra_rounds=0, rest_share=0)
    game.join(friend, 10 * BOND)
    game.until(COMMIT)
    victim = next(index for index, who in enumerate(game.proposers) if who != friend)
    worst = [(FILTER_NORM_REJECT | FILTER_NORM_SLASH) * (index == victim) for index in range(3)]
    game.play_to_tally([SCORES] * 3, [padded(worst)] * 3)
    game.tally()
    assert game.result(1)["verdicts"][victim] == Verdict.ACCUSED_NORM
    game.confirm(friend, 1, 1 << victim)
    for who in game.voters:
        game.must(who, "attest_adoption", 1, NEW_ADAPTER)
    game.until(ENDED)
    result, others = game.result(1), 0
    for who in (*result["proposers"], *result["voters"]):
        before = world.balance(who)
        if game.send(who, "claim", 1).ok and who != friend:
            others += world.balance(who) - before
    game.must(CREATOR, "withdraw_pot")
    game.must(friend, "leave_task")
    world.blocks(8, 90)
    game.must(friend, "withdraw_bond")
    taken = BOND - game.bond_of(result["proposers"][victim])
    assert taken == BOND * PARAMETERS["norm_slash"] // 10_000 == world.board("burned") - FEE
    assert world.balance(CREATOR) + world.balance(friend) == his - FEE - others < his - FEE
