# pragma version 0.4.3
"""
@title What everybody may read
@notice Changes nothing.
"""

import IBoard
import IDelegation
import book
import clock
import packing
import types

uses: (book, clock)


@view
@external
def claimable(task: uint256, round: uint256, account: address) -> uint256:
    """
    @notice What an account may still claim for a round.
    """
    return self._claimable(task, round, account)[0]


@view
@external
def standing(task: uint256, account: address) -> IBoard.Standing:
    """
    @notice What a participant's delegators depend on.
    """
    rules: uint256 = book.tasks[task].rules
    return IBoard.Standing(
        phase=book.tasks[task].phase,
        round=book.tasks[task].round,
        close_height=book.tasks[task].close_height,
        audits=book.tasks[task].counted_audits,
        audit_rounds=book.tasks[task].terms.audit_rounds,
        unlock_rounds=book.rules[rules].bond_unlock_rounds,
        unbonding_delay=book.rules[rules].unbonding_delay,
        rest_per_seat=book.tasks[task].rest_per_seat,
        bond=book.members[task][account].bond,
        blamed_audit=book.members[task][account].blamed_audit,
        is_leaving=book.members[task][account].leaving_at > 0,
        is_free=book._is_free(task, account),
        is_held=book.members[task][account].held > 0,
    )


@view
@internal
def _claimable(task: uint256, round: uint256, account: address) -> (uint256, uint256):
    """
    @return The amount, and the bits that mark it as claimed.
    """
    bit: uint256 = 0
    for proposer: address in book.rounds[task][round].proposers:
        if proposer == account:
            is_accepted: bool = packing._nibble(book.rounds[task][round].verdicts, bit) == types.ACCEPTED
            if not is_accepted:
                return 0, 0
            return self._open_pay(task, round, account, bit, book.rounds[task][round].per_proposer)
        bit += 1
    bit = types.SEATS
    for voter: address in book.rounds[task][round].voters:
        if voter == account:
            is_earning: bool = packing._has(book.rounds[task][round].earning, bit - types.SEATS)
            if not is_earning:
                return 0, 0
            return self._open_pay(task, round, account, bit, book.rounds[task][round].per_voter)
        bit += 1
    return 0, 0


@view
@internal
def _open_pay(
    task: uint256, round: uint256, account: address, bit: uint256, pay: uint256
) -> (uint256, uint256):
    """
    @notice What a seat that earned can still take: its pay, and after the end its part of the pot's rest; less what of
            both belongs to its delegators.
    """
    mask: uint256 = 0
    if not book.rounds[task][round].tallied or book.rounds[task][round].candidates < types.PAID_FROM:
        return 0, 0
    claimed: uint256 = book.rounds[task][round].claimed
    open_pay: uint256 = pay
    rest: uint256 = book.tasks[task].rest_per_seat
    if open_pay > 0 and not packing._has(claimed, bit):
        mask |= 1 << bit
    else:
        open_pay = 0
    if rest > 0 and not packing._has(claimed, bit + 2 * types.SEATS):
        mask |= 1 << (bit + 2 * types.SEATS)
    else:
        rest = 0
    if mask == 0:
        return 0, 0
    others: uint256 = staticcall IDelegation(types.DELEGATION).part_of(task, round, account, open_pay, rest)
    return open_pay + rest - others, mask


@view
@external
def opening_fee() -> uint256:
    """
    @notice What opening a task costs now, beside its pot.
    """
    return book._opening_fee()


@view
@external
def liabilities() -> uint256:
    """
    @notice What the board's balance must equal.
    """
    owed: uint256 = book.total_bonds + book.total_unbonding + book.total_pots + book.total_carried
    return owed + book.total_rewards + book.burned


@view
@external
def task_view(task: uint256) -> types.TaskView:
    """
    @notice A task and its terms.
    """
    row: types.Task = book.tasks[task]
    assert row.round > 0, "board: no such task"
    return types.TaskView(
        creator=row.creator,
        document=row.document,
        adapter0=row.adapter0,
        adapter=row.adapter,
        terms=row.terms,
        pot=row.pot,
        carried=row.carried,
        round=row.round,
        phase=row.phase,
        stopped=row.stopped,
        ended=row.phase == types.ENDED,
        participants=len(book.accounts[task]),
    )


@view
@external
def progress(task: uint256) -> (uint256, uint256):
    """
    @notice Round and phase, cheaply.
    """
    return book.tasks[task].round, book.tasks[task].phase


@view
@external
def participants(task: uint256) -> DynArray[types.ParticipantRow, types.MAX_PARTICIPANTS]:
    """
    @notice All participants, in the order in which a draw walks over them.
    """
    rows: DynArray[types.ParticipantRow, types.MAX_PARTICIPANTS] = []
    for account: address in book.accounts[task]:
        rows.append(self._participant(task, account))
    return rows


@view
@external
def participant(task: uint256, account: address) -> types.ParticipantRow:
    """
    @notice One participant; of somebody else only what the task remembers of it: whether it is suspended, its strikes.
    """
    return self._participant(task, account)


