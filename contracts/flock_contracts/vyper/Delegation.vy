# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Delegation: bonds with a participant of a task
@notice Who delegates adds to a participant's weight, shares its pay less a commission, and loses the same part of its
        stake, whatever for; all of that is burned. The participant votes with all of it and its delegators have no
        other say: it says how much it takes and at what commission, which changes only after a delay. At most four
        times its own bond can be delegated to it, and its own bond alone makes it a participant, so that nobody works
        with others' coins alone.

        Leaving is as the participant's own: asked for, it weighs and earns no more; it can be slashed until nothing of
        the rounds in which it weighed can concern it; then it unbonds with the same delay, each exit by itself. The
        participant cannot prolong that by going on or leaving, nor can the others; the end of the task, and the
        participant's leaving, free all.

        Money: balance == total_delegated + total_unbonding + burned, to the unit. Pay stays on the board, among its
        rewards, until it is claimed here. What a slash takes stays here for ever.
@dev Placed at genesis without a constructor, and with nothing to initialize. A contract of its own because the board's
     code fills what one can hold; neither sends the other coins. The board alone says who sits, earns, loses and goes.
"""

import IBeacon
import IBoard
import pools
import types

initializes: pools

LEVERAGE: constant(uint256) = 4  # a fifth of what a participant can lose is at least its own


struct Row:
    stake: uint256  # wei that are bonded, and do not leave
    leaving: uint256
    is_out: bool  # `undelegate` lets what is leaving unbond now
    unbonding: uint256
    release_at: uint256  # chain time from which the first of that is free
    free: uint256  # wei that can be withdrawn
    earned: uint256  # wei that can be claimed

struct Offer:
    commission: uint256  # bps
    next_commission: uint256
    next_at: uint256  # chain time
    limit: uint256
    pool: uint256  # wei that others have bonded, with what is leaving
    weighing: uint256
    room: uint256

event TermsSet:
    task: indexed(uint256)
    account: indexed(address)
    commission: uint256
    limit: uint256
    at: uint256

event Delegated:
    task: indexed(uint256)
    account: indexed(address)
    owner: indexed(address)
    amount: uint256
    units: uint256
    fresh_round: uint256  # the running one, in whose pay they have no part; 0 = none

event LeaveAsked:
    task: indexed(uint256)
    account: indexed(address)
    owner: indexed(address)
    amount: uint256
    units: uint256
    round: uint256  # the last one in which it weighed
    audits: uint256  # that have counted until now

event Left:
    task: indexed(uint256)
    account: indexed(address)
    owner: indexed(address)
    amount: uint256
    release_at: uint256

event Withdrawn:
    task: indexed(uint256)
    account: indexed(address)
    owner: indexed(address)
    amount: uint256

event Claimed:
    task: indexed(uint256)
    account: indexed(address)
    owner: indexed(address)
    amount: uint256

event Slashed:
    task: indexed(uint256)
    account: indexed(address)
    amount: uint256
    weighed: uint256  # what is left of what the pool weighed before its first change after the last close

event Closed:
    task: indexed(uint256)
    account: indexed(address)
    amount: uint256
    release_at: uint256

total_delegated: public(uint256)
total_unbonding: public(uint256)
burned: public(uint256)


@view
@internal
def _now() -> uint256:
    return staticcall IBeacon(types.BEACON).chain_time()


@view
@internal
def _standing(task: uint256, account: address) -> IBoard.Standing:
    return staticcall IBoard(types.BOARD).standing(task, account)


# ---------------------------------------------------------------- participants


@external
def set_terms(task: uint256, commission: uint256, limit: uint256):
    """
    @notice Say, as a participant, how much others may bond with it in a task (0, as at first: nothing more), and what
            it keeps of their part of its pay. Another commission holds one unbonding delay later, for seats drawn then.
    @param commission In bps.
    """
    board: IBoard.Standing = self._standing(task, msg.sender)
    assert board.round > 0, "delegation: no such task"
    pools._set_terms(task, msg.sender, commission, limit, self._now(), board.unbonding_delay)
    at: uint256 = pools.terms[task][msg.sender].next_at
    log TermsSet(task=task, account=msg.sender, commission=commission, limit=limit, at=at)


# ---------------------------------------------------------------- delegators


@external
@payable
def delegate(task: uint256, account: address):
    """
    @notice Bond with a participant. Counts from the next round's draw on, and shares its pay from then on.
    """
    board: IBoard.Standing = self._standing(task, account)
    assert board.round > 0, "delegation: no such task"
    assert board.phase != types.ENDED, "delegation: the task has ended"
    assert msg.value > 0, "delegation: bond more than nothing"
    assert account != msg.sender, "delegation: a participant bonds with join_task"
    assert not board.is_leaving, "delegation: the participant is leaving"
    assert not board.is_held, "delegation: the participant is accused"
    assert msg.value <= self._room(task, account, board.bond), "delegation: the participant takes no more"
    fresh_round: uint256 = board.round
    if board.phase == types.WAITING or board.phase == types.AUDIT or block.number <= board.close_height:
        fresh_round = 0
    pools._settle(task, account, msg.sender)
    units: uint256 = pools._enter(task, account, msg.sender, msg.value, fresh_round, board.close_height)
    self.total_delegated += msg.value
    log Delegated(
        task=task, account=account, owner=msg.sender, amount=msg.value, units=units, fresh_round=fresh_round
    )


@external
def undelegate(task: uint256, account: address, amount: uint256):
    """
    @notice Leave a participant with so much. Where that may still be slashed for a round in which it weighed, it is
            only marked; call again, with nothing more, when that is over. Another amount starts the wait anew for what
            is only marked; what unbonds keeps its date.
    """
    board: IBoard.Standing = self._standing(task, account)
    place: pools.Place = pools._settle(task, account, msg.sender)
    assert place.units > 0, "delegation: nothing is bonded there"
    assert amount > 0 or place.leaving > 0, "delegation: leave with more than nothing"
    if amount > 0:
        units: uint256 = pools._ask(task, account, msg.sender, amount, board.close_height)
        weighed: uint256 = self._weighed_round(board)
        pools.places[task][account][msg.sender].asked_round = weighed
        pools.places[task][account][msg.sender].asked_audits = board.audits
        log LeaveAsked(
            task=task,
            account=account,
            owner=msg.sender,
            amount=amount,
            units=units,
            round=weighed,
            audits=board.audits,
        )
    if not self._is_out(board, pools.places[task][account][msg.sender]):
        assert amount > 0, "delegation: leaving, but not free yet"
        return
    release_at: uint256 = self._now() + board.unbonding_delay
    free: uint256 = pools._leave(task, account, msg.sender, release_at, board.close_height)
    self.total_delegated -= free
    self.total_unbonding += free
    log Left(task=task, account=account, owner=msg.sender, amount=free, release_at=release_at)


@external
@nonreentrant
def withdraw_delegation(task: uint256, account: address):
    """
    @notice Pay out what has been unbonding for long enough.
    """
    pools._settle(task, account, msg.sender)
    assert len(pools.exits[task][account][msg.sender]) > 0, "delegation: nothing is unbonding"
    amount: uint256 = pools._take_free(task, account, msg.sender, self._now())
    assert amount > 0, "delegation: still unbonding"
    self.total_unbonding -= amount
    log Withdrawn(task=task, account=account, owner=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


@external
@nonreentrant
def claim_delegation(task: uint256, account: address):
    """
    @notice Take what the sender's delegation has earned: of pay at any time, of the pot's rest after the task's end.
    """
    board: IBoard.Standing = self._standing(task, account)
    place: pools.Place = pools._settle(task, account, msg.sender)
    amount: uint256 = place.earned + self._rest(board, place)
    assert amount > 0, "delegation: nothing to claim"
    pools.places[task][account][msg.sender].earned = 0
    if board.phase == types.ENDED:
        pools.places[task][account][msg.sender].seats = 0
    log Claimed(task=task, account=account, owner=msg.sender, amount=amount)
    extcall IBoard(types.BOARD).pay_delegator(msg.sender, amount)


# ---------------------------------------------------------------- the board's calls


@external
def note_seats(
    task: uint256,
    round: uint256,
    accounts: DynArray[address, types.SEATS],
    weights: DynArray[uint256, types.SEATS],
    close_height: uint256,
):
    """
    @notice These were drawn, with these weights.
    """
    assert msg.sender == types.BOARD, "delegation: only the board may call"
    now: uint256 = self._now()
    for index: uint256 in range(len(accounts), bound=types.SEATS):
        pools._note_seat(task, round, accounts[index], weights[index], close_height, now)


@external
def credit(task: uint256, round: uint256, accounts: DynArray[address, types.SEATS], pay: uint256):
    """
    @notice These seats are paid so much each.
    """
    assert msg.sender == types.BOARD, "delegation: only the board may call"
    for account: address in accounts:
        pools._credit(task, round, account, pay)


@external
def cut(task: uint256, account: address, bps: uint256):
    """
    @notice The participant is slashed by so much.
    """
    assert msg.sender == types.BOARD, "delegation: only the board may call"
    self._burn(task, account, pools._cut(task, account, bps, types.BPS))


@external
def hold(task: uint256, round: uint256, account: address, part: uint256, whole: uint256):
    """
    @notice So much of the participant's bond is held for an accusation in a round: the same part of its pool.
    """
    assert msg.sender == types.BOARD, "delegation: only the board may call"
    pools._hold(task, round, account, part, whole)


@external
def convict(task: uint256, round: uint256, account: address):
    """
    @notice What was held for that is burned.
    """
    assert msg.sender == types.BOARD, "delegation: only the board may call"
    self._burn(task, account, pools._take_held(task, round, account))


@internal
def _burn(task: uint256, account: address, amount: uint256):
    if amount > 0:
        self.total_delegated -= amount
        self.burned += amount
        weighed: uint256 = pools.stands[task][account].before
        log Slashed(task=task, account=account, amount=amount, weighed=weighed)


@external
def close(task: uint256, account: address, release_at: uint256):
    """
    @notice The participant has left the task.
    """
    assert msg.sender == types.BOARD, "delegation: only the board may call"
    amount: uint256 = pools._close(task, account, release_at)
    if amount > 0:
        self.total_delegated -= amount
        self.total_unbonding += amount
        log Closed(task=task, account=account, amount=amount, release_at=release_at)


# ---------------------------------------------------------------- views


@view
@external
def closed(task: uint256, account: address, close_height: uint256) -> uint256:
    """
    @notice What of a pool weighed when the bonds closed.
    """
    return pools._closed(task, account, close_height)


@view
@external
def closed_all(
    task: uint256, accounts: DynArray[address, types.MAX_PARTICIPANTS], close_height: uint256
) -> DynArray[uint256, types.MAX_PARTICIPANTS]:
    weights: DynArray[uint256, types.MAX_PARTICIPANTS] = []
    for account: address in accounts:
        weights.append(pools._closed(task, account, close_height))
    return weights


@view
@external
def part_of(task: uint256, round: uint256, account: address, pay: uint256, rest: uint256) -> uint256:
    """
    @notice What of a paid seat's pay and rest of the pot belongs to its pool.
    @param pay 0 where only the rest is asked for.
    """
    part: uint256 = pools._rest_of(task, round, account, rest)
    return part + pools.parts[task][round][account].pay if pay > 0 else part


@view
@external
def liabilities() -> uint256:
    """
    @notice What the contract's balance must equal.
    """
    return self.total_delegated + self.total_unbonding + self.burned


@view
@external
def delegation_of(task: uint256, account: address, owner: address) -> Row:
    """
    @notice What somebody has bonded with a participant, what of it is on its way out, and what it can claim.
    """
    board: IBoard.Standing = self._standing(task, account)
    place: pools.Place = empty(pools.Place)
    taken: uint256 = 0
    place, taken = pools._place(task, account, owner)
    row: Row = Row(
        stake=pools._worth(task, account, place.era, place.units - place.leaving),
        leaving=pools._worth(task, account, place.era, place.leaving),
        is_out=place.leaving > 0 and self._is_out(board, place),
        unbonding=0,
        release_at=0,
        free=0,
        earned=place.earned + self._rest(board, place),
    )
    now: uint256 = self._now()
    exits: DynArray[uint256, pools.EXITS] = pools._exits(task, account, owner, taken)
    for exit: uint256 in exits:
        amount: uint256 = exit & pools.MASK
        release_at: uint256 = exit >> 128
        if now >= release_at:
            row.free += amount
        else:
            row.release_at = release_at if row.unbonding == 0 else min(row.release_at, release_at)
            row.unbonding += amount
    return row


@view
@external
def offer_of(task: uint256, account: address) -> Offer:
    """
    @notice A participant's terms, what it has, and how much room there is.
    """
    board: IBoard.Standing = self._standing(task, account)
    terms: pools.Terms = pools.terms[task][account]
    return Offer(
        commission=pools._commission(task, account, self._now()),
        next_commission=terms.next_commission,
        next_at=terms.next_at,
        limit=terms.limit,
        pool=pools._stake(task, account),
        weighing=pools.stands[task][account].active,
        room=self._room(task, account, board.bond),
    )


@view
@internal
def _room(task: uint256, account: address, bond: uint256) -> uint256:
    most: uint256 = min(pools.terms[task][account].limit, LEVERAGE * bond)
    pool: uint256 = pools._stake(task, account)
    return most - pool if most > pool else 0


@pure
@internal
def _weighed_round(board: IBoard.Standing) -> uint256:
    """
    @notice The last round in whose draw a bond of now has weighed.
    """
    return board.round - 1 if board.phase == types.WAITING else board.round


@pure
@internal
def _is_out(board: IBoard.Standing, place: pools.Place) -> bool:
    """
    @notice Whether nothing can concern what is leaving: as the participant's own bond, or at the latest when that
            would be free had it stopped together with this.
    """
    if board.is_free:
        return True
    if board.is_held:
        return False
    if board.round <= place.asked_round + board.unlock_rounds:
        return False
    if board.audit_rounds == 0:
        return True
    is_blamed: bool = board.blamed_audit > 0 and board.blamed_audit == board.audits
    return board.audits >= place.asked_audits + 2 and not is_blamed


@pure
@internal
def _rest(board: IBoard.Standing, place: pools.Place) -> uint256:
    """
    @notice Its part of what each paid seat has of the pot's rest.
    """
    if board.phase != types.ENDED:
        return 0
    return board.rest_per_seat * (place.seats // pools.ONE) // pools.SEAT
