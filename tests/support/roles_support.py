"""One participant at its desk, without network, chain or torch: a scripted board, a trainer with fixed results, a
recording sender, and a real blob store behind a provider that can stall, lie or refuse.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import trio
from clock_support import on_stepped_clock as on_stepped_clock

from flock_chain.aggregation import Delta, Layout, apply, encode_delta, encode_global, quantise
from flock_chain.content import compute_chunk_list, object_digest, split_chunks
from flock_chain.crypto import Account, Key, keccak256
from flock_chain.errors import InvalidEncoding, Unavailable
from flock_chain.proposal import Manifest
from flock_chain.tally import Verdict
from flock_peers.contents import Contents
from flock_peers.measurements import Measurements
from flock_peers.roles.auditor import Auditor
from flock_peers.roles.board import Phase, RoundView
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.jury import Jury
from flock_peers.roles.keeper import Keeper
from flock_peers.roles.library import Library, compute_file_digest
from flock_peers.roles.proposer import Identity, Proposer
from flock_peers.roles.removal import Removal
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.roles.sender import Sender
from flock_peers.roles.voter import Voter
from flock_peers.store.blob_store import BlobStore
from flock_peers.training.base_manifest import BaseFile
from flock_peers.training.client import EvaluateResult, Measured, Pairs, TrainResult
from flock_peers.training.document import LoraSettings, TaskDocument, compute_initial_adapter

CHAIN_ID = 4242
CHAIN = keccak256(b"roles test network")
TASK = 1
ACCOUNTS = [Key(keccak256(b"roles test key", bytes([index]))).account for index in range(6)]
PROPOSERS, ME = tuple(ACCOUNTS[:3]), ACCOUNTS[5]
NO_MANIFEST = bytes(32)


def tiny_document() -> TaskDocument:
    """A layout of one projection, on a base model that nobody loads."""
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    return TaskDocument(
        name="tiny",
        base_files=(BaseFile("config.json", 2, bytes(range(32))),),
        layout=Layout.of({f"{prefix}.lora_A.weight": (4, 24), f"{prefix}.lora_B.weight": (24, 4)}),
        seed=bytes(32),
        lora=LoraSettings(4, 8, ("q_proj",)),
    )


DOCUMENT = tiny_document()


def make_delta(seed: int, scale: float = 1e-2) -> Delta:
    vector = np.random.default_rng(seed).normal(size=DOCUMENT.layout.parameters) * scale
    return quantise(vector.astype(np.float32), DOCUMENT.layout, DOCUMENT.format)


def file_digest(data: bytes) -> bytes:
    return compute_chunk_list(split_chunks(data)).digest


@dataclass(frozen=True)
class Offer:
    """A proposal as its proposer serves it."""

    manifest: bytes
    delta: bytes

    @property
    def digest(self) -> bytes:
        return object_digest(self.manifest)

    @property
    def delta_digest(self) -> bytes:
        return file_digest(self.delta)


def make_offer(account: Account, parent: bytes, delta: bytes, /, *, number: int = 1, **changes: Any) -> Offer:
    manifest = Manifest(
        chain=CHAIN, task=TASK, round=number, account=account, parent=parent,  # type: ignore[arg-type]
        delta=file_digest(delta), delta_bytes=len(delta), steps=3, tokens=300,  # type: ignore[arg-type]
    )  # fmt: skip
    return Offer(replace(manifest, **changes).encode(), delta)


class FakeService:
    """What other peers serve. `trouble` by content id: an exception to raise, "stall" or "lie"."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.objects: dict[bytes, bytes] = {}
        self.files: dict[bytes, bytes] = {}
        self.trouble: dict[bytes, Exception | str] = {}
        self.asked: list[bytes] = []
        self.seconds: dict[bytes, float] = {}  # that the transfer of a content takes

    def serve(self, offer: Offer) -> Offer:
        self.objects[offer.digest], self.files[offer.delta_digest] = offer.manifest, offer.delta
        return offer

    async def fetch_object(self, digest: bytes, providers: Sequence[Account] | None = None) -> bytes:  # noqa: ARG002
        data = await self._receive(digest, self.objects)
        if object_digest(data) != digest:
            raise Unavailable("no provider has it (bytes that do not match the content id)")
        self._store.put_object(data, keep=False)
        return data

    async def fetch_file(
        self, digest: bytes, providers: Sequence[Account] | None = None, max_bytes: int = 1 << 30  # noqa: ARG002
    ) -> Path:  # fmt: skip
        data = await self._receive(digest, self.files)
        chunks = compute_chunk_list(split_chunks(data))
        if chunks.digest != digest:
            raise Unavailable("no provider left (chunk 0 does not match its digest)")
        if chunks.size > max_bytes:
            raise InvalidEncoding("chunk list: file too large")
        part = self._store.open_part(chunks)
        for index, chunk in enumerate(split_chunks(data)):
            part.write(index, chunk)
        return part.finish()

    async def _receive(self, digest: bytes, where: dict[bytes, bytes]) -> bytes:
        self.asked.append(digest)
        await trio.sleep(self.seconds.get(digest, 0.1))
        trouble = self.trouble.get(digest)
        if isinstance(trouble, Exception):
            raise trouble
        if trouble == "stall":
            await trio.sleep_forever()
        if digest not in where:
            raise Unavailable("no provider has it")
        return b"other" + where[digest] if trouble == "lie" else where[digest]


