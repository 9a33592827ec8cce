"""Fetch the genesis document from bootstrap peers, before this peer knows which chain it is on."""

import logging
from collections.abc import Sequence

import trio

from flock_chain.crypto import Key, keccak256
from flock_chain.errors import FlockError, InvalidRemote, Misuse, Unavailable
from flock_chain.genesis import MAX_GENESIS_BYTES
from flock_peers.network.hello import GENESIS
from flock_peers.network.identity import Address, parse_address
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link
from flock_peers.network.requests import ask
from flock_peers.network.stack import Stack

log = logging.getLogger(__name__)

HEAD_START_SECONDS = 0.5  # of one address before the next: a machine that is off says nothing until all time is over
# Where no hash is pinned, whoever answers chooses the network: six round trips of 160 ms, so that the first address,
# if it is there, is the one.
UNPINNED_HEAD_START_SECONDS = 1.0


async def fetch_genesis(
    key: Key, bootstrap: Sequence[str], *, expected_hash: bytes | None = None, timeout: float = 10.0
) -> bytes:
    """The document of the first bootstrap peer that answers; it is checked against `expected_hash` if that is given.

    Opens no port. The caller parses the document, and shows its hash to the user where none was expected. Raises
    Unavailable when nobody answers in time, InvalidRemote when all answers were wrong.
    """
    if not bootstrap:
        raise Misuse("genesis: no bootstrap address was given")
    addresses = [parse_address(text) for text in bootstrap]
    errors: list[FlockError] = []
    found: list[bytes] = []
    head_start = UNPINNED_HEAD_START_SECONDS if expected_hash is None else HEAD_START_SECONDS
    stack = Stack(key, Limits(), announce=[], protocols={}, open_protocols=frozenset(), on_link=_until_closed)

    async def attempt(address: Address, over: trio.Event, scope: trio.CancelScope) -> None:
        try:
            found.append(await _fetch_from(stack, address, expected_hash, timeout))
            scope.cancel()
        except FlockError as error:
            log.info("genesis: %s", error)
            errors.append(error)
        over.set()

    with trio.move_on_after(timeout):
        async with stack.run(None), trio.open_nursery() as nursery:
            for address in addresses:
                over = trio.Event()
                nursery.start_soon(attempt, address, over, nursery.cancel_scope)
                with trio.move_on_after(head_start):
                    await over.wait()
    if found:
        return found[0]
    wrong = [error for error in errors if isinstance(error, InvalidRemote)]
    if wrong:
        raise wrong[0]
    reasons = "; ".join(str(error) for error in errors) or f"no answer within {timeout:.0f} s"
    raise Unavailable(f"genesis: no bootstrap peer gave the document: {reasons}")


async def _fetch_from(stack: Stack, address: Address, expected_hash: bytes | None, timeout: float) -> bytes:
    link = await stack.dial(address)
    try:
        document = await ask(link, GENESIS, b"", timeout, MAX_GENESIS_BYTES)
    finally:
        link.abort()
    if len(document) > MAX_GENESIS_BYTES:
        raise InvalidRemote(f"{address}: a genesis document of {len(document)} bytes")
    if expected_hash is not None and keccak256(document) != expected_hash:
        raise InvalidRemote(
            f"{address}: is on another network: its genesis document has hash 0x{keccak256(document).hex()}, "
            f"expected 0x{expected_hash.hex()}"
        )
    return document


async def _until_closed(link: Link) -> None:
    await link.closed.wait()
