# pragma version 0.4.3
"""
@title The books of the board: what it stores, and whose money is where
@notice Every change of a bond, and every verdict, goes through here. Knows nothing of the order of phases.
"""

import IBeacon
import IDelegation
import events
import packing
import types

initialized: public(bool)
rules_version: public(uint256)  # of new tasks, and of rounds that begin
rules: public(HashMap[uint256, types.Rules])  # by version

task_count: public(uint256)
live: DynArray[uint256, types.MAX_TASKS]
tasks: HashMap[uint256, types.Task]
accounts: HashMap[uint256, DynArray[address, types.MAX_PARTICIPANTS]]
members: HashMap[uint256, HashMap[address, types.Member]]
records: HashMap[uint256, HashMap[address, types.Record]]
leavers: HashMap[uint256, HashMap[address, DynArray[types.Leaver, types.MAX_EXITS]]]
rounds: HashMap[uint256, HashMap[uint256, types.Round]]
proposals: HashMap[uint256, HashMap[uint256, types.Proposal[types.SEATS]]]
ballots: HashMap[uint256, HashMap[uint256, types.Ballot[types.SEATS]]]
owners: HashMap[uint256, HashMap[bytes32, types.Owner]]
adoptions: HashMap[uint256, HashMap[uint256, HashMap[bytes32, uint256]]]
misses: HashMap[uint256, HashMap[uint256, HashMap[address, bool]]]  # task, round: who said that its parent is nowhere

total_bonds: public(uint256)
total_unbonding: public(uint256)
total_pots: public(uint256)
total_carried: public(uint256)  # taken by the paper's rule, for rounds to come
total_rewards: public(uint256)
burned: public(uint256)


@view
@internal
def _is_free(task: uint256, account: address) -> bool:
    """
    @notice Whether nothing of this round, of the last acceptance or of an audit can still concern its bond.
    """
    phase: uint256 = self.tasks[task].phase
    member: types.Member = self.members[task][account]
    if member.held > 0:
        return False
    if phase == types.ENDED:
        return True
    round: uint256 = self.tasks[task].round
    if member.last_accepted > 0 and round <= member.last_accepted + self.rules[self.tasks[task].rules].bond_unlock_rounds:
        return False
    if self._awaits_audit(task, member):
        return False
    if phase == types.WAITING:
        return True
    if member.seat >> 5 == round:
        return False
    return phase > types.DRAW_VOTERS or self._weight(task, account) == 0


@view
@internal
def _awaits_audit(task: uint256, member: types.Member) -> bool:
    """
    @notice Whether an audit may still name it, or cost its bond: two look at each proposal that voters held, accepted or
            not, and one follows each blame. Whoever could go before would come back as one that showed nothing. A task
            that comes to no audit any more ends, which frees everybody.
    """
    if self.tasks[task].terms.audit_rounds == 0:
        return False
    if member.last_held > self.tasks[task].audited_before:
        return True
    return member.blamed_audit > 0 and member.blamed_audit == self.tasks[task].counted_audits


@view
@internal
def _is_able(task: uint256, account: address) -> bool:
    """
    @notice Whether it counts as a participant for a round to start.
    """
    return not self.records[task][account].suspended and self._is_able_but_suspended(task, account)


@view
@internal
def _is_able_but_suspended(task: uint256, account: address) -> bool:
    if self.members[task][account].joined_height == 0 or self.members[task][account].leaving_at > 0:
        return False
    if self.members[task][account].unseated:
        return False
    least: uint256 = self.tasks[task].terms.min_bond + self.members[task][account].held
    return self.members[task][account].bond >= least


@internal
def _recount(task: uint256, account: address, was_able: bool):
    """
    @notice After a change of the account's row.
    """
    is_able: bool = self._is_able(task, account)
    if is_able and not was_able:
        self.tasks[task].able += 1
    elif was_able and not is_able:
        self.tasks[task].able -= 1


@view
@internal
def _weight(task: uint256, account: address) -> uint256:
    """
    @notice Its own weight in this round's draws, 0 for who is not eligible. Only asked before the round's first slash;
            what becomes of accusations in rounds before does not change it. What others have bonded with it weighs
            besides, and makes nobody eligible.
    """
    close_height: uint256 = self.tasks[task].close_height
    if self.records[task][account].suspended or self.members[task][account].unseated:  # not the whole row: 64 are asked
        return 0
    leaving_at: uint256 = self.members[task][account].leaving_at
    if leaving_at > 0 and leaving_at < close_height:
        return 0
    bond: uint256 = self._closed_bond(task, account)
    held: uint256 = self.members[task][account].held
    weight: uint256 = bond - held if bond > held else 0
    return weight if weight >= self.tasks[task].terms.min_bond else 0


@view
@internal
def _delegated(task: uint256, account: address) -> uint256:
    """
    @notice What others had bonded with it at the last close.
    """
    return staticcall IDelegation(types.DELEGATION).closed(task, account, self.tasks[task].close_height)