@view
@internal
def _participant(task: uint256, account: address) -> types.ParticipantRow:
    member: types.Member = book.members[task][account]
    return types.ParticipantRow(
        account=account if member.joined_height > 0 else empty(address),
        bond=member.bond,
        domain=member.domain,
        joined_round=member.joined_round,
        last_accepted=member.last_accepted,
        last_held=member.last_held,
        leaving_at=member.leaving_at,
        missed=member.missed,
        unseated=member.unseated,
        suspended=book.records[task][account].suspended,
        blamed_audit=member.blamed_audit,
        held=member.held,
        strikes=book.records[task][account].strikes,
    )


@view
@external
def unbonding(task: uint256, account: address) -> types.Leaver:
    """
    @notice What an account has unbonding in a task, and the chain time from which it may withdraw the first of it.
    """
    found: types.Leaver = empty(types.Leaver)
    for leaver: types.Leaver in book.leavers[task][account]:
        if found.amount == 0 or leaver.release_at < found.release_at:
            found.release_at = leaver.release_at
        found.amount += leaver.amount
    return found


@view
@external
def round_view(task: uint256) -> types.RoundView:
    """
    @notice The running round.
    """
    number: uint256 = book.tasks[task].round
    assert number > 0, "board: no such task"
    row: types.Round = book.rounds[task][number]
    return types.RoundView(
        phase=book.tasks[task].phase,
        round=number,
        phase_started=book.tasks[task].phase_started,
        deadline=clock._deadline(task),
        seed_height=book.tasks[task].seed_height,
        adapter=book.tasks[task].adapter,
        candidate_count=row.candidates,
        proposers=row.proposers,
        voters=row.voters,
        committed=row.committed,
        revealed=row.revealed,
        manifests=self._manifests(task, number),
        attested=row.attested,
        held_set=row.held_set,
        score_committed=row.score_committed,
        score_revealed=row.score_revealed,
        tallied=row.tallied,
        verdicts=self._verdicts(task, number),
        adoption_votes=row.adoption_votes,
        paid=row.candidates >= types.PAID_FROM,
    )


@view
@external
def round_result(task: uint256, round: uint256) -> types.RoundResult:
    """
    @notice Everything that a finished round left behind; what is known so far of the running one.
    """
    row: types.Round = book.rounds[task][round]
    held: DynArray[uint256, types.SEATS] = []
    invalid: DynArray[uint256, types.SEATS] = []
    for index: uint256 in range(len(row.voters), bound=types.SEATS):
        attestation: uint256 = book.ballots[task][round][index].attestation
        held.append(attestation & (2**types.SEATS - 1))
        invalid.append(attestation >> types.SEATS)
    medians: DynArray[int256, types.SEATS] = []
    for index: uint256 in range(len(row.proposers), bound=types.SEATS):
        medians.append(packing._score(row.medians, index) if row.tallied else 0)
    return types.RoundResult(
        proposers=row.proposers,
        voters=row.voters,
        manifests=self._manifests(task, round),
        held=held,
        invalid=invalid,
        held_set=row.held_set,
        verdicts=self._verdicts(task, round),
        medians=medians,
        center=row.center,
        mad=row.mad,
        scores_revealed=row.score_revealed,
        earning=row.earning,
        adapter_before=row.adapter_before,
        adapter_after=row.adapter_after,
        share=row.share,
        accepted_count=row.accepted_count,
        per_proposer=row.per_proposer,
        per_voter=row.per_voter,
        tallied=row.tallied,
        settled=row.settled,
    )


@view
@external
def score_of(task: uint256, round: uint256, voter_index: uint256) -> (int256[types.SEATS], uint256[types.SEATS]):
    """
    @notice The scores and filter results that a voter revealed.
    """
    assert voter_index < types.SEATS, "board: no such seat"
    assert packing._has(book.rounds[task][round].score_revealed, voter_index), "board: no scores revealed"
    words: uint256[2] = book.ballots[task][round][voter_index].scores
    packed: uint256 = book.ballots[task][round][voter_index].filters
    scores: int256[types.SEATS] = empty(int256[types.SEATS])
    filters: uint256[types.SEATS] = empty(uint256[types.SEATS])
    for index: uint256 in range(types.SEATS):
        scores[index] = packing._score(words, index)
        filters[index] = packing._nibble(packed, index)
    return scores, filters


@view
@internal
def _manifests(task: uint256, round: uint256) -> DynArray[bytes32, types.SEATS]:
    manifests: DynArray[bytes32, types.SEATS] = []
    for index: uint256 in range(len(book.rounds[task][round].proposers), bound=types.SEATS):
        manifests.append(book.proposals[task][round][index].manifest)
    return manifests


@view
@internal
def _verdicts(task: uint256, round: uint256) -> DynArray[uint256, types.SEATS]:
    packed: uint256 = book.rounds[task][round].verdicts
    verdicts: DynArray[uint256, types.SEATS] = []
    for index: uint256 in range(len(book.rounds[task][round].proposers), bound=types.SEATS):
        verdicts.append(packing._nibble(packed, index))
    return verdicts
