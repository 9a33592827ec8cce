"""What goes into the core and what comes out. Effects are carried out in order, by who owns disk, network and time."""

from dataclasses import dataclass, field
from enum import Enum

from flock_chain.consensus.signer import SignerRecord
from flock_chain.consensus.types import Certificate, Message, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account


class Timer(Enum):
    VIEW = "view"  # the view takes too long
    RETRY = "retry"  # say everything again
    PROPOSE = "propose"  # the notarized block was not finalized in time: propose it again
    BEHIND = "behind"  # others speak of the next height and this one is still open


# ---- inputs


@dataclass(frozen=True, slots=True)
class StartHeight:
    """`height - 1` is final and executed; `certificates` are the log's, after a restart in the middle of a height."""

    height: int
    validators: ValidatorSet
    certificates: tuple[Certificate, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Received:
    sender: Account  # as authenticated by the transport
    message: Message


@dataclass(frozen=True, slots=True)
class TimerFired:
    timer: Timer
    height: int
    view: int


@dataclass(frozen=True, slots=True)
class Work:
    """A block is wanted at this height."""

    height: int


@dataclass(frozen=True, slots=True)
class BlockBuilt:
    """Answers BuildBlock."""

    height: int
    view: int
    block_id: bytes


@dataclass(frozen=True, slots=True)
class BlockChecked:
    """Answers CheckBlock. `valid` False only where the block is provably invalid, for everybody and for ever."""

    height: int
    block_id: bytes
    valid: bool


Input = StartHeight | Received | TimerFired | Work | BlockBuilt | BlockChecked

# ---- effects


@dataclass(frozen=True, slots=True)
class Persist:
    """Append to the write-ahead log."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class PersistBody:
    """Append the block's bytes to the write-ahead log."""

    height: int
    block_id: bytes


@dataclass(frozen=True, slots=True)
class PersistSigned:
    """Append to the signer's file."""

    record: SignerRecord


@dataclass(frozen=True, slots=True)
class Sync:
    """Everything appended so far is durable in both files before the next effect is carried out."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """To every other validator of the height."""

    message: Message


@dataclass(frozen=True, slots=True)
class Send:
    account: Account
    message: Message


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Replaces the running timer of the same name."""

    timer: Timer
    height: int
    view: int
    delay_ms: int


@dataclass(frozen=True, slots=True)
class BuildBlock:
    height: int
    view: int


@dataclass(frozen=True, slots=True)
class CheckBlock:
    """Get the body (the proposer has it) and check it."""

    height: int
    block_id: bytes
    proposer: Account


@dataclass(frozen=True, slots=True)
class Decide:
    """Execute and store the block with its certificate, then start the next height."""

    height: int
    block_id: bytes
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two statements of one signer that convict it."""

    first: Vote
    second: Vote


@dataclass(frozen=True, slots=True)
class CatchUp:
    """`account` says that it is at `height`; this core is lower."""

    account: Account
    height: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A buffered message turned out to be invalid."""

    sender: Account
    reason: str


@dataclass(frozen=True, slots=True)
class SignerRefused:
    """The signer declined what the core wanted signed: a bug or a damaged log. No more votes at this height."""

    reason: str


Effect = (
    Persist
    | PersistBody
    | PersistSigned
    | Sync
    | Broadcast
    | Send
    | SetTimer
    | BuildBlock
    | CheckBlock
    | Decide
    | Evidence
    | CatchUp
    | Dropped
    | SignerRefused
)
