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

        Who delegates to a validator adds to its weight, shares its rewards less a commission, loses the same part of
        its stake, and leaves after the same delay. A seat takes the minimum of the validator's own stake.
@dev Placed at genesis without a constructor. The VRF key of who is in a set, present or to come, is frozen: one who
     could change it could choose among keys until the next random mix suits it.
"""

import absence
import admission
import epochs
import evidence
import exits
import rewards
import stakes

initializes: stakes
initializes: epochs[stakes := stakes]
initializes: absence[stakes := stakes, epochs := epochs]
initializes: admission[stakes := stakes, epochs := epochs]
initializes: exits[stakes := stakes, epochs := epochs]
initializes: rewards[stakes := stakes]
initializes: evidence[stakes := stakes, epochs := epochs, exits := exits, rewards := rewards]

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
    stakes.delegation_of,
    stakes.staked_with,
    stakes.leaving_with,
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
    rewards.reward_of,
    rewards.terms_of,
    rewards.delegation_reward_of,
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
        stakes._add_stake(row.account, row.account, row.stake)
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
    log stakes.KeySet(account=msg.sender, vrf_key=vrf_key)
    stakes._add_stake(msg.sender, msg.sender, msg.value)
    stakes._enlist(msg.sender)


@external
def unbond(amount: uint256):
    """
    @notice Start to take stake out; another call before the withdrawal starts the delay anew for all of it.
    """
    exits._start(msg.sender, msg.sender, amount)


@view
@external
def release_at(account: address) -> uint256:
    """
    @notice Chain time of the withdrawal; max_value(uint256) while the stake still secures a set.
    """
    return exits._release_at(account, account)


@external
@nonreentrant
def withdraw():
    """
    @notice Pay out what has been unbonding for long enough, less what a conviction costs.
    """
    self._pay_out(msg.sender, msg.sender)


@internal
def _pay_out(account: address, owner: address):
    assert stakes._leaving(account, owner) > 0, "stake: nothing is unbonding"
    bond: stakes.Bond = stakes.bonds[account][owner]
    is_free: bool = bond.is_settled or (bond.leaving > 0 and exits._held(account, bond) == 0)
    if stakes.tombstoned_at[account] > 0 and not is_free:
        evidence._settle(account, owner)
    else:
        release_at: uint256 = exits._release_at(account, owner)
        assert release_at < max_value(uint256), "stake: it still secures a set"
        assert stakes._now() >= release_at, "stake: still unbonding"
    amount: uint256 = stakes.bonds[account][owner].leaving
    stakes.bonds[account][owner].leaving = 0
    stakes._take_out(account, amount)
    log stakes.Withdrawn(account=account, owner=owner, amount=amount)
    raw_call(owner, b"", value=amount)


# ---------------------------------------------------------------- delegation


@external
def set_terms(commission: uint256, limit: uint256):
    """
    @notice Say, as a validator, how much others may bond with it (0, as at first: nothing more), and what it keeps of
            their rewards. Another commission holds one unbonding delay later.
    @param commission In bps.
    """
    rewards._set_terms(msg.sender, commission, limit)


@external
@payable
def delegate(account: address):
    """
    @notice Bond with a validator.
    """
    assert msg.value > 0, "stake: bond more than nothing"
    rewards._check_room(account, msg.sender, msg.value)
    rewards._accrue(account, msg.sender)
    stakes._add_stake(account, msg.sender, msg.value)


@external
def undelegate(account: address, amount: uint256):
    """
    @notice Start to leave a validator; another call before the withdrawal starts the delay anew for all of it.
    """
    rewards._accrue(account, msg.sender)
    exits._start(account, msg.sender, amount)


@external
@nonreentrant
def withdraw_delegation(account: address):
    """
    @notice Pay out what has been leaving a validator for long enough, less what a conviction costs.
    """
    self._pay_out(account, msg.sender)


@view
@external
def delegation_release_at(account: address, owner: address) -> uint256:
    """
    @notice As `release_at`, of a delegation.
    """
    return exits._release_at(account, owner)


@external
@payable
def share_reward(account: address):
    """
    @notice Pay a reward for a validator and its delegators.
    """
    rewards._share(account, msg.value)


@external
@nonreentrant
def claim_delegation(account: address):
    """
    @notice Pay what the sender's bond with a validator has earned, with what else it may claim.
    """
    rewards._accrue(account, msg.sender)
    self._pay_reward(msg.sender)


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
def settle(account: address, owner: address):
    """
    @notice Take the penalty of a bond with a convicted account when its unbonding has ended; anybody may call, the
            reporter will for the account's own.
    """
    assert stakes.tombstoned_at[account] > 0, "stake: not convicted"
    evidence._settle(account, owner)


@external
@nonreentrant
def claim_reward():
    """
    @notice Pay what the sender's reports and its own validator earned.
    """
    self._pay_reward(msg.sender)


@internal
def _pay_reward(owner: address):
    amount: uint256 = rewards.reward_of[owner]
    assert amount > 0, "stake: no reward"
    rewards.reward_of[owner] = 0
    stakes.total_rewards -= amount
    log Rewarded(account=owner, amount=amount)
    raw_call(owner, b"", value=amount)
