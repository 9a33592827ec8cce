"""A task on a bare board whose rounds all end in an audit, and what participants say in it."""

from board_support import Game
from contracts_support import AUDIT, COMMIT


def game_of(participants: int = 9, **terms: int) -> Game:
    defaults = {"audit_rounds": 1, "rounds": 8, "extra_rounds": 0}
    return Game(participants, **{**defaults, **terms})


def members(game: Game) -> list[bytes]:
    return [row["account"] for row in game.world.board("participants", game.task)]


def row_of(game: Game, who: bytes) -> dict[str, object]:
    found: dict[str, object] = game.world.board("participant", game.task, who)
    return found


def play_to_audit(game: Game) -> bytes:
    """An honest round; one whose proposal was accepted."""
    round = game.round
    game.until(COMMIT)
    game.play_to_tally([[-300 + k, -200, -100] for k in range(3)])
    game.tally()
    for who in game.voters:
        game.must(who, "attest_adoption", round, bytes([round]) * 32)
    game.until(AUDIT)
    return bytes(game.result(round)["proposers"][0])


def play_turning_away(game: Game) -> bytes:
    """A round to its settlement, of which the first proposal is rejected by its loss; whose that is."""
    round = game.round
    game.until(COMMIT)
    game.play_to_tally([[500_000, -200 + k, -100] for k in range(3)])
    game.tally()
    for who in game.voters:
        game.must(who, "attest_adoption", round, bytes([round]) * 32)
    game.world.next_block()
    return bytes(game.result(round)["proposers"][0])


def pass_rounds(game: Game) -> None:
    """Rounds in which nobody commits, up to the next audit."""
    for _ in range(20):
        if game.phase == AUDIT:
            return
        game.world.next_block(20)
    raise AssertionError("no audit came")


def blame(game: Game, accused: bytes, blamers: list[bytes]) -> None:
    audit = game.world.board("audit_view", game.task)["number"]
    for who in blamers:
        game.must(who, "attest_guilty", audit, [accused])


def close(game: Game) -> None:
    audit = game.world.board("audit_view", game.task)["number"]
    game.world.blocks(3, 10)
    assert game.world.board("audit_view", game.task)["number"] == audit + 1


def clear(game: Game) -> None:
    """More than two thirds say: nobody."""
    everybody = members(game)
    for who in everybody[: 1 + 2 * len(everybody) // 3]:
        game.must(who, "attest_guilty", game.world.board("audit_view", game.task)["number"], [])
    close(game)


def others(game: Game, *without: bytes) -> list[bytes]:
    return [who for who in members(game) if who not in without]
