"""A round's committee accuses; only more than half of all stake that was eligible in the round takes a coin."""

from board_support import BOND, CREATOR, FEE, Game
from contracts_support import AUDIT, COMMIT, ENDED, REVEAL, SCORE_COMMIT, SCORE_REVEAL, TALLY, TERMS, account, new_world
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.tally import Verdict

SCORES = [[-300, -200, -100], [-301, -199, -101], [-290, -210, -99]]
ACCUSING = [[3, 0, 0]] * 3  # of the first proposer, and by all seats: nobody can check more on chain
WINDOW = sum(TERMS[f"{name}_seconds"] for name in (
    "commit", "reveal", "availability", "score_commit", "score_reveal", "tally", "adopt"
))  # fmt: skip
FEW = settings(max_examples=4, deadline=None, derandomize=True, database=None)
PEOPLE = 7


def members(game: Game) -> list[bytes]:
    return [row["account"] for row in game.world.board("participants", game.task)]


def play(participants: int, **terms: int) -> Game:
    return Game(participants, world=new_world(), **terms)


def accused(participants: int = 6, **terms: int) -> tuple[Game, bytes]:
    """Round 1: all seats accuse the first proposer of its norm. The others are accepted."""
    game = play(participants, **terms)
    game.play_to_tally(SCORES, ACCUSING)
    game.tally()
    return game, game.result(1)["proposers"][0]


def case(game: Game, round: int = 1) -> dict[str, object]:
    found: dict[str, object] = game.world.board("case_view", game.task, round)
    return found


