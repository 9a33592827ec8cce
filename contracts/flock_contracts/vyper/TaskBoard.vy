# pragma version 0.4.3
# pragma evm-version cancun
"""
@title The task board: rounds of training, voting and pay
@notice A creator opens a task and funds its pot. Accounts bond to it. In each round some are drawn as proposers, who
        commit and reveal adapters, and some of the others as voters, who attest availability, measure, and attest the
        new global adapter. The contract decides from measurements, pays by pull, and slashes what two thirds can check.

        Money: balance == bonds + unbonding + pots + rewards not claimed + burned, to the unit. No coin is locked for
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

import IBeacon
import drawing
import packing

SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
BEACON: constant(address) = 0x0000000000000000000000000000000000f10c01

MAX_TASKS: constant(uint256) = 64  # running at one time: `due_tasks` walks over them in every block
MAX_PARTICIPANTS: constant(uint256) = 64  # of a task: a draw walks over them
SEATS: constant(uint256) = 16  # proposers, and voters, of a round at most
MAX_POKES: constant(uint256) = 16  # in a block
MAX_ROUNDS: constant(uint256) = 100_000
MAX_SECONDS: constant(uint256) = 365 * 86_400
BPS: constant(uint256) = 10_000
PAID_FROM: constant(uint256) = 4  # eligible participants; with fewer, no pay and no slash
MIN_VOTERS: constant(uint256) = 3
MAD_NUMERATOR: constant(int256) = 7_413  # 1.4826 makes a median deviation comparable to a standard deviation
MAD_DENOMINATOR: constant(int256) = 5_000

WAITING: constant(uint256) = 0
DRAW_PROPOSERS: constant(uint256) = 1
COMMIT: constant(uint256) = 2
DRAW_VOTERS: constant(uint256) = 3
REVEAL: constant(uint256) = 4
AVAILABILITY: constant(uint256) = 5
SCORE_COMMIT: constant(uint256) = 6
SCORE_REVEAL: constant(uint256) = 7
TALLY: constant(uint256) = 8
ADOPT: constant(uint256) = 9
ENDED: constant(uint256) = 10

UNJUDGED: constant(uint256) = 0
ACCEPTED: constant(uint256) = 1
REJECTED_LOSS: constant(uint256) = 2
REJECTED_NORM: constant(uint256) = 3
SLASHED_NORM: constant(uint256) = 4
DUPLICATE: constant(uint256) = 5
VOID: constant(uint256) = 6
INVALID: constant(uint256) = 7
UNOPENED: constant(uint256) = 8

FILTER_NORM_REJECT: constant(uint256) = 1
FILTER_NORM_SLASH: constant(uint256) = 2
FILTER_NEAR_DUPLICATE: constant(uint256) = 4
FILTER_NO_SCORE: constant(uint256) = 8

ROLE_PROPOSER: constant(uint256) = 1
ROLE_VOTER: constant(uint256) = 2

struct Terms:
    rounds: uint256  # guaranteed
    extra_rounds: uint256  # more, unless the creator stops the task
    proposers: uint256
    voters: uint256
    min_participants: uint256
    min_bond: uint256  # wei
    proposer_share: uint256  # bps of a round's share; the rest is the voters'
    commit_seconds: uint256
    reveal_seconds: uint256
    availability_seconds: uint256
    score_commit_seconds: uint256
    score_reveal_seconds: uint256
    tally_seconds: uint256
    adopt_seconds: uint256
    loss_limit: uint256  # millionths
    mad_multiple: uint256
    wait_seconds: uint256

struct Task:
    creator: address
    document: bytes32
    adapter0: bytes32
    adapter: bytes32
    terms: Terms
    pot: uint256
    round: uint256
    phase: uint256
    phase_started: uint256  # chain time
    phase_block: uint256
    close_height: uint256  # who bonded later takes no part in this round's draws
    seed_height: uint256
    able: uint256  # participants with a sufficient bond that did not ask to leave
    stopped: bool

struct Member:
    bond: uint256
    fresh: uint256  # the part of the bond that was added at fresh_height, or after the last close
    fresh_height: uint256
    joined_height: uint256  # 0 = no participant
    joined_round: uint256
    domain: bytes32
    last_accepted: uint256  # round, 0 = none
    leaving_at: uint256  # height of the request, 0 = stays
    seat: uint256  # round << 5 | (16 for a voter) | index

struct Leaver:
    amount: uint256
    release_at: uint256  # chain time

struct Round:
    candidates: uint256
    proposers: DynArray[address, SEATS]
    voters: DynArray[address, SEATS]
    committed: uint256  # bitmaps by seat
    revealed: uint256
    attested: uint256
    held_set: uint256
    score_committed: uint256
    score_revealed: uint256
    earning: uint256
    adoption_votes: uint256
    claimed: uint256  # proposers in bits 0-15, voters in bits 16-31
    verdicts: uint256  # 4 bits by proposer
    tallied: bool
    settled: bool
    medians: uint256[2]
    center: int256
    mad: int256
    leading: bytes32
    leading_votes: uint256
    adapter_before: bytes32
    adapter_after: bytes32
    share: uint256
    accepted_count: uint256
    per_proposer: uint256
    per_voter: uint256

struct Proposal:
    commitment: bytes32
    manifest: bytes32
    order: uint256  # of its commitment in the round, from 1

struct Ballot:
    attestation: uint256  # held | invalid << 16
    score_commitment: bytes32
    scores: uint256[2]
    filters: uint256

struct Owner:
    round: uint256  # 0 = nobody
    index: uint256

struct Claims:
    medians: int256[SEATS]
    center: int256
    mad: int256

struct Sheet:
    counts: uint256[SEATS]  # scores of each proposal
    filters: uint256[SEATS]  # filter verdict of each proposal
    rejected: uint256  # bitmap: rejected by loss

struct RoundView:
    phase: uint256
    round: uint256
    phase_started: uint256
    deadline: uint256
    seed_height: uint256
    adapter: bytes32
    candidate_count: uint256
    proposers: DynArray[address, SEATS]
    voters: DynArray[address, SEATS]
    committed: uint256
    revealed: uint256
    manifests: DynArray[bytes32, SEATS]
    attested: uint256
    held_set: uint256
    score_committed: uint256
    score_revealed: uint256
    tallied: bool
    verdicts: DynArray[uint256, SEATS]
    adoption_votes: uint256
    paid: bool

struct RoundResult:
    proposers: DynArray[address, SEATS]
    voters: DynArray[address, SEATS]
    manifests: DynArray[bytes32, SEATS]
    held: DynArray[uint256, SEATS]
    invalid: DynArray[uint256, SEATS]
    held_set: uint256
    verdicts: DynArray[uint256, SEATS]
    medians: DynArray[int256, SEATS]
    center: int256
    mad: int256
    scores_revealed: uint256
    earning: uint256
    adapter_before: bytes32
    adapter_after: bytes32
    share: uint256
    accepted_count: uint256
    per_proposer: uint256
    per_voter: uint256
    tallied: bool
    settled: bool

struct TaskView:
    creator: address
    document: bytes32
    adapter0: bytes32
    adapter: bytes32
    terms: Terms
    pot: uint256
    round: uint256
    phase: uint256
    stopped: bool
    ended: bool
    participants: uint256

struct ParticipantRow:
    account: address
    bond: uint256
    domain: bytes32
    joined_round: uint256
    last_accepted: uint256
    leaving_at: uint256

event TaskOpened:
    task: indexed(uint256)
    creator: indexed(address)
    document: bytes32
    adapter: bytes32
    pot: uint256

event Joined:
    task: indexed(uint256)
    account: indexed(address)
    domain: bytes32
    amount: uint256
    bond: uint256

event LeaveRequested:
    task: indexed(uint256)
    account: indexed(address)

event Left:
    task: indexed(uint256)
    account: indexed(address)
    amount: uint256
    release_at: uint256

event BondWithdrawn:
    task: indexed(uint256)
    account: indexed(address)
    amount: uint256

event TaskStopped:
    task: indexed(uint256)
    round: uint256

event TaskEnded:
    task: indexed(uint256)
    round: uint256
    pot: uint256

event PotWithdrawn:
    task: indexed(uint256)
    creator: indexed(address)
    amount: uint256

event PhaseChanged:
    task: indexed(uint256)
    round: indexed(uint256)
    phase: uint256

event SeedHeight:
    task: indexed(uint256)
    round: indexed(uint256)
    height: uint256

event Drawn:
    task: indexed(uint256)
    round: indexed(uint256)
    role: uint256  # 1 = proposers, 2 = voters
    seed: bytes32
    accounts: DynArray[address, SEATS]

event Committed:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    commitment: bytes32

event Revealed:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    manifest: bytes32

event Availability:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    held: uint256
    invalid: uint256

event InputSet:
    task: indexed(uint256)
    round: indexed(uint256)
    held_set: uint256

event ScoresCommitted:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    commitment: bytes32

event ScoresRevealed:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)

event Tallied:
    task: indexed(uint256)
    round: indexed(uint256)
    center: int256
    mad: int256
    accepted: uint256

event Verdict:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    verdict: uint256
    slashed: uint256

event AdoptionAttested:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    adapter: bytes32

event Adopted:
    task: indexed(uint256)
    round: indexed(uint256)
    adapter: bytes32

event Settled:
    task: indexed(uint256)
    round: indexed(uint256)
    share: uint256
    per_proposer: uint256
    per_voter: uint256

event Claimed:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    amount: uint256

event Slashed:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    amount: uint256

initialized: public(bool)
seed_delay: public(uint256)
phase_min_blocks: public(uint256)
invalid_bytes_slash: public(uint256)
norm_slash: public(uint256)
missed_reveal_slash: public(uint256)
bond_unlock_rounds: public(uint256)
unbonding_delay: public(uint256)

task_count: public(uint256)
live: DynArray[uint256, MAX_TASKS]
tasks: HashMap[uint256, Task]
accounts: HashMap[uint256, DynArray[address, MAX_PARTICIPANTS]]
members: HashMap[uint256, HashMap[address, Member]]
leavers: HashMap[uint256, HashMap[address, Leaver]]
rounds: HashMap[uint256, HashMap[uint256, Round]]
proposals: HashMap[uint256, HashMap[uint256, Proposal[SEATS]]]
ballots: HashMap[uint256, HashMap[uint256, Ballot[SEATS]]]
owners: HashMap[uint256, HashMap[bytes32, Owner]]
adoptions: HashMap[uint256, HashMap[uint256, HashMap[bytes32, uint256]]]

total_bonds: public(uint256)
total_unbonding: public(uint256)
total_pots: public(uint256)
total_rewards: public(uint256)
burned: public(uint256)


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
):
    """
    @notice Called once at genesis by the system, with the network's parameters (blocks, bps, rounds, seconds).
    """
    assert msg.sender == SYSTEM, "board: only the system may call"
    assert not self.initialized, "board: already initialized"
    assert seed_delay > 0, "board: a seed must be unknown when its height is fixed"
    assert max(invalid_bytes_slash, max(norm_slash, missed_reveal_slash)) <= BPS, "board: a slash above the whole bond"
    self.initialized = True
    self.seed_delay = seed_delay
    self.phase_min_blocks = phase_min_blocks
    self.invalid_bytes_slash = invalid_bytes_slash
    self.norm_slash = norm_slash
    self.missed_reveal_slash = missed_reveal_slash
    self.bond_unlock_rounds = bond_unlock_rounds
    self.unbonding_delay = unbonding_delay


# ---------------------------------------------------------------- tasks


@external
@payable
def open_task(document: bytes32, adapter: bytes32, terms: Terms) -> uint256:
    """
    @notice Open a task; the value is its pot, and may be zero.
    @param document Object digest of the task document.
    @param adapter Chunk-list digest of the round-0 global adapter.
    @return The task's number, from 1.
    """
    assert self.initialized, "board: not initialized"
    assert len(self.live) < MAX_TASKS, "board: as many tasks run as can"
    assert document != empty(bytes32), "board: a task needs a document"
    assert adapter != empty(bytes32), "board: a task needs a first adapter"
    self._check_terms(terms)
    self.task_count += 1
    task: uint256 = self.task_count
    self.live.append(task)
    self.tasks[task].creator = msg.sender
    self.tasks[task].document = document
    self.tasks[task].adapter0 = adapter
    self.tasks[task].adapter = adapter
    self.tasks[task].terms = terms
    self.tasks[task].pot = msg.value
    self.tasks[task].round = 1
    self.total_pots += msg.value
    log TaskOpened(task=task, creator=msg.sender, document=document, adapter=adapter, pot=msg.value)
    self._enter(task, WAITING)
    return task


@pure
@internal
def _check_terms(terms: Terms):
    assert terms.rounds > 0 and terms.rounds <= MAX_ROUNDS, "board: terms: rounds"
    assert terms.extra_rounds <= MAX_ROUNDS, "board: terms: extra_rounds"
    assert terms.proposers > 0 and terms.proposers <= SEATS, "board: terms: proposers"
    assert terms.voters >= MIN_VOTERS and terms.voters <= SEATS, "board: terms: voters"
    assert terms.min_participants <= MAX_PARTICIPANTS, "board: terms: min_participants"
    assert terms.min_bond > 0 and terms.min_bond < 2**128, "board: terms: min_bond"
    assert terms.proposer_share <= BPS, "board: terms: proposer_share"
    assert terms.loss_limit <= 10**9, "board: terms: loss_limit"
    assert terms.mad_multiple <= 10**6, "board: terms: mad_multiple"
    seconds: uint256[8] = [
        terms.commit_seconds,
        terms.reveal_seconds,
        terms.availability_seconds,
        terms.score_commit_seconds,
        terms.score_reveal_seconds,
        terms.tally_seconds,
        terms.adopt_seconds,
        terms.wait_seconds,
    ]
    for length: uint256 in seconds:
        assert length > 0 and length <= MAX_SECONDS, "board: terms: seconds"


@external
def stop_task(task: uint256):
    """
    @notice The creator wants no further round; possible when the guaranteed rounds are done, or the last of them runs.
    """
    self._check_running(task)
    assert msg.sender == self.tasks[task].creator, "board: only the creator may stop"
    assert not self.tasks[task].stopped, "board: already stopped"
    started: uint256 = self.tasks[task].round
    if self.tasks[task].phase == WAITING:
        started -= 1
    assert started >= self.tasks[task].terms.rounds, "board: guaranteed rounds are left"
    self.tasks[task].stopped = True
    log TaskStopped(task=task, round=started)
    if self.tasks[task].phase == WAITING:
        self._end(task)


@external
@nonreentrant
def withdraw_pot(task: uint256):
    """
    @notice The creator takes back what is left of the pot of an ended task.
    """
    assert self.tasks[task].phase == ENDED, "board: the task has not ended"
    assert msg.sender == self.tasks[task].creator, "board: only the creator may withdraw"
    amount: uint256 = self.tasks[task].pot
    assert amount > 0, "board: the pot is empty"
    self.tasks[task].pot = 0
    self.total_pots -= amount
    log PotWithdrawn(task=task, creator=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


# ---------------------------------------------------------------- participants


@external
@payable
def join_task(task: uint256, domain: bytes32):
    """
    @notice Bond to a task, or add to the bond (then with the same domain). Counts from the next round's draw on.
    """
    self._check_running(task)
    min_bond: uint256 = self.tasks[task].terms.min_bond
    member: Member = self.members[task][msg.sender]
    assert msg.value > 0, "board: bond more than nothing"
    if member.joined_height == 0:
        assert msg.value >= min_bond, "board: below the minimum bond"
        assert len(self.accounts[task]) < MAX_PARTICIPANTS, "board: the task is full"
        self.accounts[task].append(msg.sender)
        self.members[task][msg.sender].joined_height = block.number
        self.members[task][msg.sender].joined_round = self.tasks[task].round
        self.members[task][msg.sender].domain = domain
        self.tasks[task].able += 1
    else:
        assert member.leaving_at == 0, "board: leaving"
        assert member.domain == domain, "board: the domain is frozen until it leaves"
        if member.bond < min_bond and member.bond + msg.value >= min_bond:
            self.tasks[task].able += 1
        settled: bool = member.fresh_height <= self.tasks[task].close_height
        self.members[task][msg.sender].fresh = msg.value + (0 if settled else member.fresh)
        self.members[task][msg.sender].fresh_height = block.number
    self.members[task][msg.sender].bond = member.bond + msg.value
    self.total_bonds += msg.value
    log Joined(task=task, account=msg.sender, domain=domain, amount=msg.value, bond=member.bond + msg.value)


@external
def leave_task(task: uint256):
    """
    @notice Leave: the bond starts to unbond. Who is seated, may yet be drawn in this round, or had a proposal accepted
            in one of the last rounds is only marked: it is drawn no more, and calls again when that is over.
    """
    assert self.members[task][msg.sender].joined_height > 0, "board: no participant"
    if self._is_free(task, msg.sender):
        self._remove(task, msg.sender)
        return
    assert self.members[task][msg.sender].leaving_at == 0, "board: leaving, but not free yet"
    if self.members[task][msg.sender].bond >= self.tasks[task].terms.min_bond:
        self.tasks[task].able -= 1
    self.members[task][msg.sender].leaving_at = block.number
    log LeaveRequested(task=task, account=msg.sender)


@external
def evict(task: uint256, account: address):
    """
    @notice Anybody may free the row of a participant whose bond fell below the minimum; its bond starts to unbond.
    """
    assert self.members[task][account].joined_height > 0, "board: no participant"
    assert self.members[task][account].bond < self.tasks[task].terms.min_bond, "board: its bond suffices"
    assert self._is_free(task, account), "board: not free yet"
    self._remove(task, account)


@external
@nonreentrant
def withdraw_bond(task: uint256):
    """
    @notice Pay out the bond that has been unbonding for long enough.
    """
    leaver: Leaver = self.leavers[task][msg.sender]
    assert leaver.amount > 0, "board: nothing is unbonding"
    assert self._now() >= leaver.release_at, "board: still unbonding"
    self.leavers[task][msg.sender] = empty(Leaver)
    self.total_unbonding -= leaver.amount
    log BondWithdrawn(task=task, account=msg.sender, amount=leaver.amount)
    raw_call(msg.sender, b"", value=leaver.amount)


@view
@internal
def _is_free(task: uint256, account: address) -> bool:
    """
    @notice Whether nothing of this round, or of the last acceptance, can still concern its bond.
    """
    phase: uint256 = self.tasks[task].phase
    if phase == ENDED:
        return True
    member: Member = self.members[task][account]
    round: uint256 = self.tasks[task].round
    if member.last_accepted > 0 and round <= member.last_accepted + self.bond_unlock_rounds:
        return False
    if phase == WAITING:
        return True
    if member.seat >> 5 == round:
        return False
    return phase > DRAW_VOTERS or self._weight(task, account) == 0


@view
@internal
def _weight(task: uint256, account: address) -> uint256:
    """
    @notice The weight in this round's draws, 0 for who is not eligible. Only asked before the round's first slash.
    """
    close_height: uint256 = self.tasks[task].close_height
    member: Member = self.members[task][account]
    if member.joined_height > close_height or (member.leaving_at > 0 and member.leaving_at < close_height):
        return 0
    weight: uint256 = member.bond
    if member.fresh_height > close_height:
        weight -= member.fresh
    return weight if weight >= self.tasks[task].terms.min_bond else 0


@internal
def _remove(task: uint256, account: address):
    """
    @notice Free its row, in the order of the others, and start to unbond.
    """
    member: Member = self.members[task][account]
    if member.leaving_at == 0 and member.bond >= self.tasks[task].terms.min_bond:
        self.tasks[task].able -= 1
    count: uint256 = len(self.accounts[task])
    found: bool = False
    for index: uint256 in range(count, bound=MAX_PARTICIPANTS):
        if found:
            self.accounts[task][index - 1] = self.accounts[task][index]
        elif self.accounts[task][index] == account:
            found = True
    self.accounts[task].pop()
    self.members[task][account] = empty(Member)
    release_at: uint256 = self._now() + self.unbonding_delay
    self.leavers[task][account].amount += member.bond
    self.leavers[task][account].release_at = release_at
    self.total_bonds -= member.bond
    self.total_unbonding += member.bond
    log Left(task=task, account=account, amount=member.bond, release_at=release_at)


@internal
def _slash(task: uint256, round: uint256, account: address, bps: uint256) -> uint256:
    """
    @notice Burn a part of a seated participant's bond; nothing in a round that is too small to be judged.
    """
    if self.rounds[task][round].candidates < PAID_FROM:
        return 0
    bond: uint256 = self.members[task][account].bond
    amount: uint256 = bond * bps // BPS
    if amount == 0:
        return 0
    min_bond: uint256 = self.tasks[task].terms.min_bond
    if bond >= min_bond and bond - amount < min_bond and self.members[task][account].leaving_at == 0:
        self.tasks[task].able -= 1
    self.members[task][account].bond = bond - amount
    self.total_bonds -= amount
    self.burned += amount
    log Slashed(task=task, round=round, account=account, amount=amount)
    return amount


# ---------------------------------------------------------------- proposers


@external
def commit(task: uint256, round: uint256, commitment: bytes32):
    """
    @notice A proposer commits to keccak256(abi_encode(chain.id, self, task, round, account, manifest, salt)), once.
    """
    index: uint256 = self._seat(task, round, COMMIT, ROLE_PROPOSER)
    committed: uint256 = self.rounds[task][round].committed
    assert not packing._has(committed, index), "board: already committed"
    assert commitment != empty(bytes32), "board: an empty commitment"
    self.rounds[task][round].committed = committed | (1 << index)
    self.proposals[task][round][index].commitment = commitment
    self.proposals[task][round][index].order = packing._count(committed) + 1
    log Committed(task=task, round=round, account=msg.sender, commitment=commitment)


@external
def reveal(task: uint256, round: uint256, manifest: bytes32, salt: bytes32):
    """
    @notice A proposer opens its commitment. A manifest belongs to its earliest commitment in the task; any other
            reveal of it is a duplicate.
    """
    index: uint256 = self._seat(task, round, REVEAL, ROLE_PROPOSER)
    assert packing._has(self.rounds[task][round].committed, index), "board: never committed"
    assert not packing._has(self.rounds[task][round].revealed, index), "board: already revealed"
    digest: bytes32 = keccak256(abi_encode(chain.id, self, task, round, msg.sender, manifest, salt))
    assert digest == self.proposals[task][round][index].commitment, "board: does not open the commitment"
    self.rounds[task][round].revealed |= 1 << index
    self.proposals[task][round][index].manifest = manifest
    log Revealed(task=task, round=round, account=msg.sender, manifest=manifest)
    owner: Owner = self.owners[task][manifest]
    if owner.round == 0:
        self.owners[task][manifest] = Owner(round=round, index=index)
    elif owner.round < round or self.proposals[task][round][owner.index].order < self.proposals[task][round][index].order:
        self._judge(task, round, index, DUPLICATE, 0)
    else:
        self.owners[task][manifest] = Owner(round=round, index=index)
        self._judge(task, round, owner.index, DUPLICATE, 0)


# ---------------------------------------------------------------- voters


@external
def attest_available(task: uint256, round: uint256, held: uint256, invalid: uint256):
    """
    @notice A voter says, once, which revealed proposals it holds well formed, and which it holds as invalid bytes.
    @param held Bitmap by proposer index.
    @param invalid Bitmap by proposer index, disjoint from the other.
    """
    index: uint256 = self._seat(task, round, AVAILABILITY, ROLE_VOTER)
    attested: uint256 = self.rounds[task][round].attested
    assert not packing._has(attested, index), "board: already attested"
    assert held & invalid == 0, "board: held and invalid overlap"
    assert (held | invalid) & ~self.rounds[task][round].revealed == 0, "board: a proposal that was not revealed"
    self.rounds[task][round].attested = attested | (1 << index)
    self.ballots[task][round][index].attestation = held | (invalid << SEATS)
    log Availability(task=task, round=round, account=msg.sender, held=held, invalid=invalid)


@external
def commit_scores(task: uint256, round: uint256, commitment: bytes32):
    """
    @notice A voter commits to keccak256(abi_encode(chain.id, self, task, round, account, scores, filters, salt)), once.
    """
    index: uint256 = self._seat(task, round, SCORE_COMMIT, ROLE_VOTER)
    committed: uint256 = self.rounds[task][round].score_committed
    assert not packing._has(committed, index), "board: already committed"
    assert commitment != empty(bytes32), "board: an empty commitment"
    self.rounds[task][round].score_committed = committed | (1 << index)
    self.ballots[task][round][index].score_commitment = commitment
    log ScoresCommitted(task=task, round=round, account=msg.sender, commitment=commitment)


@external
def reveal_scores(task: uint256, round: uint256, scores: int256[SEATS], filters: uint256[SEATS], salt: bytes32):
    """
    @notice A voter opens its commitment.
    @param scores Relative change of its hold-out loss in millionths, by proposer index; negative is better; |score| is
           at most 10**9; 0 outside the input set.
    @param filters 1 = norm above twice the median, 2 = above three times, 4 = near-duplicate, 8 = could not score;
           0 outside the input set.
    """
    index: uint256 = self._seat(task, round, SCORE_REVEAL, ROLE_VOTER)
    assert packing._has(self.rounds[task][round].score_committed, index), "board: never committed"
    assert not packing._has(self.rounds[task][round].score_revealed, index), "board: already revealed"
    digest: bytes32 = keccak256(abi_encode(chain.id, self, task, round, msg.sender, scores, filters, salt))
    assert digest == self.ballots[task][round][index].score_commitment, "board: does not open the commitment"
    held_set: uint256 = self.rounds[task][round].held_set
    for proposer: uint256 in range(SEATS):
        if not packing._has(held_set, proposer):
            assert scores[proposer] == 0 and filters[proposer] == 0, "board: an entry outside the input set"
    self.ballots[task][round][index].scores = packing._pack_scores(scores)
    self.ballots[task][round][index].filters = packing._pack_filters(filters)
    self.rounds[task][round].score_revealed |= 1 << index
    if self._is_work(held_set, scores, filters):
        self.rounds[task][round].earning |= 1 << index
    log ScoresRevealed(task=task, round=round, account=msg.sender)


@pure
@internal
def _is_work(held_set: uint256, scores: int256[SEATS], filters: uint256[SEATS]) -> bool:
    """
    @notice Whether at least one proposal is scored, and not all alike where there are several.
    """
    scored: uint256 = 0
    first: int256 = 0
    differ: bool = False
    for index: uint256 in range(SEATS):
        if not packing._has(held_set, index) or filters[index] & FILTER_NO_SCORE != 0:
            continue
        if scored == 0:
            first = scores[index]
        elif scores[index] != first:
            differ = True
        scored += 1
    return differ or (scored == 1 and packing._count(held_set) == 1)


@external
def attest_adoption(task: uint256, round: uint256, adapter: bytes32):
    """
    @notice A voter that revealed its scores attests, once, the global adapter that it wants next: the candidate that
            follows from the accepted proposals, or the previous one.
    """
    index: uint256 = self._seat(task, round, ADOPT, ROLE_VOTER)
    assert packing._has(self.rounds[task][round].score_revealed, index), "board: only who revealed scores"
    assert not packing._has(self.rounds[task][round].adoption_votes, index), "board: already attested"
    assert adapter != empty(bytes32), "board: no adapter is named"
    self.rounds[task][round].adoption_votes |= 1 << index
    votes: uint256 = self.adoptions[task][round][adapter] + 1
    self.adoptions[task][round][adapter] = votes
    if votes > self.rounds[task][round].leading_votes:
        self.rounds[task][round].leading_votes = votes
        self.rounds[task][round].leading = adapter
    log AdoptionAttested(task=task, round=round, account=msg.sender, adapter=adapter)


@view
@internal
def _seat(task: uint256, round: uint256, phase: uint256, role: uint256) -> uint256:
    """
    @notice The sender's index in its role; reverts where round, phase or role are not the ones asked for.
    """
    assert self.tasks[task].round == round, "board: not the running round"
    assert self.tasks[task].phase == phase, "board: not the phase for this"
    seat: uint256 = self.members[task][msg.sender].seat
    assert seat >> 5 == round and round > 0, "board: not seated in this round"
    assert (seat >> 4) & 1 == (1 if role == ROLE_VOTER else 0), "board: seated in the other role"
    return seat & 15


# ---------------------------------------------------------------- tally


@external
def tally(task: uint256, round: uint256, medians: int256[SEATS], center: int256, mad: int256):
    """
    @notice Anybody claims the round's lower medians; the contract checks them by counting, and judges.
    @param medians Of the scores of each proposal in the input set, without those marked 8; 0 where there are none.
    @param center Lower median of those medians.
    @param mad Lower median of their distances to the center.
    """
    self._check_running(task)
    assert self.tasks[task].round == round, "board: not the running round"
    assert self.tasks[task].phase == TALLY, "board: not the phase for this"
    claims: Claims = Claims(medians=medians, center=center, mad=mad)
    sheet: Sheet = self._check_claims(task, round, claims)
    self.rounds[task][round].tallied = True
    self.rounds[task][round].medians = packing._pack_scores(medians)
    self.rounds[task][round].center = center
    self.rounds[task][round].mad = mad
    accepted: uint256 = self._judge_all(task, round, sheet)
    self.rounds[task][round].accepted_count = accepted
    log Tallied(task=task, round=round, center=center, mad=mad, accepted=accepted)
    if accepted > 0:
        self._enter(task, ADOPT)
    else:
        self._finish_round(task)


@view
@internal
def _check_claims(task: uint256, round: uint256, claims: Claims) -> Sheet:
    """
    @notice Reverts unless every claimed median is one.
    """
    held_set: uint256 = self.rounds[task][round].held_set
    cast: DynArray[Ballot, SEATS] = self._revealed_ballots(task, round)
    sheet: Sheet = empty(Sheet)
    found: DynArray[int256, SEATS] = []
    for index: uint256 in range(SEATS):
        values: DynArray[int256, SEATS] = []
        if packing._has(held_set, index):
            filters: uint256[3] = [0, 0, 0]
            for ballot: Ballot in cast:
                bits: uint256 = packing._nibble(ballot.filters, index)
                filters[0] += bits & 1
                filters[1] += (bits >> 1) & 1
                filters[2] += (bits >> 2) & 1
                if bits & FILTER_NO_SCORE == 0:
                    values.append(packing._score(ballot.scores, index))
            sheet.filters[index] = self._filter_verdict(filters, len(cast))
            sheet.counts[index] = len(values)
        assert packing._is_lower_median(values, claims.medians[index]), "board: not the median of a proposal"
        if len(values) > 0:
            found.append(claims.medians[index])
    self._check_center(found, claims.center, claims.mad)
    sheet.rejected = self._rejected_by_loss(task, sheet.counts, claims)
    return sheet


@view
@internal
def _revealed_ballots(task: uint256, round: uint256) -> DynArray[Ballot, SEATS]:
    revealed: uint256 = self.rounds[task][round].score_revealed
    cast: DynArray[Ballot, SEATS] = []
    for index: uint256 in range(SEATS):
        if packing._has(revealed, index):
            ballot: Ballot = empty(Ballot)
            ballot.scores = self.ballots[task][round][index].scores
            ballot.filters = self.ballots[task][round][index].filters
            cast.append(ballot)
    return cast


@pure
@internal
def _filter_verdict(counts: uint256[3], voters: uint256) -> uint256:
    """
    @notice The gravest filter result that two thirds of the revealed voters report.
    """
    if packing._has_two_thirds(counts[1], voters):
        return SLASHED_NORM
    if packing._has_two_thirds(counts[0], voters):
        return REJECTED_NORM
    if packing._has_two_thirds(counts[2], voters):
        return DUPLICATE
    return UNJUDGED


@pure
@internal
def _check_center(medians: DynArray[int256, SEATS], center: int256, mad: int256):
    distances: DynArray[int256, SEATS] = []
    assert packing._is_lower_median(medians, center), "board: not the center of the medians"
    for median: int256 in medians:
        distances.append(abs(median - center))
    assert packing._is_lower_median(distances, mad), "board: not the median deviation"


@view
@internal
def _rejected_by_loss(task: uint256, counts: uint256[SEATS], claims: Claims) -> uint256:
    """
    @notice Above max(0, center + mad_multiple * 1.4826 * mad), or above the limit.
    """
    limit: int256 = convert(self.tasks[task].terms.loss_limit, int256)
    band: int256 = convert(self.tasks[task].terms.mad_multiple, int256) * MAD_NUMERATOR * claims.mad
    rejected: uint256 = 0
    for index: uint256 in range(SEATS):
        median: int256 = claims.medians[index]
        if counts[index] == 0:
            continue
        if (median > 0 and MAD_DENOMINATOR * (median - claims.center) > band) or median > limit:
            rejected |= 1 << index
    return rejected


@internal
def _judge_all(task: uint256, round: uint256, sheet: Sheet) -> uint256:
    """
    @notice Verdicts of the input set; where more than half of it is rejected by loss, nobody is accepted.
    @return How many are accepted.
    """
    held_set: uint256 = self.rounds[task][round].held_set
    voters: uint256 = packing._count(self.rounds[task][round].score_revealed)
    is_void: bool = 2 * packing._count(sheet.rejected) > packing._count(held_set)
    accepted: uint256 = 0
    for index: uint256 in range(SEATS):
        if not packing._has(held_set, index):
            continue
        verdict: uint256 = sheet.filters[index]
        slash: uint256 = self.norm_slash if verdict == SLASHED_NORM else 0
        if verdict == UNJUDGED:
            if is_void or 2 * sheet.counts[index] <= voters:
                verdict = VOID
            elif packing._has(sheet.rejected, index):
                verdict = REJECTED_LOSS
            else:
                verdict = ACCEPTED
                accepted += 1
                self.members[task][self.rounds[task][round].proposers[index]].last_accepted = round
        self._judge(task, round, index, verdict, slash)
    return accepted


@internal
def _judge(task: uint256, round: uint256, index: uint256, verdict: uint256, slash: uint256):
    """
    @notice Write down the one verdict of a proposal, and slash its proposer by so many bps.
    """
    account: address = self.rounds[task][round].proposers[index]
    packed: uint256 = self.rounds[task][round].verdicts
    self.rounds[task][round].verdicts = packing._with_nibble(packed, index, verdict)
    slashed: uint256 = self._slash(task, round, account, slash) if slash > 0 else 0
    log Verdict(task=task, round=round, account=account, verdict=verdict, slashed=slashed)


# ---------------------------------------------------------------- phases


@external
def poke(task: uint256):
    """
    @notice Advance the phase of a task, where that is due. Anybody may call; the system does at the start of a block.
    """
    self._check_running(task)
    assert self._is_due(task, self._now()), "board: nothing due"
    phase: uint256 = self.tasks[task].phase
    if phase == WAITING:
        if self._has_enough(task):
            self._start_round(task)
        else:
            self._end(task)
    elif phase == DRAW_PROPOSERS:
        self._draw_proposers(task)
    elif phase == COMMIT:
        self._close_commit(task)
    elif phase == DRAW_VOTERS:
        self._draw_voters(task)
    elif phase == REVEAL:
        self._close_reveal(task)
    elif phase == AVAILABILITY:
        self._close_availability(task)
    elif phase == SCORE_COMMIT:
        self._close_score_commit(task)
    elif phase == SCORE_REVEAL:
        self._close_score_reveal(task)
    elif phase == TALLY:
        self._void(task)
    else:
        self._close_adopt(task)


@internal
def _start_round(task: uint256):
    """
    @notice Fix who is eligible and the height whose mix is the proposers' seed.
    """
    self.tasks[task].close_height = block.number
    self._await_seed(task)
    self._enter(task, DRAW_PROPOSERS)


@internal
def _await_seed(task: uint256):
    height: uint256 = block.number + self.seed_delay
    self.tasks[task].seed_height = height
    log SeedHeight(task=task, round=self.tasks[task].round, height=height)


@internal
def _draw_proposers(task: uint256):
    height: uint256 = self.tasks[task].seed_height
    if not staticcall IBeacon(BEACON).has_mix(height):
        self._await_seed(task)  # it left the ring before anybody poked
        return
    round: uint256 = self.tasks[task].round
    weights: DynArray[uint256, MAX_PARTICIPANTS] = self._weights(task)
    eligible: uint256 = 0
    for weight: uint256 in weights:
        if weight > 0:
            eligible += 1
    self.rounds[task][round].candidates = eligible
    self.rounds[task][round].adapter_before = self.tasks[task].adapter
    self.rounds[task][round].adapter_after = self.tasks[task].adapter
    seats: uint256 = self._seat_counts(task, eligible)[0]
    seed: bytes32 = staticcall IBeacon(BEACON).mix(height)
    drawn: DynArray[address, SEATS] = self._draw_seats(task, round, seed, weights, seats, ROLE_PROPOSER)
    self.rounds[task][round].proposers = drawn
    log Drawn(task=task, round=round, role=ROLE_PROPOSER, seed=seed, accounts=drawn)
    self._enter(task, COMMIT)


@internal
def _draw_voters(task: uint256):
    height: uint256 = self.tasks[task].seed_height
    if not staticcall IBeacon(BEACON).has_mix(height):
        self._await_seed(task)
        return
    round: uint256 = self.tasks[task].round
    weights: DynArray[uint256, MAX_PARTICIPANTS] = self._weights(task)
    for index: uint256 in range(len(weights), bound=MAX_PARTICIPANTS):
        if self.members[task][self.accounts[task][index]].seat >> 5 == round:
            weights[index] = 0  # a proposer does not vote
    seats: uint256 = self._seat_counts(task, self.rounds[task][round].candidates)[1]
    seed: bytes32 = staticcall IBeacon(BEACON).mix(height)
    drawn: DynArray[address, SEATS] = self._draw_seats(task, round, seed, weights, seats, ROLE_VOTER)
    self.rounds[task][round].voters = drawn
    log Drawn(task=task, round=round, role=ROLE_VOTER, seed=seed, accounts=drawn)
    self._enter(task, REVEAL)


@view
@internal
def _weights(task: uint256) -> DynArray[uint256, MAX_PARTICIPANTS]:
    weights: DynArray[uint256, MAX_PARTICIPANTS] = []
    for account: address in self.accounts[task]:
        weights.append(self._weight(task, account))
    return weights


@view
@internal
def _seat_counts(task: uint256, eligible: uint256) -> uint256[2]:
    """
    @notice How many propose and how many vote. From 4 eligible on both are at least 1 and 3; below, one proposes and
            all others vote.
    """
    if eligible < PAID_FROM:
        return [1, eligible - 1]
    proposers: uint256 = self.tasks[task].terms.proposers
    rest: uint256 = eligible - min(proposers, eligible)
    voters: uint256 = max(MIN_VOTERS, min(self.tasks[task].terms.voters, rest))
    return [min(proposers, eligible - voters), voters]


@internal
def _draw_seats(
    task: uint256,
    round: uint256,
    seed: bytes32,
    weights: DynArray[uint256, MAX_PARTICIPANTS],
    seats: uint256,
    role: uint256,
) -> DynArray[address, SEATS]:
    drawn: DynArray[address, SEATS] = []
    flag: uint256 = SEATS if role == ROLE_VOTER else 0
    rows: DynArray[uint256, SEATS] = drawing._draw(seed, weights, seats)
    for row: uint256 in rows:
        account: address = self.accounts[task][row]
        self.members[task][account].seat = (round << 5) | flag | len(drawn)
        drawn.append(account)
    return drawn


@internal
def _close_commit(task: uint256):
    if self.rounds[task][self.tasks[task].round].committed == 0:
        self._finish_round(task)
        return
    self._await_seed(task)
    self._enter(task, DRAW_VOTERS)


@internal
def _close_reveal(task: uint256):
    """
    @notice An unopened commitment costs a part of the bond.
    """
    round: uint256 = self.tasks[task].round
    unopened: uint256 = self.rounds[task][round].committed & ~self.rounds[task][round].revealed
    for index: uint256 in range(SEATS):
        if packing._has(unopened, index):
            self._judge(task, round, index, UNOPENED, self.missed_reveal_slash)
    if self._judged_later(task, round) == 0:
        self._finish_round(task)
    else:
        self._enter(task, AVAILABILITY)


@view
@internal
def _judged_later(task: uint256, round: uint256) -> uint256:
    """
    @notice Bitmap of the revealed proposals without a verdict.
    """
    revealed: uint256 = self.rounds[task][round].revealed
    verdicts: uint256 = self.rounds[task][round].verdicts
    open: uint256 = 0
    for index: uint256 in range(SEATS):
        if packing._has(revealed, index) and packing._nibble(verdicts, index) == UNJUDGED:
            open |= 1 << index
    return open


@internal
def _close_availability(task: uint256):
    """
    @notice Two thirds of all seats fix the input set, or agree on invalid bytes; anything else is void.
    """
    round: uint256 = self.tasks[task].round
    open: uint256 = self._judged_later(task, round)
    seats: uint256 = len(self.rounds[task][round].voters)
    counts: uint256[32] = self._attestations(task, round, seats)
    held_set: uint256 = 0
    for index: uint256 in range(SEATS):
        if not packing._has(open, index):
            continue
        if packing._has_two_thirds(counts[index], seats):
            held_set |= 1 << index
        elif packing._has_two_thirds(counts[index + SEATS], seats):
            self._judge(task, round, index, INVALID, self.invalid_bytes_slash)
        else:
            self._judge(task, round, index, VOID, 0)
    self.rounds[task][round].held_set = held_set
    log InputSet(task=task, round=round, held_set=held_set)
    if held_set == 0:
        self._finish_round(task)
    else:
        self._enter(task, SCORE_COMMIT)


@view
@internal
def _attestations(task: uint256, round: uint256, seats: uint256) -> uint256[32]:
    """
    @notice Votes for "held" by proposer, then votes for "invalid".
    """
    counts: uint256[32] = empty(uint256[32])
    for voter: uint256 in range(seats, bound=SEATS):
        attestation: uint256 = self.ballots[task][round][voter].attestation
        if attestation == 0:
            continue
        for bit: uint256 in range(32):
            counts[bit] += (attestation >> bit) & 1
    return counts


@internal
def _close_score_commit(task: uint256):
    if self.rounds[task][self.tasks[task].round].score_committed == 0:
        self._void(task)
    else:
        self._enter(task, SCORE_REVEAL)


@internal
def _close_score_reveal(task: uint256):
    round: uint256 = self.tasks[task].round
    revealed: uint256 = self.rounds[task][round].score_revealed
    unopened: uint256 = self.rounds[task][round].score_committed & ~revealed
    for index: uint256 in range(SEATS):
        if packing._has(unopened, index):
            self._slash(task, round, self.rounds[task][round].voters[index], self.missed_reveal_slash)
    if revealed == 0:
        self._void(task)
    else:
        self._enter(task, TALLY)


@internal
def _void(task: uint256):
    """
    @notice Nobody measured, or nobody claimed the tally: no proposal is judged and nobody is paid.
    """
    round: uint256 = self.tasks[task].round
    held_set: uint256 = self.rounds[task][round].held_set
    for index: uint256 in range(SEATS):
        if packing._has(held_set, index):
            self._judge(task, round, index, VOID, 0)
    self._finish_round(task)


@internal
def _close_adopt(task: uint256):
    """
    @notice One adapter needs two thirds of the revealed seats and half of all voters' seats.
    """
    round: uint256 = self.tasks[task].round
    votes: uint256 = self.rounds[task][round].leading_votes
    revealed: uint256 = packing._count(self.rounds[task][round].score_revealed)
    if packing._has_two_thirds(votes, revealed) and 2 * votes >= len(self.rounds[task][round].voters):
        adapter: bytes32 = self.rounds[task][round].leading
        self.tasks[task].adapter = adapter
        self.rounds[task][round].adapter_after = adapter
        log Adopted(task=task, round=round, adapter=adapter)
    self._finish_round(task)


@internal
def _finish_round(task: uint256):
    """
    @notice Settle, then start the next round, wait for participants, or end.
    """
    round: uint256 = self.tasks[task].round
    last: uint256 = self.tasks[task].terms.rounds + self.tasks[task].terms.extra_rounds
    self._settle(task, round, last - round + 1)
    if self.tasks[task].stopped or round >= last:
        self._end(task)
        return
    self.tasks[task].round = round + 1
    if self._has_enough(task):
        self._start_round(task)
    else:
        self._enter(task, WAITING)


@internal
def _settle(task: uint256, round: uint256, rounds_left: uint256):
    """
    @notice Set the round's pay aside. What does not divide, and the part of a role that nobody earned, stays in the pot.
    """
    self.rounds[task][round].settled = True
    share: uint256 = 0
    per_proposer: uint256 = 0
    per_voter: uint256 = 0
    if self.rounds[task][round].tallied and self.rounds[task][round].candidates >= PAID_FROM:
        share = self.tasks[task].pot // rounds_left
        proposers: uint256 = self.rounds[task][round].accepted_count
        voters: uint256 = packing._count(self.rounds[task][round].earning)
        proposers_part: uint256 = share * self.tasks[task].terms.proposer_share // BPS
        if proposers > 0:
            per_proposer = proposers_part // proposers
        if voters > 0:
            per_voter = (share - proposers_part) // voters
        owed: uint256 = per_proposer * proposers + per_voter * voters
        self.tasks[task].pot -= owed
        self.total_pots -= owed
        self.total_rewards += owed
        self.rounds[task][round].share = share
        self.rounds[task][round].per_proposer = per_proposer
        self.rounds[task][round].per_voter = per_voter
    log Settled(task=task, round=round, share=share, per_proposer=per_proposer, per_voter=per_voter)


@internal
def _end(task: uint256):
    count: uint256 = len(self.live)
    for index: uint256 in range(count, bound=MAX_TASKS):
        if self.live[index] == task:
            self.live[index] = self.live[count - 1]
            self.live.pop()
            break
    self._enter(task, ENDED)
    log TaskEnded(task=task, round=self.tasks[task].round, pot=self.tasks[task].pot)


@internal
def _enter(task: uint256, phase: uint256):
    self.tasks[task].phase = phase
    self.tasks[task].phase_started = self._now()
    self.tasks[task].phase_block = block.number
    log PhaseChanged(task=task, round=self.tasks[task].round, phase=phase)


@view
@internal
def _now() -> uint256:
    return staticcall IBeacon(BEACON).chain_time()


@view
@internal
def _check_running(task: uint256):
    assert task > 0 and task <= self.task_count, "board: no such task"
    assert self.tasks[task].phase != ENDED, "board: the task has ended"


@view
@internal
def _has_enough(task: uint256) -> bool:
    """
    @notice Whether a round can start: enough participants, and never fewer than one to propose and one to vote.
    """
    return self.tasks[task].able >= max(self.tasks[task].terms.min_participants, 2)


@view
@internal
def _is_due(task: uint256, now: uint256) -> bool:
    phase: uint256 = self.tasks[task].phase
    if phase == DRAW_PROPOSERS or phase == DRAW_VOTERS:
        height: uint256 = self.tasks[task].seed_height
        return block.number > height or staticcall IBeacon(BEACON).has_mix(height)
    if self._has_everybody_acted(task, phase):
        return True
    old_enough: bool = block.number >= self.tasks[task].phase_block + self.phase_min_blocks
    return old_enough and now >= self._deadline(task)


@view
@internal
def _has_everybody_acted(task: uint256, phase: uint256) -> bool:
    round: uint256 = self.tasks[task].round
    if phase == WAITING:
        return self._has_enough(task)
    if phase == COMMIT:
        return self.rounds[task][round].committed == packing._full(len(self.rounds[task][round].proposers))
    if phase == REVEAL:
        return self.rounds[task][round].revealed == self.rounds[task][round].committed
    if phase == AVAILABILITY:
        return self.rounds[task][round].attested == packing._full(len(self.rounds[task][round].voters))
    if phase == SCORE_COMMIT:
        return self.rounds[task][round].score_committed == packing._full(len(self.rounds[task][round].voters))
    if phase == SCORE_REVEAL:
        return self.rounds[task][round].score_revealed == self.rounds[task][round].score_committed
    if phase == ADOPT:
        return self.rounds[task][round].adoption_votes == self.rounds[task][round].score_revealed
    return False


@view
@internal
def _deadline(task: uint256) -> uint256:
    """
    @notice Chain time at which the phase ends; its start where it awaits a seed; 0 after the end.
    """
    phase: uint256 = self.tasks[task].phase
    started: uint256 = self.tasks[task].phase_started
    if phase == WAITING:
        return started + self.tasks[task].terms.wait_seconds
    if phase == COMMIT:
        return started + self.tasks[task].terms.commit_seconds
    if phase == REVEAL:
        return started + self.tasks[task].terms.reveal_seconds
    if phase == AVAILABILITY:
        return started + self.tasks[task].terms.availability_seconds
    if phase == SCORE_COMMIT:
        return started + self.tasks[task].terms.score_commit_seconds
    if phase == SCORE_REVEAL:
        return started + self.tasks[task].terms.score_reveal_seconds
    if phase == TALLY:
        return started + self.tasks[task].terms.tally_seconds
    if phase == ADOPT:
        return started + self.tasks[task].terms.adopt_seconds
    return started if phase != ENDED else 0


@view
@external
def due_tasks() -> DynArray[uint256, MAX_POKES]:
    """
    @notice The tasks that `poke` can advance in this block, in the order of (deadline, task); the first 16.
    """
    now: uint256 = self._now()
    tasks: DynArray[uint256, MAX_POKES] = []
    keys: DynArray[uint256, MAX_POKES] = []
    for task: uint256 in self.live:
        if not self._is_due(task, now):
            continue
        key: uint256 = (self._deadline(task) << 128) | task
        at: uint256 = len(keys)
        if at < MAX_POKES:
            keys.append(key)
        elif key < keys[MAX_POKES - 1]:
            at = MAX_POKES - 1
        else:
            continue
        for _: uint256 in range(MAX_POKES):
            if at == 0 or keys[at - 1] < key:
                break
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key
    for key: uint256 in keys:
        tasks.append(key & (2**128 - 1))
    return tasks


@view
@external
def wakeup() -> uint256:
    """
    @notice 0 where blocks are needed now (something is due, a seed is awaited, or a phase past its deadline is too few
            blocks old); else the chain time of the earliest deadline; max_value(uint256) where nothing runs.
    """
    now: uint256 = self._now()
    earliest: uint256 = max_value(uint256)
    for task: uint256 in self.live:
        phase: uint256 = self.tasks[task].phase
        deadline: uint256 = self._deadline(task)  # of a phase that awaits a seed: its start
        if now >= deadline or self._has_everybody_acted(task, phase):
            return 0
        earliest = min(earliest, deadline)
    return earliest


# ---------------------------------------------------------------- pay


@external
@nonreentrant
def claim(task: uint256, round: uint256):
    """
    @notice Take the pay of a settled round, once.
    """
    amount: uint256 = 0
    bit: uint256 = 0
    amount, bit = self._claimable(task, round, msg.sender)
    assert amount > 0, "board: nothing to claim"
    self.rounds[task][round].claimed |= 1 << bit
    self.total_rewards -= amount
    log Claimed(task=task, round=round, account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


@view
@external
def claimable(task: uint256, round: uint256, account: address) -> uint256:
    """
    @notice What an account may still claim for a round.
    """
    return self._claimable(task, round, account)[0]


@view
@internal
def _claimable(task: uint256, round: uint256, account: address) -> (uint256, uint256):
    """
    @return The amount, and the bit that marks it as claimed.
    """
    claimed: uint256 = self.rounds[task][round].claimed
    bit: uint256 = 0
    for proposer: address in self.rounds[task][round].proposers:
        if proposer == account:
            is_accepted: bool = packing._nibble(self.rounds[task][round].verdicts, bit) == ACCEPTED
            is_open: bool = is_accepted and not packing._has(claimed, bit)
            return self.rounds[task][round].per_proposer if is_open else 0, bit
        bit += 1
    bit = SEATS
    for voter: address in self.rounds[task][round].voters:
        if voter == account:
            is_open: bool = packing._has(self.rounds[task][round].earning, bit - SEATS) and not packing._has(claimed, bit)
            return self.rounds[task][round].per_voter if is_open else 0, bit
        bit += 1
    return 0, 0


@view
@external
def liabilities() -> uint256:
    """
    @notice What the board's balance must equal.
    """
    return self.total_bonds + self.total_unbonding + self.total_pots + self.total_rewards + self.burned


# ---------------------------------------------------------------- views


@view
@external
def task_view(task: uint256) -> TaskView:
    """
    @notice A task and its terms.
    """
    row: Task = self.tasks[task]
    assert row.round > 0, "board: no such task"
    return TaskView(
        creator=row.creator,
        document=row.document,
        adapter0=row.adapter0,
        adapter=row.adapter,
        terms=row.terms,
        pot=row.pot,
        round=row.round,
        phase=row.phase,
        stopped=row.stopped,
        ended=row.phase == ENDED,
        participants=len(self.accounts[task]),
    )


@view
@external
def progress(task: uint256) -> (uint256, uint256):
    """
    @notice Round and phase, cheaply.
    """
    return self.tasks[task].round, self.tasks[task].phase


@view
@external
def participants(task: uint256) -> DynArray[ParticipantRow, MAX_PARTICIPANTS]:
    """
    @notice All participants, in the order in which a draw walks over them.
    """
    rows: DynArray[ParticipantRow, MAX_PARTICIPANTS] = []
    for account: address in self.accounts[task]:
        rows.append(self._participant(task, account))
    return rows


@view
@external
def participant(task: uint256, account: address) -> ParticipantRow:
    """
    @notice One participant; all zero for somebody else.
    """
    return self._participant(task, account)


@view
@internal
def _participant(task: uint256, account: address) -> ParticipantRow:
    member: Member = self.members[task][account]
    return ParticipantRow(
        account=account if member.joined_height > 0 else empty(address),
        bond=member.bond,
        domain=member.domain,
        joined_round=member.joined_round,
        last_accepted=member.last_accepted,
        leaving_at=member.leaving_at,
    )


@view
@external
def unbonding(task: uint256, account: address) -> Leaver:
    """
    @notice What an account has unbonding in a task, and the chain time from which it may withdraw that.
    """
    return self.leavers[task][account]


@view
@external
def round_view(task: uint256) -> RoundView:
    """
    @notice The running round.
    """
    number: uint256 = self.tasks[task].round
    assert number > 0, "board: no such task"
    row: Round = self.rounds[task][number]
    return RoundView(
        phase=self.tasks[task].phase,
        round=number,
        phase_started=self.tasks[task].phase_started,
        deadline=self._deadline(task),
        seed_height=self.tasks[task].seed_height,
        adapter=self.tasks[task].adapter,
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
        paid=row.candidates >= PAID_FROM,
    )


@view
@external
def round_result(task: uint256, round: uint256) -> RoundResult:
    """
    @notice Everything that a finished round left behind; what is known so far of the running one.
    """
    row: Round = self.rounds[task][round]
    held: DynArray[uint256, SEATS] = []
    invalid: DynArray[uint256, SEATS] = []
    for index: uint256 in range(len(row.voters), bound=SEATS):
        attestation: uint256 = self.ballots[task][round][index].attestation
        held.append(attestation & (2**SEATS - 1))
        invalid.append(attestation >> SEATS)
    medians: DynArray[int256, SEATS] = []
    for index: uint256 in range(len(row.proposers), bound=SEATS):
        medians.append(packing._score(row.medians, index) if row.tallied else 0)
    return RoundResult(
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
def score_of(task: uint256, round: uint256, voter_index: uint256) -> (int256[SEATS], uint256[SEATS]):
    """
    @notice The scores and filter results that a voter revealed.
    """
    assert voter_index < SEATS, "board: no such seat"
    assert packing._has(self.rounds[task][round].score_revealed, voter_index), "board: no scores revealed"
    words: uint256[2] = self.ballots[task][round][voter_index].scores
    packed: uint256 = self.ballots[task][round][voter_index].filters
    scores: int256[SEATS] = empty(int256[SEATS])
    filters: uint256[SEATS] = empty(uint256[SEATS])
    for index: uint256 in range(SEATS):
        scores[index] = packing._score(words, index)
        filters[index] = packing._nibble(packed, index)
    return scores, filters


@view
@internal
def _manifests(task: uint256, round: uint256) -> DynArray[bytes32, SEATS]:
    manifests: DynArray[bytes32, SEATS] = []
    for index: uint256 in range(len(self.rounds[task][round].proposers), bound=SEATS):
        manifests.append(self.proposals[task][round][index].manifest)
    return manifests


@view
@internal
def _verdicts(task: uint256, round: uint256) -> DynArray[uint256, SEATS]:
    packed: uint256 = self.rounds[task][round].verdicts
    verdicts: DynArray[uint256, SEATS] = []
    for index: uint256 in range(len(self.rounds[task][round].proposers), bound=SEATS):
        verdicts.append(packing._nibble(packed, index))
    return verdicts
