"""`join`: fetch the genesis where this home has none, then run the peer until Ctrl-C. Running it again resumes."""

import argparse
import gc
import logging
import os
import signal
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from flock_chain.crypto import Key, keccak256
from flock_chain.errors import FlockError, InvalidContent, InvalidEncoding, Misuse, Refused, Unavailable
from flock_chain.genesis import Genesis, decode_genesis
from flock_p2p.allocator import limit_arenas
from flock_p2p.checkup import check_disk
from flock_p2p.cli import parse_coins, parse_genesis_hash
from flock_p2p.config import CONFIG_FILE, JoinConfig, load_config, merge_arguments, save_config
from flock_p2p.loading import load_peer
from flock_p2p.logs import start_logging
from flock_p2p.passphrase import Passphrases, check_none_for_new_key
from flock_p2p.uptime import seconds_since_start
from flock_peers.home import Home, make_key
from flock_peers.plural import plural
from flock_peers.settings import DataSettings, PeerSettings
from flock_peers.training.domains import check_domain
from flock_peers.training.privacy import check_privacy, parse_privacy

if TYPE_CHECKING:
    from flock_chain.execution.records import Pin
    from flock_peers.peer import Peer

log = logging.getLogger(__name__)

LEAST_QUOTA = 10**8  # bytes: the snapshots of a young chain, and a round of a small task
MAX_GPUS = 64  # of one machine
LAN_SECONDS = 5.0  # for a neighbour to answer: three questions
JOINED_POLL_SECONDS = 0.2  # until the own bond is seen on chain; once a start
GENESIS_SECONDS = 10.0  # for a bootstrap peer to hand over the genesis document
COMPARE = "compare this hash with one that you trust; --genesis HASH pins it"
TELL_OTHERS = "this key is a first validator's: whoever joins compares this hash with yours; --genesis HASH pins it"


def run(arguments: argparse.Namespace) -> int:
    limit_arenas()
    home, expected = Home(arguments.home), parse_genesis_hash(arguments.genesis)
    home.check_is_own()
    if not home.key_path.exists():  # before the lock makes a folder
        check_none_for_new_key(arguments.passphrase_fd)
    with home.lock():  # a running peer's home is left as it is; the peer itself takes the lock again for its life
        home.bring_up_to_date()
        is_new = not home.key_path.exists()
        # A new one is on disk when all is over that could refuse this start: what is refused leaves nothing to back up.
        key = make_key() if is_new else home.load_key(Passphrases(arguments.passphrase_fd).ask)
        start_logging(home, quiet=arguments.quiet)
        config = merge_arguments(load_config(home), arguments)
        check_http(config)
        _check_task(config, is_told=arguments.task is not None)
        load_peer()
        checkpoint = _parse_checkpoint(home, arguments.checkpoint)
        _check_data(config, is_base_told=arguments.base is not None)
        _check_addresses(config)
        _tell_disk(home)
        settings = replace(build_settings(home, key, config), takes_up=takes_up(arguments))
        genesis = _get_genesis(home, key, config, expected)
    trio.run(_run, settings, genesis, config, checkpoint, is_new, arguments.until_stdin_closes)
    return 0


def _keep_key(home: Home, key: Key) -> None:
    """Before anything is asked for in its name. Raises Misuse where somebody else put one there meanwhile."""
    home.create_key(key)
    told = "new; back it up: it is this peer's identity and its stake; `keys lock` puts it under a passphrase"
    print(f"key      {home.key_path}  ({told})", flush=True)


def _parse_checkpoint(home: Home, text: str | None) -> "Pin | None":
    from flock_peers.staging import discard_staging, parse_checkpoint

    if text is None:
        discard_staging(home.path)  # of an import that ended in the middle, and is not asked for any more
        return None
    return parse_checkpoint(text)


def _check_addresses(config: JoinConfig) -> None:
    """A slip of whoever typed or pasted one is nothing that another peer sent."""
    from flock_peers.network.identity import parse_address

    for option, addresses in (("--bootstrap", config.bootstrap), ("--via", config.via)):
        for text in addresses:
            try:
                parse_address(text)
            except InvalidEncoding as error:
                raise Misuse(f"{option}: {error}") from error


def _tell_disk(home: Home) -> None:
    """A full disk ends the peer later, with nothing lost; whoever starts it can still do something about it."""
    finding = check_disk(home)
    if not finding.is_ok:
        print(f"disk     {finding.text}; {finding.advice}", flush=True)


async def _check_ports(config: JoinConfig) -> None:
    """As the peer itself opens them, which has stored the network's genesis by then."""
    from flock_p2p.web.site import make_site
    from flock_peers.network.listener import check_listener

    await check_listener(config.listen, config.port)
    if (site := make_site(config)) is not None:
        await site.find_port()


