# pragma version 0.4.3
"""
@title Pools: the books of what others have bonded with a participant of a task
@notice A participant's bond is its own part, on the board, and its pool. The pool is shared in units: a slash takes the
        same part of it as of the own bond and so makes every unit worth less; who comes later buys units at that worth.
        Pay of a seat is shared by what weighed in its draw, less the participant's commission: one index per pool grows
        with each payment, and a place in the pool has its units times the growth. Nobody loops over delegators.

        A pool lasts for an era: until the participant leaves the task, or a slash takes everything. What is left of a
        closed pool is unbonding. Each exit of a place keeps its own delay, whoever else leaves later.

        units >= stake, always: a unit is never worth more than one wei, so nobody buys a dear unit too few. What
        rounding takes, stays in the pool; what it takes of pay, among the rewards, below one wei for each place.
        Knows neither the board nor coins.
"""

import types

ONE: constant(uint256) = 2**128  # of an index: parts of a wei, for one unit
SEAT: constant(uint256) = 2**96  # of a seat: parts of it
MASK: constant(uint256) = 2**128 - 1
MAX_UNITS: constant(uint256) = 2**128  # a pool's units times its stake fit a word
EXITS: constant(uint256) = 9  # of a place: eight of its own, and one of a pool that its participant closes

struct Terms:
    is_set: bool
    limit: uint256  # the most that a pool takes
    commission: uint256  # bps of the delegators' part of pay
    next_commission: uint256
    next_at: uint256  # chain time from which the next commission holds

struct Stand:
    era: uint256
    active: uint256  # wei of the present pool that weigh: all but what is leaving
    before: uint256  # the same before its first change after a close
    changed_height: uint256  # of that change

struct Pool:
    stake: uint256  # wei
    units: uint256
    leaving: uint256  # of the units
    fresh: uint256  # round << 128 | units that came after that round's close
    index: uint256  # wei that a unit has earned
    seat_index: uint256  # parts of seats that a unit has earned, for the pot's rest
    release_at: uint256  # chain time, of a closed pool

struct Place:
    era: uint256
    units: uint256
    leaving: uint256
    fresh: uint256
    asked_round: uint256  # the last round in which what is leaving weighed
    asked_audits: uint256  # audits closed then
    index: uint256
    seat_index: uint256
    fraction: uint256  # of a wei that it has earned besides
    earned: uint256  # wei, not claimed
    seats: uint256  # parts of seats, not claimed

struct Part:
    pay: uint256  # of a seat's pay, what the pool has; of a unit's growth, the same
    seat: uint256  # of a seat's rest of the pot

event Seated:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    part: uint256  # of the seat's pay that is the pool's: parts of 2**96

event Credited:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    growth: uint256  # of a unit's pay: parts of 2**128 of a wei
    seat_growth: uint256  # and of its parts of seats

event Held:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    amount: uint256

terms: HashMap[uint256, HashMap[address, Terms]]
stands: HashMap[uint256, HashMap[address, Stand]]
pools: HashMap[uint256, HashMap[address, HashMap[uint256, Pool]]]  # by era
places: HashMap[uint256, HashMap[address, HashMap[address, Place]]]  # task, participant, delegator
exits: HashMap[uint256, HashMap[address, HashMap[address, DynArray[uint256, EXITS]]]]  # the same: of each, the chain time from which it is free << 128 | wei
parts: HashMap[uint256, HashMap[uint256, HashMap[address, Part]]]  # task, round, participant
held: HashMap[uint256, HashMap[uint256, HashMap[address, uint256]]]  # task, round, participant: wei, for an accusation
growths: HashMap[uint256, HashMap[uint256, HashMap[address, Part]]]  # of a round with fresh units: what they missed


@view
@internal
def _commission(task: uint256, account: address, now: uint256) -> uint256:
    terms: Terms = self.terms[task][account]
    return terms.next_commission if now >= terms.next_at else terms.commission


