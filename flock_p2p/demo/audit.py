"""Judges a finished demo from the homes on disk: verdicts and stakes from the chain, losses by evaluation, baselines.

The global adapter is the one on chain. "Averaged" is what it would be had every proposal that was held been averaged
unclipped, as a plain federated average does. "Isolated" is each honest peer alone, same base, same number of steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from flock_chain.aggregation import GlobalAdapter, add_contribution, encode_global, parse_delta
from flock_chain.aggregation.measure import ONE
from flock_chain.errors import Unavailable
from flock_chain.execution.executor import Executor
from flock_chain.proposal import decode_manifest
from flock_chain.tally import Verdict
from flock_p2p.demo.plan import DemoPeer, Plan
from flock_p2p.demo.watch import Watched
from flock_peers.home import Home
from flock_peers.roles.board import RoundResult, as_account, bits, parse_result
from flock_peers.roles.membership import TOP_UP_PERCENT
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.client import Trainer, TrainerConfig
from flock_peers.training.document import TaskDocument, compute_initial_adapter, decode_document
from flock_peers.training.domains import DOMAINS

TASK = 1


@dataclass
class Standing:
    """One peer's money: its bond and what it held beside it, before the task and after."""

    peer: DemoPeer
    bond_before: int
    bond_after: int
    balance_after: int


@dataclass
class Losses:
    """Bits per byte on public test text; `domains` by domain name."""

    mean: float
    domains: dict[str, float]


@dataclass
class Outcome:
    plan: Plan
    watched: Watched
    results: list[RoundResult]
    standings: list[Standing]
    adapter: Path  # the PEFT folder
    adapter_digest: bytes
    base: Losses
    global_: Losses
    averaged: Losses
    isolated: dict[int, Losses]  # by peer number, honest ones
    attack_base: float
    attack_global: float
    attack_averaged: float
    convicted: frozenset[tuple[int, bytes]] = frozenset()  # round and account: what a committee accused, all confirmed


@dataclass(frozen=True)
class _Chain:
    """What the first peer's store says."""

    results: list[RoundResult]
    convicted: frozenset[tuple[int, bytes]]
    standings: list[Standing]
    document: TaskDocument
    global_path: Path
    averaged_path: Path
    digest: bytes


def audit(plan: Plan, watched: Watched) -> Outcome:
    chain = _read_chain(plan, watched)
    return trio.run(_evaluate, plan, watched, chain)


# From the chain


def _read_chain(plan: Plan, watched: Watched) -> _Chain:
    home = Home(plan.peers[0].home)
    store = ChainStore(home.folder("chain"))
    try:
        executor = Executor(plan.genesis, store)
        view: Callable[..., Any] = partial(executor.view, "TaskBoard")
        row = view("task_view", TASK)
        results = [
            parse_result(TASK, number, view("round_result", TASK, number)) for number in range(1, watched.rounds + 1)
        ]
        convicted = _read_convicted(view, results)
        standings = read_standings(plan, watched, executor)
    finally:
        store.close()
    blobs = BlobStore(home.folder("blobs"))
    data = blobs.get_object(bytes(row["document"]))
    if data is None:
        raise Unavailable(f"{home.path}: the task's document is not here; see its peer.log")
    document = decode_document(data)
    digest = bytes(row["adapter"])
    path = blobs.file_path(digest)
    if path is None:
        raise Unavailable(f"{home.path}: the global adapter {digest.hex()[:12]} is not here; see its peer.log")
    initial = compute_initial_adapter(document)
    work = plan.folder / "audit"
    work.mkdir(exist_ok=True)
    averaged = work / "averaged.safetensors"
    averaged.write_bytes(encode_global(average_all(blobs, document, initial, results)))
    return _Chain(results, convicted, standings, document, path, averaged, digest)


def _read_convicted(view: Callable[..., Any], results: Sequence[RoundResult]) -> frozenset[tuple[int, bytes]]:
    return frozenset(
        (result.round, account)
        for result in results
        for index, account in enumerate(result.proposers)
        if view("case_view", TASK, result.round)["convicted"] >> index & 1
    )


def read_standings(plan: Plan, watched: Watched, executor: Executor) -> list[Standing]:
    """As they were when the task had ended: whoever keeps the network running may take a bond back before it is judged,
    which is no slash."""
    rows: Any = executor.view("TaskBoard", "participants", TASK, height=watched.statuses[0]["height"])
    bonds = {as_account(row["account"]): int(row["bond"]) for row in rows}
    return [
        Standing(peer, peer.bond, bonds.get(peer.account, 0), int(status["balance"]))
        for peer, status in zip(plan.peers, watched.statuses, strict=True)
    ]


def average_all(
    blobs: BlobStore, document: TaskDocument, adapter: GlobalAdapter, results: Sequence[RoundResult]
) -> GlobalAdapter:
    """Every held proposal of every round, unclipped, in equal parts: no filter, no vote. What is not here is left out:
    a peer may have been too late for one, which must not cost the whole outcome."""
    for result in results:
        deltas = []
        for index in bits(result.held_set):
            data = blobs.get_object(result.manifests[index])
            path = None if data is None else blobs.file_path(decode_manifest(data).delta)
            if path is not None:
                deltas.append(parse_delta(path.read_bytes(), document.layout, document.format))
        for delta in deltas:
            adapter = add_contribution(adapter, delta, ONE, len(deltas))
    return adapter


# By evaluation


async def _evaluate(plan: Plan, watched: Watched, chain: _Chain) -> Outcome:
    base, global_, averaged, attacks, adapter = await _evaluate_adapters(plan, chain)
    isolated = {
        number: Losses(found["mean"], dict(found["domains"])) for number, found in sorted(watched.baselines.items())
    }
    return Outcome(
        plan, watched, chain.results, chain.standings, adapter, chain.digest, base, global_, averaged, isolated,
        attack_base=attacks[0], attack_global=attacks[1], attack_averaged=attacks[2], convicted=chain.convicted,
    )  # fmt: skip


async def _evaluate_adapters(plan: Plan, chain: _Chain) -> tuple[Losses, Losses, Losses, list[float], Path]:
    config = TrainerConfig(document=chain.document, home=plan.folder / "audit" / "judge", domain=DOMAINS[0], index=15)
    async with await Trainer.open(config) as trainer:
        base, global_, averaged = [
            await _losses(trainer, path) for path in (None, chain.global_path, chain.averaged_path)
        ]
        attacks = [await trainer.attack_success(path) for path in (None, chain.global_path, chain.averaged_path)]
        adapter = plan.folder / "adapter"
        await trainer.export(chain.global_path, adapter)
    return base, global_, averaged, attacks, adapter


async def _losses(trainer: Trainer, path: Path | None) -> Losses:
    result = await trainer.evaluate(path, "test")
    return Losses(result.bits_per_byte, dict(result.domains))


def is_honest(outcome: Outcome, account: bytes) -> bool:
    peer = outcome.plan.by_account(account)
    return peer is None or not peer.attack


def was_slashed(standing: Standing) -> bool:
    """By a verdict: a phase that a slow machine missed costs next to nothing, and is paid again by the peer itself."""
    return 100 * (standing.bond_before - standing.bond_after) > TOP_UP_PERCENT * standing.bond_before


def find_verdicts(outcome: Outcome, *, malicious: bool) -> list[Verdict]:
    return [
        verdict
        for result in outcome.results
        for account, verdict in zip(result.proposers, result.verdicts, strict=True)
        if is_honest(outcome, account) != malicious
    ]
