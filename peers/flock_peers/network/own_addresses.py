"""Where this peer listens, and at which addresses others are told to find it. Knows no peers."""

import ipaddress
import logging

import trio
from libp2p.peer.id import ID

from flock_chain.errors import Misuse, Unavailable
from flock_peers.network.hello import MAX_LISTEN
from flock_peers.network.identity import Address, make_address
from flock_peers.network.lan import list_own_hosts
from flock_peers.network.link import Link
from flock_peers.network.listener import open_listener

log = logging.getLogger(__name__)


class OwnAddresses:
    """`reserved`: at relays, told before the others. `port` is known once the peer listens."""

    def __init__(self, peer_id: ID, listen: tuple[str, int], announce: str | None) -> None:
        """Raises Misuse for what cannot be listened at. `announce`: the only host that others are told."""
        _check_listen(listen)
        self.peer_id, self._announce = peer_id, announce
        self._listen_host, self.port = listen
        self.reserved: list[Address] = []

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self._listen_host).is_loopback

    def of(self, link: Link | None) -> list[Address]:
        """The first is that by which this peer sees us: 0.0.0.0 would be useless to it."""
        hosts = [self._announce] if self._announce else list_own_hosts(self._listen_host)
        if self._listen_host in ("0.0.0.0", "::") and not self._announce and link is not None:
            hosts.insert(0, link.local_host)
        if not hosts:
            hosts = [self._listen_host if self.is_loopback else "127.0.0.1"]
        direct = [make_address(host, self.port, self.peer_id) for host in dict.fromkeys(hosts)]
        return (self.reserved + direct)[:MAX_LISTEN]


def _check_listen(listen: tuple[str, int]) -> None:
    host, port = listen
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise Misuse(f"listen address {host!r}: an ip address is needed, like 0.0.0.0 or 127.0.0.1") from error
    if not 0 <= port < 65536:
        raise Misuse(f"listen port {port}: not between 0 and 65535")


async def open_last_listener(host: str, port: int, last_port: int) -> trio.SocketListener:
    """The others of a network that was stopped as a whole look for each other where they were."""
    if not port and last_port:
        try:
            return await open_listener(host, last_port)
        except Unavailable as error:
            log.info("port of the last run: %s", error)
    return await open_listener(host, port)
