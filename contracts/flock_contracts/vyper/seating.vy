# pragma version 0.4.3
"""
@title Seeds and seats: who proposes and who votes
@notice A seed is the mix of a height that lies ahead when it is fixed.
"""

import IBeacon
import IDelegation
import accusations
import book
import drawing
import events
import types

uses: (book, accusations)


@internal
def _start_round(task: uint256):
    """
    @notice Fix who is eligible and the height whose mix is the proposers' seed.
    """
    book.tasks[task].rules = book.rules_version  # not changed before the next round
    book.tasks[task].close_height = block.number
    self._await_seed(task)
    book._enter(task, types.DRAW_PROPOSERS)


@internal
def _await_seed(task: uint256):
    height: uint256 = block.number + book.rules[book.tasks[task].rules].seed_delay
    book.tasks[task].seed_height = height
    log events.SeedHeight(task=task, round=book.tasks[task].round, height=height)


@internal
def _draw_proposers(task: uint256):
    height: uint256 = book.tasks[task].seed_height
    if not staticcall IBeacon(types.BEACON).has_mix(height):
        self._await_seed(task)  # it left the ring before anybody poked
        return
    round: uint256 = book.tasks[task].round
    weights: DynArray[uint256, types.MAX_PARTICIPANTS] = self._weights(task)
    eligible: uint256 = 0
    stake: uint256 = 0
    for weight: uint256 in weights:
        stake += weight
        if weight > 0:
            eligible += 1
    accusations._keep_shares(task, round, weights, eligible, stake)
    book.rounds[task][round].stake = stake
    book.rounds[task][round].candidates = eligible
    book.rounds[task][round].adapter_before = book.tasks[task].adapter
    book.rounds[task][round].adapter_after = book.tasks[task].adapter
    seats: uint256 = self._seat_counts(task, eligible)[0]
    seed: bytes32 = staticcall IBeacon(types.BEACON).mix(height)
    drawn: DynArray[address, types.SEATS] = self._draw_seats(task, round, seed, weights, seats, types.ROLE_PROPOSER)
    book.rounds[task][round].proposers = drawn
    log events.Drawn(task=task, round=round, role=types.ROLE_PROPOSER, seed=seed, accounts=drawn)
    book._enter(task, types.COMMIT)


@internal
def _draw_voters(task: uint256):
    height: uint256 = book.tasks[task].seed_height
    if not staticcall IBeacon(types.BEACON).has_mix(height):
        self._await_seed(task)
        return
    round: uint256 = book.tasks[task].round
    weights: DynArray[uint256, types.MAX_PARTICIPANTS] = self._weights(task)
    for index: uint256 in range(len(weights), bound=types.MAX_PARTICIPANTS):
        if book.members[task][book.accounts[task][index]].seat >> 5 == round:
            weights[index] = 0  # a proposer does not vote
    seats: uint256 = self._seat_counts(task, book.rounds[task][round].candidates)[1]
    seed: bytes32 = staticcall IBeacon(types.BEACON).mix(height)
    drawn: DynArray[address, types.SEATS] = self._draw_seats(task, round, seed, weights, seats, types.ROLE_VOTER)
    book.rounds[task][round].voters = drawn
    log events.Drawn(task=task, round=round, role=types.ROLE_VOTER, seed=seed, accounts=drawn)
    book._enter(task, types.REVEAL)


@view
@internal
def _weights(task: uint256) -> DynArray[uint256, types.MAX_PARTICIPANTS]:
    weights: DynArray[uint256, types.MAX_PARTICIPANTS] = []
    delegated: DynArray[uint256, types.MAX_PARTICIPANTS] = book._all_delegated(task)
    for index: uint256 in range(len(delegated), bound=types.MAX_PARTICIPANTS):
        own: uint256 = book._weight(task, book.accounts[task][index])
        weights.append(own + delegated[index] if own > 0 else 0)
    return weights


@view
@internal
def _seat_counts(task: uint256, eligible: uint256) -> uint256[2]:
    """
    @notice How many propose and how many vote. From 4 eligible on both are at least 1 and 3; below, one proposes and
            all others vote.
    """
    if eligible < types.PAID_FROM:
        return [1, eligible - 1]
    proposers: uint256 = book.tasks[task].terms.proposers
    rest: uint256 = eligible - min(proposers, eligible)
    voters: uint256 = max(types.MIN_VOTERS, min(book.tasks[task].terms.voters, rest))
    return [min(proposers, eligible - voters), voters]


@internal
def _draw_seats(
    task: uint256,
    round: uint256,
    seed: bytes32,
    weights: DynArray[uint256, types.MAX_PARTICIPANTS],
    seats: uint256,
    role: uint256,
) -> DynArray[address, types.SEATS]:
    drawn: DynArray[address, types.SEATS] = []
    drawn_weights: DynArray[uint256, types.SEATS] = []
    flag: uint256 = types.SEATS if role == types.ROLE_VOTER else 0
    rows: DynArray[uint256, types.SEATS] = drawing._draw(seed, weights, seats)
    for row: uint256 in rows:
        account: address = book.accounts[task][row]
        book.members[task][account].seat = (round << 5) | flag | len(drawn)
        drawn.append(account)
        drawn_weights.append(weights[row])
    extcall IDelegation(types.DELEGATION).note_seats(task, round, drawn, drawn_weights, book.tasks[task].close_height)
    return drawn