@internal
def _set_terms(task: uint256, account: address, commission: uint256, limit: uint256, now: uint256, delay: uint256):
    assert commission <= types.BPS, "delegation: a commission above the whole"
    present: uint256 = self._commission(task, account, now)
    at: uint256 = now
    if self.terms[task][account].is_set and commission != present:
        at = now + delay
    self.terms[task][account] = Terms(
        is_set=True, limit=limit, commission=present, next_commission=commission, next_at=at
    )


# ---------------------------------------------------------------- what weighs


@view
@internal
def _stake(task: uint256, account: address) -> uint256:
    """
    @notice All that a slash can reach, with what is leaving.
    """
    return self.pools[task][account][self.stands[task][account].era].stake


@view
@internal
def _closed(task: uint256, account: address, close_height: uint256) -> uint256:
    """
    @notice What weighed when the bonds closed.
    """
    if self.stands[task][account].changed_height > close_height:
        return self.stands[task][account].before
    return self.stands[task][account].active


@internal
def _change(task: uint256, account: address, close_height: uint256, pool: Pool):
    """
    @notice Store the present pool; what it weighed at the last close is remembered.
    """
    stand: Stand = self.stands[task][account]
    if stand.changed_height <= close_height:
        self.stands[task][account].before = stand.active
        self.stands[task][account].changed_height = block.number
    self.stands[task][account].active = self._active(pool)
    self.pools[task][account][stand.era] = pool


@pure
@internal
def _active(pool: Pool) -> uint256:
    return pool.stake * (pool.units - pool.leaving) // pool.units if pool.units > 0 else 0


# ---------------------------------------------------------------- slashes, and the end of an era


@internal
def _cut(task: uint256, account: address, part: uint256, whole: uint256) -> uint256:
    """
    @return The wei that it took, also of what had weighed at the last close.
    """
    era: uint256 = self.stands[task][account].era
    amount: uint256 = self.pools[task][account][era].stake * part // whole
    if amount == 0:
        return 0
    pool: Pool = self.pools[task][account][era]
    pool.stake -= amount
    self.pools[task][account][era].stake = pool.stake
    before: uint256 = self.stands[task][account].before
    self.stands[task][account].before = before - before * part // whole
    self.stands[task][account].active = self._active(pool)
    if pool.stake == 0:
        self.stands[task][account].era = era + 1
    return amount


@internal
def _hold(task: uint256, round: uint256, account: address, part: uint256, whole: uint256):
    amount: uint256 = self._stake(task, account) * part // whole
    self.held[task][round][account] = amount
    log Held(task=task, round=round, account=account, amount=amount)


@internal
def _take_held(task: uint256, round: uint256, account: address) -> uint256:
    """
    @notice As the participant's own: in wei of the time of the accusation, as far as nothing else has taken it since.
            Meanwhile nobody enters or leaves the pool.
    """
    stake: uint256 = self._stake(task, account)
    if stake == 0:
        return 0
    return self._cut(task, account, min(self.held[task][round][account], stake), stake)


@internal
def _close(task: uint256, account: address, release_at: uint256) -> uint256:
    """
    @notice The participant leaves, and with it everybody in its pool.
    @return The wei that are unbonding from now on.
    """
    era: uint256 = self.stands[task][account].era
    if self.pools[task][account][era].units > 0:
        self.pools[task][account][era].release_at = release_at
        self.stands[task][account] = Stand(era=era + 1, active=0, before=0, changed_height=0)
    return self.pools[task][account][era].stake


# ---------------------------------------------------------------- pay


@internal
def _note_seat(task: uint256, round: uint256, account: address, weight: uint256, close_height: uint256, now: uint256):
    """
    @notice A seat was drawn with so much weight: the pool's part of its pay is known from here on.
    """
    active: uint256 = self._closed(task, account, close_height)
    if active > 0:
        keeps: uint256 = self._commission(task, account, now)
        part: uint256 = active * (types.BPS - keeps) * SEAT // (weight * types.BPS)
        self.parts[task][round][account].seat = part
        log Seated(task=task, round=round, account=account, part=part)


