"""What `doctor` looks at beside package and memory: disk, home, port, clock, local network, peers. Mends nothing.

A finding is in order, not checked, or wrong; what is wrong says what to do.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from secrets import token_bytes
from typing import Any

import trio

from flock_chain.crypto import Key
from flock_chain.errors import FlockError, InvalidRemote
from flock_chain.genesis import decode_genesis
from flock_p2p.cli import parse_genesis_hash
from flock_p2p.config import JoinConfig, load_config
from flock_peers.clock_offset import MOST_OFFSET, describe
from flock_peers.control import request_control
from flock_peers.home import Home
from flock_peers.store.blob_store import LEFT_FOR_CHAIN

LEAST_FREE = LEFT_FOR_CHAIN + (1 << 30)  # bytes of disk: the chain's, and a few adapters of a small task
ANSWER_SECONDS = 5.0  # of a bootstrap peer
OWN_SECONDS = 20.0  # of the home's own, which may share a busy machine with whoever asks
# The home's configuration may say another one: a start's arguments are kept when the peer is up, and a file is edited.
TAKEN_BY_ITSELF = "the peer of this home runs, with the port that it took when it started"


@dataclass(frozen=True)
class Finding:
    name: str
    is_ok: bool | None  # None: could not be checked
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Asked:
    """What the user told `doctor`."""

    home: Home
    genesis: bytes | None
    bootstrap: tuple[str, ...]

    @cached_property
    def status(self) -> dict[str, Any] | None:
        """Of the home's own peer; None where none answers. Asked once: a busy one is waited for a single time."""
        try:
            return dict(request_control(self.home.control_path, "status", timeout=OWN_SECONDS))
        except FlockError:
            return None


def check_up(asked: Asked) -> list[Finding]:
    """Every check; one that cannot be made is itself a finding."""
    return [_check(name, check, asked) for name, check in CHECKS]


def _check(name: str, check: "Check", asked: Asked) -> Finding:
    try:
        return check(asked)
    except (FlockError, OSError) as error:
        return Finding(name, None, f"could not be checked: {error}", "mend what is found wrong here, and ask again")


def format_findings(findings: Sequence[Finding]) -> str:
    marks = {True: "ok", False: "WRONG", None: "-"}
    lines = []
    for row in findings:
        lines.append(f"{row.name:<11} {marks[row.is_ok]:<6}{row.text}")
        if row.advice:
            lines.append(f"{'':<18}{row.advice}")
    return "\n".join(lines)


def to_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    return {"ok": all(row.is_ok is not False for row in findings), "findings": [asdict(row) for row in findings]}


def _load(asked: Asked) -> JoinConfig:
    try:
        return load_config(asked.home)
    except FlockError:
        return JoinConfig()  # `_check_home` says what is wrong with it


def _find_place(home: Home) -> Path:
    """The home, or what is there of the way to it."""
    return next(path for path in (home.path, *home.path.parents) if path.exists())


def _check_disk(asked: Asked) -> Finding:
    return check_disk(asked.home)


def check_disk(home: Home) -> Finding:
    """For a start, too, which says it and goes on."""
    free = shutil.disk_usage(_find_place(home)).free
    text = f"{free / 1e9:.1f} GB free for {home.path}"
    if free < LEAST_FREE:
        return Finding("disk", False, text, f"free some: {LEAST_FREE / 1e9:.1f} GB are needed at least")
    return Finding("disk", True, text)


def _check_home(asked: Asked) -> Finding:
    home, place = asked.home, _find_place(asked.home)
    if not place.is_dir():
        return Finding("home", False, f"{place} is a file, and a home is a folder", "name another --home")
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(
            "home", False, f"{place}: this user cannot write there", "make it writable, or name another --home"
        )
    try:
        home.check_is_own()
        if not home.key_path.exists():
            return Finding("home", None, f"{home.path}: no key yet; `init` or `join` makes one")
        home.check_key()
        load_config(home)
    except FlockError as error:
        return Finding("home", False, str(error), "mend that first; a peer would not start")
    return Finding("home", True, f"{home.path}: key and configuration are readable, by you alone")


def _check_genesis(asked: Asked) -> Finding:
    if not asked.home.genesis_path.exists():
        return Finding("genesis", None, "this home belongs to no network yet")
    try:
        genesis = asked.home.load_genesis()
    except FlockError as error:
        return Finding("genesis", False, str(error), "restore genesis.json from a back-up, or join with a new home")
    text, wanted = f"{genesis.network}, {genesis.hash.hex()}", asked.genesis
    if wanted is not None and wanted != genesis.hash:
        advice = f"this is not the network {wanted.hex()}: join that one with another --home"
        return Finding("genesis", False, text, advice)
    return Finding("genesis", True, text)


