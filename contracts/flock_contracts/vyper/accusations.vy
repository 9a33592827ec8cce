# pragma version 0.4.3
"""
@title Accusations: a round's committee accuses, all stake convicts
@notice Two thirds of a round's voters can call a proposal's bytes invalid, or its norm slashable. That rejects it,
        unpaid, and holds the part of its proposer's bond that is at stake; nothing is taken, for a committee can be
        captured by a minority of the stake. Both claims are about public bytes and exact integers, so everybody who
        took part in the round recomputes them: where more than half of ALL stake that was eligible in it says
        "guilty", the part is burned; where half says "innocent", it is free again at once. More than half, because
        with that and nothing else a minority can neither convict the innocent nor, if the others speak, save the
        guilty. Who cannot tell stays silent, and when the time is over whatever is still held is free again.
@dev Says of stake count by the shares kept at the round's draw, so that no bond, slash or hold since then moves them.
"""

import IDelegation
import book
import events
import packing
import types

uses: book

SHARE_BITS: constant(uint256) = 32
SHARES: constant(uint256) = 2**32 - 1  # all stake of a round, in the units of a share; what rounding takes is nobody's
LANES: constant(uint256) = 8  # shares in a word

struct Case:
    named: uint256  # bitmaps by proposer: ever accused
    open: uint256  # not yet decided
    convicted: uint256
    closed: uint256  # height: who joined later was not eligible
    until: uint256  # chain time
    total: uint256  # of all shares
    guilty: uint256[2]  # shares that say so, by proposer, eight in a word
    innocent: uint256[2]
    held: uint256[types.SEATS]  # wei

cases: HashMap[uint256, HashMap[uint256, Case]]  # task, round
shares: HashMap[uint256, HashMap[uint256, uint256[LANES]]]  # by row, eight in a word
spoken: HashMap[uint256, HashMap[uint256, HashMap[uint256, uint256]]]  # task, round, row: bitmap by proposer


@external
def confirm(task: uint256, round: uint256, guilty: uint256, innocent: uint256):
    """
    @notice Whoever was eligible in a round says, once of each accused proposal, what it found when it recomputed the
            accusation. What is decided, or was said before, is left out.
    @param guilty Bitmap by proposer index.
    @param innocent Bitmap by proposer index, disjoint from the other.
    """
    assert guilty & innocent == 0, "board: guilty and innocent overlap"
    assert self.cases[task][round].open & (guilty | innocent) != 0, "board: nothing of that is open"
    assert book._now() <= self.cases[task][round].until, "board: too late"
    share: uint256 = self._share(task, round, msg.sender)
    assert share > 0, "board: not eligible in that round"
    row: uint256 = book.members[task][msg.sender].row
    said: uint256 = self.spoken[task][round][row]
    news: uint256 = self.cases[task][round].open & (guilty | innocent) & ~said
    assert news != 0, "board: already said"
    self.spoken[task][round][row] = said | news
    log events.Confirmed(
        task=task, round=round, account=msg.sender, share=share, guilty=guilty & news, innocent=innocent & news
    )
    total: uint256 = self.cases[task][round].total
    against: uint256[2] = self._add(self.cases[task][round].guilty, guilty & news, share)
    for_it: uint256[2] = self._add(self.cases[task][round].innocent, innocent & news, share)
    self.cases[task][round].guilty = against
    self.cases[task][round].innocent = for_it
    for index: uint256 in range(types.SEATS):
        if packing._has(news, index):
            if 2 * self._lane(against, index) > total:
                self._convict(task, round, index)
            elif 2 * self._lane(for_it, index) >= total:
                self._free(task, round, index)


@external
def lift(task: uint256, round: uint256):
    """
    @notice Anybody frees what is still held for a round when the time to confirm is over.
    """
    open: uint256 = self.cases[task][round].open
    assert open != 0, "board: nothing is held"
    assert book._now() > self.cases[task][round].until, "board: not yet"
    for index: uint256 in range(types.SEATS):
        if packing._has(open, index):
            self._free(task, round, index)


@view
@external
def case_view(task: uint256, round: uint256) -> types.CaseView:
    """
    @notice Who was accused in a round, what is held, and what was said.
    """
    case: Case = self.cases[task][round]
    row: types.CaseView = empty(types.CaseView)
    row.named = case.named
    row.open = case.open
    row.convicted = case.convicted
    row.until = case.until
    row.total = case.total
    row.held = case.held
    for index: uint256 in range(types.SEATS):
        row.guilty[index] = self._lane(case.guilty, index)
        row.innocent[index] = self._lane(case.innocent, index)
    return row


@view
@external
def say_of(task: uint256, round: uint256, account: address) -> (uint256, uint256):
    """
    @return The share of an account in what a round's accusations come to, and the bitmap of what it has judged.
    """
    share: uint256 = self._share(task, round, account)
    if share == 0:
        return 0, 0
    return share, self.spoken[task][round][book.members[task][account].row]


