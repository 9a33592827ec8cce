"""A whole peer in its own process under attack, and what an attacker needs: own source addresses, links, raw bytes.

The attacks are tables of functions in attacks_*_support.py; the tests run them small, benchmarks/attacks.py in full.
"""

import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio
from libp2p.network.connection.raw_connection import RawConnection
from network_support import PATIENCE, QUICK, key
from small_genesis import make_genesis

from flock_chain.codec import encode
from flock_chain.crypto import Key
from flock_chain.errors import FlockError, Unavailable
from flock_chain.genesis import Genesis
from flock_chain.upgrades import Schedule
from flock_peers.control import request_control
from flock_peers.home import Home, write_private
from flock_peers.loop_lag import find_percentile
from flock_peers.network.hello import HELLO, VERSION, Hello
from flock_peers.network.host import Host, open_host
from flock_peers.network.identity import Address, parse_address
from flock_peers.network.link import Link
from flock_peers.network.stack import Stack
from flock_peers.ports import SYNC_PROTOCOL

VICTIM, FRIEND = Key(b"\x21" * 32), Key(b"\x22" * 32)
MULTISTREAM = b"\x13/multistream/1.0.0\n"
START_SECONDS = 240.0  # importing a peer takes two on an idle machine
PATIENT = replace(QUICK, open_seconds=30.0, negotiate_seconds=30.0)  # who measures waits must not give up first
ANSWER_SECONDS = 30.0  # of an honest peer's question: many times what the busiest machine needs
MIB = 1 << 20
BLAMES = ("address", "account")
COMPLAINTS = " flock_peers.network.complaints: "  # who connects and disconnects is named by other loggers


@dataclass
class Victim:
    address: Address
    genesis: Genesis
    home: Path
    pid: int
    source: str = "127.0.0.66"  # where the running attack comes from; honest peers come from 127.0.0.1
    number: int = 50  # its key

    def aim(self, attack: str) -> None:
        """Each attack has an address and a key of its own: a name in the log is then of this one."""
        digest = zlib.crc32(attack.encode())
        self.source, self.number = f"127.77.{digest >> 8 & 255}.{digest & 127 | 64}", 1_000 + (digest & 0xFFFF) * 100

    @property
    def upgrades_hash(self) -> bytes:
        """Of no upgrades: who says another one is named in the log for that alone."""
        return bytes(Schedule(self.genesis.hash, ()).hash)

    @property
    def log(self) -> str:
        return (self.home / "peer.log").read_text(errors="replace")

    @property
    def resident(self) -> int:
        """Bytes of memory now."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """Bytes of memory at most, since `forget_peak`."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
        raise AssertionError(f"the victim is dead: no {name}")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def loop_lag(self) -> tuple[list[int], list[int]]:
        """Counts of ticks since its start, by how late: by its own work, and on the clock."""
        read = request_control(Home(self.home).control_path, "status")["loop_lag"]
        return read["own"], read["on_clock"]

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Run = Callable[[Victim, int], Awaitable[None]]


@dataclass(frozen=True)
class Attack:
    """`scale` 1 is what a test can afford. `blame`: what the victim's log must name afterwards."""

    name: str
    run: Run
    blame: str  # what the victim's log must name afterwards: "address" or "account"; else why it can name nobody
    memory: int = 32 * MIB  # how far the victim's peak may be above what it held before
    lag: float = 0.1  # what 99 of 100 of the loop's ticks must keep, as far as the victim's own work is to blame
    full: int = 10  # the scale of the campaign
    blame_from: int = 1  # the scale from which on it is more than is tolerated, or lasts as long as a deadline
    in_tests: bool = True  # no: it waits for the product's own deadlines; small hosts with shorter ones are tested


@contextmanager
def run_victim(folder: Path) -> Iterator[Victim]:
    """The only validator of its network, by the ordinary command; ended in order, as Ctrl-C does."""
    genesis = make_genesis("under-attack", 771_200, [VICTIM], [FRIEND], timestamp=int(time.time()))
    home = Home(folder)
    write_private(home.genesis_path, genesis.encode())
    write_private(home.key_path, VICTIM.secret.hex().encode() + b"\n")
    command = ["join", "--home", str(folder), "--listen", "127.0.0.1", "--port", "0", "--observe", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "flock_p2p", *command], stdin=subprocess.DEVNULL)
    try:
        address = _wait_for_address(home, process)
        yield Victim(address, genesis, folder, process.pid)
        assert process.poll() is None, "the victim is dead"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # started in the background, where SIGINT is ignored
            process.kill()
            process.wait()