def _check_port(asked: Asked) -> Finding:
    config = _load(asked)
    where = f"{config.port} on {config.listen}"
    if asked.home.is_running():
        return Finding("port", True, TAKEN_BY_ITSELF)
    if not config.port:
        return Finding("port", True, "any free one, as the home is configured")
    from flock_peers.network.listener import check_listener

    try:
        trio.run(check_listener, config.listen, config.port)
    except FlockError as error:
        advice = "find out who it is (`ss -ltnp`), or give `join --port` another one; 0 is any free one"
        return Finding("port", False, str(error), advice)
    return Finding("port", True, f"{where} is free")


def _check_http(asked: Asked) -> Finding:
    """Of the page, metrics and the RPC, where the home is configured to serve them."""
    from flock_p2p.web.site import make_site

    site = make_site(_load(asked))
    if site is None:
        return Finding("http port", True, "none is wanted")
    if not site.wanted:
        return Finding("http port", True, "any free one, as the home is configured")
    if asked.home.is_running():
        return Finding("http port", True, TAKEN_BY_ITSELF)

    try:
        found = trio.run(site.find_port)
    except FlockError as error:
        advice = "find out who it is (`ss -ltnp`), or start without the server: --http -1 --no-rpc"
        return Finding("http port", False, str(error), advice)
    told = "on 127.0.0.1 is free" if found == site.wanted else "is taken, so any other one"
    return Finding("http port", True, f"{site.wanted} {told}")


def _check_clock(asked: Asked) -> Finding:
    status = asked.status
    if status is None and asked.home.is_running():
        text = "the peer of this home runs, and did not answer: it is starting or ending, or this machine is too busy"
        return Finding("clock", None, text, "ask again in a minute, or look at what else runs here")
    if status is None:
        return Finding("clock", None, "no peer of this home runs: start it, and ask again in a minute")
    offset = status["clock_offset"]
    if offset is None:
        return Finding(
            "clock",
            None,
            "too few blocks came since the peer has started: ask again later (an idle chain makes one a minute)",
        )
    if abs(offset) > MOST_OFFSET:
        return Finding(
            "clock", False, describe(offset), "set it by NTP (`timedatectl set-ntp true`) and start the peer again"
        )
    return Finding("clock", True, f"{offset:.1f} s from the blocks of the others")


def _check_lan(_asked: Asked) -> Finding:
    from flock_peers.network.lan_check import find_deaf_interfaces

    heard, deaf = find_deaf_interfaces()
    if not heard and not deaf:
        return Finding("local net", None, "this machine has no address in a local network: join with --bootstrap")
    if deaf:
        advice = "let UDP port 5353 (mDNS) and the peer's TCP port through the firewall, or join with --bootstrap"
        return Finding("local net", False, f"this machine does not hear its own multicast on {', '.join(deaf)}", advice)
    return Finding("local net", True, f"multicast is heard on {', '.join(heard)}")


def _check_peers(asked: Asked) -> Finding:
    """Those that it was told of now; else whom the running peer is connected with; else those of the last start."""
    if asked.bootstrap:
        return _ask_bootstrap(asked, asked.bootstrap)
    status = asked.status
    if status is not None:
        count = len(status["peers"])
        advice = "" if count else "is their address still right, and their TCP port open? See the log"
        return Finding("peers", count > 0 or status["has_quorum"], f"{count} connected", advice)
    addresses = _load(asked).bootstrap
    if not addresses:
        return Finding("peers", None, "no address is known; `join` looks on the local network")
    return _ask_bootstrap(asked, addresses)


def _ask_bootstrap(asked: Asked, addresses: Sequence[str]) -> Finding:
    from flock_peers.network.genesis_fetch import fetch_genesis

    wanted = asked.genesis
    if wanted is None and asked.home.genesis_path.exists():
        wanted = bytes(asked.home.load_genesis().hash)

    async def fetch() -> bytes:
        return await fetch_genesis(Key(token_bytes(32)), addresses, timeout=ANSWER_SECONDS)

    try:
        found = decode_genesis(trio.run(fetch))
    except InvalidRemote as error:
        return Finding("peers", False, str(error), "that is no peer of this release's networks: ask for a new address")
    except FlockError as error:
        advice = "does that peer run, is its address still right, and is its TCP port open?"
        return Finding("peers", False, str(error), advice)
    if wanted is not None and found.hash != wanted:
        text = f"that peer is of the network {found.network}, {found.hash.hex()}, not of {wanted.hex()}"
        return Finding("peers", False, text, "ask for an address of your network, or join that one with another --home")
    return Finding("peers", True, f"a peer of {found.network}, {found.hash.hex()}, answers")


Check = Callable[[Asked], Finding]
CHECKS: tuple[tuple[str, Check], ...] = (
    ("disk", _check_disk), ("home", _check_home), ("genesis", _check_genesis), ("port", _check_port),
    ("http port", _check_http), ("clock", _check_clock), ("local net", _check_lan), ("peers", _check_peers),
)  # fmt: skip


def make_asked(home: Path, genesis: str | None, bootstrap: Sequence[str]) -> Asked:
    return Asked(Home(home), parse_genesis_hash(genesis), tuple(bootstrap))
