"""How a task on the board comes to its end, from whatever state, and everything of it comes out."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from board_actors_support import Cast
from board_table_support import GAP, PEOPLE, Table
from contracts_support import ENDED

from flock_contracts.addresses import BOARD, DELEGATION


def finish(cast: Cast, luck: random.Random, turns: int) -> None:
    """One task, where others may go on."""
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
    members = list(model.members)
    for me in members[::2]:  # some participants go first, some after who has bonded with them
        table.leave(me)
    for whom, pool in list(model.pools.open.items()):
        for owner in list(pool.units):
            while model.pools.is_full(owner, whom):
                table.block(GAP, False)
                table.take(owner, whom)
            table.undelegate(owner, whom)
    for me in members[1::2]:
        table.leave(me)
    take_everything_out(table, luck)
    table.check_everything()


def take_everything_out(table: Any, luck: random.Random) -> None:
    """In any order, each thing once, and nobody's share depends on who came before."""
    model, pools = table.model, table.model.pools
    releases = [release for exits in model.exits.values() for _, release in exits]
    releases += [release for exits in pools.exits.values() for _, release in exits]
    releases += [pool.release for rows in pools.closed_pools.values() for pool in rows]
    while model.now < max(releases, default=0):
        table.block(GAP, False)
    owed: list[Any] = [partial(table.withdraw, me) for me in model.exits]
    owed += [partial(table.claim, me, round) for round, me in model.rewards]
    owed += [table.withdraw_pot]
    pairs = {(owner, whom) for whom, rows in pools.closed_pools.items() for pool in rows for owner in pool.units}
    pairs |= {(owner, whom) for whom, owner in (*pools.earned, *pools.seats, *pools.exits)}
    owed += [partial(table.take, *pair) for pair in sorted(pairs)]
    luck.shuffle(owed)
    table.withdraw_pot(PEOPLE[0])  # the creator's: refused
    for take in owed:
        take()
        if luck.random() < 0.2:
            take()  # a second time: refused, by the twin and by the board
    for pair in sorted(pairs) * 2:  # who had less than a wei of a pool may have one when others went
        table.take(*pair)


def check_nothing_left(tables: Sequence[Table]) -> None:
    """All tasks of a board are over, and everybody has taken what was its own: what is left is burned, or dust."""
    world, all_pools = tables[0].world, [table.model.pools for table in tables]
    owed = sum(pools.owed for pools in all_pools)
    payments = sum(2 * len(pools.given) + 2 * len({*pools.earned, *pools.seats}) for pools in all_pools)
    assert 0 <= owed <= payments, "fractions of a wei, of pay"
    assert world.balance(BOARD) == world.board("burned") + owed
    assert world.board("burned") == sum(table.model.burned for table in tables)
    # Where a slash left less than a wei to each of several, nobody can take it: below one wei for each place.
    places = [len(pool.units) for pools in all_pools for rows in pools.closed_pools.values() for pool in rows]
    dust = world.balance(DELEGATION) - sum(pools.burned for pools in all_pools)
    assert 0 <= dust <= max(0, sum(places) - 1) and not any(pools.delegated for pools in all_pools)
    assert tables[0].coins() == tables[0].coins_at_first
