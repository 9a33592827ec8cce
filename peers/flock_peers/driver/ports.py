"""What the driver needs of the rest of a peer, as protocols. Imports no implementation."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from enum import Enum
from typing import Protocol

from flock_chain.consensus.types import Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account


class BlockVerdict(Enum):
    VALID = "valid"
    INVALID = "invalid"  # provably, for everybody and for ever
    LATER = "later"  # not now: a timestamp ahead of this clock, or too far behind


class LedgerPort(Protocol):
    """The executed chain. Every method that may execute or touch the disk is async."""

    def height(self) -> int:
        """The last final height; 0 at genesis."""

    def base(self) -> int:
        """The lowest height from which every final block and certificate is here: 1, or where a snapshot began."""

    async def validators(self) -> ValidatorSet:
        """The set of `height() + 1`, read from the final state."""

    async def next_validators(self) -> ValidatorSet:
        """The set of the next epoch: whoever enters has its logs ready before it serves."""

    async def build(self, height: int, view: int, votes: Callable[[], Sequence[Vote]]) -> bytes:
        """A fresh block on the head; raises Unavailable where none can be built now.

        `votes`: those of the parent's height that are here, unverified; asked as late as can be.
        """

    async def check(self, block: bytes, *, proposer: Account | None = None) -> BlockVerdict:
        """`proposer`: who must have made it."""

    def block_id(self, block: bytes) -> bytes:
        """The id that the bytes hash to; raises InvalidEncoding or InvalidBlock for what is no block."""

    async def commit(self, block: bytes, certificate: bytes) -> None:
        """Execute the next block and store it, its state and its certificate in one durable transaction."""

    async def adopt(self, block: bytes, certificate: bytes) -> None:
        """`commit`, but durable only after `flush`: for blocks that others have, so that many share one wait."""

    async def flush(self) -> None:
        """Returns once every adopted block is durable."""

    async def block_and_certificate(self, height: int) -> tuple[bytes, bytes] | None: ...

    async def work(self, now: float, votes: Callable[[], Sequence[Vote]] | None = None) -> float | None:
        """Seconds until a block is wanted (0: now), or until it should be asked again; None: not before `wait_work`
        returns. `now`: seconds since 1970. `votes`: of the last height, where this peer leads the next."""

    async def wait_work(self) -> None:
        """Returns when something arrived (a transaction) that may change `work`."""


class ConsensusNetworkPort(Protocol):
    """Authenticated, unreliable, never blocking; a payload is at most 1 MiB."""

    def broadcast(self, payload: bytes, accounts: Collection[Account]) -> None: ...

    def send(self, account: Account, payload: bytes) -> None: ...

    def messages(self, is_heard: Callable[[Account, int], bool]) -> AsyncIterator[tuple[Account, bytes]]:
        """`is_heard`: whether a message of somebody, so large, takes any room while it waits."""


class SyncPort(Protocol):
    """Requests of the protocol /flock/sync/1; the other side answers with `SyncServer.answer`."""

    def peers(self) -> Collection[Account]:
        """Connected peers, validators or not."""

    async def request(self, account: Account, payload: bytes, timeout: float, most: int) -> bytes:
        """`most`: bytes of the answer. Raises Unavailable on a timeout or a closed connection, InvalidRemote
        for more."""