class FakeBoard:
    """The views that the roles read; each test writes the rows."""

    def __init__(self) -> None:
        self.results: dict[int, dict[str, Any]] = {}
        self.claimable: dict[int, int] = {}
        self.scores: dict[int, tuple[list[int], list[int]]] = {}
        self.cases: dict[int, dict[str, int]] = {}  # by round
        self.says: dict[int, tuple[int, int]] = {}  # by round: this account's share, and what it has judged
        self.chain_time = 1_000
        self.audit = 1  # the open one's number
        self.audit_first = 1  # the first round that it looks at
        self.blamed: dict[tuple[int, bytes], tuple[int, int]] = {}  # by audit and account
        self.bonded = list(ACCOUNTS)
        self.terms = {
            "adopt_seconds": 120,
            "loss_limit": 20_000, "mad_multiple": 12, "availability_seconds": 20, "score_commit_seconds": 60,
            "tolerance": 50_000, "voting_rule": 0, "audit_rounds": 0,
        }  # fmt: skip

    async def view(self, contract: str, function: str, *args: Any, height: int | None = None) -> Any:  # noqa: ARG002
        await trio.lowlevel.checkpoint()
        if function == "round_result":
            if args[1] not in self.results:
                raise Unavailable("ledger: no such round")
            return self.results[args[1]]
        if function == "claimable":
            return self.claimable.get(args[1], 0)
        if function == "case_view":
            return self.cases.get(args[1], {"open": 0})
        if function == "say_of":
            return self.says.get(args[1], (0, 0))
        if function == "chain_time":
            return self.chain_time
        if function == "score_of":
            return self.scores[args[2]]
        if function == "mix":
            return bytes([args[0] % 256]) * 32
        if function == "audit_view":
            return {"number": self.audit, "first": self.audit_first}
        if function == "blame_of":
            return self.blamed.get((args[1], bytes(args[2])), (0, 0))
        if function == "participants":
            return [{"account": account} for account in self.bonded]
        assert function == "task_view"
        return {"terms": self.terms}


class FakeTrainer:
    """Fixed results. Every training gives another delta, so a second one cannot pass for the first."""

    def __init__(self, seed: int = 0) -> None:
        self.trained = seed
        self.measured: list[list[str]] = []  # names of the delta files, one list a call
        self.starts: list[str] = []  # names of the adapter files that these were measured from
        self.scores: list[int] | None = None  # instead of better and better ones
        self.losses: dict[str, float] = {}  # of the hold-out, by the adapter file's name
        self.evaluated: list[str] = []  # names of adapter files
        self.evaluation_seconds = 0.0
        self.profiles: list[list[int]] = []  # thousandths
        self.audited: list[tuple[list[tuple[str, str]], int, int]] = []  # names of adapter and delta files, two seeds
        self.recited: dict[str, int] = {}  # millionths, by the delta file's name

    async def train(self, global_path: Path, *, round: int, seed: int, out_path: Path) -> TrainResult:  # noqa: ARG002
        assert global_path.is_file()
        self.trained += 1
        await trio.sleep(5)
        out_path.write_bytes(encode_delta(make_delta(self.trained)))
        return TrainResult(steps=3, tokens=300, loss_before=2.0, loss_after=1.9, seconds=5.0)

    async def measure(self, global_path: Path, delta_paths: Sequence[Path]) -> list[int]:
        assert global_path.is_file() and all(path.is_file() for path in delta_paths)
        self.measured.append([path.name for path in delta_paths])
        self.starts.append(global_path.name)
        return self.scores or [-1_000 * (position + 1) for position in range(len(delta_paths))]

    async def likeness(self, global_path: Path, delta_paths: Sequence[Path], *, seed: int) -> list[list[int]]:
        assert global_path.is_file() and all(path.is_file() for path in delta_paths) and 0 <= seed < 2**53
        return self.profiles

    async def audit(
        self, proposals: Pairs, *, seed: int, own_seed: int, authors: Sequence[int] = (), older: Pairs = ()
    ) -> list[Measured]:
        self.authors, self.older = list(authors), [delta.name for _, delta in older]
        assert all(path.is_file() for pair in [*proposals, *older] for path in pair) and max(seed, own_seed) < 2**53
        self.audited.append(([(start.name, delta.name) for start, delta in proposals], seed, own_seed))
        await trio.sleep(2)
        values = [self.recited.get(delta.name, 0) for _, delta in proposals]
        return [Measured(((1, 2), (3, 4)), (10_000, value), (900_000, value + 50_000)) for value in values]

    async def evaluate(self, adapter_path: Path | None, split: str) -> EvaluateResult:
        assert adapter_path is not None and adapter_path.is_file() and split == "hold_out"
        self.evaluated.append(adapter_path.name)
        await trio.sleep(self.evaluation_seconds)
        return EvaluateResult(self.losses.get(adapter_path.name, 1.0), 1.0, 100, {})