@view
@internal
def _all_delegated(task: uint256) -> DynArray[uint256, types.MAX_PARTICIPANTS]:
    """
    @notice The same of all participants, in their order.
    """
    return staticcall IDelegation(types.DELEGATION).closed_all(
        task, self.accounts[task], self.tasks[task].close_height
    )


@view
@internal
def _closed_bond(task: uint256, account: address) -> uint256:
    """
    @notice Its own bond, without what came after the last close. What was slashed since is taken from the older part.
    """
    close_height: uint256 = self.tasks[task].close_height
    if self.members[task][account].joined_height > close_height:
        return 0
    bond: uint256 = self.members[task][account].bond
    if self.members[task][account].fresh_height > close_height:
        bond -= min(bond, self.members[task][account].fresh)
    return bond


@internal
def _take_row(task: uint256) -> uint256:
    """
    @return The lowest row that is free; the caller has seen that there is one.
    """
    rows: uint256 = self.tasks[task].rows
    row: uint256 = 0
    for _: uint256 in range(types.MAX_PARTICIPANTS):
        if (rows >> row) & 1 == 0:
            break
        row += 1
    self.tasks[task].rows = rows | (1 << row)
    return row


@internal
def _add_fresh(task: uint256, account: address, amount: uint256):
    """
    @notice Some of its bond counts from the next round's draw on.
    """
    settled: bool = self.members[task][account].fresh_height <= self.tasks[task].close_height
    before: uint256 = 0 if settled else self.members[task][account].fresh
    self.members[task][account].fresh = before + amount
    self.members[task][account].fresh_height = block.number


@internal
def _remove(task: uint256, account: address):
    """
    @notice Free its row, in the order of the others, and start to unbond.
    """
    member: types.Member = self.members[task][account]
    was_able: bool = self._is_able(task, account)
    count: uint256 = len(self.accounts[task])
    found: bool = False
    for index: uint256 in range(count, bound=types.MAX_PARTICIPANTS):
        if found:
            self.accounts[task][index - 1] = self.accounts[task][index]
        elif self.accounts[task][index] == account:
            found = True
    self.accounts[task].pop()
    self.tasks[task].rows &= ~(1 << member.row)
    self.members[task][account] = empty(types.Member)
    self._recount(task, account, was_able)
    release_at: uint256 = self._now() + self.rules[self.tasks[task].rules].unbonding_delay
    if member.bond > 0:
        self.leavers[task][account].append(types.Leaver(amount=member.bond, release_at=release_at))
    self.total_bonds -= member.bond
    self.total_unbonding += member.bond
    log events.Left(task=task, account=account, amount=member.bond, release_at=release_at)
    extcall IDelegation(types.DELEGATION).close(task, account, release_at)


@internal
def _take_free(task: uint256, account: address) -> uint256:
    """
    @notice Take out of the books what has unbonded; what has not keeps its own delay, whatever else leaves.
    """
    waiting: DynArray[types.Leaver, types.MAX_EXITS] = []
    amount: uint256 = 0
    now: uint256 = self._now()
    assert len(self.leavers[task][account]) > 0, "board: nothing is unbonding"
    for leaver: types.Leaver in self.leavers[task][account]:
        if now >= leaver.release_at:
            amount += leaver.amount
        else:
            waiting.append(leaver)
    assert amount > 0, "board: still unbonding"
    self.leavers[task][account] = waiting
    self.total_unbonding -= amount
    return amount


@internal
def _slash(task: uint256, round: uint256, account: address, bps: uint256) -> uint256:
    """
    @notice Burn a part of a seated participant's bond; nothing in a round that is too small to be judged.
    """
    if self.rounds[task][round].candidates < types.PAID_FROM:
        return 0
    return self._burn(task, round, account, bps)


@internal
def _burn(task: uint256, round: uint256, account: address, bps: uint256) -> uint256:
    amount: uint256 = self._cut(task, account, bps)
    if amount > 0:
        self.burned += amount
        log events.Slashed(task=task, round=round, account=account, amount=amount)
    return amount


@internal
def _carry(task: uint256, round: uint256, account: address, bps: uint256) -> uint256:
    """
    @notice Take a part of a bond for the task's next accepted round: the paper's rule alone does so.
    """
    if self.rounds[task][round].candidates < types.PAID_FROM:
        return 0
    amount: uint256 = self._cut(task, account, bps)
    if amount > 0:
        self.tasks[task].carried += amount
        self.total_carried += amount
        log events.Carried(task=task, round=round, account=account, amount=amount)
    return amount


@internal
def _cut(task: uint256, account: address, bps: uint256) -> uint256:
    """
    @notice Take a part of a bond out of the books of bonds. Whoever calls says where it goes; the same part of what
            others have bonded with it is burned in any case.
    """
    extcall IDelegation(types.DELEGATION).cut(task, account, bps)
    amount: uint256 = self.members[task][account].bond * bps // types.BPS
    self._take(task, account, amount)
    return amount


