"""Who may join, leave, be drawn and be evicted; and when a bond comes back."""

from board_support import ADAPTER, BOND, CREATOR, DOCUMENT, FEE, POT, Game
from contracts_support import (
    ADOPT,
    AVAILABILITY,
    COMMIT,
    DRAW_PROPOSERS,
    ENDED,
    PARAMETERS,
    RICH,
    SCORE_COMMIT,
    TERMS,
    WAITING,
    account,
    new_world,
)

from flock_contracts.addresses import BOARD

MANY = 14  # more than the six seats of a round


def outsiders(game: Game) -> list[bytes]:
    seated = set(game.proposers) | set(game.voters)
    return [row["account"] for row in game.world.board("participants", game.task) if row["account"] not in seated]


def test_a_bond_below_the_minimum_joins_nothing() -> None:
    game = Game(0)
    join = ("join_task", game.task, b"d" * 32)
    assert game.world.act(account(1), "TaskBoard", *join, value=99).reason == "board: below the minimum bond"
    assert game.world.act(account(1), "TaskBoard", *join, value=0).reason == "board: bond more than nothing"
    assert game.world.act(account(1), "TaskBoard", "join_task", 9, b"d" * 32, value=500).reason == "board: no such task"
    game.join(account(1), 100)
    other = game.world.act(account(1), "TaskBoard", "join_task", game.task, b"e" * 32, value=1)
    assert other.reason == "board: the domain is frozen until it leaves"
    assert game.bond_of(account(1)) == 100


def test_a_task_takes_64_participants() -> None:
    game = Game(64)
    full = game.world.act(account(65), "TaskBoard", "join_task", game.task, b"d" * 32, value=500)
    assert full.reason == "board: the task is full"


def test_who_joins_or_adds_after_the_close_counts_from_the_next_round_on() -> None:
    game = Game(4, proposers=16, voters=16)
    game.until(DRAW_PROPOSERS)
    game.world.next_block()
    game.join(account(9), 10**9)
    game.join(account(1), 10**9)
    game.until(COMMIT)
    assert game.view["candidate_count"] == 4 and account(9) not in game.proposers
    assert game.world.board("missing_stake", game.task, 1)[1] == 4 * BOND, "all that is eligible"
    assert game.send(account(9), "leave_task").ok  # never eligible, so free
    for who in game.proposers:
        game.commit(who)
    game.world.blocks(3)
    assert account(9) not in game.voters and len(game.voters) == 3


def test_what_is_added_in_the_block_of_the_close_weighs_though_more_is_added_after_it() -> None:
    game = Game(4, proposers=16, voters=16)
    game.until(DRAW_PROPOSERS)
    game.join(account(1), 10**9)
    game.world.next_block()
    game.join(account(1), 7)
    game.until(COMMIT)
    assert game.world.board("missing_stake", game.task, 1)[1] == 4 * BOND + 10**9


def test_nobody_leaves_while_it_is_seated_or_may_yet_be_drawn() -> None:
    game = Game(MANY)
    game.until(COMMIT)
    for who in (game.proposers[0], outsiders(game)[0]):
        assert game.send(who, "leave_task").ok
        assert game.world.board("participant", game.task, who)["leaving_at"] == game.world.height
        assert game.send(who, "leave_task").reason == "board: leaving, but not free yet"
        assert game.world.board("unbonding", game.task, who)["amount"] == 0


def test_the_seated_stay_to_the_end_of_the_round_so_that_no_slash_is_evaded() -> None:
    game = Game(MANY)
    game.play_to_availability()
    for who in (*game.proposers, *game.voters):
        game.must(who, "leave_task")  # a request
        assert game.bond_of(who) == BOND and game.world.board("unbonding", game.task, who)["amount"] == 0
    for who in game.voters:
        game.attest(who, 0, 0b001)
    guilty = game.proposers[0]
    game.world.next_block()
    assert game.send(guilty, "leave_task").reason == "board: leaving, but not free yet"
    game.convict(1, 0)
    game.must(guilty, "leave_task")
    assert game.world.board("burned") == FEE + BOND


