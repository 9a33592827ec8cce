"""Edges of one participant's pool: the same block, the same round, the same second, and what is left of a rounding."""

from pool_bench_support import OWNERS, RULES, TASK, WHO, Bench

A, B = OWNERS[0], OWNERS[1]


def refused(bench: Bench, owner: bytes, function: str, *args: object, value: int = 0) -> str:
    return bench.world.act(owner, "Delegation", function, TASK, WHO, *args, value=value).reason


def test_who_adds_twice_after_a_close_has_a_part_of_neither_in_that_round_s_pay():
    bench = Bench()
    bench.enter(A, 1_000)
    bench.next_round(0, 1_000, 0)
    bench.enter(B, 500)
    bench.enter(B, 500)
    bench.next_round(10**6, 1_000, 0)
    assert (bench.row(A)["earned"], bench.row(B)["earned"]) == (500_000, 0)
    bench.next_round(10**6, 2_000, 0)
    assert bench.row(A)["earned"] == bench.row(B)["earned"] + 500_000 == 750_000


def test_what_changes_in_the_block_of_a_close_weighs_though_more_changes_after_it():
    bench = Bench()
    bench.enter(A, 1_000)
    bench.block(1)
    bench.board.number, bench.board.close = bench.board.number + 1, bench.world.height
    bench.tell()
    bench.enter(A, 500)
    bench.block(1)
    bench.enter(A, 250)
    closed = bench.world.view("Delegation", "closed", TASK, WHO, bench.board.close)
    assert closed == bench.pools.closed(WHO) == 1_500


def test_what_unbonds_is_free_in_its_second_and_not_one_before():
    bench = Bench()
    bench.enter(A, 1_000)
    bench.ask(A, 100)
    for _ in range(RULES["unbonding_delay"] // 90):
        bench.block(90)
    bench.block(RULES["unbonding_delay"] % 90 - 1)
    assert refused(bench, A, "withdraw_delegation") == "delegation: still unbonding"
    bench.block(1)
    assert bench.row(A)["free"] == 1_000
    bench.withdraw(A)


def test_eight_exits_wait_each_by_itself_and_the_participant_s_leaving_is_one_more():
    bench = Bench()
    bench.enter(A, 1_000)
    for _ in range(8):
        bench.ask(A, 10)
        bench.block(10)
    full = "delegation: withdraw what has unbonded before"
    assert refused(bench, A, "undelegate", 1) == refused(bench, A, "delegate", value=1) == full
    bench.close()
    assert bench.row(A)["unbonding"] == 1_000 and refused(bench, A, "delegate", value=1) == full
    for _ in range(5):
        bench.block(90)
    taken = []
    while bench.row(A)["unbonding"]:
        bench.block(10)
        if free := bench.row(A)["free"]:
            bench.withdraw(A)
            taken.append(free)
            assert len(taken) > 1 or refused(bench, A, "delegate", value=1) == full, "eight still wait"
    assert len(taken) == 9 and sum(taken) == 1_000
    bench.enter(A, 7)
    bench.withdraw(A)


def test_a_pool_whose_units_lost_nearly_all_their_worth_takes_no_more_than_it_can_count():
    bench = Bench()
    bench.enter(A, 10**25)
    for _ in range(4):
        bench.slash(9_999)
    stake, units = 10**9, 10**25
    most = (2**128 - 1 - units) * stake // units
    assert refused(bench, B, "delegate", value=most + 1) == "delegation: more than a pool can count"
    bench.enter(B, most)
    bench.ask(A, 100)
    bench.ask(B, 100)
    assert bench.row(B)["unbonding"] in (most - 1, most)


def test_who_asks_for_so_many_wei_gets_them_though_only_a_sliver_of_a_unit_is_wanting():
    bench = Bench()
    bench.enter(A, 10)
    bench.slash(3_000)
    bench.ask(A, 72)  # 5 of 7 wei: 50 / 7 units, 7 and a seventh
    assert bench.row(A)["unbonding"] == 5


def test_who_leaves_with_everything_leaves_no_units_behind():
    bench = Bench()
    bench.enter(A, 9)
    bench.enter(B, 1)
    bench.slash(7_000)
    bench.ask(A, 100)
    assert bench.row(A)["unbonding"] == 2
    assert refused(bench, A, "undelegate", 1) == "delegation: nothing is bonded there"