def _wait_for_address(home: Home, process: subprocess.Popen[bytes]) -> Address:
    """Once it answers its owner everything of it is open, and what it holds in memory is at rest."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return parse_address(request_control(home.control_path, "status")["address"])
        except Unavailable:
            assert process.poll() is None and time.monotonic() < end, "the victim does not start"
            time.sleep(0.05)


async def connect_raw(victim: Victim, source: str = "") -> trio.SocketStream:
    address = victim.address
    return await trio.open_tcp_stream(address.host, address.port, local_address=source or victim.source)


async def until_closed(stream: trio.SocketStream, seconds: float = 30) -> None:
    """Raises TooSlowError where the victim keeps it open."""
    with trio.fail_after(seconds):
        try:
            while await stream.receive_some(65_536):
                pass
        except trio.BrokenResourceError:
            pass


async def send_or_lose(stream: trio.SocketStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        pass


@asynccontextmanager
async def open_stack(number: int) -> AsyncIterator[Stack]:
    async def on_link(link: Link) -> None:
        await link.closed.wait()

    stack = Stack(key(number), QUICK, announce=[], protocols={}, open_protocols=frozenset(), on_link=on_link)
    async with stack.run(None):
        yield stack


async def dial(stack: Stack, victim: Victim, source: str = "") -> Link:
    below = stack._adopt(await connect_raw(victim, source))
    with trio.fail_after(PATIENCE):
        conn = await stack.swarm.upgrade_outbound_raw_conn(RawConnection(below, True), victim.address.peer_id)
    return stack._register(conn)


async def say_hello(link: Link, victim: Victim) -> None:
    stream = await link.open(HELLO)
    await stream.write_frame(Hello(VERSION, bytes(victim.genesis.hash), victim.upgrades_hash, ()).encode())
    assert await stream.read_frame(4_096, PATIENCE) is not None
    await stream.close()
    link.admitted.set()


@asynccontextmanager
async def attacker(victim: Victim, more: int = 0, *, hello: bool = True) -> AsyncIterator[Link]:
    """One authenticated connection, whose bytes the attack writes; `more`: of another key."""
    async with open_stack(victim.number + more) as stack:
        link = await dial(stack, victim)
        if hello:
            await say_hello(link, victim)
        yield link


def _open_friend(own: Key, victim: Victim) -> AbstractAsyncContextManager[Host]:
    return open_host(
        own, ("127.0.0.1", 0), bytes(victim.genesis.hash), PATIENT, upgrades_hash=victim.upgrades_hash
    )  # fmt: skip


class Watch:
    """An honest peer with a connection of its own: did it lose it, and how long did it wait for an answer?"""

    def __init__(self, host: Host, victim: Victim) -> None:
        self._host, self._victim = host, victim
        self.lost = 0
        self.waits: list[float] = []

    async def _on_disconnected(self, _account: bytes) -> None:
        self.lost += 1

    async def ask(self) -> None:
        start = trio.current_time()
        await self._host.request(self._victim.address.account, SYNC_PROTOCOL, encode(["head"]), ANSWER_SECONDS)
        self.waits.append(trio.current_time() - start)

    async def ask_often(self) -> None:
        while True:
            await self.ask()
            await trio.sleep(0.25)


@asynccontextmanager
async def watch(victim: Victim) -> AsyncIterator[Watch]:
    """While the body attacks; afterwards the friend must still be connected, and a newcomer must be let in."""
    async with _open_friend(FRIEND, victim) as host:
        await host.connect(str(victim.address))
        seen = Watch(host, victim)
        host.on_disconnected(seen._on_disconnected)
        await seen.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seen.ask_often)
            yield seen
            nursery.cancel_scope.cancel()
        await seen.ask()
        assert not seen.lost, "the honest peer lost its connection"
        await check_newcomer(victim)


async def check_newcomer(victim: Victim) -> None:
    """From an address that nobody attacked from."""
    async with _open_friend(key(99), victim) as host:
        end = trio.current_time() + PATIENCE
        while True:
            try:
                await host.connect(str(victim.address))
                return
            except FlockError:
                assert trio.current_time() < end, "no newcomer is let in"
                await trio.sleep(0.2)


@dataclass(frozen=True)
class Outcome:
    seconds: float
    memory: int  # bytes of the victim's peak above what it held before
    cpu_seconds: float  # of the victim
    wait: float  # the longest that the honest peer waited for an answer
    lag: float  # how late the victim's loop was, 99 of 100 times, by its own work; `late`: on the clock
    late: float


async def carry_out(victim: Victim, attack: Attack, scale: int) -> Outcome:
    """Raises AssertionError for whatever the victim must not do."""
    victim.aim(f"{attack.run.__module__} {attack.name}")
    before_log, before, cpu, lag = len(victim.log), victim.resident, victim.cpu_seconds(), victim.loop_lag()
    victim.forget_peak()
    start = trio.current_time()
    async with watch(victim) as seen:
        await attack.run(victim, scale)
    own, on_clock = (
        find_percentile([new - old for new, old in zip(after, counts, strict=True)], 0.99)
        for after, counts in zip(victim.loop_lag(), lag, strict=True)
    )
    outcome = Outcome(
        trio.current_time() - start, max(0, victim.peak - before), victim.cpu_seconds() - cpu, max(seen.waits), own,
        on_clock,
    )  # fmt: skip
    assert outcome.memory <= attack.memory, (
        f"{outcome.memory >> 20} MiB above what it held, {attack.memory >> 20} allowed"
    )
    # A short attack has so few ticks that one in a hundred is the worst of all: the campaign judges it.
    if scale >= attack.full:
        assert outcome.lag <= attack.lag, f"the loop was {outcome.lag} s late by its own work, {attack.lag} allowed"
    log = victim.log[before_log:]
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3_000]
    assert "starting a new one" not in log, "the stack was restarted"
    if attack.blame in BLAMES and scale >= attack.blame_from:
        await _check_blame(victim, attack, before_log)
    return outcome


async def _check_blame(victim: Victim, attack: Attack, before_log: int) -> None:
    """What the attacker did last may be read after it has gone."""
    name = victim.source if attack.blame == "address" else f"0x{key(victim.number).account.hex()}"
    end = trio.current_time() + 10
    while not any(name in line and COMPLAINTS in line for line in victim.log[before_log:].splitlines()):
        assert trio.current_time() < end, f"{name} is not in the log: {victim.log[before_log:][-2_000:]}"
        await trio.sleep(0.1)


def table(*attacks: Attack) -> dict[str, Attack]:
    rows = {attack.name: attack for attack in attacks}
    assert len(rows) == len(attacks)
    return rows
