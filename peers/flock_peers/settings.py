"""What one run of a peer is told. Frozen; built by the application from its configuration file and arguments."""

from dataclasses import dataclass, field
from pathlib import Path

from flock_chain.crypto import Key
from flock_peers.training.privacy import Privacy

DEFAULT_PORT = 4200


OWN_ROWS = "own rows"
LABEL_BYTES = 32  # a word of the board


@dataclass(frozen=True)
class DataSettings:
    """Where the private rows come from, a built-in domain (with this participant's slice) or files; what they train."""

    domain: str = "python"
    index: int = 0
    rows: Path | None = None
    base: Path | None = None  # folder of the base model; None: the one that the project ships
    precision: str = "auto"  # of the base model in memory
    privacy: Privacy | None = None
    gpus: int = 1  # among which the base model is shared
    checkpointing: bool = False  # layers are computed twice instead of kept
    attack: str | None = None  # trials only: "backdoor", or "spoil:KIND"

    @property
    def label(self) -> bytes:
        """What others are told that the rows are, as the board has it; of an owner's own nothing but that."""
        return (OWN_ROWS if self.rows else self.domain).encode()[:LABEL_BYTES].ljust(LABEL_BYTES, b"\0")


@dataclass(frozen=True)
class PeerSettings:
    home: Path
    listen_host: str = "127.0.0.1"
    listen_port: int = DEFAULT_PORT  # 0: any free port
    mdns: bool = False  # find peers of the local network, and be found
    dht: bool = False  # say and ask who has a content, beyond who is connected
    guests: int = 0  # IPFS tools that may be connected at a time, without being peers of this network
    bootstrap: tuple[str, ...] = ()  # multiaddresses
    relay: bool = False  # lend others circuits through this peer
    via: tuple[str, ...] = ()  # relays through which this peer is reached
    participate: bool = True  # bond to an open task
    task: int | None = None  # that is chosen before others, also where it pays nothing; None: the one that pays most
    takes_up: int | None = None  # the task that its owner names at this very start: again, if it was left before
    bond: int | None = None  # wei; None: the task's minimum
    seed: int = 0  # of local training
    data: DataSettings = field(default_factory=DataSettings)
    key: Key | None = field(default=None, repr=False)  # of a home whose key is locked; None: read from the home
    quota_bytes: int = 8 << 30  # of the blob store
    max_base_bytes: int | None = None  # of a base model that is fetched for a task; None: what the quota has room for
