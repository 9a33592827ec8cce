# pragma version 0.4.3
"""
@title Everything that the board logs
"""

import types

event TaskOpened:
    task: indexed(uint256)
    creator: indexed(address)
    document: bytes32
    adapter: bytes32
    pot: uint256
    fee: uint256
    terms: types.Terms

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
    pot: uint256  # what of it is the creator's
    rest_per_seat: uint256  # and what each paid seat has of the rest

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

event Eligible:
    task: indexed(uint256)
    round: indexed(uint256)
    accounts: uint256
    stake: uint256
    shares: uint256[8]  # of the stake, 32 bits for each row of the task, eight in a word

event Drawn:
    task: indexed(uint256)
    round: indexed(uint256)
    role: uint256  # 1 = proposers, 2 = voters
    seed: bytes32
    accounts: DynArray[address, types.SEATS]

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
    scores: uint256[2]  # packed, as filters are: packing.vy
    filters: uint256
    earns: bool

event Tallied:
    task: indexed(uint256)
    round: indexed(uint256)
    center: int256
    mad: int256
    accepted: uint256
    medians: uint256[2]  # packed

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

event Accused:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    held: uint256
    until: uint256

event Confirmed:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    share: uint256
    guilty: uint256
    innocent: uint256

event Convicted:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    slashed: uint256

event Freed:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    amount: uint256

event Adopted:
    task: indexed(uint256)
    round: indexed(uint256)
    adapter: bytes32

event SeatsClosed:
    task: indexed(uint256)
    round: indexed(uint256)
    proposers: uint256  # bitmaps of those who did not do their part
    voters: uint256

event Settled:
    task: indexed(uint256)
    round: indexed(uint256)
    share: uint256
    per_proposer: uint256
    per_voter: uint256
    earning: uint256  # bitmap of the voters that are paid; of proposers, those are that were accepted
    carried: uint256  # what of the share the paper's rule had taken before
    pot: uint256  # what is left of it

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

event Carried:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    amount: uint256

event CarriedBurned:
    task: indexed(uint256)
    amount: uint256

event ParentMissing:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    stake: uint256

event FellBack:
    task: indexed(uint256)
    round: indexed(uint256)
    adapter: bytes32

event Blamed:
    task: indexed(uint256)
    audit: indexed(uint256)
    account: indexed(address)
    stake: uint256
    has_seat: bool
    accused: DynArray[address, types.SEATS]

event AuditOpened:
    task: indexed(uint256)
    audit: indexed(uint256)
    stake: uint256
    auditors: uint256
    round: uint256  # whose voters' seats are heard
    again: bool  # all stake is heard, and no seats
    ending: bool  # no round follows

event Audited:
    task: indexed(uint256)
    audit: indexed(uint256)
    account: indexed(address)
    guilty: bool
    suspended: bool
    slashed: uint256

event Struck:
    task: indexed(uint256)
    audit: indexed(uint256)
    account: indexed(address)
    strikes: uint256  # 0: what it proposed since has passed; 3: expelled

event AuditClosed:
    task: indexed(uint256)
    audit: indexed(uint256)
    void: bool

event VoteRevealed:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)
    adapter: bytes32

event Unseated:
    task: indexed(uint256)
    round: indexed(uint256)
    account: indexed(address)

event Rejoined:
    task: indexed(uint256)
    account: indexed(address)

event RulesApproved:
    account: indexed(address)
    ballot: indexed(bytes32)

event RulesAgreed:
    ballot: indexed(bytes32)
    enact_at: uint256
    rules: types.Rules

event RulesEnacted:
    version: uint256
