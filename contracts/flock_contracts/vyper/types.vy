# pragma version 0.4.3
"""
@title The board's words: limits, phases, verdicts, and the shape of what it stores and shows
"""

SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
BEACON: constant(address) = 0x0000000000000000000000000000000000f10c01
STAKE: constant(address) = 0x0000000000000000000000000000000000f10c02
BOARD: constant(address) = 0x0000000000000000000000000000000000f10C04
DELEGATION: constant(address) = 0x0000000000000000000000000000000000F10c05
LIMITS: constant(address) = 0x0000000000000000000000000000000000F10C06

MAX_TASKS: constant(uint256) = 64  # running at one time: `due_tasks` walks over them in every block
MAX_PARTICIPANTS: constant(uint256) = 64  # of a task: a draw walks over them
SEATS: constant(uint256) = 16  # proposers, and voters, of a round at most
MAX_POKES: constant(uint256) = 16  # in a block
MAX_ROUNDS: constant(uint256) = 100_000
MAX_SECONDS: constant(uint256) = 365 * 86_400
MAX_VALIDATORS: constant(uint256) = 150  # of a set, as the staking contract has it
MAX_WAIT: constant(uint256) = 64  # blocks or rounds, whatever two thirds of the validators agree on
MAX_DELAY: constant(uint256) = 10**9  # seconds
MAX_EXITS: constant(uint256) = 8  # of one account that unbond from one task, each with its own delay
BPS: constant(uint256) = 10_000
FEE_STEP: constant(uint256) = 8  # running tasks; each further such number doubles the price of opening one
EXPELLED: constant(uint256) = 3  # strikes; who has them leaves a task for good
PAID_FROM: constant(uint256) = 4  # eligible participants; with fewer, no pay and no slash
MIN_VOTERS: constant(uint256) = 3
MIN_SPREAD: constant(uint256) = 3  # medians; the deviation of one or two is 0 by construction
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
AUDIT: constant(uint256) = 10
ENDED: constant(uint256) = 11

UNJUDGED: constant(uint256) = 0
ACCEPTED: constant(uint256) = 1
REJECTED_LOSS: constant(uint256) = 2
REJECTED_NORM: constant(uint256) = 3
ACCUSED_NORM: constant(uint256) = 4  # its bond is taken only if all stake confirms it: accusations.vy
DUPLICATE: constant(uint256) = 5
VOID: constant(uint256) = 6
INVALID: constant(uint256) = 7  # likewise
UNOPENED: constant(uint256) = 8
REJECTED_AGGREGATE: constant(uint256) = 9  # with all others of its round: the paper's rule

RULE_PROPOSALS: constant(uint256) = 0  # voters score each proposal
RULE_PAPER: constant(uint256) = 1  # voters judge the aggregate alone

FILTER_NORM_REJECT: constant(uint256) = 1
FILTER_NORM_SLASH: constant(uint256) = 2
FILTER_NEAR_DUPLICATE: constant(uint256) = 4
FILTER_NO_SCORE: constant(uint256) = 8

ROLE_PROPOSER: constant(uint256) = 1
ROLE_VOTER: constant(uint256) = 2

struct Rules:
    seed_delay: uint256  # blocks
    phase_min_blocks: uint256
    invalid_bytes_slash: uint256  # bps, as all slashes
    norm_slash: uint256
    missed_reveal_slash: uint256
    bond_unlock_rounds: uint256
    unbonding_delay: uint256  # seconds
    seat_absence_slash: uint256
    seat_absence_limit: uint256  # seats in a row
    task_fee: uint256  # wei
    rules_delay: uint256  # seconds from an agreement on other numbers until they can be in force

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
    tolerance: uint256  # millionths of the previous metric: by so much a voter lets the aggregate be worse
    voting_rule: uint256
    rule_slash: uint256  # bps of the bond that the paper's rule takes
    rest_share: uint256  # bps of what is left when all rounds were paid that those seats share; else in proportion
    audit_rounds: uint256  # an audit after every so many rounds; 0 = never
    audit_seconds: uint256
    audit_slash: uint256  # bps of the bond of whom two audits in a row find guilty

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
    carried: uint256  # wei that the paper's rule took, for the next accepted round
    rules: uint256  # the version that holds for the running round
    paid_seats: uint256  # of all settled rounds
    paid_rounds: uint256  # that had any
    rest_per_seat: uint256  # of the pot's rest, known at the end
    adopted: uint256  # the round that gave the present adapter; 0 = the first one
    audits: uint256  # closed
    counted_audits: uint256  # of them, those that were not void
    void_audits: uint256  # in a row
    audited: uint256  # the last round before the last audit that counted
    audited_before: uint256  # and before the one before it
    accepted_audit: uint256  # counted audits when a proposal was last accepted, + 1; 0 = none was
    audit_stake: uint256  # all that has a say in the open audit
    auditors: uint256  # whose it is
    heard: uint256  # of them
    heard_stake: uint256
    seats_heard: uint256  # the last round whose voters' seats had their say
    hearing_again: bool  # the open audit is of all stake, lest a suspension ends the task
    ending: bool  # no round follows the open audit
    rows: uint256  # bitmap of the participants' rows that are taken

struct Member:
    bond: uint256  # its own
    fresh: uint256  # the part of the bond that was added at fresh_height, or after the last close
    fresh_height: uint256
    joined_height: uint256  # 0 = no participant
    joined_round: uint256
    domain: bytes32
    last_accepted: uint256  # round, 0 = none
    last_held: uint256  # the last round whose voters held a proposal of it, 0 = none
    leaving_at: uint256  # height of the request, 0 = stays
    seat: uint256  # round << 5 | (16 for a voter) | index
    missed: uint256  # seats in a row in which it did not do its part
    unseated: bool  # drawn no more until it comes back
    blamed_audit: uint256  # the last counted audit in which two thirds of all stake blamed it, 0 = none
    row: uint256  # its own for as long as it stays, 0-63
    held: uint256  # the part of the bond that is at stake in open accusations: it weighs nothing and does not leave

# of an account that was a participant, for ever: it comes back to what it left
struct Record:
    suspended: bool  # draws no seat until an audit clears it
    strikes: uint256  # proposals in a row for which more than half of all stake named it
    struck: uint256  # the last round before the last strike: what it proposed until then makes no other one
    passing: bool  # one audit that counts has passed what it proposed since

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
    claimed: uint256  # pay: proposers in bits 0-15, voters in bits 16-31; the same for the rest in bits 32-63
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
    adopted_before: uint256  # the round that gave adapter_before, where this one adopted another
    stake: uint256  # of all who are eligible
    missing: uint256  # of those who say that adapter_before is nowhere
    carried: uint256  # what the paper's rule took before, and this round may give
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
    choice: bytes32  # by the paper's rule: the adapter that it wants next

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
    carried: uint256
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
    last_held: uint256
    leaving_at: uint256
    missed: uint256
    unseated: bool
    suspended: bool
    blamed_audit: uint256
    held: uint256
    strikes: uint256

struct CaseView:
    named: uint256  # bitmaps by proposer
    open: uint256
    convicted: uint256
    until: uint256  # chain time
    total: uint256  # shares
    guilty: uint256[SEATS]
    innocent: uint256[SEATS]
    held: uint256[SEATS]  # wei, when it was accused

struct AuditView:
    number: uint256  # of the open audit, or the next one
    stake: uint256
    auditors: uint256
    heard: uint256
    heard_stake: uint256
    counted: uint256  # of the closed audits, those that were not void
    round: uint256  # whose voters' seats suspend
    first: uint256  # the first round that it looks at: fewer than two audits that counted have
