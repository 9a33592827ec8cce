"""Scenarios of gas for what has its own forms: audits of 64 accused, an adapter that is nowhere, other numbers of the
board. The largest lists there are, as in gas_support.
"""

from unittest.mock import patch

import contracts_support
from board_support import CREATOR, NEW_ADAPTER, Game
from contracts_support import (
    ADOPT,
    AUDIT,
    AVAILABILITY,
    COMMIT,
    ENDED,
    ETHER,
    PARAMETERS,
    REVEAL,
    RICH,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    World,
    account,
    build_genesis,
)
from delegation_support import DelegatedGame
from gas_round_support import BACKER, ROWS, SEATS
from stake_support import SHORT, staking_key, vrf_key

VALIDATORS = 150
GROWTH = 10**5  # of a group's bonds over those of all before it: it is drawn, and decides in an audit
ROUNDS = ROWS // SEATS


def play_audits() -> None:
    """All 64 had proposals accepted and are accused in both audits, 16 of them by two thirds of all stake."""
    game = DelegatedGame(
        0, rounds=ROUNDS, extra_rounds=0, proposers=SEATS, voters=3, audit_rounds=ROUNDS, audit_seconds=90
    )
    for index in range(1, ROWS + 1):
        game.world.state.set_balance(account(index), GROWTH**ROUNDS * ETHER)
        game.join(account(index))
        game.says(account(index), "set_terms", 0, 1)
        game.bonded(BACKER, account(index), 1)  # a slash finds a pool, and the draws follow the bonds
    for group in range(ROUNDS):
        if group > 0:
            game.until(COMMIT)  # what is bonded from here on counts from the next round on
        for index in range(group * SEATS, (group + 1) * SEATS):
            game.join(account(index + 1), GROWTH ** (group + 1))
        if group > 0:
            play_quickly(game)
    play_quickly(game)
    assert game.phase == AUDIT, "the task ends after two audits of what was accepted last"
    rows = game.world.board("participants", game.task)
    assert sum(row["last_accepted"] > 0 for row in rows) >= ROWS - 2, "the draw follows the bonds"
    for _ in range(2):
        play_audit(game, [row["account"] for row in rows if row["last_accepted"]])
    assert game.phase == ENDED and sum(game.bond_of(row["account"]) == 0 for row in rows) >= SEATS


def play_quickly(game: Game) -> None:
    """A round in which everybody who is drawn does its part."""
    round = game.round
    game.until(COMMIT)
    for who in game.proposers:
        game.commit(who)
    game.until(REVEAL)
    for who in game.proposers:
        game.reveal(who)
    game.until(AVAILABILITY)
    for who in game.voters:
        game.attest(who, 0xFFFF)
    game.until(SCORE_COMMIT)
    scores = list(range(-SEATS, 0))
    for who in game.voters:
        game.commit_scores(who, scores)
    game.until(SCORE_REVEAL)
    for who in game.voters:
        game.reveal_scores(who, scores)
    game.until(TALLY)
    game.tally()
    if game.phase == ADOPT:
        for who in game.voters:
            game.must(who, "attest_adoption", round, NEW_ADAPTER)
        game.world.next_block()


def play_audit(game: Game, known: list[bytes]) -> None:
    """The last group's bonds outweigh all others: it names the first 16, and the others name everybody in turn."""
    number = game.world.board("audit_view", game.task)["number"]
    rich = [account(index + 1) for index in range(ROWS - SEATS, ROWS)]
    guilty = [who for who in known if who not in rich][:SEATS]
    for who in rich:
        game.must(who, "attest_guilty", number, sorted(guilty))
    for at, who in enumerate(who for who in known if who not in rich):
        others = [name for name in (known[at:] + known[:at]) if name != who][:SEATS]
        game.must(who, "attest_guilty", number, sorted(others))
    game.world.next_block(90)
    for _ in range(PARAMETERS["phase_min_blocks"]):
        if game.world.board("audit_view", game.task)["number"] == number:
            game.world.next_block(90)


def play_struck() -> None:
    """As many strikes as one audit can give: of 64 equal stakes, each of which names 16, more than half name 31."""
    game = Game(ROWS, rounds=9, extra_rounds=0, proposers=SEATS, voters=3, audit_rounds=3, audit_seconds=90)
    for _ in range(3):
        play_quickly(game)
    rows = game.world.board("participants", game.task)
    wanting = {row["account"]: ROWS // 2 + 1 for row in rows if row["last_held"]}
    wanting = dict(list(wanting.items())[: SEATS * ROWS // (ROWS // 2 + 1)])
    for row in rows:
        named = sorted((who for who in wanting if who != row["account"]), key=lambda who: -wanting[who])[:SEATS]
        for who in named:
            wanting[who] -= 1
        game.must(row["account"], "attest_guilty", 1, sorted(named))
    game.world.next_block(90)
    rows = game.world.board("participants", game.task)
    assert sum(row["strikes"] for row in rows) == sum(row["suspended"] for row in rows) == len(wanting) == 31


def play_absent() -> None:
    """By the paper's rule nobody of 16 opens what it committed to: the proposers, and in the next round the voters."""
    game = Game(2 * SEATS, proposers=SEATS, voters=SEATS, voting_rule=1, rule_slash=1_000, audit_rounds=1)
    game.until(COMMIT)
    for who in game.proposers:
        game.commit(who)
    pass_round(game)
    for who in game.world.board("participants", game.task):
        if not game.send(who["account"], "attest_guilty", 1, []).ok:
            raise AssertionError("nobody may speak in the audit")
    game.world.next_block()
    game.play_to_scores()
    for who in game.voters:
        game.commit_vote(who, NEW_ADAPTER)
    pass_round(game)


def pass_round(game: Game) -> None:
    for _ in range(20):
        if game.phase == AUDIT:
            return
        game.world.next_block(90)
    raise AssertionError("no audit came")


def play_missing() -> None:
    """An adapter that nobody serves is given up by all 64."""
    game = Game(ROWS, proposers=SEATS, voters=3)
    play_quickly(game)
    game.until(COMMIT)
    for index in range(1, ROWS + 1):
        game.must(account(index), "attest_missing", 2)
    game.world.next_block()


def play_rules() -> None:
    """A set of 150, of whom the first alone has more than two thirds: its voice is an agreement."""
    keys = [staking_key(index) for index in range(VALIDATORS)]
    rows = [(key.account, (32 if index else 15_000) * ETHER, vrf_key(key)) for index, key in enumerate(keys)]
    with patch.object(contracts_support, "GAS", 2 * contracts_support.GAS):  # genesis is no transaction
        world = World(*build_genesis(0, rows, **SHORT | {"open_staking": True}))
    world.next_block(pokes=False)
    other = PARAMETERS | {"task_fee": 2**100}
    for key in (keys[1], keys[0]):
        world.must(key.account, "TaskBoard", "approve_rules", other)
    while world.view("Beacon", "chain_time") < world.board("enact_at"):
        world.next_block(90, pokes=False)
    world.state.set_balance(CREATOR, RICH)
    world.must(CREATOR, "TaskBoard", "enact_rules")
