# pragma version 0.4.3
# pragma evm-version cancun
"""
@title The beacon: one random mix a block, and chain time
@notice The first system call of each block writes here; everybody may read. The mixes of the last 8,192 heights are
        kept. Chain time is the block timestamp less the time during which the chain stood still: a gap between two
        blocks counts as `chain_time_gap` seconds at most, so that a standstill expires nothing.
@dev Placed at genesis without a constructor. The proof is checked by every peer before the block is executed.
"""

import IBeacon

implements: IBeacon

SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
RING: constant(uint256) = 8192  # heights kept; over two hours at one block a second

struct Slot:
    height: uint256
    mix: bytes32

event Mixed:
    height: indexed(uint256)
    mix: bytes32
    chain_time: uint256

initialized: public(bool)
chain_time_gap: public(uint256)
chain_time: public(uint256)
last_timestamp: public(uint256)
last_height: public(uint256)
ring: HashMap[uint256, Slot]


@external
def initialize(chain_time_gap: uint256):
    """
    @notice Called once at genesis by the system; chain time starts at the genesis timestamp.
    @param chain_time_gap What a gap between two blocks counts at most, in seconds.
    """
    assert msg.sender == SYSTEM, "beacon: only the system may call"
    assert not self.initialized, "beacon: already initialized"
    assert chain_time_gap > 0, "beacon: a gap of zero would stop chain time"
    self.initialized = True
    self.chain_time_gap = chain_time_gap
    self.chain_time = block.timestamp
    self.last_timestamp = block.timestamp
    self.last_height = block.number


@external
def on_block(mix: bytes32, proof: Bytes[80]):
    """
    @notice The first system call of each block.
    @param mix keccak256 of the parent's mix and the proposer's VRF output.
    @param proof The VRF proof, kept in the call data for whoever checks the chain.
    """
    assert msg.sender == SYSTEM, "beacon: only the system may call"
    assert self.initialized, "beacon: not initialized"
    assert block.number > self.last_height, "beacon: this height has its mix"
    assert block.timestamp >= self.last_timestamp, "beacon: time runs backwards"
    self.chain_time += min(block.timestamp - self.last_timestamp, self.chain_time_gap)
    self.last_timestamp = block.timestamp
    self.last_height = block.number
    self.ring[block.number % RING] = Slot(height=block.number, mix=mix)
    log Mixed(height=block.number, mix=mix, chain_time=self.chain_time)


@view
@external
def mix(height: uint256) -> bytes32:
    """
    @notice The mix of a height; reverts where it is unknown yet, or no longer.
    """
    assert self._has_mix(height), "beacon: no mix of this height"
    return self.ring[height % RING].mix


@view
@external
def has_mix(height: uint256) -> bool:
    """
    @notice Whether the mix of a height is known here.
    """
    return self._has_mix(height)


@view
@internal
def _has_mix(height: uint256) -> bool:
    return height > 0 and self.ring[height % RING].height == height
