"""What validators sign and send: votes, proposals, certificates, statuses. Plain frozen values; verifies nothing."""

from dataclasses import dataclass
from enum import IntEnum

from flock_chain.crypto import Account, Digest

NO_BLOCK = Digest(bytes(32))  # the block id of a nullify vote
MAX_VALIDATORS = 150  # everybody votes up to here; a larger network needs a sampled committee
MAX_HEIGHT = 1 << 53
MAX_VIEW = 1 << 31
MAX_WEIGHT = 1 << 128  # wei
MAX_PROPOSAL_CERTIFICATES = 64  # at 150 validators they take 630 KiB; what is left over travels with the retries
VIEW_WINDOW = 64  # votes for views further ahead than this are dropped: memory per height stays bounded


class Kind(IntEnum):
    NOTARIZE = 1
    NULLIFY = 2
    FINALIZE = 3
    PROPOSE = 4


@dataclass(frozen=True, slots=True)
class Vote:
    """One signed statement. `parent_view` is 0 but for PROPOSE; `block_id` is NO_BLOCK for NULLIFY."""

    kind: Kind
    height: int
    view: int
    block_id: bytes
    parent_view: int
    signer: Account
    signature: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """A quorum's votes for one statement. Keeps every signature: whoever votes twice can be named."""

    kind: Kind
    height: int
    view: int
    block_id: bytes
    bitmap: bytes  # bit i (least significant first) = validator i of the height's ordered set
    signatures: tuple[bytes, ...]  # in the order of the bits


@dataclass(frozen=True, slots=True)
class Proposal:
    """A PROPOSE statement and the certificates that permit it. The block's body travels beside it."""

    vote: Vote
    certificates: tuple[Certificate, ...]

    @property
    def height(self) -> int:
        return self.vote.height

    @property
    def view(self) -> int:
        return self.vote.view

    @property
    def block_id(self) -> bytes:
        return self.vote.block_id

    @property
    def parent_view(self) -> int:
        """0: a fresh block; otherwise the view of this height whose notarized block is proposed again."""
        return self.vote.parent_view


@dataclass(frozen=True, slots=True)
class Status:
    """Where a validator is. `view` is the lowest view of `height` for which it holds no certificate. Not signed."""

    height: int
    view: int


Message = Vote | Proposal | Certificate | Status