def test_who_is_not_drawn_leaves_at_once_and_gets_its_bond_after_the_delay() -> None:
    game = Game(MANY)
    game.play_to_availability()
    who = outsiders(game)[0]
    game.must(who, "leave_task")
    assert game.send(who, "leave_task").reason == "board: no participant"
    assert game.send(who, "withdraw_bond").reason == "board: still unbonding"
    game.world.blocks(7, 90)
    game.must(who, "withdraw_bond")
    assert game.world.balance(who) == RICH
    assert game.send(who, "withdraw_bond").reason == "board: nothing is unbonding"
    game.check_solvent()


def test_that_somebody_left_and_is_back_in_the_round_in_which_it_joined_is_seen_by_what_unbonds_alone() -> None:
    """What a peer goes by that says from which round on it counts; its new bond weighs nothing in the running one."""
    game = Game(MANY)
    game.play_to_availability()
    who = outsiders(game)[0]
    then = [game.world.board(view, game.task, who) for view in ("participant", "unbonding")]
    game.must(who, "leave_task")
    game.join(who)
    now = [game.world.board(view, game.task, who) for view in ("participant", "unbonding")]
    assert now[0] == then[0] and now[0]["joined_round"] == game.round
    assert then[1]["amount"] == 0 and now[1]["amount"] == BOND


def test_what_unbonds_keeps_its_own_delay_when_its_account_leaves_once_more() -> None:
    game = Game(3, wait_seconds=10**6)
    who = account(1)
    game.must(who, "leave_task")
    first = game.world.timestamp + PARAMETERS["unbonding_delay"]
    game.world.blocks(2, 90)
    game.join(who, 2 * BOND)
    game.must(who, "leave_task")
    assert game.world.board("unbonding", game.task, who) == {"amount": 3 * BOND, "release_at": first}
    game.world.blocks(4, 90)
    game.world.next_block(first - game.world.timestamp - 1)
    assert game.send(who, "withdraw_bond").reason == "board: still unbonding"
    game.world.next_block(1)
    game.must(who, "withdraw_bond")
    assert game.world.balance(who) == RICH - 2 * BOND
    assert game.world.board("unbonding", game.task, who) == {"amount": 2 * BOND, "release_at": first + 180}
    game.world.blocks(2, 90)
    game.join(who, 5 * BOND)
    game.must(who, "leave_task")  # what is free stays free
    game.must(who, "withdraw_bond")
    assert game.world.balance(who) == RICH - 5 * BOND
    game.check_solvent()


def test_an_eviction_keeps_nobody_from_what_had_unbonded_before() -> None:
    """Anybody may evict a short bond: it must not lock the coins of its owner that are free."""
    game = Game(0, min_bond=BOND, wait_seconds=10**6)
    people = [account(index) for index in range(1, 7)]
    for who in people[:3]:
        game.join(who)
        game.must(who, "leave_task")
    game.world.blocks(7, 90)
    for who in people:
        game.join(who)
    game.until(COMMIT)
    while game.phase != WAITING:
        game.world.next_block(10)  # nobody commits: each proposer loses 0.1 % and is short
    short = [who for who in people[:3] if game.bond_of(who) < BOND]
    assert short
    game.must(CREATOR, "evict", short[0])
    game.must(short[0], "withdraw_bond")
    assert game.world.balance(short[0]) == RICH - BOND
    assert game.send(short[0], "withdraw_bond").reason == "board: still unbonding"
    game.check_solvent()


def test_an_account_of_which_eight_exits_unbond_joins_again_when_one_is_withdrawn() -> None:
    game = Game(3, wait_seconds=10**6)
    who = account(1)
    for number in range(8):
        game.must(who, "leave_task")
        game.world.next_block(80)
        if number < 7:
            game.join(who)
    joining = game.world.act(who, "TaskBoard", "join_task", game.task, b"domain".ljust(32), value=BOND)
    assert joining.reason == "board: withdraw what has unbonded before"
    assert game.world.board("unbonding", game.task, who)["amount"] == 8 * BOND
    game.must(who, "withdraw_bond")
    assert game.world.balance(who) == RICH - 7 * BOND
    game.join(who)
    game.check_solvent()


