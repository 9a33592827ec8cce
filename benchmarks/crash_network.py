"""Real validator processes for the crash programs: forked with the code loaded, taped, killed, started again.

A peer is the ordinary `join` in a process of its own. Forking instead of starting an interpreter only saves the two
seconds of imports. Every consensus message that a peer hears goes to its tape; how far its logs are synced is noted,
so that a power loss can be told from a kill; and its wall clock can be stepped while it runs.
"""

import mmap
import os
import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

MAX_PEERS = 32
_OFFSETS = mmap.mmap(-1, 8 * MAX_PEERS)  # seconds to add to each peer's wall clock, shared with the forked processes
_number = 0
_real_time = time.time


def _stepped_time() -> float:
    offset: float = struct.unpack_from("d", _OFFSETS, 8 * _number)[0]
    return _real_time() + offset


time.time = _stepped_time  # before anything binds it as a default argument

from small_genesis import make_genesis  # noqa: E402

from flock_chain.crypto import Account, Key, keccak256  # noqa: E402
from flock_chain.errors import Unavailable  # noqa: E402
from flock_chain.parameters import DEMO  # noqa: E402
from flock_p2p.cli import main as run_command  # noqa: E402
from flock_p2p.commands import join as _join  # noqa: E402, F401 - loaded before the first fork
from flock_peers import peer_opening  # noqa: E402
from flock_peers.control import request_control  # noqa: E402
from flock_peers.home import Home, write_private  # noqa: E402
from flock_peers.network.identity import make_address, peer_id_of  # noqa: E402
from flock_peers.ports import HostConsensus  # noqa: E402

CHAIN_ID = 771_179
START_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.03
_TAPE_HEAD = struct.Struct(">d20sI")  # seconds (monotonic, of the machine), sender, length of the payload


@dataclass(frozen=True)
class Heard:
    at: float
    sender: Account
    payload: bytes


class _TapedConsensus(HostConsensus):
    """Writes what it hears to the tape before anybody acts on it."""

    tape = -1

    async def _on_message(self, account: Account, payload: bytes) -> None:
        os.write(self.tape, _TAPE_HEAD.pack(time.monotonic(), account, len(payload)) + payload)
        await super()._on_message(account, payload)


def _watch_syncs() -> None:
    """Note beside each log how long it was at its last fsync."""
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.name in ("signer.log", "wal.log"):
            side = os.open(path.with_suffix(".synced"), os.O_CREAT | os.O_WRONLY, 0o600)
            os.pwrite(side, struct.pack(">Q", size), 0)
            os.close(side)

    os.fsync = noted  # type: ignore[assignment]


def lose_unsynced(path: Path, chance: random.Random) -> int:
    """What a power loss may leave of a log: any length from the last sync on, the rest perhaps torn. Bytes lost."""
    side = path.with_suffix(".synced")
    if not path.exists() or not side.exists():
        return 0
    size = path.stat().st_size
    synced = min(size, struct.unpack(">Q", side.read_bytes())[0])
    left = chance.randint(synced, size)
    torn = chance.randint(0, min(64, left - synced))
    with path.open("r+b") as file:
        file.truncate(left)
        file.seek(left - torn)
        file.write(chance.randbytes(torn))
    return size - left + torn


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_keys(seed: int, what: str, count: int) -> list[Key]:
    return [
        Key(keccak256(b"flock-crash", what.encode(), seed.to_bytes(8, "big"), bytes([index]))) for index in range(count)
    ]


@dataclass
class CrashPeer:
    number: int
    key: Key
    home: Path
    port: int
    pid: int = 0  # 0: not running
    starts: int = 0
    stdin: int = -1
    read: dict[Path, int] = field(default_factory=dict)  # how far each tape was read

    @property
    def account(self) -> Account:
        return self.key.account

    @property
    def name(self) -> str:
        return f"peer {self.number}"

    @property
    def address(self) -> str:
        return str(make_address("127.0.0.1", self.port, peer_id_of(self.key)))

    @property
    def signer_log(self) -> Path:
        return self.home / "consensus" / "signer.log"

    @property
    def wal_log(self) -> Path:
        return self.home / "consensus" / "wal.log"

    def tapes(self) -> list[Path]:
        return sorted((self.home.parent / f"notes{self.number}").glob("tape.*"), key=lambda path: int(path.suffix[1:]))

    def hear(self) -> Iterator[Heard]:
        """What has been written to the tapes since the last call; a record that a kill cut off is passed over."""
        for path in self.tapes():
            at = self.read.get(path, 0)
            with path.open("rb") as file:
                file.seek(at)
                data = file.read()
            offset = 0
            while offset + _TAPE_HEAD.size <= len(data):
                moment, sender, length = _TAPE_HEAD.unpack_from(data, offset)
                end = offset + _TAPE_HEAD.size + length
                if end > len(data):
                    break
                yield Heard(moment, Account(sender), data[offset + _TAPE_HEAD.size : end])
                offset = end
            self.read[path] = at + offset


