# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Validators' stake, and the set of each epoch
@notice Stake and VRF keys are registered here. Nothing changes a running set: bonding, unbonding, jailing, admissions
        and convictions take effect through the snapshot at the end of an epoch (see epochs.vy), which serves the epoch
        after the next. Where `open_staking` is off, weight comes from genesis and from admissions by two thirds, and
        coins from a faucet buy none.

        A stake can be withdrawn `unbonding_delay` after the end of the last epoch that it secured, which is longer than
        the window in which evidence is taken: whoever signs against itself still has what it loses.
@dev Placed at genesis without a constructor. The VRF key of who is in a set, present or to come, is frozen: one who
     could change it could choose among keys until the next random mix suits it.
"""

import absence
import admission
import epochs
import evidence
import stakes

initializes: stakes
initializes: epochs[stakes := stakes]
initializes: absence[stakes := stakes, epochs := epochs]
initializes: admission[stakes := stakes, epochs := epochs]
initializes: evidence[stakes := stakes, epochs := epochs]

exports: (
    stakes.initialized,
    stakes.min_validator_stake,
    stakes.unbonding_delay,
    stakes.open_staking,
    stakes.is_candidate,
    stakes.stake_of,
    stakes.allowance_of,
    stakes.weight_of,
    stakes.peak_weight_of,
    stakes.vrf_key,
    stakes.unbonding_of,
    stakes.requested_at,
    stakes.last_epoch_of,
    stakes.jailed_until,
    stakes.tombstoned_at,
    stakes.total_staked,
    stakes.total_unbonding,
    stakes.total_rewards,
    stakes.burned,
    epochs.epoch_blocks,
    epochs.epoch_seconds,
    epochs.epoch,
    epochs.started_at,
    epochs.first_height_of,
    epochs.ended_at,
    epochs.total_weight_of,
    epochs.validators,
    epochs.validators_of,
    epochs.epoch_state,
    epochs.is_epoch_over,
    absence.jail_delay,
    absence.absence_limit,
    absence.missed,
    evidence.evidence_window,
    evidence.genesis_hash,
    evidence.offence_count,
    evidence.reporter_of,
    evidence.is_settled,
    evidence.reward_of,
)

MAX_VOTES_BYTES: constant(uint256) = 16384  # 150 votes in groups take under 14 KB

struct GenesisValidator:
    account: address
    stake: uint256
    vrf_key: bytes32

event Rewarded:
    account: indexed(address)
    amount: uint256


# ---------------------------------------------------------------- the system's calls


@external
@payable
def initialize(
    min_validator_stake: uint256,
    unbonding_delay: uint256,
    evidence_window: uint256,
    epoch_blocks: uint256,
    epoch_seconds: uint256,
    absence_limit: uint256,
    jail_delay: uint256,
    open_staking: bool,
    genesis_hash: bytes32,
    validators: DynArray[GenesisValidator, stakes.MAX_VALIDATORS],
):
    """
    @notice Called once at genesis by the system, with the sum of all stakes as value.
    """
    assert msg.sender == stakes.SYSTEM, "stake: only the system may call"
    assert not stakes.initialized, "stake: already initialized"
    assert evidence_window < unbonding_delay, "stake: evidence must be taken while the stake is still here"
    assert epoch_blocks > 0, "stake: an epoch without a block"
    assert absence_limit > 0, "stake: nobody would be present enough"
    stakes.initialized = True
    stakes.min_validator_stake = min_validator_stake
    stakes.unbonding_delay = unbonding_delay
    stakes.open_staking = open_staking
    evidence.evidence_window = evidence_window
    evidence.genesis_hash = genesis_hash
    epochs.epoch_blocks = epoch_blocks
    epochs.epoch_seconds = epoch_seconds
    absence.absence_limit = absence_limit
    absence.jail_delay = jail_delay
    rows: DynArray[uint256, stakes.MAX_VALIDATORS] = []
    for row: GenesisValidator in validators:
        assert row.stake >= min_validator_stake and row.stake > 0, "stake: a validator below the minimum stake"
        assert row.vrf_key != empty(bytes32), "stake: a validator without a VRF key"
        assert stakes.weight_of[row.account] == 0, "stake: a validator twice"
        stakes.vrf_key[row.account] = row.vrf_key
        stakes.allowance_of[row.account] = row.stake
        stakes._add_stake(row.account, row.stake)
        stakes._enlist(row.account)
        stakes.weight_of[row.account] = row.stake
        stakes.peak_weight_of[row.account] = row.stake
        rows.append((row.stake << 160) | convert(row.account, uint256))
    epochs._start(rows)
    assert msg.value == stakes.total_staked, "stake: the value is not the sum of the stakes"


@external
def on_attendance(absent: uint256, votes: Bytes[MAX_VOTES_BYTES]):
    """
    @notice Part of a block that shows who voted at its parent's height; only where somebody did not.
    @param absent Bit i: no vote of row i of that height's set. Every peer computes it from `votes`.
    @param votes Kept in the call data for whoever checks the chain.
    """
    assert msg.sender == stakes.SYSTEM, "stake: only the system may call"
    absence._record(absent)


@external
def end_epoch():
    """
    @notice Part of the last block of an epoch.
    """
    assert msg.sender == stakes.SYSTEM, "stake: only the system may call"
    assert epochs._is_over(), "stake: the epoch is not over"
    epochs._end()


@external
def on_restart(document: bytes32, keep: DynArray[address, stakes.MAX_VALIDATORS]):
    """
    @notice Part of the first block after a restart that the remaining operators agreed on outside of the chain.
    @param document Its hash, which the votes from here on are signed for.
    @param keep The members of the set that go on; the others are jailed.
    """
    assert msg.sender == stakes.SYSTEM, "stake: only the system may call"
    evidence.restarts.append(block.number - 1)
    evidence.restart_hashes.append(document)
    epochs._restart(document, keep, stakes._now() + absence.jail_delay)


# ---------------------------------------------------------------- stake


@external
@payable
def bond_validator(vrf_key: bytes32):
    """
    @notice Add stake. It weighs in consensus two epochs later, where the account may enter the set.
    @param vrf_key Ed25519 public key; who is in a set repeats its own.
    """
    assert msg.value > 0, "stake: bond more than nothing"
    assert vrf_key != empty(bytes32), "stake: a VRF key is needed"
    assert stakes.tombstoned_at[msg.sender] == 0, "stake: tombstoned"
    if stakes.weight_of[msg.sender] > 0 or stakes.last_epoch_of[msg.sender] >= max(epochs.epoch, 1):
        assert stakes.vrf_key[msg.sender] == vrf_key, "stake: the VRF key of a validator is frozen"
    stakes.vrf_key[msg.sender] = vrf_key
    stakes._add_stake(msg.sender, msg.value)
    stakes._enlist(msg.sender)


@external
def unbond(amount: uint256):
    """
    @notice Start to take stake out; another call before the withdrawal starts the delay anew for all of it.
    """
    assert amount > 0, "stake: unbond more than nothing"
    assert amount <= stakes.stake_of[msg.sender], "stake: more than is bonded"
    stakes._start_unbonding(msg.sender, amount)


@view
@internal
def _release_at(account: address) -> uint256:
    """
    @notice Chain time from which what is unbonding secures nothing any more; max_value(uint256) while that is open.
    """
    if stakes.weight_of[account] > stakes.stake_of[account]:
        return max_value(uint256)
    since: uint256 = stakes.requested_at[account]
    last: uint256 = stakes.last_epoch_of[account]
    if last > 0:
        if last >= epochs.epoch:
            return max_value(uint256)
        since = max(since, epochs.ended_at[last])
    return since + stakes.unbonding_delay


@view
@external
def release_at(account: address) -> uint256:
    """
    @notice Chain time of the withdrawal; max_value(uint256) while the stake still secures a set.
    """
    return self._release_at(account)


@external
@nonreentrant
def withdraw():
    """
    @notice Pay out what has been unbonding for long enough, less what a conviction costs.
    """
    assert stakes.unbonding_of[msg.sender] > 0, "stake: nothing is unbonding"
    self._settle(msg.sender)
    amount: uint256 = stakes.unbonding_of[msg.sender]
    stakes.unbonding_of[msg.sender] = 0
    stakes.total_unbonding -= amount
    log stakes.Withdrawn(account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


@internal
def _settle(account: address):
    release_at: uint256 = self._release_at(account)
    assert release_at < max_value(uint256), "stake: it still secures a set"
    assert stakes._now() >= release_at, "stake: still unbonding"
    if stakes.tombstoned_at[account] > 0 and not evidence.is_settled[account]:
        evidence._settle(account)


# ---------------------------------------------------------------- entering and leaving sets


@external
def admit(account: address, weight: uint256):
    """
    @notice Agree, as a member of the serving set, that an account may weigh up to so much; two thirds decide. 0 expels.
    """
    admission._approve(msg.sender, account, weight)


@external
def unjail():
    """
    @notice Ask to come back after an absence; the next snapshot decides.
    """
    absence._release(msg.sender)


# ---------------------------------------------------------------- offences


@external
def report(a: evidence.Statement, b: evidence.Statement, epoch: uint256):
    """
    @notice Prove that somebody signed two statements of which an honest validator signs one. Once per key.
    @param epoch The epoch of their height.
    """
    evidence._convict(msg.sender, a, b, epoch)


@external
def settle(account: address):
    """
    @notice Take a convicted account's penalty when its unbonding has ended; anybody may call, the reporter will.
    """
    assert stakes.tombstoned_at[account] > 0, "stake: not convicted"
    assert not evidence.is_settled[account], "stake: settled before"
    self._settle(account)


@external
@nonreentrant
def claim_reward():
    """
    @notice Pay what the sender's reports earned.
    """
    amount: uint256 = evidence.reward_of[msg.sender]
    assert amount > 0, "stake: no reward"
    evidence.reward_of[msg.sender] = 0
    stakes.total_rewards -= amount
    log Rewarded(account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)
