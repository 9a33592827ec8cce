# pragma version 0.4.3
# pragma evm-version cancun
"""
@title The task board: rounds of training, voting and pay
@notice A creator opens a task and funds its pot. Accounts bond to it. In each round some are drawn as proposers, who
        commit and reveal adapters, and some of the others as voters, who attest availability, measure, and attest the
        new global adapter. The contract decides from measurements, pays by pull, and slashes what two thirds can check.

        Money: balance == bonds + unbonding + pots + rewards not claimed + burned, to the unit. What others bond with a
        participant is in the delegation contract, and their pay here until they claim it there. No coin is locked for
        ever but the burned: every phase ends at its deadline without anybody acting, a waiting task ends after
        `wait_seconds`, and after the end everybody may leave.

        Time: deadlines count chain time (see Beacon). A phase ends by `poke`, which anybody may call, when everybody
        who still can has acted, or at its deadline and at least `phase_min_blocks` blocks old. Until it is poked a
        phase accepts what belongs to it, so a standstill costs nobody its turn.

        Rounds count from 1. In WAITING, the round is the one to come.
@dev Placed at genesis without a constructor. Loops run over 16 seats, 64 participants or 64 tasks, never more.
     Decisions where the protocol leaves room:
     - Eligible for a round is who bonded no later than the block that fixes the proposers' seed height (its mix is not
       known in that block), with a bond of at least `min_bond` at that time. That set, with those weights, serves both
       draws of the round: later bonds, and requests to leave, count from the next round on.
     - With fewer than 4 eligible: one proposer, all others vote, nothing is paid and nothing slashed.
     - `leave_task` of somebody who may not leave yet is a request: it is drawn no more, and calls again when free.
       Without it, a small task that seats everybody in every round would hold its participants until the end.
     - A bond below `min_bond` gives no seat; anybody may evict it, or the slashed would fill the 64 rows.
     - A proposal that no more than half of the revealed voters could score is void: otherwise a proposal on which
       honest trainers fail would be judged by its friends alone.
     - A voter is paid for a score vector in which at least one proposal is scored, and which is not constant where the
       input set has several. Voters of a round that a tally made void are paid; without a tally nobody is.
"""

import ILimits
import accusations
import audits
import book
import changes
import clock
import duty
import events
import fallback
import packing
import paper_rule
import rounds
import seating
import tallying
import types
import views

initializes: book
initializes: accusations[book := book]
initializes: audits[book := book]
initializes: changes[book := book]
initializes: fallback[book := book]
initializes: clock[book := book, fallback := fallback]
initializes: seating[book := book, accusations := accusations]
initializes: duty[book := book]
initializes: paper_rule[book := book]
initializes: rounds[
    book := book,
    duty := duty,
    seating := seating,
    paper_rule := paper_rule,
    fallback := fallback,
    audits := audits,
    accusations := accusations,
]
initializes: tallying[book := book, accusations := accusations]
initializes: views[book := book, clock := clock]

exports: (
    accusations.case_view,
    accusations.confirm,
    accusations.lift,
    accusations.say_of,
    audits.attest_guilty,
    audits.audit_view,
    audits.blame_of,
    book.initialized,
    book.rules_version,
    book.rules,
    book.task_count,
    book.total_bonds,
    book.total_unbonding,
    book.total_pots,
    book.total_carried,
    book.total_rewards,
    book.burned,
    changes.agreements,
    changes.next_rules,
    changes.enact_at,
    changes.approve_rules,
    changes.enact_rules,
    clock.due_tasks,
    clock.wakeup,
    fallback.attest_missing,
    fallback.missing_stake,
    paper_rule.reveal_vote,
    paper_rule.vote_of,
    views.claimable,
    views.liabilities,
    views.opening_fee,
    views.task_view,
    views.progress,
    views.participants,
    views.participant,
    views.unbonding,
    views.round_view,
    views.round_result,
    views.score_of,
    views.standing,
)


# ---------------------------------------------------------------- genesis


