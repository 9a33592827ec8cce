# pragma version 0.4.3
"""
@title The paper's voting rule: voters judge the aggregate alone, and stake changes hands
@notice A task may choose it by its terms, so that its difference from the vote on each proposal can be measured. A
        voter commits to one adapter and opens it: the candidate that follows from the whole input set says +1, the
        adapter before the round says -1, and zero abstains: who was not served what the candidate consists of has no
        vote, earns nothing and pays nothing. More than half of the votes decide, if half of the seats voted.
        Accepted: all proposers are paid. Rejected: all are slashed, the honest too. Voters of the minority are
        slashed. What is taken goes to the next accepted round. A tie pays nobody, slashes nobody, changes nothing.
"""

import book
import events
import packing
import types

uses: book


@external
def reveal_vote(task: uint256, round: uint256, adapter: bytes32, salt: bytes32):
    """
    @notice A voter opens keccak256(abi_encode(chain.id, self, task, round, account, adapter, salt)), which it gave to
            `commit_scores`. Bound to its account, it can be no copy of another's.
    """
    index: uint256 = book._seat(task, round, types.SCORE_REVEAL, types.ROLE_VOTER)
    assert book.tasks[task].terms.voting_rule == types.RULE_PAPER, "board: this task scores proposals"
    assert packing._has(book.rounds[task][round].score_committed, index), "board: never committed"
    assert not packing._has(book.rounds[task][round].score_revealed, index), "board: already revealed"
    digest: bytes32 = keccak256(abi_encode(chain.id, self, task, round, msg.sender, adapter, salt))
    assert digest == book.ballots[task][round][index].score_commitment, "board: does not open the commitment"
    book.rounds[task][round].score_revealed |= 1 << index
    if adapter != empty(bytes32):
        book.ballots[task][round][index].choice = adapter
        book._vote_for(task, round, adapter)
    log events.VoteRevealed(task=task, round=round, account=msg.sender, adapter=adapter)


@view
@external
def vote_of(task: uint256, round: uint256, voter_index: uint256) -> bytes32:
    """
    @notice The adapter that a voter revealed; zero where it revealed none, or abstained.
    """
    assert voter_index < types.SEATS, "board: no such seat"
    return book.ballots[task][round][voter_index].choice


@internal
def _decide(task: uint256, round: uint256):
    """
    @notice Judge, slash and adopt. Where nobody decides, the proposals are void.
    """
    votes: uint256 = self._count_votes(task, round)
    before: bytes32 = book.rounds[task][round].adapter_before
    leading: bytes32 = book.rounds[task][round].leading
    is_decided: bool = 2 * book.rounds[task][round].leading_votes > votes
    if not is_decided or 2 * votes < len(book.rounds[task][round].voters):
        self._judge_all(task, round, types.VOID, 0)
        return
    book.rounds[task][round].tallied = True
    book.rounds[task][round].medians = packing._pack_scores(empty(int256[types.SEATS]))
    if leading == before:
        self._judge_all(task, round, types.REJECTED_AGGREGATE, book.tasks[task].terms.rule_slash)
    else:
        self._judge_all(task, round, types.ACCEPTED, 0)
        book.rounds[task][round].carried = book.tasks[task].carried
        book.rounds[task][round].accepted_count = packing._count(book.rounds[task][round].held_set)
        book._adopt(task, round, leading)
    self._divide_voters(task, round, leading)


@view
@internal
def _count_votes(task: uint256, round: uint256) -> uint256:
    votes: uint256 = 0
    for index: uint256 in range(len(book.rounds[task][round].voters), bound=types.SEATS):
        if book.ballots[task][round][index].choice != empty(bytes32):
            votes += 1
    return votes


@internal
def _judge_all(task: uint256, round: uint256, verdict: uint256, slash: uint256):
    held_set: uint256 = book.rounds[task][round].held_set
    for index: uint256 in range(types.SEATS):
        if not packing._has(held_set, index):
            continue
        proposer: address = book.rounds[task][round].proposers[index]
        slashed: uint256 = book._carry(task, round, proposer, slash) if slash > 0 else 0
        book._write_verdict(task, round, index, verdict, slashed)


@internal
def _divide_voters(task: uint256, round: uint256, leading: bytes32):
    """
    @notice The majority earns, the minority pays, and who abstained does neither.
    """
    for index: uint256 in range(len(book.rounds[task][round].voters), bound=types.SEATS):
        choice: bytes32 = book.ballots[task][round][index].choice
        if choice == leading:
            book.rounds[task][round].earning |= 1 << index
        elif choice != empty(bytes32):
            book._carry(task, round, book.rounds[task][round].voters[index], book.tasks[task].terms.rule_slash)