def _check_data(config: JoinConfig, *, is_base_told: bool) -> None:
    """Before anything is contacted: what is wrong with data or base would only be noticed when training starts. A base
    that this home had at an earlier start is not opened again: that takes some seconds."""
    if config.base:
        from flock_peers.training.base_check import check_base_folder
        from flock_peers.training.opening_trial import check_opening

        check_base_folder(Path(config.base))
        if is_base_told:
            check_opening(Path(config.base))
    if not config.data:
        check_domain(config.domain, max(config.domain_slice, 0))
    if not 1 <= config.gpus <= MAX_GPUS:
        raise Misuse(f"--gpus {config.gpus}: 1 to {MAX_GPUS}")
    if config.privacy:
        check_privacy(parse_privacy(config.privacy))
    if config.precision:
        from flock_peers.training.precision import check_precision

        check_precision(config.precision)
    if config.data:
        from flock_peers.training.rows import Refusals, read_rows

        refusals = Refusals()
        try:
            rows = read_rows(Path(config.data), refusals)
        except InvalidContent as error:  # of the own rows, which nobody sent
            raise Misuse(str(error)) from error
        left_out = f"; {refusals.count} left out: {refusals}" if refusals.count else ""
        print(f"data     {plural(len(rows), 'row')}{left_out}", flush=True)


def _check_task(config: JoinConfig, *, is_told: bool) -> None:
    if config.task < 0:
        raise Misuse(f"--task {config.task}: a task's number, as `task list` has it, or 0 for any")
    if is_told and config.task and config.observe:
        raise Misuse(f"--task {config.task}: this peer was told to look on; add --no-observe")


def takes_up(arguments: argparse.Namespace) -> int | None:
    """The task that was named now: one that the file names may have been left since."""
    return arguments.task or None


def check_http(config: JoinConfig) -> None:
    """Raises Misuse for what is no port or no origin."""
    if not -1 <= config.http < 1 << 16:
        raise Misuse(f"--http {config.http}: a port is 0 to 65535, or -1 for no server")
    for origin in config.rpc_origin:
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise Misuse(f"--rpc-origin {origin}: an origin is scheme, host and port, such as http://localhost:5173")


def _get_genesis(home: Home, key: Key, config: JoinConfig, expected: bytes | None) -> Genesis:
    """Of this home, else of the network. Its hash is shown until a peer has run here: of a first start that was
    refused, nobody may have looked at it."""
    has_run = home.key_path.exists() and (home.path / CONFIG_FILE).exists()
    if home.genesis_path.exists():
        genesis = _load_genesis(home, expected)
    else:
        genesis, has_run = _fetch_genesis(home, key, config, expected), False
    if not has_run:
        print(f"network  {genesis.network}, genesis {genesis.hash.hex()}", flush=True)
        if expected is None:
            is_founder = any(row.account == key.account for row in genesis.validators)
            print(f"         {TELL_OTHERS if is_founder else COMPARE}", flush=True)
    return genesis


def _load_genesis(home: Home, expected: bytes | None) -> Genesis:
    genesis = home.load_genesis()
    if expected is not None and genesis.hash != expected:
        raise Refused(
            f"{home.path} belongs to the network with genesis {genesis.hash.hex()}, not {expected.hex()}; "
            "use another --home"
        )
    return genesis


def _fetch_genesis(home: Home, key: Key, config: JoinConfig, expected: bytes | None) -> Genesis:
    from flock_peers.network.genesis_fetch import fetch_genesis

    async def fetch() -> bytes:
        known, pinned = config.bootstrap + config.via, expected
        if not known:
            pinned, known = await _look_around(home, config, expected)
        try:
            return await fetch_genesis(key, known, expected_hash=pinned, timeout=GENESIS_SECONDS)
        except Unavailable as error:
            asked = "is it running, is that still its address (`status` there prints it), and is its TCP port open?"
            raise Unavailable(f"{error}; {asked}") from error

    data = trio.run(fetch)
    decode_genesis(data)
    if not home.key_path.exists():  # a first start of which nothing is kept
        trio.run(_check_ports, config)
    return home.store_genesis(data)


async def _look_around(home: Home, config: JoinConfig, expected: bytes | None) -> tuple[bytes, tuple[str, ...]]:
    """The one network of which peers are on the local network. Raises Misuse where its user has to choose."""
    from flock_peers.network.mdns import find_networks

    if not _is_mdns_on(config):
        raise Misuse(f"{home.path} belongs to no network yet: give the address of a running peer with --bootstrap")
    print(f"looking for a network on this local network, for {LAN_SECONDS:.0f} s", flush=True)
    try:
        networks = await find_networks(LAN_SECONDS, wanted=expected)
    except OSError as error:
        raise Unavailable(f"no discovery on the local network ({error}): give an address with --bootstrap") from error
    if not networks:
        wanted = "one" if expected is None else f"the network with genesis {expected.hex()}"
        raise Unavailable(
            f"{home.path} belongs to no network yet, and no peer of {wanted} was heard on the local network within "
            f"{LAN_SECONDS:.0f} s: give the address of a running peer with --bootstrap, or start a network of your own "
            "with `init --new-network NAME`"
        )
    if len(networks) > 1:
        hashes = ", ".join(sorted(digest.hex() for digest in networks))
        raise Misuse(
            f"peers of {len(networks)} networks are on the local network: choose with --genesis one of {hashes}"
        )
    ((digest, addresses),) = networks.items()
    return digest, tuple(str(address) for address in addresses)