@external
def initialize(
    seed_delay: uint256,
    phase_min_blocks: uint256,
    invalid_bytes_slash: uint256,
    norm_slash: uint256,
    missed_reveal_slash: uint256,
    bond_unlock_rounds: uint256,
    unbonding_delay: uint256,
    seat_absence_slash: uint256,
    seat_absence_limit: uint256,
    task_fee: uint256,
    rules_delay: uint256,
):
    """
    @notice Called once at genesis by the system, with the network's parameters (blocks, bps, rounds, seconds).
    """
    assert msg.sender == types.SYSTEM, "board: only the system may call"
    assert not book.initialized, "board: already initialized"
    book.initialized = True
    rules: types.Rules = types.Rules(
        seed_delay=seed_delay,
        phase_min_blocks=phase_min_blocks,
        invalid_bytes_slash=invalid_bytes_slash,
        norm_slash=norm_slash,
        missed_reveal_slash=missed_reveal_slash,
        bond_unlock_rounds=bond_unlock_rounds,
        unbonding_delay=unbonding_delay,
        seat_absence_slash=seat_absence_slash,
        seat_absence_limit=seat_absence_limit,
        task_fee=task_fee,
        rules_delay=rules_delay,
    )
    assert staticcall ILimits(types.LIMITS).takes_rules(rules), "board: rules"
    book.rules_version = 1
    book.rules[1] = rules


# ---------------------------------------------------------------- tasks


@external
@payable
def open_task(document: bytes32, adapter: bytes32, terms: types.Terms) -> uint256:
    """
    @notice Open a task. The value pays the fee, which is burned; the rest is the pot, and may be zero.
    @param document Object digest of the task document.
    @param adapter Chunk-list digest of the round-0 global adapter.
    @return The task's number, from 1.
    """
    assert book.initialized, "board: not initialized"
    assert len(book.live) < types.MAX_TASKS, "board: as many tasks run as can"
    assert document != empty(bytes32), "board: a task needs a document"
    assert adapter != empty(bytes32), "board: a task needs a first adapter"
    assert staticcall ILimits(types.LIMITS).takes_terms(terms), "board: terms"
    fee: uint256 = book._opening_fee()
    assert msg.value >= fee, "board: the value does not cover the fee"
    pot: uint256 = msg.value - fee
    book.task_count += 1
    task: uint256 = book.task_count
    book.live.append(task)
    book.tasks[task].creator = msg.sender
    book.tasks[task].document = document
    book.tasks[task].adapter0 = adapter
    book.tasks[task].adapter = adapter
    book.tasks[task].terms = terms
    book.tasks[task].pot = pot
    book.tasks[task].round = 1
    book.tasks[task].rules = book.rules_version
    book.total_pots += pot
    book.burned += fee
    log events.TaskOpened(
        task=task, creator=msg.sender, document=document, adapter=adapter, pot=pot, fee=fee, terms=terms
    )
    book._enter(task, types.WAITING)
    return task


@external
def stop_task(task: uint256):
    """
    @notice The creator wants no further round; possible when the guaranteed rounds are done, or the last of them runs.
    """
    book._check_running(task)
    assert msg.sender == book.tasks[task].creator, "board: only the creator may stop"
    assert not book.tasks[task].stopped, "board: already stopped"
    started: uint256 = book.tasks[task].round
    if book.tasks[task].phase == types.WAITING:
        started -= 1
    assert started >= book.tasks[task].terms.rounds, "board: guaranteed rounds are left"
    book.tasks[task].stopped = True
    log events.TaskStopped(task=task, round=started)
    if book.tasks[task].phase == types.WAITING:
        rounds._end(task)


