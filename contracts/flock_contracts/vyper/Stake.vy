# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Validators' stake and VRF keys
@notice The consensus set and its weights are those of genesis: stake bonded later is recorded and earns no weight, so
        coins from a faucet never buy a seat. A validator's stake cannot drop below the minimum while it is in the set.
@dev Placed at genesis without a constructor. A validator's VRF key is frozen: one who could change it could choose
     among keys until the next random mix suits it.
"""

import IBeacon

SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
BEACON: constant(address) = 0x0000000000000000000000000000000000f10c01
MAX_VALIDATORS: constant(uint256) = 150  # certificates of more signatures do not fit a message

struct GenesisValidator:
    account: address
    stake: uint256
    vrf_key: bytes32

struct ValidatorRow:
    account: address
    weight: uint256
    vrf_key: bytes32

event Bonded:
    account: indexed(address)
    amount: uint256
    stake: uint256

event Unbonding:
    account: indexed(address)
    amount: uint256
    release_at: uint256

event Withdrawn:
    account: indexed(address)
    amount: uint256

initialized: public(bool)
min_validator_stake: public(uint256)
unbonding_delay: public(uint256)
accounts: DynArray[address, MAX_VALIDATORS]
weight_of: public(HashMap[address, uint256])  # above 0 exactly for the consensus set
stake_of: public(HashMap[address, uint256])
vrf_key: public(HashMap[address, bytes32])
unbonding_of: public(HashMap[address, uint256])
release_at: public(HashMap[address, uint256])  # chain time


@external
@payable
def initialize(
    min_validator_stake: uint256, unbonding_delay: uint256, validators: DynArray[GenesisValidator, MAX_VALIDATORS]
):
    """
    @notice Called once at genesis by the system, with the sum of all stakes as value.
    """
    assert msg.sender == SYSTEM, "stake: only the system may call"
    assert not self.initialized, "stake: already initialized"
    self.initialized = True
    self.min_validator_stake = min_validator_stake
    self.unbonding_delay = unbonding_delay
    total: uint256 = 0
    for row: GenesisValidator in validators:
        assert row.stake > 0, "stake: a validator without stake"
        assert row.vrf_key != empty(bytes32), "stake: a validator without a VRF key"
        assert self.weight_of[row.account] == 0, "stake: a validator twice"
        self.accounts.append(row.account)
        self.weight_of[row.account] = row.stake
        self.stake_of[row.account] = row.stake
        self.vrf_key[row.account] = row.vrf_key
        total += row.stake
        log Bonded(account=row.account, amount=row.stake, stake=row.stake)
    assert msg.value == total, "stake: the value is not the sum of the stakes"


@external
@payable
def bond_validator(vrf_key: bytes32):
    """
    @notice Add stake. It is recorded for a later change of the set; it gives no weight by itself.
    @param vrf_key Ed25519 public key; a member of the set must repeat its own.
    """
    assert msg.value > 0, "stake: bond more than nothing"
    assert vrf_key != empty(bytes32), "stake: a VRF key is needed"
    if self.weight_of[msg.sender] > 0:
        assert self.vrf_key[msg.sender] == vrf_key, "stake: the VRF key of a validator is frozen"
    self.vrf_key[msg.sender] = vrf_key
    self.stake_of[msg.sender] += msg.value
    log Bonded(account=msg.sender, amount=msg.value, stake=self.stake_of[msg.sender])


@external
def unbond(amount: uint256):
    """
    @notice Start to take stake out; another call before the withdrawal starts the delay anew for all of it.
    """
    stake: uint256 = self.stake_of[msg.sender]
    assert amount > 0, "stake: unbond more than nothing"
    assert amount <= stake, "stake: more than is bonded"
    if self.weight_of[msg.sender] > 0:
        assert stake - amount >= self.min_validator_stake, "stake: a validator keeps the minimum"
    self.stake_of[msg.sender] = stake - amount
    self.unbonding_of[msg.sender] += amount
    release_at: uint256 = staticcall IBeacon(BEACON).chain_time() + self.unbonding_delay
    self.release_at[msg.sender] = release_at
    log Unbonding(account=msg.sender, amount=amount, release_at=release_at)


@external
@nonreentrant
def withdraw():
    """
    @notice Pay out what has been unbonding for long enough.
    """
    amount: uint256 = self.unbonding_of[msg.sender]
    assert amount > 0, "stake: nothing is unbonding"
    assert staticcall IBeacon(BEACON).chain_time() >= self.release_at[msg.sender], "stake: still unbonding"
    self.unbonding_of[msg.sender] = 0
    log Withdrawn(account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


@view
@external
def validators() -> DynArray[ValidatorRow, MAX_VALIDATORS]:
    """
    @notice The consensus set, in the order of genesis.
    """
    rows: DynArray[ValidatorRow, MAX_VALIDATORS] = []
    for account: address in self.accounts:
        rows.append(ValidatorRow(account=account, weight=self.weight_of[account], vrf_key=self.vrf_key[account]))
    return rows
