"""Collects from a stopped home what proves an adapter: blocks that lead from the genesis set to the head's, with their
certificates, and the rows of state that the proof reads. Believes the home; who is handed the file does not.
"""

from collections.abc import Iterator, Sequence

from flock_chain.crypto import keccak256
from flock_chain.errors import Unavailable
from flock_chain.execution import records
from flock_chain.execution.blocks import Header
from flock_chain.execution.machine import KeyValues
from flock_chain.execution.proof import ProvenState, Recorder
from flock_chain.genesis import Genesis
from flock_chain.restart import Restart
from flock_p2p.provenance.document import Provenance
from flock_p2p.provenance.known_sets import find_steps, read_sets
from flock_p2p.provenance.rounds import read_rounds


def collect_provenance(
    genesis: Genesis,
    stored: KeyValues,
    *,
    task: int,
    round: int,
    adapter: bytes,
    document: bytes,
    restarts: Sequence[Restart] = (),
) -> Provenance:
    """Without files. `restarts`: those that this home has installed.

    Raises Unavailable where this home lacks a block or a state that the proof needs.
    """
    head = records.read_head(stored)
    if head is None or head.height == 0:
        raise Unavailable("provenance: no block is final here, so there is nothing to prove from")
    recorder = Recorder(stored)
    past = tuple(sorted((row for row in restarts if row.height < head.height), key=lambda row: row.height))
    steps = _find_steps(genesis, stored, head.header, past)
    for header in steps:
        ProvenState(genesis, header, recorder).served()
    found = read_rounds(ProvenState(genesis, head.header, recorder), task, round)
    blocks = tuple((header.encoded, _read_certificate(stored, header)) for header in (*steps, head.header))
    code = {bytes(digest) for _, digest in genesis.contracts}
    rows = tuple(recorder.rows[key] for key in sorted(recorder.rows) if key not in code and _is_node(recorder, key))
    return Provenance(genesis.encode(), task, round, adapter, document, found.rounds, blocks, rows, restarts=past)


def _is_node(recorder: Recorder, key: bytes) -> bool:
    return len(key) == 32 and keccak256(recorder.rows[key]) == key


def _read_certificate(stored: KeyValues, header: Header) -> bytes:
    certificate = stored.get(records.certificate_key(header.height))
    if certificate is None:
        raise Unavailable(f"provenance: the certificate of block {header.height} is not stored here")
    return certificate


def _find_steps(genesis: Genesis, stored: KeyValues, head: Header, restarts: Sequence[Restart]) -> list[Header]:
    """The last blocks of those epochs in which a set becomes known that none before it names, and those of restarts.

    The block's certificate is by a set that is known by then, and its state names the next epoch's, or with a restart
    document who goes on. Not a later state of the same epoch: a restart overwrites what it says.
    """
    begun = {row.height: row for row in restarts}
    ends = {header.height: header for header in _find_epoch_ends(genesis, stored, head)}
    ends.update((height, records.read_header(stored, height)) for height in begun)
    blocks = (
        (header, read_sets(ProvenState(genesis, header, stored).served(), begun.get(height)), height in begun)
        for height, header in sorted(ends.items())
    )
    return find_steps(((row.account, row.stake) for row in genesis.validators), blocks)


def _find_epoch_ends(genesis: Genesis, stored: KeyValues, head: Header) -> Iterator[Header]:
    """From the head backwards."""
    before = records.read_header(stored, head.height - 1)
    served = ProvenState(genesis, before, stored).served()  # who signed the head
    while served.epoch > 0 and served.first_height > 1:
        header = records.read_header(stored, served.first_height - 1)
        yield header
        before = records.read_header(stored, header.height - 1)
        served = ProvenState(genesis, before, stored).served()
