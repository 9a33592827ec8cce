"""Whoever is paid may be a contract that refuses coins, or one that calls back: it harms itself at most."""

from board_support import BOND, CREATOR, POT, Game
from contracts_support import ENDED, account

from flock_contracts.addresses import BOARD
from flock_contracts.loader import load

REFUSES = bytes.fromhex("5f5ffd")  # PUSH0 PUSH0 REVERT


def calls_back(data: bytes) -> bytes:
    """Code that, paid, calls the board with these bytes, and goes on whatever comes of it."""
    padded = data.ljust(-(-len(data) // 32) * 32, b"\0")
    code = b""
    for at in range(0, len(padded), 32):
        code += b"\x7f" + padded[at : at + 32] + bytes([0x60, at, 0x52])
    return code + bytes([0x5F, 0x5F, 0x60, len(data), 0x5F, 0x5F, 0x73]) + BOARD + bytes.fromhex("5af15000")


def played() -> Game:
    """One paid round, and the task is over."""
    game = Game(6, rounds=1, extra_rounds=0, rest_share=5_000)
    game.play_round()
    assert game.phase == ENDED
    return game


def paid(game: Game) -> list[bytes]:
    result = game.result(1)
    return [who for who in (*result["proposers"], *result["voters"]) if game.world.board("claimable", 1, 1, who)]


def test_who_refuses_coins_keeps_nobody_else_from_theirs_and_can_have_its_own_later() -> None:
    game = played()
    world, (hostile, *others) = game.world, paid(game)
    world.state.set_code(hostile, REFUSES)
    for who in (hostile, *others):
        game.must(who, "leave_task")
    world.blocks(7, 90)
    for function, *arguments in (("claim", 1), ("withdraw_bond",)):
        assert not game.send(hostile, function, *arguments).ok
        for who in others:
            game.must(who, function, *arguments)
    game.must(CREATOR, "withdraw_pot")
    owed = world.board("claimable", 1, 1, hostile) + world.board("unbonding", 1, hostile)["amount"]
    assert owed > BOND
    game.check_solvent()
    world.state.set_code(hostile, b"")
    before = world.balance(hostile)
    game.must(hostile, "claim", 1)
    game.must(hostile, "withdraw_bond")
    assert world.balance(hostile) == before + owed


def test_each_paid_seat_takes_its_pay_and_its_part_of_the_rest_once_together_or_one_by_one() -> None:
    game = Game(6, rounds=2, extra_rounds=0, rest_share=10_000)
    game.play_round()
    seats = [*game.result(1)["proposers"], *game.result(1)["voters"]]
    for who in seats[::2]:
        game.must(who, "claim", 1)
    game.until(ENDED, seconds=10)
    game.check_solvent()
    owed = game.world.board("total_rewards")
    rest = game.world.board("claimable", 1, 1, seats[0])
    assert rest > 0 and all(game.world.board("claimable", 1, 1, who) == rest for who in seats[::2])
    before = sum(map(game.world.balance, seats))
    for who in seats * 2:
        game.send(who, "claim", 1)
        assert game.send(who, "claim", 1).reason == "board: nothing to claim"
    assert sum(map(game.world.balance, seats)) - before == owed and game.world.board("total_rewards") == 0


def test_who_calls_back_while_it_is_paid_is_paid_once() -> None:
    game = played()
    world, (hostile, *_), board = game.world, paid(game), load("TaskBoard")
    game.must(hostile, "leave_task")
    world.blocks(7, 90)
    due = {
        "claim": (world.board("claimable", 1, 1, hostile), (1, 1)),
        "withdraw_bond": (world.board("unbonding", 1, hostile)["amount"], (1,)),
    }
    for function, (amount, arguments) in due.items():
        for inner in due:
            world.state.set_code(hostile, calls_back(board.encode(inner, *due[inner][1])))
            before = world.balance(hostile)
            if function == inner or amount:
                game.send(hostile, function, *arguments[1:])
        assert amount > 0 and world.balance(hostile) - before in (0, amount)
        game.check_solvent()
    assert world.board("claimable", 1, 1, hostile) == 0 == world.board("unbonding", 1, hostile)["amount"]


def test_a_creator_that_refuses_coins_has_its_pot_left_and_the_rest_is_not_the_creators_alone() -> None:
    game = played()
    world = game.world
    left = world.board("task_view", 1)["pot"]
    rest = sum(world.board("claimable", 1, 1, who) for who in paid(game))
    assert left + rest == POT
    world.state.set_code(CREATOR, REFUSES)
    assert not game.send(CREATOR, "withdraw_pot").ok
    for who in paid(game):
        game.must(who, "claim", 1)
    assert world.board("task_view", 1)["pot"] == left and world.board("total_rewards") == 0
    assert world.balance(account(1)) > 0
    game.check_solvent()