def _is_mdns_on(config: JoinConfig) -> bool:
    """Who listens to this machine only has nothing to announce."""
    return config.mdns and config.listen != "::1" and not config.listen.startswith("127.")


def build_settings(home: Home, key: Key, config: JoinConfig) -> PeerSettings:
    private = keccak256(b"flock-local-seed", key.secret)
    quota = {"quota_bytes": parse_quota(config.disk_quota)} if config.disk_quota else {}
    return PeerSettings(
        **quota,
        max_base_bytes=config.max_base_bytes if config.max_base_bytes >= 0 else None,
        home=home.path,
        key=key,
        listen_host=config.listen,
        listen_port=config.port,
        mdns=_is_mdns_on(config),
        dht=config.dht,
        guests=config.guests,
        relay=config.relay,
        via=config.via,
        bootstrap=config.bootstrap + config.via,  # a relay is a peer like any other
        participate=not config.observe,
        task=config.task or None,
        bond=parse_coins(config.bond) if config.bond else None,
        seed=config.seed if config.seed >= 0 else int.from_bytes(private[:6], "big"),
        data=DataSettings(
            domain=config.domain,
            index=config.domain_slice if config.domain_slice >= 0 else private[6] % 16,
            rows=Path(config.data) if config.data else None,
            base=Path(config.base) if config.base else None,
            precision=config.precision,
            checkpointing=config.checkpointing,
            gpus=config.gpus,
            privacy=parse_privacy(config.privacy) if config.privacy else None,
            attack=config.attack or None,
        ),
    )


def parse_quota(text: str) -> int:
    """Gigabytes, as bytes. Raises Misuse for what is no size, or too little for anything."""
    try:
        quota = int(Decimal(text) * 10**9)
    except (InvalidOperation, OverflowError, ValueError):
        quota = 0
    if not LEAST_QUOTA <= quota < 1 << 60:
        raise Misuse(f"--disk-quota {text}: gigabytes are needed, {LEAST_QUOTA / 10**9} at least")
    return quota


async def _run(
    settings: PeerSettings, genesis: Genesis, config: JoinConfig, checkpoint: "Pin | None", is_new: bool,
    until_stdin_closes: bool,
) -> None:  # fmt: skip
    """`is_new`: the key, which is not in the home yet."""
    from flock_p2p.web.site import make_site
    from flock_peers.peer_opening import run_peer, start_from_checkpoint

    site = make_site(config)

    def on_ready(peer: "Peer") -> None:
        if is_new:
            _keep_key(peer.home, peer.key)
        save_config(peer.home, config)  # under the peer's lock, and only what it could start with
        print(f"account  0x{peer.account.hex()}")
        print(f"genesis  {genesis.hash.hex()}")
        print(f"address  {peer.host.address}")
        if site is not None:
            print("\n".join(site.describe()))
        print(f"to join  {format_join(peer.host.address, settings.listen_host)}", flush=True)
        if settings.participate:
            nursery.start_soon(_tell_taking_part, peer)
        # What a start leaves lives as long as the peer. Looked through with every full collection it would hold up the
        # loop for a tenth of a second and more, as often as strangers' messages make enough new objects.
        gc.freeze()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        if until_stdin_closes:
            nursery.start_soon(_stop_with_parent, nursery.cancel_scope)
        if checkpoint is not None:
            await start_from_checkpoint(settings, checkpoint)
        await run_peer(settings, on_ready, None if site is None else site.run)
        nursery.cancel_scope.cancel()


async def _tell_taking_part(peer: "Peer") -> None:
    """Once: how long it took from the start of this process until this account is among those who are drawn."""
    while (found := await _find_part(peer)) is None:
        await trio.sleep(JOINED_POLL_SECONDS)
    task, first = found
    print(
        f"joined   taking part in task {task} from round {first} on, "
        f"{seconds_since_start():.1f} s after this process started",
        flush=True,
    )


async def _find_part(peer: "Peer") -> tuple[int, int] | None:
    """The task, and the first round of it from now on in which this account counts."""
    participant = peer.participant
    if participant is None or participant.is_leaving:
        return None
    try:
        first = await participant.membership.find_first_round()
    except FlockError:  # so many ask this peer's ledger that it does not answer now
        return None
    return None if first is None else (participant.task, first)


def format_join(address: str, listen_host: str) -> str:
    """Ready to paste: who can reach a loopback address is on this machine, where this peer's port is taken."""
    port = " --port 0" if ip_address(listen_host).is_loopback else ""
    return f"python -m flock_p2p join --home NEW{port} --bootstrap {address}"


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    """SIGTERM closes as Ctrl-C does: everything that was acknowledged is on disk already."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("stopping (%s); run the same command to go on", signal.Signals(number).name)
            scope.cancel()


async def _stop_with_parent(scope: trio.CancelScope) -> None:
    """Whoever started this peer holds the other end of its stdin; the peer must not outlive it unseen."""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        while await stdin.receive_some(4096):
            pass
    log.info("stopping: the process that started this peer is gone")
    scope.cancel()