@internal
def _keep_shares(
    task: uint256, round: uint256, weights: DynArray[uint256, types.MAX_PARTICIPANTS], eligible: uint256, stake: uint256
):
    """
    @notice Called at the round's draw, with the weights that it draws by.
    """
    words: uint256[LANES] = empty(uint256[LANES])
    for index: uint256 in range(len(weights), bound=types.MAX_PARTICIPANTS):
        if weights[index] > 0:
            row: uint256 = book.members[task][book.accounts[task][index]].row
            words[row >> 3] |= (weights[index] * SHARES // stake) << (SHARE_BITS * (row & 7))
    for lane: uint256 in range(LANES):
        if words[lane] != 0:
            self.shares[task][round][lane] = words[lane]
    log events.Eligible(task=task, round=round, accounts=eligible, stake=stake, shares=words)


@internal
def _accuse(task: uint256, round: uint256, index: uint256, verdict: uint256, bps: uint256):
    """
    @notice Write down the one verdict of a proposal, and hold so many bps of its proposer's bond; nothing in a round
            that is too small to be judged. The time to confirm is as long as a whole round may take.
    """
    book._judge(task, round, index, verdict, 0)
    if book.rounds[task][round].candidates < types.PAID_FROM:
        return
    account: address = book.rounds[task][round].proposers[index]
    bond: uint256 = book.members[task][account].bond
    amount: uint256 = book._hold(task, account, bps)
    if amount == 0:
        return
    if self.cases[task][round].named == 0:
        self.cases[task][round].closed = book.tasks[task].close_height
        self.cases[task][round].total = self._total(task, round)
    until: uint256 = book._now() + self._window(task)
    self.cases[task][round].until = until
    self.cases[task][round].named |= 1 << index
    self.cases[task][round].open |= 1 << index
    self.cases[task][round].held[index] = amount
    extcall IDelegation(types.DELEGATION).hold(task, round, account, amount, bond)
    log events.Accused(task=task, round=round, account=account, held=amount, until=until)


@view
@internal
def _window(task: uint256) -> uint256:
    """
    @notice The time of a whole round at its slowest: who is away for a while, or busy, still has its say.
    """
    window: uint256 = book.tasks[task].terms.commit_seconds + book.tasks[task].terms.reveal_seconds
    window += book.tasks[task].terms.availability_seconds + book.tasks[task].terms.score_commit_seconds
    window += book.tasks[task].terms.score_reveal_seconds + book.tasks[task].terms.tally_seconds
    return window + book.tasks[task].terms.adopt_seconds


@view
@internal
def _total(task: uint256, round: uint256) -> uint256:
    total: uint256 = 0
    for lane: uint256 in range(LANES):
        word: uint256 = self.shares[task][round][lane]
        for _: uint256 in range(LANES):
            total += word & SHARES
            word = word >> SHARE_BITS
    return total


@view
@internal
def _share(task: uint256, round: uint256, account: address) -> uint256:
    """
    @notice 0 for who was not eligible, or came to its row later.
    """
    joined: uint256 = book.members[task][account].joined_height
    if joined == 0 or joined > self.cases[task][round].closed:
        return 0
    row: uint256 = book.members[task][account].row
    return (self.shares[task][round][row >> 3] >> (SHARE_BITS * (row & 7))) & SHARES


@pure
@internal
def _add(words: uint256[2], bitmap: uint256, share: uint256) -> uint256[2]:
    """
    @notice No lane overflows: all shares together fit into one.
    """
    sums: uint256[2] = words
    for index: uint256 in range(types.SEATS):
        if packing._has(bitmap, index):
            sums[index >> 3] += share << (SHARE_BITS * (index & 7))
    return sums


@pure
@internal
def _lane(words: uint256[2], index: uint256) -> uint256:
    return (words[index >> 3] >> (SHARE_BITS * (index & 7))) & SHARES


@internal
def _convict(task: uint256, round: uint256, index: uint256):
    account: address = self._close(task, round, index)
    self.cases[task][round].convicted |= 1 << index
    extcall IDelegation(types.DELEGATION).convict(task, round, account)
    slashed: uint256 = book._take_held(task, round, account, self.cases[task][round].held[index])
    log events.Convicted(task=task, round=round, account=account, slashed=slashed)


@internal
def _free(task: uint256, round: uint256, index: uint256):
    account: address = self._close(task, round, index)
    amount: uint256 = self.cases[task][round].held[index]
    book._free_held(task, account, amount)
    log events.Freed(task=task, round=round, account=account, amount=amount)


@internal
def _close(task: uint256, round: uint256, index: uint256) -> address:
    self.cases[task][round].open &= ~(1 << index)
    return book.rounds[task][round].proposers[index]