class CrashNetwork:
    """`count` validators with homes in `folder`, made at the first use and found again later."""

    def __init__(
        self, folder: Path, seed: int, count: int, clients: int, *, taped: bool = True, **parameters: int
    ) -> None:
        """`taped`: whether what each peer hears and how far its logs are synced is written down."""
        self.taped = taped
        self.folder, self.clients = folder, make_keys(seed, "client", clients)
        keys = make_keys(seed, "validator", count)
        self.peers = [CrashPeer(number, key, folder / f"peer{number}", free_port()) for number, key in enumerate(keys)]
        known = folder / "peer0" / "genesis.json"
        if known.exists():
            self.genesis = Home(folder / "peer0").load_genesis()
        else:
            self.genesis = make_genesis(
                f"flock-crash-{seed}", CHAIN_ID, keys, self.clients,
                timestamp=int(_real_time()), parameters=replace(DEMO, **parameters),
            )  # fmt: skip
            for peer in self.peers:
                peer.home.mkdir(parents=True, mode=0o700)
                write_private(Home(peer.home).key_path, peer.key.secret.hex().encode() + b"\n", exclusive=True)
                Home(peer.home).store_genesis(self.genesis.encode())
        for peer in self.peers:
            peer.starts = max([int(path.suffix[1:]) for path in peer.tapes()], default=0)

    def start(self, peer: CrashPeer, *, prepare: Callable[[], None] | None = None) -> None:
        """`prepare`: done in the new process before anything else, such as a limit or an injected fault."""
        peer.starts += 1
        home = peer.home
        arguments = ["join", "--quiet", "--observe", "--until-stdin-closes", "--home", str(home)]
        arguments += ["--port", str(peer.port)]
        for other in self.peers:
            if other is not peer:
                arguments += ["--bootstrap", other.address]
        reader, peer.stdin = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            start = peer.starts if self.taped else 0
            _become_peer(peer.number, arguments, reader, home, start, prepare)
        os.close(reader)
        peer.pid = pid

    def kill(self, peer: CrashPeer) -> None:
        """kill -9; returns when the process is gone. Raises Unavailable where it had ended by itself."""
        os.kill(peer.pid, signal.SIGKILL)
        _, status = os.waitpid(peer.pid, 0)
        os.close(peer.stdin)  # not before: it would begin to stop in order
        peer.pid = 0
        if not os.WIFSIGNALED(status):
            raise Unavailable(f"peer {peer.number} ended by itself: {self.last_words(peer)}")

    def check_alive(self, peer: CrashPeer) -> None:
        if peer.pid and os.waitpid(peer.pid, os.WNOHANG)[0]:
            peer.pid = 0
            raise Unavailable(f"peer {peer.number} ended by itself: {self.last_words(peer)}")

    def wait_end(self, peer: CrashPeer, seconds: float) -> int:
        """The exit code of a peer that ends by itself; raises Unavailable where it does not in this time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(peer.pid, os.WNOHANG)
            if pid:
                peer.pid = 0
                os.close(peer.stdin)
                return os.waitstatus_to_exitcode(status)
            time.sleep(POLL_SECONDS)
        raise Unavailable(f"peer {peer.number} is still running after {seconds:.0f} s")

    @staticmethod
    def last_words(peer: CrashPeer) -> str:
        path = peer.home.parent / f"notes{peer.number}" / "output.log"
        return " | ".join(path.read_text(errors="replace").splitlines()[-5:]) if path.exists() else "no output"

    def ask(self, peer: CrashPeer, method: str, **params: Any) -> Any:
        return request_control(Home(peer.home).control_path, method, timeout=10.0, **params)

    def running(self) -> list[CrashPeer]:
        return [peer for peer in self.peers if peer.pid]

    def wait_answer(self, peer: CrashPeer) -> dict[str, Any]:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                status: dict[str, Any] = self.ask(peer, "status")
                return status
            except Unavailable:
                self.check_alive(peer)
                if time.monotonic() > deadline:
                    raise
            time.sleep(POLL_SECONDS)

    def step_clock(self, peer: CrashPeer, seconds: float) -> None:
        struct.pack_into("d", _OFFSETS, 8 * peer.number, seconds)

    def stop_all(self) -> dict[int, int]:
        """The exit codes; one that does not end within its time is killed, and has -9."""
        codes: dict[int, int] = {}
        for peer in self.running():
            os.kill(peer.pid, signal.SIGTERM)
        for peer in self.running():
            try:
                codes[peer.number] = self.wait_end(peer, STOP_SECONDS)
            except Unavailable:
                self.kill(peer)
                codes[peer.number] = -signal.SIGKILL
        return codes


def _become_peer(
    number: int, arguments: list[str], stdin: int, home: Path, start: int, prepare: Callable[[], None] | None
) -> None:
    """In the forked process: nothing of the parent's but its modules. Never returns. `start`: 0 for no tape."""
    global _number
    code = 1
    try:
        os.setsid()
        _number = number
        notes = home.parent / f"notes{number}"  # beside the home, whose disk may take nothing
        notes.mkdir(exist_ok=True)
        output = os.open(notes / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 1024)  # the other peers' pipes too: their ends would keep them alive
        if start:
            _TapedConsensus.tape = os.open(notes / f"tape.{start}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            setattr(peer_opening, "HostConsensus", _TapedConsensus)  # noqa: B010 - no name that it exports
            _watch_syncs()
        if prepare is not None:
            prepare()
        code = run_command(arguments)
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(code)