class RecordingSender(Sender):
    """Writes down what would be sent; a label that is under way is not sent twice, as with the real one."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []  # function and arguments
        self.under_way: set[str] = set()

    async def call(self, label: str, contract: str, function: str, *args: Any, **_: Any) -> bool:
        assert contract == "TaskBoard"
        if label in self.under_way:
            return False
        self.under_way.add(label)
        self.calls.append((function, *args))
        return True

    def is_pending(self, label: str) -> bool:
        return label in self.under_way

    def sent(self, function: str) -> list[tuple[Any, ...]]:
        """The arguments behind task and round."""
        return [call[3:] for call in self.calls if call[0] == function]


@dataclass
class Desk:
    """Everything of one participant. A second desk at the same path is the same peer after a restart."""

    path: Path
    jobs: Jobs
    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    board: FakeBoard = field(default_factory=FakeBoard)
    sender: RecordingSender = field(default_factory=RecordingSender)

    def __post_init__(self) -> None:
        self.store = BlobStore(self.path / "blobs")
        self.service = FakeService(self.store)
        self.contents = Contents(self.store, self.service)
        self.library = Library(TASK, DOCUMENT, CHAIN, self.contents, self.contents)
        self.adapter = self.library.put_initial()
        self.secrets = RoundSecrets(self.path / "secrets")
        self.identity = Identity(ME, CHAIN_ID, CHAIN, 7)
        self.measurements = Measurements()
        self.proposer = Proposer(
            self.identity, self.library, self.contents, self.trainer, self.sender, self.secrets, self.jobs, self.path,
            measurements=self.measurements,
        )  # fmt: skip
        self.removal = Removal(self.library, self.board)
        self.voter = Voter(
            self.identity, self.library, self.board, self.trainer, self.sender, self.secrets, self.jobs, self.removal
        )
        self.keeper = Keeper(
            ME, self.library, self.board, self.sender, self.jobs, self.removal, self.measurements
        )  # fmt: skip
        self.jury = Jury(ME, self.library, self.board, self.sender, self.jobs)
        self.auditor = Auditor(
            ME, self.library, self.board, self.trainer, self.sender, self.secrets, self.jobs, self.measurements
        )

    def offer(self, seat: int, *, number: int = 1, delta: bytes | None = None, **changes: Any) -> Offer:
        """The proposal of a seat, served by its proposer."""
        data = encode_delta(make_delta(100 * number + seat)) if delta is None else delta
        return self.service.serve(make_offer(PROPOSERS[seat], self.adapter, data, number=number, **changes))

    def view(self, phase: Phase, offers: Sequence[Offer] = (), **changes: Any) -> RoundView:
        """Of round 1 if not said otherwise: this account votes, all offers are revealed and held."""
        everybody = (1 << len(offers)) - 1
        view = RoundView(
            task=TASK, round=1, phase=phase, deadline=0, adapter=self.adapter, proposers=PROPOSERS,
            voters=(ACCOUNTS[3], ME), committed=everybody, revealed=everybody,
            manifests=tuple(offer.digest for offer in offers), attested=0, held_set=everybody, score_committed=0,
            score_revealed=0, tallied=False, verdicts=tuple(Verdict.ACCEPTED for _ in offers), adoption_votes=0,
        )  # fmt: skip
        return replace(view, **changes)

    def settle(self, number: int, offers: Sequence[Offer], **changes: Any) -> None:
        """Put a round's result on the board: all held and accepted, nothing adopted if not said otherwise."""
        row = {
            "proposers": PROPOSERS, "voters": (ACCOUNTS[3], ME), "manifests": [offer.digest for offer in offers],
            "held_set": (1 << len(offers)) - 1, "verdicts": [Verdict.ACCEPTED] * len(offers), "medians": [],
            "scores_revealed": 0, "adapter_before": self.adapter, "adapter_after": self.adapter,
        }  # fmt: skip
        self.board.results[number] = {**row, **changes}


def expect_candidate(desk: Desk, *seats: int) -> bytes:
    """The content id of what the first round adds to where these seats' offers are accepted."""
    before = compute_initial_adapter(desk.library.document)
    return compute_file_digest(encode_global(apply(before, [make_delta(100 + seat) for seat in seats])))


async def do(step: Callable[[RoundView], Awaitable[None]], view: RoundView, seconds: float = 30.0) -> None:
    """A step that starts the work, time for it, and a step that picks it up."""
    await step(view)
    await trio.sleep(seconds)
    await step(view)
