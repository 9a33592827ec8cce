"""How a task on the board comes to its end, from whatever state, and everything of it comes out."""

import random
from functools import partial
from typing import Any

from board_actors_support import Cast
from board_table_support import GAP, PEOPLE, Table
from contracts_support import ENDED


def finish(cast: Cast, luck: random.Random, turns: int) -> None:
    """The same of one task, where others may go on."""
    table, model, world = cast.table, cast.table.model, cast.table.world
    for turn in range(400):
        if model.phase == ENDED:
            break
        assert world.board("wakeup") <= model.now + 300
        if turn < turns:
            cast.turn(noise=luck.randrange(16))
        else:
            table.block(GAP)
    assert model.phase == ENDED, "nobody has to act for a task to end"
    for number, case in model.cases.items():
        while case.open and model.now <= case.until:
            table.block(GAP, False)
        if case.open:
            table.lift(PEOPLE[0], number)
    for me in list(model.members):
        table.leave(me)
    take_everything_out(table, luck)
    table.check_everything()


def take_everything_out(table: Table, luck: random.Random) -> None:
    """In any order, each thing once, and nobody's share depends on who came before."""
    model = table.model
    free_at = max([release for _, release in model.unbonding.values()], default=0)
    while model.now < free_at:
        table.block(GAP, False)
    owed: list[Any] = [partial(table.withdraw, me) for me in model.unbonding]
    owed += [partial(table.claim, me, round) for round, me in model.rewards]
    owed += [table.withdraw_pot]
    luck.shuffle(owed)
    for take in owed:
        take()
        if luck.random() < 0.2:
            take()  # a second time: refused, by the twin and by the board
