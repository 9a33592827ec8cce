"""Replays a stored chain from its genesis in memory, and compares what the home stores with what comes out.

Knows blocks, certificates and state rows; knows no task.
"""

from collections.abc import Sequence

from flock_chain.consensus.attendance import AttendanceRule
from flock_chain.consensus.certificates import verify_finality
from flock_chain.consensus.digest import ChainDomain, make_domain
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate
from flock_chain.errors import InvalidRemote
from flock_chain.execution import records
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.executor import Executor
from flock_chain.execution.machine import KeyValues, MemoryStore
from flock_chain.execution.validators import Served
from flock_chain.genesis import Genesis
from flock_chain.restart import Restart
from flock_chain.upgrades import Schedule
from flock_p2p.verify.report import Progress, VerifyReport

MAX_ROWS_NAMED = 3  # of state rows that differ: one damaged page of the disk may hold hundreds


def replay(
    genesis: Genesis,
    stored: KeyValues,
    report: VerifyReport,
    progress: Progress,
    restarts: Sequence[Restart] = (),
    upgrades: Schedule | None = None,
) -> Executor:
    """The executor on the replayed head: the last one up to which every block is valid.

    Raises FlockError where not even the genesis block can be made or compared.
    """
    memory = MemoryStore()
    domain = make_domain(genesis, restarts)
    executor = Executor(genesis, memory, attendance=AttendanceRule(domain), restarts=restarts, upgrades=upgrades)
    memory.commit(executor.genesis_writes())
    first, head = records.read_block(stored, 0), records.read_head(stored)
    if first.header.extra_data != genesis.hash:
        report.fail(
            f"genesis: the stored chain begins with document {first.header.extra_data.hex()}, this home's document "
            f"is {genesis.hash.hex()}"
        )
    if first.id != executor.head.id:
        report.fail("genesis: the stored genesis block is not the one that the document describes")
    if head is None:
        report.fail("chain: the home names a head that it does not store")
        return executor
    certifier = _Certifier(domain, stored)
    for height in range(1, head.height + 1):
        served = executor.served()
        candidate = _replay_block(executor, stored, height, report)
        if candidate is None:
            return executor
        certifier.check(candidate, served, report)
        memory.commit(candidate.writes)
        executor.advance(candidate)
        progress("blocks", height, head.height)
    if stored.get(records.height_key(head.height + 1)) is not None:
        report.fail(f"chain: the home stores a block {head.height + 1} above its head")
    _compare_rows(memory, stored, report)
    return executor


def _replay_block(executor: Executor, stored: KeyValues, height: int, report: VerifyReport) -> Candidate | None:
    data = records.read_block_bytes(stored, height)
    if data is None:
        report.fail(f"block {height} is not stored; the chain could be replayed up to {height - 1} only")
        return None
    try:
        candidate = executor.verify(data)
    except InvalidRemote as error:
        report.fail(f"block {height}: {error}; the chain could be replayed up to {height - 1} only")
        return None
    if stored.get(records.height_key(height)) != candidate.block.id:
        report.fail(f"block {height}: stored under the id of another block")
        return None
    return candidate


class _Certifier:
    """Checks that a quorum of the set of its height made each block final."""

    def __init__(self, domain: ChainDomain, stored: KeyValues) -> None:
        self._stored, self._domain = stored, domain

    def check(self, candidate: Candidate, served: Served, report: VerifyReport) -> None:
        height = candidate.block.height
        data = self._stored.get(records.certificate_key(height))
        if data is None:
            report.fail(f"block {height}: no finality certificate is stored")
            return
        try:
            verify_finality(
                decode_certificate(data),
                height=height,
                block_id=candidate.block.id,
                validators=ValidatorSet(tuple((row.account, row.weight) for row in served.rows)),
                domain=self._domain,
            )
        except InvalidRemote as error:
            report.fail(f"block {height}: {error}")


def _compare_rows(memory: MemoryStore, stored: KeyValues, report: VerifyReport) -> None:
    """Every row that the replay wrote: blocks, receipts, contract code, and each node of the state."""
    wrong = [key for key, value in memory.rows.items() if stored.get(key) != value]
    for key in wrong[:MAX_ROWS_NAMED]:
        report.fail(f"state: {_describe(key)} is missing in the store, or not what the replay gives")
    if len(wrong) > MAX_ROWS_NAMED:
        report.fail(f"state: {len(wrong) - MAX_ROWS_NAMED} more rows differ")


def _describe(key: bytes) -> str:
    if key == records.HEAD:
        return "the name of the head"
    kinds = {b"n": "the id of a block", b"h": "a block", b"r": "the receipts of a block", b"t": "a transaction's place"}
    if len(key) != 32 and key[:1] in kinds:
        return f"{kinds[key[:1]]} ({key[1:].hex()})"
    return f"state node {key.hex()}"