def test_a_request_to_leave_frees_a_seated_participant_in_the_next_round() -> None:
    game = Game(8)
    game.until(COMMIT)
    absent = game.proposers[0]
    game.must(absent, "leave_task")
    adding = game.world.act(absent, "TaskBoard", "join_task", game.task, b"domain".ljust(32), value=1)
    assert adding.reason == "board: leaving"
    game.world.blocks(3, 10)  # nobody commits: the round passes
    game.until(COMMIT)
    assert game.round == 2 and absent not in game.proposers and game.view["candidate_count"] == 7
    game.must(absent, "leave_task")
    assert game.world.board("unbonding", game.task, absent)["amount"] == BOND - 1  # one seat that it did not take
    game.join(absent)  # it may come back, as somebody new
    assert game.bond_of(absent) == BOND


def test_a_bond_stays_for_two_rounds_after_an_acceptance() -> None:
    game = Game(12, rounds=8, extra_rounds=0)
    game.play_round()
    accepted = game.result(1)["proposers"][0]
    game.must(accepted, "leave_task")  # a request
    for round in (2, 3):
        game.until(COMMIT)
        assert game.round == round
        assert game.send(accepted, "leave_task").reason == "board: leaving, but not free yet"
        game.world.blocks(3, 10)
    game.until(COMMIT)
    assert game.round == 4
    game.must(accepted, "leave_task")
    assert game.world.board("unbonding", game.task, accepted)["amount"] == BOND


def test_a_slashed_participant_is_not_drawn_and_may_be_evicted_by_anybody() -> None:
    game = Game(7)
    game.play_to_availability()
    guilty = game.proposers[0]
    for who in game.voters:
        game.attest(who, 0b110, 0b001)
    assert game.send(CREATOR, "evict", guilty).reason == "board: its bond suffices"
    game.until(SCORE_COMMIT)
    game.convict(1, 0)
    assert game.bond_of(guilty) == 0
    assert game.send(CREATOR, "evict", guilty).reason == "board: not free yet"
    game.world.blocks(3, 20)
    game.until(COMMIT)
    assert game.round == 2 and guilty not in game.proposers and game.view["candidate_count"] == 6
    game.must(CREATOR, "evict", guilty)
    assert game.send(CREATOR, "evict", guilty).reason == "board: no participant"
    assert len(game.world.board("participants", game.task)) == 6
    game.check_solvent()


def test_a_participant_slashed_below_the_minimum_no_longer_counts_as_one() -> None:
    game = Game(6, min_participants=6)
    game.play_to_availability()
    guilty = game.proposers[0]
    for who in game.voters:
        game.attest(who, 0, 0b001)
    game.world.next_block()
    assert (game.round, game.phase) == (2, WAITING) and game.world.board("due_tasks") == []
    game.convict(1, 0)
    game.join(guilty, 100)
    assert game.world.next_block() == [game.task]


def test_the_others_keep_their_order_when_somebody_leaves() -> None:
    game = Game(3)
    game.must(account(2), "leave_task")
    game.join(account(2))
    rows = game.world.board("participants", game.task)
    assert [row["account"] for row in rows] == [account(1), account(3), account(2)]


def test_too_few_participants_wait_and_the_task_ends_with_its_pot_returned() -> None:
    game = Game(3)
    assert game.world.board("wakeup") == game.view["deadline"]
    game.world.blocks(3, 90)
    assert game.phase == WAITING and game.send(account(1), "poke").reason == "board: nothing due"
    game.world.blocks(1, 90)
    assert game.phase == ENDED and game.view["deadline"] == 0
    assert (
        game.world.act(account(9), "TaskBoard", "join_task", 1, b"d" * 32, value=500).reason
        == "board: the task has ended"
    )
    assert game.send(account(1), "poke").reason == "board: the task has ended"
    assert game.send(account(1), "withdraw_pot").reason == "board: only the creator may withdraw"
    game.must(CREATOR, "withdraw_pot")
    for index in range(1, 4):
        game.must(account(index), "leave_task")
    game.world.blocks(7, 90)
    for index in range(1, 4):
        game.must(account(index), "withdraw_bond")
    assert game.world.balance(BOARD) == FEE == game.world.board("liabilities") == game.world.board("burned")


def test_a_task_that_nobody_joins_ends_by_anybody_s_poke_and_gives_its_pot_back() -> None:
    game = Game(0)
    for _ in range(3):
        game.world.next_block(90, pokes=False)
        assert game.send(account(30), "poke").reason == "board: nothing due"
    game.world.next_block(90, pokes=False)
    game.must(account(30), "poke")
    assert game.phase == ENDED
    game.must(CREATOR, "withdraw_pot")
    assert game.world.balance(BOARD) == FEE == game.world.board("liabilities")