@internal
def _credit(task: uint256, round: uint256, account: address, pay: uint256):
    """
    @notice A seat is paid. Who came after the round's close, or has asked to leave, has no part in it.
    """
    part: uint256 = self.parts[task][round][account].seat
    if part == 0:
        return
    era: uint256 = self.stands[task][account].era
    pool: Pool = self.pools[task][account][era]
    fresh: uint256 = pool.fresh & MASK if pool.fresh >> 128 == round else 0
    earning: uint256 = pool.units - pool.leaving - fresh
    growth: Part = empty(Part)
    if earning > 0:
        growth = Part(pay=(pay * part // SEAT) * ONE // earning, seat=part * ONE // earning)
    log Credited(task=task, round=round, account=account, growth=growth.pay, seat_growth=growth.seat)
    self.parts[task][round][account] = Part(
        pay=self._up(growth.pay * earning), seat=self._up(growth.seat * earning)
    )
    self.pools[task][account][era].index = pool.index + growth.pay
    self.pools[task][account][era].seat_index = pool.seat_index + growth.seat
    if fresh > 0:
        self.growths[task][round][account] = growth


@pure
@internal
def _up(amount: uint256) -> uint256:
    return (amount + ONE - 1) // ONE


@view
@internal
def _rest_of(task: uint256, round: uint256, account: address, rest: uint256) -> uint256:
    """
    @notice What of a paid seat's rest of the pot belongs to the pool.
    """
    return (rest * self.parts[task][round][account].seat + SEAT - 1) // SEAT


# ---------------------------------------------------------------- places


@view
@internal
def _place(task: uint256, account: address, owner: address) -> (Place, uint256):
    """
    @return A place as it is now, with its part of all pay so far, and in the present era; and what it has in a closed
            pool.
    """
    place: Place = self.places[task][account][owner]
    era: uint256 = self.stands[task][account].era
    taken: uint256 = 0
    if place.units > 0:
        pool: Pool = self.pools[task][account][place.era]
        fresh: uint256 = place.fresh & MASK
        kept: uint256 = place.units - place.leaving - fresh
        missed: Part = self.growths[task][place.fresh >> 128][account]
        growth: Part = Part(pay=pool.index - place.index, seat=pool.seat_index - place.seat_index)
        earned: uint256 = place.fraction + kept * growth.pay + fresh * (growth.pay - missed.pay)
        seats: uint256 = place.seats + kept * growth.seat + fresh * (growth.seat - missed.seat)
        if missed.seat > 0:
            place.fresh = 0
        place.earned += earned // ONE
        place.fraction = earned % ONE
        place.seats = seats
        place.index = pool.index
        place.seat_index = pool.seat_index
        if place.era < era:
            taken = pool.stake * place.units // pool.units
            place.units = 0
    if place.units == 0:
        place.leaving = 0
        place.fresh = 0
        place.era = era
        place.index = self.pools[task][account][era].index
        place.seat_index = self.pools[task][account][era].seat_index
    return place, taken


@internal
def _settle(task: uint256, account: address, owner: address) -> Place:
    """
    @notice Write down what has become of a place; before each change of it.
    """
    place: Place = empty(Place)
    taken: uint256 = 0
    place, taken = self._place(task, account, owner)
    era: uint256 = self.places[task][account][owner].era
    if place.era > era:
        self.pools[task][account][era].units -= self.places[task][account][owner].units
        self.pools[task][account][era].stake -= taken
        if taken > 0:
            self.exits[task][account][owner].append(self.pools[task][account][era].release_at << 128 | taken)
    self.places[task][account][owner] = place
    return place


@view
@internal
def _exits(task: uint256, account: address, owner: address, taken: uint256) -> DynArray[uint256, EXITS]:
    """
    @notice All exits of a place that is not settled yet, with what it has in a closed pool.
    """
    found: DynArray[uint256, EXITS] = self.exits[task][account][owner]
    if taken > 0:
        era: uint256 = self.places[task][account][owner].era
        found.append(self.pools[task][account][era].release_at << 128 | taken)
    return found


@view
@internal
def _check_room(task: uint256, account: address, owner: address):
    """
    @notice Of a settled place: whoever has anything in a pool can have one more exit when its participant closes that.
    """
    assert len(self.exits[task][account][owner]) < EXITS - 1, "delegation: withdraw what has unbonded before"


@internal
def _take_free(task: uint256, account: address, owner: address, now: uint256) -> uint256:
    """
    @return The wei of a settled place that have unbonded; the other exits keep their own delays.
    """
    waiting: DynArray[uint256, EXITS] = []
    amount: uint256 = 0
    for exit: uint256 in self.exits[task][account][owner]:
        if now >= exit >> 128:
            amount += exit & MASK
        else:
            waiting.append(exit)
    self.exits[task][account][owner] = waiting
    return amount


@internal
def _enter(
    task: uint256, account: address, owner: address, amount: uint256, fresh_round: uint256, close_height: uint256
) -> uint256:
    """
    @notice A settled place grows.
    @param fresh_round The running round, where its bonds are closed; 0 = none.
    @return Its new units.
    """
    self._check_room(task, account, owner)
    place: Place = self.places[task][account][owner]
    pool: Pool = self.pools[task][account][place.era]
    units: uint256 = amount
    if pool.units > 0:
        units = amount * pool.units // pool.stake
    pool.stake += amount
    pool.units += units
    assert pool.stake < MAX_UNITS and pool.units < MAX_UNITS, "delegation: more than a pool can count"
    if fresh_round > 0:
        pool.fresh = self._more(pool.fresh, fresh_round, units)
        self.places[task][account][owner].fresh = self._more(place.fresh, fresh_round, units)
    self.places[task][account][owner].units = place.units + units
    self._change(task, account, close_height, pool)
    return units


@pure
@internal
def _more(fresh: uint256, round: uint256, units: uint256) -> uint256:
    before: uint256 = fresh & MASK if fresh >> 128 == round else 0
    return (round << 128) | (before + units)


@view
@internal
def _worth(task: uint256, account: address, era: uint256, units: uint256) -> uint256:
    """
    @notice Of units of a pool, rounded for the pool.
    """
    if units == 0:
        return 0
    return self.pools[task][account][era].stake * units // self.pools[task][account][era].units


@internal
def _ask(task: uint256, account: address, owner: address, amount: uint256, close_height: uint256) -> uint256:
    """
    @notice So much of a settled place is leaving: it earns no more, and can be slashed until it is out.
    @return Its units.
    """
    place: Place = self.places[task][account][owner]
    pool: Pool = self.pools[task][account][place.era]
    kept: uint256 = place.units - place.leaving
    worth: uint256 = self._worth(task, account, place.era, kept)
    assert amount <= worth, "delegation: more than is bonded"
    units: uint256 = kept
    if amount < worth:
        units = (amount * pool.units + pool.stake - 1) // pool.stake
    fresh: uint256 = min(place.fresh & MASK, units)  # the last to come are the first to go
    if pool.fresh >> 128 == place.fresh >> 128:
        pool.fresh -= fresh
    self.places[task][account][owner].fresh = place.fresh - fresh
    self.places[task][account][owner].leaving = place.leaving + units
    pool.leaving += units
    self._change(task, account, close_height, pool)
    return units


@internal
def _leave(task: uint256, account: address, owner: address, release_at: uint256, close_height: uint256) -> uint256:
    """
    @notice What is leaving of a settled place is out of the pool.
    @return Its wei, which are unbonding from now on.
    """
    place: Place = self.places[task][account][owner]
    pool: Pool = self.pools[task][account][place.era]
    amount: uint256 = self._worth(task, account, place.era, place.leaving)
    pool.stake -= amount
    pool.units -= place.leaving
    pool.leaving -= place.leaving
    self.places[task][account][owner].units = place.units - place.leaving
    self.places[task][account][owner].leaving = 0
    if amount > 0:
        self._check_room(task, account, owner)
        self.exits[task][account][owner].append(release_at << 128 | amount)
    self._change(task, account, close_height, pool)
    return amount
