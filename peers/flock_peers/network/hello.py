"""The handshake after the handshake: both sides say which chain and upgrades they follow, and where they listen.

Pure encoding. The version is read before any other field, so that who speaks another one is told so.
"""

from dataclasses import dataclass

from flock_chain.codec import decode, encode
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidEncoding, InvalidRemote
from flock_peers.network.identity import MAX_ADDRESS_CHARACTERS, Address, parse_address

HELLO = "/flock/hello/1"
GENESIS = "/flock/genesis/1"  # answered before hello: a joiner does not know the genesis yet
PEERS = "/flock/peers/1"
VERSION = 2  # 1: without the upgrade schedule
MAX_HELLO_BYTES = 4096
MAX_LISTEN = 4


@dataclass(frozen=True)
class Hello:
    version: int
    genesis_hash: bytes
    upgrades_hash: bytes  # of the upgrade schedule that is installed
    listen: tuple[str, ...]

    def encode(self) -> bytes:
        return encode(
            {
                "genesis": self.genesis_hash,
                "listen": list(self.listen),
                "upgrades": self.upgrades_hash,
                "version": self.version,
            }
        )


def decode_hello(data: bytes) -> Hello:
    """Of another version nothing but the number is read; `check_hello` refuses it."""
    value = decode(data, limit=MAX_HELLO_BYTES)
    version = value.get("version") if isinstance(value, dict) else None
    if type(version) is not int:
        raise InvalidEncoding("hello: without a version")
    if version != VERSION:
        return Hello(version, bytes(32), bytes(32), ())
    if set(value) != {"genesis", "listen", "upgrades", "version"}:
        raise InvalidEncoding("hello: wrong fields")
    genesis, upgrades, listen = value["genesis"], value["upgrades"], value["listen"]
    if any(not isinstance(digest, bytes) or len(digest) != 32 for digest in (genesis, upgrades)):
        raise InvalidEncoding("hello: wrong genesis hash or hash of the upgrade schedule")
    if not isinstance(listen, list) or len(listen) > MAX_LISTEN or not all(isinstance(x, str) for x in listen):
        raise InvalidEncoding(f"hello: listen addresses are no list of at most {MAX_LISTEN} texts")
    return Hello(version, genesis, upgrades, tuple(listen))


def check_hello(theirs: Hello, genesis_hash: bytes, account: Account, remote: str) -> None:
    """Raises InvalidRemote with what a user needs to know."""
    who = f"peer 0x{account.hex()} at {remote}"
    if theirs.version != VERSION:
        raise InvalidRemote(f"{who} speaks version {theirs.version} of the protocol, this peer speaks {VERSION}")
    if theirs.genesis_hash != genesis_hash:
        raise InvalidRemote(
            f"{who} is on another network: its genesis hash is 0x{theirs.genesis_hash.hex()}, "
            f"this peer's is 0x{genesis_hash.hex()}; check the bootstrap address and the genesis file"
        )


def explain_upgrades(theirs: Hello, upgrades_hash: bytes, account: Account, remote: str) -> str:
    """What both operators should know; empty where the same schedule is installed. No reason to part: not everybody
    installs it in the same minute."""
    if theirs.upgrades_hash == upgrades_hash:
        return ""
    return (
        f"peer 0x{account.hex()} at {remote} has another upgrade schedule (0x{theirs.upgrades_hash.hex()}, this peer's "
        f"is 0x{upgrades_hash.hex()}): from the first epoch in which they differ one of the two cannot follow the "
        "chain; compare them with `upgrade`"
    )


def listen_addresses(theirs: Hello, account: Account) -> list[Address]:
    """Where a peer says that it listens; what is not its own is skipped."""
    found = []
    for text in theirs.listen:
        try:
            address = parse_address(text)
        except FlockError:
            continue
        if address.account == account:
            found.append(address)
    return found


def encode_addresses(addresses: list[Address]) -> bytes:
    return encode([str(address) for address in addresses])


def max_peers_bytes(addresses: int) -> int:
    """Of an answer to peer exchange."""
    return addresses * (MAX_ADDRESS_CHARACTERS + 8)


def decode_addresses(data: bytes, most: int) -> list[Address]:
    """Hearsay: the first `most` that parse and may be dialed on a stranger's word."""
    value = decode(data, limit=max_peers_bytes(most))
    if not isinstance(value, list):
        raise InvalidEncoding("peer exchange: no list")
    found = []
    for text in value[:most]:
        try:
            address = parse_address(text)
        except FlockError:
            continue
        if address.is_dialable_hearsay:
            found.append(address)
    return found