def test_a_whole_committee_takes_nothing_and_more_than_half_of_the_stake_takes_what_is_held() -> None:
    game, who = accused()
    assert game.result(1)["verdicts"] == [Verdict.ACCUSED_NORM, Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert (game.bond_of(who), game.held_of(who)) == (BOND, BOND // 2)
    for index, other in enumerate(members(game)[:4]):
        assert game.bond_of(who) == BOND, f"{index} of 6 say so: no more than half"
        game.confirm(other, 1, 0b001)
    assert (game.bond_of(who), game.held_of(who)) == (BOND - BOND // 2, 0)
    assert game.world.board("burned") == FEE + BOND // 2
    assert (case(game)["open"], case(game)["convicted"], case(game)["named"]) == (0, 1, 1)
    game.check_solvent()


def test_invalid_bytes_are_decided_by_the_same_stake() -> None:
    game = play(6)
    game.play_to_availability()
    for voter in game.voters:
        game.attest(voter, 0b110, 0b001)
    game.world.next_block()
    who = game.proposers[0]
    assert (game.bond_of(who), game.held_of(who)) == (BOND, BOND)
    for other in members(game)[:4]:
        game.confirm(other, 1, 0b001)
    assert game.bond_of(who) == 0 and game.world.board("burned") == FEE + BOND
    game.check_solvent()


def test_who_is_cleared_in_an_audit_has_its_whole_say_in_it() -> None:
    game, who = accused(audit_rounds=1)
    game.until(AUDIT, seconds=10)
    for other in [name for name in members(game) if name != who][:3]:
        game.confirm(other, 1, 0, 0b001)
    assert game.held_of(who) == 0 and game.phase == AUDIT
    game.must(who, "attest_guilty", 1, [])
    assert game.world.board("audit_view", game.task)["heard_stake"] == game.bond_of(who) == BOND


def test_half_of_the_stake_frees_the_innocent_at_once_and_its_bond_is_whole() -> None:
    game, who = accused()
    for other in members(game)[:3]:
        assert game.held_of(who) > 0
        game.confirm(other, 1, 0, 0b001)
    assert (game.bond_of(who), game.held_of(who), case(game)["open"]) == (BOND, 0, 0)
    refused = game.send(members(game)[4], "confirm", 1, 0b001, 0)
    assert refused.reason == "board: nothing of that is open"
    assert game.world.board("burned") == FEE


def test_what_nobody_decides_is_free_again_when_the_time_is_over_and_not_a_second_earlier() -> None:
    game, who = accused(rounds=9)
    until = case(game)["until"]
    assert isinstance(until, int) and until == game.world.timestamp + WINDOW
    for other in members(game)[:3]:
        game.confirm(other, 1, 0b001)
    game.world.next_block(WINDOW)
    assert game.world.timestamp == until
    assert game.send(CREATOR, "lift", 1).reason == "board: not yet"
    game.world.next_block(1)
    assert game.send(members(game)[3], "confirm", 1, 0b001, 0).reason == "board: too late"
    game.must(CREATOR, "lift", 1)
    assert (game.bond_of(who), game.held_of(who)) == (BOND, 0) and game.world.board("burned") == FEE
    assert game.send(CREATOR, "lift", 1).reason == "board: nothing is held"


def test_a_second_accusation_in_a_round_gives_the_whole_time_to_both() -> None:
    """Else whoever is accused at the tally could be convicted for a shorter time than whoever was before."""
    game = play(6)
    game.play_to_availability()
    for voter in game.voters:
        game.attest(voter, 0b110, 0b001)
    game.until(SCORE_COMMIT)
    first = game.world.timestamp + WINDOW
    assert case(game)["until"] == first
    sheet = [0, -200, -100], [0, 3, 0]
    for phase, send in ((SCORE_REVEAL, game.commit_scores), (TALLY, game.reveal_scores)):
        for voter in game.voters:
            send(voter, *sheet)
        game.until(phase, seconds=3)
    game.tally()
    assert (case(game)["open"], case(game)["until"]) == (0b011, game.world.timestamp + WINDOW)
    assert game.world.timestamp + WINDOW > first


def test_nobody_leaves_with_what_is_held_not_even_after_the_end_where_it_is_still_decided() -> None:
    game, who = accused(rounds=1, extra_rounds=0)
    game.until(ENDED, seconds=10)
    game.must(who, "leave_task")
    assert game.send(who, "leave_task").reason == "board: leaving, but not free yet"
    assert game.send(CREATOR, "evict", who).reason == "board: its bond suffices"
    others = [other for other in members(game) if other != who]
    for other in others[:4]:
        game.confirm(other, 1, 0b001)
    game.must(who, "leave_task")
    assert game.world.board("unbonding", game.task, who)["amount"] == BOND - BOND // 2
    game.check_solvent()


def test_whose_free_part_is_below_the_minimum_is_drawn_no_more_until_it_is_cleared() -> None:
    game, who = accused(6, min_bond=BOND // 2 + 1, rounds=5)
    game.world.blocks(4, 10)
    game.until(COMMIT)
    assert game.round == 2 and game.view["candidate_count"] == 5
    assert who not in game.proposers
    for other in members(game)[:3]:
        game.confirm(other, 1, 0, 0b001)
    game.world.blocks(4, 20)
    game.until(COMMIT)
    assert game.round == 3 and game.view["candidate_count"] == 6


def test_what_is_freed_while_a_round_runs_counts_from_the_next_one_on() -> None:
    game, who = accused(6, min_bond=BOND // 2 + 1, rounds=5, voters=5)
    game.world.blocks(4, 10)
    game.until(COMMIT)
    assert game.round == 2
    for other in members(game)[:3]:
        game.confirm(other, 1, 0, 0b001)
    for other in game.proposers:
        game.commit(other)
    game.until(REVEAL)
    assert len(game.proposers) + len(game.voters) == 5 and who not in game.voters, "it is no candidate of this round"


def test_a_bond_of_later_has_no_say_nor_has_who_came_later() -> None:
    game, who = accused(6, rounds=5)
    rich = next(other for other in members(game) if other != who)
    game.join(rich, 100 * BOND)
    game.join(account(9), 100 * BOND)
    assert game.send(account(9), "confirm", 1, 1, 0).reason == "board: not eligible in that round"
    assert game.send(account(10), "confirm", 1, 1, 0).reason == "board: not eligible in that round"
    game.confirm(rich, 1, 0b001)
    assert 6 * case(game)["guilty"][0] <= case(game)["total"]  # type: ignore[index]
    assert game.world.board("say_of", game.task, 1, account(9)) == (0, 0)
    assert game.world.board("say_of", game.task, 1, rich)[1] == 1


def test_who_takes_the_row_of_somebody_who_left_has_not_its_say() -> None:
    game, who = accused(7, rounds=5)
    free = next(row for row in members(game) if row not in (*game.result(1)["proposers"], *game.voters))
    game.must(free, "leave_task")
    game.join(account(20))
    assert game.send(account(20), "confirm", 1, 1, 0).reason == "board: not eligible in that round"
    game.join(account(21))
    for other in [row for row in members(game) if row not in (account(20), account(21))][:4]:
        game.confirm(other, 1, 1)
    assert game.bond_of(who) == BOND // 2, "four of the seven that were eligible"


def test_each_has_the_share_of_its_own_bond_though_a_row_before_it_is_free_and_what_is_taken_is_of_that_round() -> None:
    game = play(0)
    bonds = {account(index): BOND * index for index in range(1, 8)}
    for who, bond in bonds.items():
        game.join(who, bond)
    game.must(account(1), "leave_task")
    game.play_to_tally(SCORES, ACCUSING)
    game.tally()
    game.until(COMMIT, seconds=10)
    guilty, total = game.result(1)["proposers"][0], sum(bonds.values()) - BOND
    shares = {who: game.world.board("say_of", game.task, 1, who)[0] for who in members(game)}
    assert shares == {who: bonds[who] * (2**32 - 1) // total for who in members(game)} and game.round == 2
    held = game.held_of(guilty)
    outcomes = [game.send(who, "confirm", 1, 0b001, 0) for who in members(game)]
    (taken,) = [log for outcome in outcomes if outcome.ok for name, log in outcome.logs if name == "Slashed"]
    assert taken == {"task": game.task, "round": 1, "account": guilty, "amount": held}


def test_each_says_once_and_only_of_who_is_accused() -> None:
    game, _ = accused()
    first = members(game)[0]
    assert game.send(first, "confirm", 1, 0b010, 0).reason == "board: nothing of that is open"
    assert game.send(first, "confirm", 1, 0b001, 0b001).reason == "board: guilty and innocent overlap"
    assert game.send(first, "confirm", 2, 0b001, 0).reason == "board: nothing of that is open"
    game.confirm(first, 1, 0, 0b111)
    assert game.send(first, "confirm", 1, 0b001, 0).reason == "board: already said"


def test_both_accusations_of_a_round_are_said_one_after_the_other() -> None:
    """Bytes are accused before norms: who has spoken of the one can still speak of the other."""
    game = play(8, proposers=4, voters=4, rounds=3)
    game.play_to_availability()
    for voter in game.voters:
        game.attest(voter, 0b1110, 0b0001)
    game.world.next_block()
    first = members(game)[0]
    game.confirm(first, 1, 0, 0b0001)
    for voter in game.voters:
        game.commit_scores(voter, [0, -200, -100, -50], [0, 3, 0, 0])
    game.world.next_block()
    for voter in game.voters:
        game.reveal_scores(voter, [0, -200, -100, -50], [0, 3, 0, 0])
    game.world.next_block()
    game.tally()
    game.confirm(first, 1, 0b0010)
    assert game.world.board("say_of", game.task, 1, first)[1] == 0b0011
    assert case(game)["held"][:3] == [BOND, BOND // 2, 0]  # type: ignore[index]


def test_two_accusations_of_one_account_cost_the_same_in_either_order() -> None:
    left = []
    for order in ((1, 2), (2, 1)):
        game = play(5, proposers=1, voters=3, rounds=9, min_participants=4)
        game.join(account(1), 10**9)  # is drawn in almost every round
        game.world.blocks(4, 20)
        rounds = []
        while len(rounds) < 2:
            game.until(COMMIT)
            number, who = game.round, game.proposers[0]
            game.play_to_tally([[-300]] * 3, [[3]] * 3)
            game.tally()
            rounds += [number] if who == account(1) else []
        bond = game.bond_of(account(1))
        assert game.held_of(account(1)) == bond // 2 + (bond - bond // 2) // 2
        game.confirm(account(1), rounds[order[0] - 1], 1)
        game.confirm(account(1), rounds[order[1] - 1], 1)
        left.append(game.bond_of(account(1)))
        game.check_solvent()
    assert left[0] == left[1]


def test_what_another_offence_took_meanwhile_cannot_be_taken_again() -> None:
    """Two audits take the whole bond of who is accused; the conviction then finds nothing, and nothing reverts."""
    game = play(6, rounds=9, audit_rounds=2, audit_slash=10_000, audit_seconds=15)
    accepted: set[bytes] = set()
    guilty, index = b"", 0
    while game.round < 5:
        if game.phase == AUDIT:
            for who in members(game):
                number = game.world.board("audit_view", game.task)["number"]
                game.must(who, "attest_guilty", number, [guilty] if who != guilty else [])
            game.world.next_block()
            continue
        game.until(COMMIT)
        proposers = game.proposers
        if game.round == 2:
            guilty = next(who for who in proposers if who in accepted)
            index = proposers.index(guilty)
        row = [3 if who == guilty else 0 for who in proposers]
        game.play_to_tally([[-300 + 9 * i + k for i in range(len(proposers))] for k in range(3)], [row] * 3)
        game.tally()
        accepted |= set(proposers)
        for who in game.voters:
            game.must(who, "attest_adoption", game.round, game.view["adapter"])
        game.world.next_block()
    assert game.bond_of(guilty) == 0 < game.held_of(guilty)
    burned = game.world.board("burned")
    game.convict(2, index)
    assert game.held_of(guilty) == 0 and game.world.board("burned") == burned
    game.check_solvent()


@FEW
@given(
    liars=st.permutations(range(PEOPLE)), lies=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=3,
    max_size=3), kind=st.sampled_from(["norm", "bytes"]),
)  # fmt: skip
def test_below_half_of_the_stake_nobody_is_slashed_whatever_the_whole_committee_and_its_friends_say(
    liars: list[int], lies: list[tuple[int, int]], kind: str
) -> None:
    """All seats lie, three of seven of the stake confirm it, and the others are silent; in the end all is free."""
    game = play(PEOPLE, rounds=9)
    game.play_to_availability()
    for voter in game.voters:
        game.attest(voter, 0 if kind == "bytes" else 0b111, 0b111 if kind == "bytes" else 0)
    game.world.next_block()
    if kind == "norm":
        for voter, scores in zip(game.voters, SCORES):
            game.commit_scores(voter, scores, [3, 3, 3])
        game.world.next_block()
        for voter, scores in zip(game.voters, SCORES):
            game.reveal_scores(voter, scores, [3, 3, 3])
        game.world.next_block()
        game.tally()
    people = members(game)
    for liar, (guilty, innocent) in zip(liars[:3], lies):
        game.send(people[liar], "confirm", 1, guilty & ~innocent, innocent)
    assert all(game.bond_of(who) == BOND for who in people) and game.world.board("burned") == FEE
    game.world.next_block(91)  # a standstill of more than 90 s expires nothing
    game.world.next_block(20)
    if case(game)["open"]:
        game.must(CREATOR, "lift", 1)
    assert not any(game.held_of(who) for who in people)
    game.check_solvent()


@FEW
@given(saying=st.permutations(range(PEOPLE)), guilty=st.permutations([1, 1, 1, 1, 0, 0, 0]))
def test_above_half_a_conviction_is_the_same_in_whatever_order_it_is_said(saying: list[int], guilty: list[int]) -> None:
    """Four of seven say guilty and three say innocent."""
    game, who = accused(PEOPLE, rounds=9)
    people = members(game)
    for index in saying:
        game.send(people[index], "confirm", 1, guilty[index], 1 - guilty[index])
    assert (game.bond_of(who), game.held_of(who), case(game)["convicted"]) == (BOND // 2, 0, 1)
    assert game.world.board("burned") == FEE + BOND // 2
    game.check_solvent()
