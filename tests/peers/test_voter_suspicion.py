"""Whom a voter of many proposals takes for a copy of another."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from roles_support import Desk, Offer, do, make_delta, make_offer, on_stepped_clock

from flock_chain.aggregation import encode_delta, quantise
from flock_chain.crypto import Account
from flock_chain.tally import FILTER_NEAR_DUPLICATE, NORM_BITS, SEATS_MAX
from flock_peers.roles.board import Phase
from flock_peers.roles.jobs import Jobs


def propose(
    desk: Desk, twins: Sequence[int], loud: Sequence[int] = (), count: int = 8, gone: Sequence[int] = ()
) -> tuple[list[Offer], tuple[Account, ...]]:
    """Proposals, of which `twins` share a half of their weights; `loud` ones have four times the others' norm, and
    `gone` ones cannot be fetched."""
    accounts = tuple(Account(bytes([50 + seat]) * 20) for seat in range(count))
    offers = []
    for seat, account in enumerate(accounts):
        delta = make_delta(seat)
        if seat in twins:
            vector = make_delta(seat).to_float32() + make_delta(77).to_float32()
            delta = quantise(vector, delta.layout, delta.format)
        if seat in loud:
            delta = make_delta(seat, 4e-2)
        offer = make_offer(account, desk.adapter, encode_delta(delta))
        offers.append(offer if seat in gone else desk.service.serve(offer))
    return offers, accounts


async def filters_of(desk: Desk, offers: list[Offer], accounts: tuple[Account, ...], held: int) -> list[int]:
    changes = {"proposers": accounts, "held_set": held, "seed_height": 9}
    await do(desk.voter.step, desk.view(Phase.SCORE_COMMIT, offers, **changes))
    await desk.voter.step(desk.view(Phase.SCORE_REVEAL, offers, score_committed=0b10, **changes))
    ((_, filters, _),) = desk.sender.sent("reveal_scores")
    return list(filters)


@on_stepped_clock
@pytest.mark.parametrize(
    ("likeness", "held", "is_first", "flagged"),
    [
        (100, 0xFF, False, [2, 5]),
        (900, 0xFF, False, []),
        (100, 0xFF, True, []),
        (100, 0x6F, False, [2, 5]),
        (100, 0x67, False, []),  # six of them, five
    ],
)
async def test_who_is_like_another_in_weights_and_not_in_function_is_reported_as_its_copy(
    tmp_path: Path, likeness: int, held: int, is_first: bool, flagged: list[int]
) -> None:
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.library.initial_digest = desk.adapter if is_first else bytes(32)  # the task's first adapter
        offers, accounts = propose(desk, (2, 5))
        count = held.bit_count()
        desk.trainer.profiles = [[1_000 if i == j else likeness for i in range(count)] for j in range(count)]
        filters = await filters_of(desk, offers, accounts, held)
        assert [index for index in range(SEATS_MAX) if filters[index] & FILTER_NEAR_DUPLICATE] == flagged


@on_stepped_clock
@pytest.mark.parametrize(
    ("held", "gone", "flagged"),
    [(0x3FF, (), [2, 5]), (0x3FE, (), [2, 5]), (0x7F, (), [2, 5]), (0x3F, (), []), (0x3FF, (9,), [])],
)
async def test_whose_norm_turns_it_away_has_no_part_in_who_is_like_whom(
    tmp_path: Path, held: int, gone: Sequence[int], flagged: list[int]
) -> None:
    """Of six five are left, too few to be told apart; who lacks one of all cannot tell norms, either."""
    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, Jobs(nursery))
        desk.library.initial_digest = bytes(32)  # of another adapter than the round's
        offers, accounts = propose(desk, (2, 5), (1,), held.bit_length(), gone)
        left = held.bit_count() - 1
        desk.trainer.profiles = [[1_000 if i == j else 0 for i in range(left)] for j in range(left)]
        filters = await filters_of(desk, offers, accounts, held)
        assert bool(filters[1] & NORM_BITS) is (not gone) and not filters[1] & FILTER_NEAR_DUPLICATE
        assert [index for index in range(SEATS_MAX) if filters[index] & FILTER_NEAR_DUPLICATE] == flagged