@external
@nonreentrant
def withdraw_pot(task: uint256):
    """
    @notice The creator takes back what is left of the pot of an ended task.
    """
    assert book.tasks[task].phase == types.ENDED, "board: the task has not ended"
    assert msg.sender == book.tasks[task].creator, "board: only the creator may withdraw"
    amount: uint256 = book.tasks[task].pot
    assert amount > 0, "board: the pot is empty"
    book.tasks[task].pot = 0
    book.total_pots -= amount
    log events.PotWithdrawn(task=task, creator=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


# ---------------------------------------------------------------- participants


@external
@payable
def join_task(task: uint256, domain: bytes32):
    """
    @notice Bond to a task, or add to the bond (then with the same domain). Counts from the next round's draw on.
    """
    book._check_running(task)
    min_bond: uint256 = book.tasks[task].terms.min_bond
    member: types.Member = book.members[task][msg.sender]
    assert msg.value > 0, "board: bond more than nothing"
    if member.joined_height == 0:
        assert msg.value >= min_bond, "board: below the minimum bond"
        assert len(book.accounts[task]) < types.MAX_PARTICIPANTS, "board: the task is full"
        assert book.records[task][msg.sender].strikes < types.EXPELLED, "board: expelled"
        assert len(book.leavers[task][msg.sender]) < types.MAX_EXITS, "board: withdraw what has unbonded before"
        book.accounts[task].append(msg.sender)
        book.members[task][msg.sender].joined_height = block.number
        book.members[task][msg.sender].joined_round = book.tasks[task].round
        book.members[task][msg.sender].domain = domain
        book.members[task][msg.sender].row = book._take_row(task)
    else:
        assert member.leaving_at == 0, "board: leaving"
        assert member.domain == domain, "board: the domain is frozen until it leaves"
        book._add_fresh(task, msg.sender, msg.value)
    was_able: bool = book._is_able(task, msg.sender)
    book.members[task][msg.sender].bond = member.bond + msg.value
    book._recount(task, msg.sender, was_able)
    book.total_bonds += msg.value
    log events.Joined(task=task, account=msg.sender, domain=domain, amount=msg.value, bond=member.bond + msg.value)


@external
def leave_task(task: uint256):
    """
    @notice Leave: the bond starts to unbond. Who is seated, may yet be drawn in this round, had a proposal accepted in
            one of the last rounds, or showed one that an audit may yet look at, is only marked: it is drawn no more, and
            calls again when that is over.
    """
    assert book.members[task][msg.sender].joined_height > 0, "board: no participant"
    if book._is_free(task, msg.sender):
        book._remove(task, msg.sender)
        return
    assert book.members[task][msg.sender].leaving_at == 0, "board: leaving, but not free yet"
    was_able: bool = book._is_able(task, msg.sender)
    book.members[task][msg.sender].leaving_at = block.number
    book._recount(task, msg.sender, was_able)
    log events.LeaveRequested(task=task, account=msg.sender)


@external
def rejoin(task: uint256):
    """
    @notice Who was unseated for its absence is here again. Counts from the next round's draw on.
    """
    book._check_running(task)
    assert book.members[task][msg.sender].unseated, "board: not unseated"
    assert book.members[task][msg.sender].leaving_at == 0, "board: leaving"
    book.members[task][msg.sender].unseated = False
    book.members[task][msg.sender].missed = 0
    book.members[task][msg.sender].joined_height = block.number
    if book._is_able(task, msg.sender):
        book.tasks[task].able += 1
    log events.Rejoined(task=task, account=msg.sender)


@external
def evict(task: uint256, account: address):
    """
    @notice Anybody may free the row of a participant whose bond fell below the minimum, that is expelled, or that is
            unseated or asked to leave while all rows are taken; its bond starts to unbond.
    """
    member: types.Member = book.members[task][account]
    assert member.joined_height > 0, "board: no participant"
    is_idle: bool = member.unseated or member.leaving_at > 0
    is_in_the_way: bool = is_idle and len(book.accounts[task]) == types.MAX_PARTICIPANTS
    is_short: bool = member.bond < book.tasks[task].terms.min_bond
    is_expelled: bool = book.records[task][account].strikes == types.EXPELLED
    assert is_short or is_expelled or is_in_the_way, "board: its bond suffices"
    assert book._is_free(task, account), "board: not free yet"
    book._remove(task, account)


@external
@nonreentrant
def withdraw_bond(task: uint256):
    """
    @notice Pay out what has been unbonding for long enough: each exit after its own delay.
    """
    amount: uint256 = book._take_free(task, msg.sender)
    log events.BondWithdrawn(task=task, account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


# ---------------------------------------------------------------- proposers


@external
def commit(task: uint256, round: uint256, commitment: bytes32):
    """
    @notice A proposer commits to keccak256(abi_encode(chain.id, self, task, round, account, manifest, salt)), once.
    """
    index: uint256 = book._seat(task, round, types.COMMIT, types.ROLE_PROPOSER)
    committed: uint256 = book.rounds[task][round].committed
    assert not packing._has(committed, index), "board: already committed"
    assert commitment != empty(bytes32), "board: an empty commitment"
    book.rounds[task][round].committed = committed | (1 << index)
    book.proposals[task][round][index].commitment = commitment
    book.proposals[task][round][index].order = packing._count(committed) + 1
    log events.Committed(task=task, round=round, account=msg.sender, commitment=commitment)


@external
def reveal(task: uint256, round: uint256, manifest: bytes32, salt: bytes32):
    """
    @notice A proposer opens its commitment. A manifest belongs to its earliest commitment in the task; any other
            reveal of it is a duplicate.
    """
    index: uint256 = book._seat(task, round, types.REVEAL, types.ROLE_PROPOSER)
    assert packing._has(book.rounds[task][round].committed, index), "board: never committed"
    assert not packing._has(book.rounds[task][round].revealed, index), "board: already revealed"
    digest: bytes32 = keccak256(abi_encode(chain.id, self, task, round, msg.sender, manifest, salt))
    assert digest == book.proposals[task][round][index].commitment, "board: does not open the commitment"
    book.rounds[task][round].revealed |= 1 << index
    book.proposals[task][round][index].manifest = manifest
    log events.Revealed(task=task, round=round, account=msg.sender, manifest=manifest)
    owner: types.Owner = book.owners[task][manifest]
    order: uint256 = book.proposals[task][round][index].order
    if owner.round == 0:
        book.owners[task][manifest] = types.Owner(round=round, index=index)
    elif owner.round < round or book.proposals[task][round][owner.index].order < order:
        book._judge(task, round, index, types.DUPLICATE, 0)
    else:
        book.owners[task][manifest] = types.Owner(round=round, index=index)
        book._judge(task, round, owner.index, types.DUPLICATE, 0)


# ---------------------------------------------------------------- voters


@external
def attest_available(task: uint256, round: uint256, held: uint256, invalid: uint256):
    """
    @notice A voter says, once, which revealed proposals it holds well formed, and which it holds as invalid bytes.
    @param held Bitmap by proposer index.
    @param invalid Bitmap by proposer index, disjoint from the other.
    """
    index: uint256 = book._seat(task, round, types.AVAILABILITY, types.ROLE_VOTER)
    attested: uint256 = book.rounds[task][round].attested
    assert not packing._has(attested, index), "board: already attested"
    assert held & invalid == 0, "board: held and invalid overlap"
    assert (held | invalid) & ~book.rounds[task][round].revealed == 0, "board: a proposal that was not revealed"
    book.rounds[task][round].attested = attested | (1 << index)
    book.ballots[task][round][index].attestation = held | (invalid << types.SEATS)
    log events.Availability(task=task, round=round, account=msg.sender, held=held, invalid=invalid)


@external
def commit_scores(task: uint256, round: uint256, commitment: bytes32):
    """
    @notice A voter commits to keccak256(abi_encode(chain.id, self, task, round, account, scores, filters, salt)), once.
    """
    index: uint256 = book._seat(task, round, types.SCORE_COMMIT, types.ROLE_VOTER)
    committed: uint256 = book.rounds[task][round].score_committed
    assert not packing._has(committed, index), "board: already committed"
    assert commitment != empty(bytes32), "board: an empty commitment"
    book.rounds[task][round].score_committed = committed | (1 << index)
    book.ballots[task][round][index].score_commitment = commitment
    log events.ScoresCommitted(task=task, round=round, account=msg.sender, commitment=commitment)


@external
def reveal_scores(
    task: uint256, round: uint256, scores: int256[types.SEATS], filters: uint256[types.SEATS], salt: bytes32
):
    """
    @notice A voter opens its commitment.
    @param scores Relative change of its hold-out loss in millionths, by proposer index; negative is better; |score| is
           at most 10**9; 0 outside the input set.
    @param filters 1 = norm above twice the median, 2 = above three times, 4 = near-duplicate, 8 = could not score;
           0 outside the input set.
    """
    index: uint256 = book._seat(task, round, types.SCORE_REVEAL, types.ROLE_VOTER)
    assert book.tasks[task].terms.voting_rule == types.RULE_PROPOSALS, "board: this task votes on the aggregate"
    assert packing._has(book.rounds[task][round].score_committed, index), "board: never committed"
    assert not packing._has(book.rounds[task][round].score_revealed, index), "board: already revealed"
    digest: bytes32 = keccak256(abi_encode(chain.id, self, task, round, msg.sender, scores, filters, salt))
    assert digest == book.ballots[task][round][index].score_commitment, "board: does not open the commitment"
    held_set: uint256 = book.rounds[task][round].held_set
    for proposer: uint256 in range(types.SEATS):
        if not packing._has(held_set, proposer):
            assert scores[proposer] == 0 and filters[proposer] == 0, "board: an entry outside the input set"
    packed: uint256[2] = packing._pack_scores(scores)
    packed_filters: uint256 = packing._pack_filters(filters)
    book.ballots[task][round][index].scores = packed
    book.ballots[task][round][index].filters = packed_filters
    book.rounds[task][round].score_revealed |= 1 << index
    earns: bool = tallying._is_work(held_set, scores, filters)
    if earns:
        book.rounds[task][round].earning |= 1 << index
    log events.ScoresRevealed(
        task=task, round=round, account=msg.sender, scores=packed, filters=packed_filters, earns=earns
    )


@external
def attest_adoption(task: uint256, round: uint256, adapter: bytes32):
    """
    @notice A voter that revealed its scores attests, once, the global adapter that it wants next: the candidate that
            follows from the accepted proposals, or the previous one.
    """
    index: uint256 = book._seat(task, round, types.ADOPT, types.ROLE_VOTER)
    assert packing._has(book.rounds[task][round].score_revealed, index), "board: only who revealed scores"
    assert not packing._has(book.rounds[task][round].adoption_votes, index), "board: already attested"
    assert adapter != empty(bytes32), "board: no adapter is named"
    book.rounds[task][round].adoption_votes |= 1 << index
    book._vote_for(task, round, adapter)
    log events.AdoptionAttested(task=task, round=round, account=msg.sender, adapter=adapter)


# ---------------------------------------------------------------- tally


@external
def tally(task: uint256, round: uint256, medians: int256[types.SEATS], center: int256, mad: int256):
    """
    @notice Anybody claims the round's lower medians; the contract checks them by counting, and judges.
    @param medians Of the scores of each proposal in the input set, without those marked 8; 0 where there are none.
    @param center Lower median of those medians.
    @param mad Lower median of their distances to the center.
    """
    book._check_running(task)
    assert book.tasks[task].round == round, "board: not the running round"
    assert book.tasks[task].phase == types.TALLY, "board: not the phase for this"
    claims: types.Claims = types.Claims(medians=medians, center=center, mad=mad)
    sheet: types.Sheet = tallying._check_claims(task, round, claims)
    book.rounds[task][round].tallied = True
    packed: uint256[2] = packing._pack_scores(medians)
    book.rounds[task][round].medians = packed
    book.rounds[task][round].center = center
    book.rounds[task][round].mad = mad
    accepted: uint256 = tallying._judge_all(task, round, sheet)
    book.rounds[task][round].accepted_count = accepted
    log events.Tallied(task=task, round=round, center=center, mad=mad, accepted=accepted, medians=packed)
    if accepted > 0:
        book._enter(task, types.ADOPT)
    else:
        rounds._finish_round(task)


# ---------------------------------------------------------------- phases


@external
def poke(task: uint256):
    """
    @notice Advance the phase of a task, where that is due. Anybody may call; the system does at the start of a block.
    """
    book._check_running(task)
    assert clock._is_due(task, book._now()), "board: nothing due"
    phase: uint256 = book.tasks[task].phase
    if phase == types.WAITING:
        if book._has_enough(task):
            seating._start_round(task)
        else:
            rounds._end(task)
    elif phase == types.DRAW_PROPOSERS:
        seating._draw_proposers(task)
    elif phase == types.COMMIT:
        rounds._close_commit(task)
    elif phase == types.DRAW_VOTERS:
        seating._draw_voters(task)
    elif phase == types.REVEAL:
        rounds._close_reveal(task)
    elif phase == types.AVAILABILITY:
        rounds._close_availability(task)
    elif phase == types.SCORE_COMMIT:
        rounds._close_score_commit(task)
    elif phase == types.SCORE_REVEAL:
        rounds._close_score_reveal(task)
    elif phase == types.TALLY:
        rounds._void(task)
    elif phase == types.AUDIT:
        rounds._close_audit(task)
    else:
        rounds._close_adopt(task)


# ---------------------------------------------------------------- pay


@external
@nonreentrant
def claim(task: uint256, round: uint256):
    """
    @notice Take the pay of a settled round, and after the task's end that seat's part of the rest; each once.
    """
    amount: uint256 = 0
    mask: uint256 = 0
    amount, mask = views._claimable(task, round, msg.sender)
    assert amount > 0, "board: nothing to claim"
    book.rounds[task][round].claimed |= mask
    book.total_rewards -= amount
    log events.Claimed(task=task, round=round, account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


@external
@nonreentrant
def pay_delegator(owner: address, amount: uint256):
    """
    @notice Pay out what somebody's delegation has earned; the delegation contract says how much, and logs it.
    """
    assert msg.sender == types.DELEGATION, "board: only the delegation contract may call"
    book.total_rewards -= amount
    raw_call(owner, b"", value=amount)
