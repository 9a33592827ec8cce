"""Opening a task: the document and its round-0 adapter into the store, the terms and the pot on chain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from secrets import token_bytes
from typing import Any

import trio

from flock_chain.aggregation import Format, encode_global
from flock_chain.aggregation.format import BITS, RATE_ONE
from flock_chain.content import object_digest
from flock_chain.errors import FlockError, InvalidEncoding, Misuse, Unavailable
from flock_chain.paper_rule import RULE_PROPOSALS
from flock_peers.contents import Contents
from flock_peers.roles.sender import Sender
from flock_peers.roles.staking import State
from flock_peers.store.kept_marks import new_task_owner
from flock_peers.training.base_manifest import BaseManifest
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.data_format import ANY, DATA_FORMATS
from flock_peers.training.document import (
    Budget,
    LoraSettings,
    TaskDocument,
    compute_initial_adapter,
    create_document,
)

COIN = 10**18


@dataclass(frozen=True)
class Terms:
    """The terms of a task as the board takes them; seconds are chain time."""

    rounds: int = 3
    extra_rounds: int = 2
    proposers: int = 3
    voters: int = 3
    min_participants: int = 4
    min_bond: int = 5 * COIN
    proposer_share: int = 7_000  # basis points of a round's share; the voters get the rest
    commit_seconds: int = 120
    reveal_seconds: int = 20
    availability_seconds: int = 30
    score_commit_seconds: int = 60
    score_reveal_seconds: int = 20
    tally_seconds: int = 30
    adopt_seconds: int = 60
    loss_limit: int = 20_000  # millionths
    mad_multiple: int = 12
    wait_seconds: int = 3_600
    tolerance: int = 50_000  # millionths: a round of other domains costs one's own a few per cent
    voting_rule: int = RULE_PROPOSALS
    rule_slash: int = 1_000  # basis points of a bond, by the paper's rule only
    rest_share: int = 0  # basis points of the pot's rest for the paid seats; less where rounds were not paid
    audit_rounds: int = 0  # an audit after every so many rounds; 0: never
    audit_seconds: int = 60
    audit_slash: int = 10_000  # basis points of the bond of whom two audits in a row find guilty


@dataclass(frozen=True)
class Wanted:
    """What a creator says of a task; everything else follows from the base model."""

    name: str
    terms: Terms
    lora: LoraSettings
    budget: Budget
    data: str = ANY  # which rows a participant brings
    format: Format = field(default_factory=Format)  # of the deltas that peers exchange, and how much of them is added
    reference: str = ""  # public text that audits blame nobody for


@dataclass(frozen=True)
class PreparedTask:
    document: bytes  # object digest
    adapter: bytes  # chunk-list digest of the round-0 global adapter


def parse_wanted(params: Mapping[str, Any]) -> Wanted:
    """From the owner's order; raises Misuse for a name that there is not, so that no term is lost by a slip."""
    parts = {name: _numbers(params.get(name, {}), name, kind) for name, kind in _PARTS.items()}
    targets = params.get("targets", [])
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise Misuse("task: targets is a list of names of modules")
    lora = LoraSettings(targets=tuple(sorted(targets)), **parts["lora"])
    data = params.get("data", ANY)
    if not isinstance(data, str) or data not in DATA_FORMATS:
        raise Misuse(f"task: data is one of {', '.join(DATA_FORMATS)}")
    bits = _number(params.get("bits", Format().bits), "bits")
    if bits not in BITS:
        raise Misuse(f"task: {bits} bits for a delta's numbers; {' or '.join(map(str, BITS))} are known")
    try:
        format = Format.of_bits(bits, _number(params.get("server_lr_thousandths", RATE_ONE), "server_lr_thousandths"))
    except InvalidEncoding as error:
        raise Misuse(f"task: {error}") from error
    reference = params.get("reference", "")
    if not isinstance(reference, str):
        raise Misuse("task: a reference is text")
    return Wanted(
        str(params.get("name", "task")), Terms(**parts["terms"]), lora, Budget(**parts["budget"]), data, format,
        reference,
    )  # fmt: skip


_PARTS: Mapping[str, tuple[str, ...]] = {
    "terms": tuple(field.name for field in fields(Terms)),
    "budget": tuple(field.name for field in fields(Budget)),
    "lora": ("rank", "alpha"),
}


def _numbers(rows: object, part: str, known: Sequence[str]) -> dict[str, int]:
    if not isinstance(rows, dict) or set(rows) - set(known):
        unknown = ", ".join(sorted(set(rows) - set(known))) if isinstance(rows, dict) else repr(rows)[:60]
        raise Misuse(f"task: {part} has no {unknown}; it has {', '.join(known)}")
    return {name: _number(value, f"{part}.{name}") for name, value in rows.items()}


def _number(value: object, what: str) -> int:
    """Also as text: an amount in wei is more than every reader of JSON takes."""
    is_digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 39
    if isinstance(value, bool) or not (is_digits or (isinstance(value, int) and value >= 0)):
        raise Misuse(f"task: {what} is no whole number from 0 on")
    return int(value)  # type: ignore[call-overload, no-any-return]


def prepare(
    wanted: Wanted, contents: Contents, base: Path = BASE_FOLDER, manifest: BaseManifest | None = None
) -> PreparedTask:
    """Both are kept as what a task is opened with is: until it has ended, or is known to be none."""
    document: TaskDocument = create_document(
        wanted.name, base, seed=token_bytes(32), budget=wanted.budget, rank=wanted.lora.rank, alpha=wanted.lora.alpha,
        targets=wanted.lora.targets, data=wanted.data, format=wanted.format, base=manifest,
        reference=wanted.reference,
    )  # fmt: skip
    data = document.encode()
    marks = contents.of(new_task_owner(object_digest(data)))
    adapter = marks.put_bytes(encode_global(compute_initial_adapter(document)))
    return PreparedTask(marks.put_object(data), adapter)


def opening_label(document: str) -> str:
    """What its transaction is called while it is sent."""
    return f"open task {document[:12]}"


async def open_task(
    wanted: Wanted, pot: int, contents: Contents, state: State, sender: Sender, base: Path = BASE_FOLDER,
    manifest: BaseManifest | None = None, keep: Callable[[PreparedTask], None] = lambda _task: None,
) -> PreparedTask:  # fmt: skip
    """Publishes and sends the transaction, with what opening costs now beside the pot; that it is final is seen in the
    board's `task_count`. What the board would refuse is said in its words, and costs nothing. `manifest`: of the base,
    where it is known; `keep` is called before it is sent. What cannot be sent is kept no more, what `keep` has kept for
    it neither: it is made anew at each try, so nobody would ever ask for it."""
    task = await trio.to_thread.run_sync(prepare, wanted, contents, base, manifest)
    try:
        await _send(task, wanted.terms, pot, state, sender, keep)
    except FlockError:
        contents.of(new_task_owner(task.document)).release_all()
        raise
    return task


async def _send(
    task: PreparedTask, terms: Terms, pot: int, state: State, sender: Sender, keep: Callable[[PreparedTask], None]
) -> None:
    value: int = pot + await state.view("TaskBoard", "opening_fee")
    call = ("TaskBoard", "open_task", task.document, task.adapter, asdict(terms))
    await state.simulate(*call, sender=sender.account, value=value)
    keep(task)  # before it is sent, and not for what is refused
    sent = await sender.call(opening_label(task.document.hex()), *call, value=value)
    if not sent:
        raise Unavailable("task: too many of your transactions are not final yet; try again in a moment")
