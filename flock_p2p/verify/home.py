"""Opens a stopped home for reading and runs the checks in order: genesis, chain, then every task's rounds."""

from collections.abc import Sequence
from pathlib import Path

from flock_chain.errors import FlockError, InvalidRemote, Misuse, Unavailable
from flock_chain.execution import records
from flock_chain.genesis import Genesis
from flock_chain.restart import Restart
from flock_chain.upgrades import Schedule
from flock_p2p.verify.chain import replay
from flock_p2p.verify.report import Progress, VerifyReport
from flock_p2p.verify.tasks import check_tasks
from flock_peers.home import Home
from flock_peers.restarts import load_restarts
from flock_peers.store.blob_reader import BlobReader
from flock_peers.store.chain_store import ChainStore


def verify_home(home: Path, progress: Progress | None = None) -> VerifyReport:
    """Everything that this home stores, recomputed; changes nothing in it and asks nobody.

    Raises Misuse where there is no network's home, Unavailable where its peer runs, or has no chain yet, or began with
    a snapshot. What is wrong inside is in the report.
    """
    place = Home(home)
    report = VerifyReport(str(place.path))
    if not place.genesis_path.is_file():
        raise Misuse(f"{place.path}: no genesis document here; name the home of a peer that has joined a network")
    with place.lock():
        genesis = _load_genesis(place, report)
        if genesis is None:
            return report
        restarts = load_restarts(place)
        upgrades = place.load_upgrades(genesis)
        with ChainStore(place.path / "chain", read_only=True) as stored:
            base = records.read_base(stored)
            if base > 1:
                raise Unavailable(
                    f"{place.path}: this chain began with a snapshot at block {base} (join --checkpoint): its history "
                    "before that is not here, so nothing can be replayed from the genesis; verify the home of a peer "
                    "that executed the whole chain"
                )
            _verify(
                genesis, stored, BlobReader(place.path / "blobs"), report, progress or _no_progress, restarts, upgrades
            )
    return report


def _load_genesis(place: Home, report: VerifyReport) -> Genesis | None:
    try:
        genesis = place.load_genesis()
    except InvalidRemote as error:
        report.fail(f"{place.genesis_path}: {error}")
        return None
    report.network, report.genesis = genesis.network, genesis.hash.hex()
    return genesis


def _verify(
    genesis: Genesis,
    stored: ChainStore,
    blobs: BlobReader,
    report: VerifyReport,
    progress: Progress,
    restarts: Sequence[Restart],
    upgrades: Schedule,
) -> None:
    try:
        executor = replay(genesis, stored, report, progress, restarts, upgrades)
    except FlockError as error:  # before the first block: nothing after it means anything
        report.fail(str(error))
        return
    head = executor.head
    report.blocks, report.head, report.state_root = head.height, head.id.hex(), head.state_root.hex()
    check_tasks(executor, blobs, report, progress)


def _no_progress(_what: str, _done: int, _total: int) -> None:
    pass
