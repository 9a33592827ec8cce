"""Restart documents in a home: made from a halted chain, checked, installed, loaded. Asks nobody; runs no chain.

Installing moves the logs of consensus aside: the votes of the halted height were for other rules. The signer begins
anew at that height and for the document's hash, so nothing that it signs can be held against an older vote. The
document's name is final only when all of that is on disk; a home that was left in the middle starts no peer.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from flock_chain.consensus.records import encode_signer_record
from flock_chain.consensus.signer import MarkRecord
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, Misuse, Refused
from flock_chain.execution.executor import Executor
from flock_chain.genesis import Genesis
from flock_chain.restart import MAX_RESTARTS, Restart, decode_restart
from flock_peers.home import Home, write_private
from flock_peers.ledger.served_sets import make_set
from flock_peers.store.chain_store import ChainStore
from flock_peers.store.record_log import open_record_log

FOLDER = "restarts"
_PENDING = ".pending"
_LOGS = ("wal.log", "signer.log")


@dataclass(frozen=True)
class Halt:
    """Where a home's chain stands, and who was to decide about the next height."""

    height: int
    block_id: bytes
    validators: ValidatorSet

    def weight(self, accounts: Sequence[Account]) -> int:
        return sum(self.validators.weight(account) for account in accounts)


def load_restarts(home: Home) -> tuple[Restart, ...]:
    """What is installed, by height. Raises Refused after an interrupted installation, or for a damaged document."""
    folder = home.path / FOLDER
    if not folder.is_dir():
        return ()
    if pending := sorted(folder.glob(f"*{_PENDING}")):
        raise Refused(f"{pending[0]}: a restart was not installed to its end; run `restart apply` again")
    restarts = []
    for path in sorted(folder.glob("*.json")):
        restart = decode_restart(path.read_bytes())
        if path.stem != restart.hash.hex():
            raise Refused(f"{path}: this is restart document {restart.hash.hex()}; remove it, and install it again")
        restarts.append(restart)
    restarts.sort(key=lambda restart: restart.height)
    if len(restarts) > MAX_RESTARTS or len({restart.height for restart in restarts}) != len(restarts):
        raise Refused(f"{folder}: more than {MAX_RESTARTS} restart documents, or two of one height")
    return tuple(restarts)


def read_halt(home: Home, genesis: Genesis) -> Halt:
    """The head of a stopped home. Call it under the lock."""
    with ChainStore(home.path / "chain", read_only=True) as store:
        executor = Executor(genesis, store, restarts=load_restarts(home))
        head = executor.head
        return Halt(head.height, bytes(head.id), make_set(executor.served().rows))


def propose_restart(genesis: Genesis, halt: Halt, without: Sequence[Account]) -> Restart:
    """The document that goes on without these members. Raises Refused where no restart is needed, or nobody is left."""
    strangers = [account for account in without if account not in halt.validators]
    if strangers:
        raise Misuse(f"restart: 0x{strangers[0].hex()} is not in the set that decides about height {halt.height + 1}")
    keep = tuple(sorted(account for account in halt.validators.accounts if account not in without))
    restart = Restart(bytes(genesis.hash), halt.height, halt.block_id, keep)
    check_need(restart, halt)
    return restart


def check_need(restart: Restart, halt: Halt) -> None:
    """Where a quorum is left the chain goes on by itself, and a restart would only take votes away."""
    if not restart.keep:
        raise Refused("restart: nobody would be left")
    kept = halt.weight(restart.keep)
    if kept >= halt.validators.quorum:
        raise Refused(
            f"restart: the members that stay weigh {kept} of {halt.validators.total}, a quorum is "
            f"{halt.validators.quorum}: the chain goes on without a restart, and jails who is absent"
        )


def apply_restart(home: Home, data: bytes, agreed_hash: str) -> Restart:
    """Install a document; the same one again is no error. Raises what is wrong, and has changed nothing then.

    `agreed_hash`: in hex, as the operators told each other; the file alone is not enough. Call it under the lock.
    """
    restart = decode_restart(data)
    if agreed_hash.removeprefix("0x").lower() != restart.hash.hex():
        raise Refused(f"restart: the document's hash is {restart.hash.hex()}, not {agreed_hash}")
    genesis = home.load_genesis()
    if restart.genesis_hash != genesis.hash:
        raise Refused(f"restart: for the network with genesis {restart.genesis_hash.hex()}; this is another one")
    path = home.folder(FOLDER) / f"{restart.hash.hex()}.json"
    if path.exists():
        return restart
    pending = path.with_suffix(_PENDING)
    if not pending.exists():
        _check_home(home, genesis, restart)
        write_private(pending, data)
    _renew_logs(home, restart)
    os.replace(pending, path)
    write_private(path, data)  # again: it also waits for the folder
    return restart


def _check_home(home: Home, genesis: Genesis, restart: Restart) -> None:
    try:
        halt = read_halt(home, genesis)
    except FlockError:
        if (home.path / "chain" / "chain.mdb").is_file():
            raise
        return  # a home without a chain will fetch it
    if halt.height > restart.height:
        raise Refused(
            f"restart: this home has block {halt.height} as final, above height {restart.height}: the chain did not "
            "halt there, and a restart from there would make a second history"
        )
    if halt.height == restart.height:
        if halt.block_id != restart.block_id:
            raise Refused(f"restart: block {halt.height} is {halt.block_id.hex()} here, not the document's")
        if any(account not in halt.validators for account in restart.keep):
            raise Refused("restart: the document keeps an account that is not in the set")
        check_need(restart, halt)


def _renew_logs(home: Home, restart: Restart) -> None:
    """Only what was signed for the halted height matters, and a home below it has signed nothing there."""
    folder = home.path / "consensus"
    aside = folder / f"before-{restart.hash.hex()[:16]}"
    if not aside.exists() and not any((folder / name).exists() for name in _LOGS):
        return
    aside.mkdir(mode=0o700, exist_ok=True)
    for name in _LOGS:
        if (folder / name).exists() and not (aside / name).exists():
            shutil.copy2(folder / name, aside / name)
    for name in _LOGS:
        (folder / name).unlink(missing_ok=True)
    log, _ = open_record_log(folder / "signer.log")
    try:
        log.append(*encode_signer_record(MarkRecord(restart.height + 1)))
        log.sync()
    finally:
        log.close()
