"""A peer's first connections, to the addresses that it was told; what is wrong where nobody would ever be reached."""

import logging
from collections.abc import Sequence

from flock_chain.crypto import Key
from flock_chain.errors import FlockError, Misuse, Unavailable
from flock_chain.genesis import Genesis
from flock_peers.network.host import Host
from flock_peers.network.identity import parse_address
from flock_peers.settings import PeerSettings

log = logging.getLogger(__name__)


async def reach_network(settings: PeerSettings, genesis: Genesis, key: Key, host: Host) -> None:
    """Raises what is wrong where nobody would ever be reached."""
    named = {parse_address(address).account for address in settings.bootstrap}
    knows_others = any(account not in named for account in host.book.entries)
    check_bootstrap(settings, genesis, key, knows_others=knows_others)
    await connect_bootstrap(host, settings.bootstrap, knows_others=knows_others)


def check_bootstrap(settings: PeerSettings, genesis: Genesis, key: Key, *, knows_others: bool) -> None:
    """A peer that nobody knows and that knows nobody would wait for ever without a word."""
    is_validator = any(row.account == key.account for row in genesis.validators)
    if settings.bootstrap or knows_others or is_validator:
        return
    if not settings.mdns:
        raise Misuse("no bootstrap address: a peer that is no validator needs one of a running peer (--bootstrap)")
    log.info("no other peer's address is kept here yet: looking for one on the local network; --bootstrap names one")


async def connect_bootstrap(host: Host, addresses: Sequence[str], *, knows_others: bool) -> None:
    """To the first address that can be had. Raises what is wrong with one where none is of use and no other peer is
    known: an address may belong to another network now, but then somebody must notice."""
    wrong: FlockError | None = None
    for address in addresses:
        try:
            await host.connect(address)
            return
        except FlockError as error:
            log.warning("bootstrap %s: %s", address, str(error).removeprefix(f"{address}: "))  # most name it, not all
            if not isinstance(error, Unavailable):  # who does not answer may come back; the host goes on trying
                wrong = wrong or error
    if wrong is not None and not knows_others:
        raise wrong