def test_a_task_that_loses_its_participants_waits_for_others() -> None:
    game = Game(5)
    game.until(COMMIT)
    for index in range(1, 4):
        game.must(account(index), "leave_task")
    game.world.blocks(3, 10)
    assert (game.round, game.phase) == (2, WAITING)
    for index in range(6, 9):
        game.join(account(index))
    game.until(COMMIT)
    assert game.round == 2 and game.view["candidate_count"] == 5


def test_a_creator_stops_a_waiting_task_at_once_when_its_rounds_are_done() -> None:
    game = Game(4, rounds=1)
    game.until(COMMIT)
    game.must(account(1), "leave_task")
    game.world.blocks(3, 10)
    assert (game.round, game.phase) == (2, WAITING)
    game.must(CREATOR, "stop_task")
    assert game.phase == ENDED
    assert game.world.board("wakeup") == (1 << 256) - 1
    game.must(CREATOR, "withdraw_pot")
    assert game.world.balance(CREATOR) == RICH - FEE


def test_terms_out_of_range_open_no_task() -> None:
    world = new_world()
    wrong = {
        "rounds": 0,
        "extra_rounds": 10**6,
        "proposers": 17,
        "voters": 2,
        "min_participants": 65,
        "min_bond": 0,
        "proposer_share": 10_001,
        "loss_limit": 10**9 + 1,
        "mad_multiple": 10**6 + 1,
        "rest_share": 10_001,
    }
    for name, value in wrong.items():
        refused = world.act(CREATOR, "TaskBoard", "open_task", DOCUMENT, ADAPTER, {**TERMS, name: value}, value=POT)
        assert refused.reason == f"board: terms: {name}"
    for name in (name for name in TERMS if name.endswith("_seconds")):
        refused = world.act(CREATOR, "TaskBoard", "open_task", DOCUMENT, ADAPTER, {**TERMS, name: 0}, value=FEE)
        assert refused.reason == "board: terms: seconds"
    for digests in ((bytes(32), ADAPTER), (DOCUMENT, bytes(32))):
        assert (
            "board: a task needs a" in world.act(CREATOR, "TaskBoard", "open_task", *digests, TERMS, value=FEE).reason
        )
    assert world.board("task_count") == 0 == world.board("liabilities")


def test_sixty_four_tasks_run_at_a_time_and_an_ended_one_makes_room() -> None:
    world = new_world()
    for index in range(64):
        terms = {**TERMS, "wait_seconds": 100 + index % 3}
        fee = world.board("opening_fee")
        assert fee == FEE * 2 ** (index // 8)
        world.must(CREATOR, "TaskBoard", "open_task", DOCUMENT, ADAPTER, terms, value=fee)
    assert world.board("burned") == world.balance(BOARD) == 2_040 * FEE
    full = world.act(CREATOR, "TaskBoard", "open_task", DOCUMENT, ADAPTER, TERMS, value=10**9)
    assert full.reason == "board: as many tasks run as can"
    world.next_block(90)
    world.next_block(9)
    assert world.board("due_tasks") == []
    assert world.board("wakeup") == 1_000_101
    world.next_block(90, pokes=False)
    by_deadline = sorted(range(1, 65), key=lambda task: ((task - 1) % 3, task))
    assert world.board("due_tasks") == by_deadline[:16]
    assert world.next_block() == by_deadline[:16]
    assert world.next_block() == by_deadline[16:32]
    assert world.board("opening_fee") == FEE * 2**4  # 32 run
    assert world.must(CREATOR, "TaskBoard", "open_task", DOCUMENT, ADAPTER, TERMS, value=16 * FEE).output[-1] == 65


def test_a_participant_of_an_ended_task_is_free_whatever_was_accepted() -> None:
    game = Game(rounds=1, extra_rounds=0)
    game.play_round()
    assert game.phase == ENDED
    for who in game.result(1)["proposers"]:
        game.must(who, "leave_task")


def test_a_late_joiner_is_free_to_leave_a_running_round() -> None:
    game = Game()
    game.until(COMMIT)
    game.join(account(20))
    game.must(account(20), "leave_task")
    game.play_to_availability()
    assert game.phase == AVAILABILITY and game.phase < ADOPT