@internal
def _take(task: uint256, account: address, amount: uint256):
    if amount == 0:
        return
    was_able: bool = self._is_able(task, account)
    self.members[task][account].bond -= amount
    self.total_bonds -= amount
    self._recount(task, account, was_able)


@internal
def _hold(task: uint256, account: address, bps: uint256) -> uint256:
    """
    @notice A part of what is not held yet does not leave and weighs nothing until an accusation is decided.
    """
    bond: uint256 = self.members[task][account].bond
    held: uint256 = self.members[task][account].held
    amount: uint256 = (bond - held) * bps // types.BPS if bond > held else 0
    if amount > 0:
        was_able: bool = self._is_able(task, account)
        self.members[task][account].held = held + amount
        self._recount(task, account, was_able)
    return amount


@internal
def _take_held(task: uint256, round: uint256, account: address, held: uint256) -> uint256:
    """
    @notice Burn what was held, as far as nothing else has taken it since.
    """
    amount: uint256 = min(held, self.members[task][account].bond)
    was_able: bool = self._is_able(task, account)
    self.members[task][account].held -= held
    self._recount(task, account, was_able)
    self._take(task, account, amount)
    self.burned += amount
    log events.Slashed(task=task, round=round, account=account, amount=amount)
    return amount


@internal
def _free_held(task: uint256, account: address, held: uint256):
    """
    @notice Like a bond that is added: a running round's weights stay what they were.
    """
    was_able: bool = self._is_able(task, account)
    self.members[task][account].held -= held
    if self.tasks[task].phase != types.AUDIT:  # there, the close is that of the audit's stake
        self._add_fresh(task, account, held)
    self._recount(task, account, was_able)


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
    assert (seat >> 4) & 1 == (1 if role == types.ROLE_VOTER else 0), "board: seated in the other role"
    return seat & 15


@internal
def _judge(task: uint256, round: uint256, index: uint256, verdict: uint256, slash: uint256):
    """
    @notice Write down the one verdict of a proposal, and slash its proposer by so many bps.
    """
    account: address = self.rounds[task][round].proposers[index]
    slashed: uint256 = self._slash(task, round, account, slash) if slash > 0 else 0
    self._write_verdict(task, round, index, verdict, slashed)


@internal
def _write_verdict(task: uint256, round: uint256, index: uint256, verdict: uint256, slashed: uint256):
    account: address = self.rounds[task][round].proposers[index]
    packed: uint256 = self.rounds[task][round].verdicts
    self.rounds[task][round].verdicts = packing._with_nibble(packed, index, verdict)
    if verdict == types.ACCEPTED:
        self.members[task][account].last_accepted = round
        self.tasks[task].accepted_audit = self.tasks[task].counted_audits + 1
    log events.Verdict(task=task, round=round, account=account, verdict=verdict, slashed=slashed)


@internal
def _vote_for(task: uint256, round: uint256, adapter: bytes32):
    """
    @notice Count a seat's vote for the next global adapter.
    """
    votes: uint256 = self.adoptions[task][round][adapter] + 1
    self.adoptions[task][round][adapter] = votes
    if votes > self.rounds[task][round].leading_votes:
        self.rounds[task][round].leading_votes = votes
        self.rounds[task][round].leading = adapter


@internal
def _adopt(task: uint256, round: uint256, adapter: bytes32):
    """
    @notice Remember where the one before came from, should this one prove to be nowhere.
    """
    if adapter != self.tasks[task].adapter:
        self.rounds[task][round].adopted_before = self.tasks[task].adopted
        self.tasks[task].adopted = round
    self.tasks[task].adapter = adapter
    self.rounds[task][round].adapter_after = adapter
    log events.Adopted(task=task, round=round, adapter=adapter)


@internal
def _enter(task: uint256, phase: uint256):
    self.tasks[task].phase = phase
    self.tasks[task].phase_started = self._now()
    self.tasks[task].phase_block = block.number
    log events.PhaseChanged(task=task, round=self.tasks[task].round, phase=phase)


@view
@internal
def _opening_fee() -> uint256:
    """
    @notice What opening a task costs now. Places are scarce: the more tasks run, the dearer is one more.
    """
    return self.rules[self.rules_version].task_fee << (len(self.live) // types.FEE_STEP)


@view
@internal
def _now() -> uint256:
    return staticcall IBeacon(types.BEACON).chain_time()


@view
@internal
def _check_running(task: uint256):
    assert task > 0 and task <= self.task_count, "board: no such task"
    assert self.tasks[task].phase != types.ENDED, "board: the task has ended"


@view
@internal
def _has_enough(task: uint256) -> bool:
    """
    @notice Whether a round can start: enough participants, and never fewer than one to propose and one to vote.
    """
    return self.tasks[task].able >= max(self.tasks[task].terms.min_participants, 2)
