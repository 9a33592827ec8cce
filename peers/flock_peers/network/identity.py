"""Peer ids, accounts and printable addresses. One secp256k1 key is all three; knows no socket."""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

import base58
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.peer.id import ID

from flock_chain.crypto import Account, Key, account_of_public_key, keccak256
from flock_chain.errors import FlockError, InvalidEncoding, InvalidRemote

MAX_ADDRESS_CHARACTERS = 256
KNOWN_IDS = 1_024  # as many peers as are tracked at all; gossip asks twice for every message
# A peer id of a secp256k1 key carries the key itself: identity multihash (0x00, 37 bytes) of the protobuf
# { type: Secp256k1 = 2, data: 33 bytes }.
_PEER_ID_PREFIX = bytes([0x00, 0x25, 0x08, 0x02, 0x12, 0x21])
_PEER_ID_BYTES = len(_PEER_ID_PREFIX) + 33
_HOST_NAME = re.compile(r"^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9-]{1,63})*\.?$")


def key_pair_of(key: Key) -> KeyPair:
    return create_new_key_pair(key.secret)


def peer_id_of(key: Key) -> ID:
    return ID(_PEER_ID_PREFIX + key.public_key)


def account_of(peer_id: ID) -> Account:
    """Raises InvalidRemote unless the id carries a secp256k1 key."""
    return _account_of_bytes(peer_id.to_bytes())


def alias_of(peer_id: ID) -> Account:
    """To count a guest whose key is of another kind by; no account of the chain."""
    return Account(keccak256(b"flock-guest" + peer_id.to_bytes())[-20:])


@lru_cache(KNOWN_IDS)
def _account_of_bytes(raw: bytes) -> Account:
    if len(raw) != _PEER_ID_BYTES or not raw.startswith(_PEER_ID_PREFIX):
        raise InvalidRemote(f"peer id {ID(raw)}: not of a secp256k1 key")
    return account_of_public_key(raw[len(_PEER_ID_PREFIX) :])


@dataclass(frozen=True)
class Address:
    """Where a peer listens: /ip4/10.0.0.1/tcp/4001/p2p/16Uiu2…"""

    kind: str  # ip4, ip6, dns, dns4, dns6
    host: str
    port: int
    peer_id: ID
    account: Account
    relay: ID | None = None  # then host and port are the relay's: …/p2p/16Uiu2…/p2p-circuit/p2p/16Uiu2…

    def __str__(self) -> str:
        way = f"/{self.kind}/{self.host}/tcp/{self.port}/p2p/"
        return f"{way}{self.peer_id}" if self.relay is None else f"{way}{self.relay}/p2p-circuit/p2p/{self.peer_id}"

    @property
    def relay_address(self) -> "Address":
        """Where the relay itself is reached."""
        assert self.relay is not None
        return Address(self.kind, self.host, self.port, self.relay, account_of(self.relay))

    @property
    def is_loopback(self) -> bool:
        return self.kind.startswith("ip") and ipaddress.ip_address(self.host).is_loopback

    @property
    def is_dialable_hearsay(self) -> bool:
        """May be dialed on another peer's word: a unicast IP address, no name lookups for strangers."""
        if not self.kind.startswith("ip"):
            return False
        ip = ipaddress.ip_address(self.host)
        return not (ip.is_multicast or ip.is_unspecified or ip.is_reserved)


def make_address(host: str, port: int, peer_id: ID) -> Address:
    """`host`: an IP address, or a name."""
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns"
    return Address(kind, host, port, peer_id, account_of(peer_id))


def parse_address(text: object) -> Address:
    """Raises InvalidEncoding naming what is wrong."""
    if not isinstance(text, str) or len(text) > MAX_ADDRESS_CHARACTERS:
        raise InvalidEncoding(f"address: no text of at most {MAX_ADDRESS_CHARACTERS} characters")
    parts = text.strip().split("/")
    is_circuit = len(parts) == 10 and parts[7:9] == ["p2p-circuit", "p2p"]
    if (len(parts) != 7 and not is_circuit) or parts[0] or parts[3] != "tcp" or parts[5] != "p2p":
        raise InvalidEncoding(f"address {text!r}: must look like /ip4/203.0.113.7/tcp/4001/p2p/16Uiu2HA…")
    kind, host, port = parts[1], parts[2], parts[4]
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidEncoding(f"address {text!r}: the port is not between 1 and 65535")
    _check_host(text, kind, host)
    try:
        peer_id = ID(base58.b58decode(parts[-1]))
        account = account_of(peer_id)
        relay = ID(base58.b58decode(parts[6])) if is_circuit else None
        if relay is not None and account_of(relay) == account:
            raise ValueError("its own relay")
    except (ValueError, FlockError) as error:
        raise InvalidEncoding(f"address {text!r}: the part after /p2p/ is no peer id of this network") from error
    return Address(kind, host, int(port), peer_id, account, relay)


def _check_host(text: str, kind: str, host: str) -> None:
    if kind in ("dns", "dns4", "dns6"):
        if not _HOST_NAME.match(host):
            raise InvalidEncoding(f"address {text!r}: no host name")
        return
    try:
        version = {"ip4": 4, "ip6": 6}[kind]
        if ipaddress.ip_address(host).version != version:
            raise ValueError("wrong IP version")
    except (KeyError, ValueError) as error:
        raise InvalidEncoding(f"address {text!r}: no IP address of kind {kind}") from error
