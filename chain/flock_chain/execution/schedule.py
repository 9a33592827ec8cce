"""What consensus prescribes for each block: its randomness, and the system's calls in their order.

    mix(h)   = keccak(mix(h-1) | VRF output of the proposer)        alpha = chain id | height | mix(h-1), 32 bytes each
    calls    = Beacon.on_block(mix, proof)
               Stake.on_attendance(absent, votes), where votes of the parent's height are missing, or
               Stake.on_restart(document, members), in the first block after an agreed restart
               Stake.end_epoch(), in the last block of an epoch
               TaskBoard.poke(task) for each due task, at most 16

The VRF key is the one registered for the proposer's place in the set; a key that its owner could change before its
slot would let it choose among outputs.
"""

from collections.abc import Sequence

from flock_chain import ecvrf
from flock_chain.crypto import Digest, keccak256
from flock_chain.errors import InvalidBlock
from flock_chain.execution.machine import State, run_view
from flock_chain.execution.validators import Validator
from flock_contracts.loader import Contract

MAX_POKES = 16  # the board returns no more
ON_BLOCK_GAS = 500_000  # it takes about 100,000
POKE_GAS = 10_000_000  # the dearest ends a round: 32 seats with delegators paid, 16 slashed, an audit begun: 6.8 M
POKE_GAS_MIN = 8_000_000  # with less left in the block a poke waits for the next one, instead of failing in this
VIEW_GAS = 20_000_000  # for what consensus itself asks; bounded like anything else
_PROOF_OFFSET = 4 + 32 * 3  # selector, mix, offset and length of the proof


def compute_alpha(chain_id: int, height: int, parent_mix: bytes) -> bytes:
    return chain_id.to_bytes(32, "big") + height.to_bytes(32, "big") + parent_mix


def compute_mix(parent_mix: bytes, output: bytes) -> Digest:
    return keccak256(parent_mix, output)


def verify_randomness(vrf_key: bytes, alpha: bytes, parent_mix: bytes, proof: bytes) -> Digest:
    """The block's mix; raises InvalidBlock for a proof that is not the proposer's for this height."""
    output = ecvrf.verify(vrf_key, alpha, proof)
    if output is None:
        raise InvalidBlock("block: the randomness proof is not the proposer's for this height and parent")
    return compute_mix(parent_mix, output)


def extract_proof(beacon_calldata: bytes) -> bytes:
    """The proof in what claims to be an `on_block` call; rebuilding the block checks every other byte of it."""
    return beacon_calldata[_PROOF_OFFSET : _PROOF_OFFSET + ecvrf.PROOF_BYTES]


def get_due_tasks(state: State, board: Contract) -> list[int]:
    """In the order of their pokes. A board that fails to answer gets no pokes, and the chain goes on."""
    outcome = run_view(state, board.address, board.encode("due_tasks"), gas=VIEW_GAS)
    if not outcome.status:
        return []
    try:
        tasks: list[int] = board.decode("due_tasks", outcome.output)
    except ValueError:
        return []
    return tasks[:MAX_POKES]


def compute_transaction_gas(block_gas_limit: int) -> int:
    """The most that a transaction may ask for, so that a block with nothing but the beacon's call has room for it."""
    return block_gas_limit - ON_BLOCK_GAS


def compute_certificate_commitment(parent_id: bytes, validators: Sequence[Validator]) -> Digest:
    """What every finalize certificate of the parent says: its id, and the set and weights that it is counted by.

    Not which votes a node happens to hold: those differ, and a certificate travels beside its block.
    """
    rows = b"".join(row.account + row.weight.to_bytes(32, "big") for row in validators)
    return keccak256(b"flock-certificate", parent_id, rows)
