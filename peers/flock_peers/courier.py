"""How a transaction travels: between validators on direct streams, from and to anybody else by gossip.

Gossip costs each of n validators a dozen messages, signatures included; a direct stream costs it one. Who misses a
validator among its connections gossips as well. Knows no mempool: it hands over what arrives, and blames its sender.
"""

import logging
from collections.abc import Awaitable, Callable, Collection

from flock_chain.codec import decode, encode
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidEncoding, InvalidRemote
from flock_chain.execution.transactions import MAX_TRANSACTION_BYTES
from flock_peers.network.complaints import Tolerance
from flock_peers.network.host import Host

log = logging.getLogger(__name__)

TRANSACTIONS_PROTOCOL = "/flock/transactions/1"
MESSAGE_VERSION = 1
MAX_MESSAGE_BYTES = MAX_TRANSACTION_BYTES + 16  # a list, its version, and the length of the bytes

# Validators pass on what they took themselves: now and then what is in a block by now, or has no room here.
REFUSED = Tolerance("transactions refused", 100)

Submit = Callable[[bytes], Awaitable[object]]  # into the mempool; raises InvalidRemote for what breaks a rule


def gossip_topic(genesis_hash: bytes) -> str:
    return f"{TRANSACTIONS_PROTOCOL}/{genesis_hash.hex()[:16]}"


def encode_transaction_message(raw: bytes) -> bytes:
    return encode([MESSAGE_VERSION, raw])


def decode_transaction_message(payload: bytes) -> bytes:
    """The transaction's bytes, unjudged; raises InvalidEncoding."""
    value = decode(payload, limit=MAX_MESSAGE_BYTES)
    if not isinstance(value, list) or not value or type(value[0]) is not int:
        raise InvalidEncoding("transaction message: not a list that starts with its version")
    if value[0] != MESSAGE_VERSION:
        raise InvalidEncoding(f"transaction message: version {value[0]}, this peer speaks {MESSAGE_VERSION}")
    if len(value) != 2 or not isinstance(value[1], bytes):
        raise InvalidEncoding("transaction message: not one transaction's bytes")
    return value[1]


class Courier:
    def __init__(
        self,
        host: Host,
        genesis_hash: bytes,
        *,
        submit: Submit,
        is_plausible: Callable[[bytes], bool],
        validators: Callable[[], Awaitable[Collection[Account]]],
    ) -> None:
        """`is_plausible`: whether gossip may pass it on; decided at once, without the state."""
        self._host, self._submit, self._validators = host, submit, validators
        self._topic = gossip_topic(genesis_hash)
        host.on_message(TRANSACTIONS_PROTOCOL, self._on_direct)
        host.subscribe(self._topic, lambda _author, payload: is_plausible(payload), self._on_gossip)

    async def send(self, raw: bytes) -> None:
        """Never waits for the network; what does not arrive is sent again by who made it."""
        validators = await self._validators()
        others = [account for account in validators if account != self._host.account]
        reached = 0
        if len(others) < len(validators):  # a validator itself
            reached = self._host.broadcast(TRANSACTIONS_PROTOCOL, encode_transaction_message(raw), others)
        if reached < len(others) or len(others) == len(validators):
            self._host.publish(self._topic, raw)

    async def _on_direct(self, account: Account, payload: bytes) -> None:
        """Raises InvalidRemote for what a sender that had checked it would not have sent."""
        try:
            await self._submit(decode_transaction_message(payload))
        except InvalidRemote:
            raise
        except FlockError as error:
            log.debug("transaction from 0x%s refused: %s", account.hex(), error)
            self._host.tally(account, REFUSED, f"sends many transactions that are refused: {error}")

    async def _on_gossip(self, author: Account, payload: bytes) -> None:
        try:
            await self._submit(payload)
        except FlockError as error:
            log.debug("transaction from 0x%s refused: %s", author.hex(), error)
