"""The rounds of a finished demo once more, in one process without network and chain: does the same come out?

    python -m flock_p2p demo --seed 811 --home /tmp/demo811
    python benchmarks/same_rounds.py --home /tmp/demo811 --seed 811 [--peers 6] [--poisoners 1] [--json]

Fed with what the chain run drew (seats, contexts, what was held, whose votes came in time) and with each peer's rows
and seeds, everything else is made anew by the functions that peers call: proposals are trained, filtered, scored,
refused, tallied, adopted and audited. Compared are the content ids of proposals and global adapters, what voters
revealed, the accepted sets, and whom auditors named. Ends with 1 where an accepted set or a global adapter differs.
"""

import argparse
import json
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trio

from flock_chain.aggregation import (
    Delta,
    GlobalAdapter,
    apply,
    compute_gram,
    encode_global,
    filter_bits,
    parse_delta,
    take_out,
)
from flock_chain.audit_rule import (
    Adopted,
    ClosedAudit,
    Finding,
    accuses,
    find,
    is_out_already,
    plan_removal,
    read_closed_audit,
    summarise,
)
from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_chain.execution.executor import Executor
from flock_chain.paper_rule import is_acceptable_loss
from flock_chain.proposal import decode_manifest
from flock_chain.suspicion import MIN_PROPOSALS, compute_cosines, find_suspects
from flock_chain.tally import FILTER_NEAR_DUPLICATE, SCORE_LIMIT, SEATS_MAX, Verdict, compute_tally, has_two_thirds
from flock_p2p.demo.audit import TASK
from flock_p2p.demo.plan import DemoPeer, make_plan
from flock_p2p.verify.audits import NOBODY
from flock_peers.home import Home
from flock_peers.roles.auditor import MAX_AUDITED, MAX_OLDER, OLDER_ROUNDS
from flock_peers.roles.board import Phase, RoundResult, as_account, bits, parse_result, read_seed
from flock_peers.roles.library import compute_file_digest
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.agreement import LENGTHS
from flock_peers.training.client import BASE_FOLDER, Measured, mix_seeds
from flock_peers.training.document import TaskDocument, compute_initial_adapter, decode_document
from flock_peers.training.engine import Engine
from flock_peers.training.feedback import Feedback
from flock_peers.training.inspection import CommonView, Filed, OwnView, join, measure_likeness
from flock_peers.training.model import AdaptedModel
from flock_peers.training.recital import Strings
from flock_peers.training.remembered import Remembered
from flock_peers.training.rows import builtin_rows, split_rows


@dataclass
class Chain:
    """What the run is fed with, from the first peer's home."""

    executor: Executor
    blobs: BlobStore
    row: Any = None
    document: TaskDocument = field(init=False)

    def __post_init__(self) -> None:
        self.row = self.view("TaskBoard", "task_view", TASK)
        data = self.blobs.get_object(bytes(self.row["document"]))
        if data is None:
            raise Misuse("same rounds: the first home does not have the task's document")
        self.document = decode_document(data)

    def view(self, contract: str, function: str, *arguments: Any) -> Any:
        return self.executor.view(contract, function, *arguments)

    def board(self, function: str, *arguments: Any, height: int | None = None) -> Any:
        return self.executor.view("TaskBoard", function, *arguments, height=height)

    def seed(self, number: int, height: int, purpose: bytes) -> int:
        async def read(contract: str, function: str, *arguments: Any) -> Any:
            return self.view(contract, function, *arguments)

        where: Any = SimpleNamespace(task=TASK, round=number, seed_height=height)
        views: Any = SimpleNamespace(view=read)
        return trio.run(read_seed, views, where, purpose)

    def result(self, number: int) -> RoundResult:
        return parse_result(TASK, number, self.board("round_result", TASK, number))

    def audits(self, accounts: Collection[Account]) -> list[ClosedAudit]:
        """All closed ones, in order, and the stake that named each of these accounts."""
        closed = self.board("audit_view", TASK)["number"] - 1
        return [
            read_closed_audit(
                self.board("blame_of", TASK, audit, NOBODY),
                {account: self.board("blame_of", TASK, audit, account)[0] for account in accounts},
            )
            for audit in range(1, closed + 1)
        ]

    def find_opening(self, audit: int) -> tuple[int, set[Account]]:
        """From which round on its auditors looked, and whom they judged, as the board had it in the block that opened
        it, with which they begin. Of audits that do not count the next looks at the same rounds again."""

        def is_opened(height: int) -> bool:
            number = self.board("audit_view", TASK, height=height)["number"]
            _, phase = self.board("progress", TASK, height=height)
            return bool(number > audit or (number == audit and phase == Phase.AUDIT))

        height = bisect_left(range(self.executor.head.height), True, key=is_opened)
        rows = self.board("participants", TASK, height=height)
        return self.board("audit_view", TASK, height=height)["first"], {as_account(row["account"]) for row in rows}

    def delta_of(self, manifest: bytes) -> bytes | None:
        data = self.blobs.get_object(manifest)
        return None if data is None else bytes(decode_manifest(data).delta)


@dataclass
class Participant:
    peer: DemoPeer
    engine: Engine
    own: OwnView
    secrets: RoundSecrets
    remembered: Remembered = field(default_factory=Remembered)


@dataclass
class Same:
    """Of all that was compared, how much was equal; every difference in words."""

    counts: dict[str, list[int]] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    def note(self, what: str, where: str, mine: Any, theirs: Any) -> None:
        row = self.counts.setdefault(what, [0, 0])
        row[0] += mine == theirs
        row[1] += 1
        print(f"{where}: {what}: {'equal' if mine == theirs else 'DIFFERENT'}", file=sys.stderr, flush=True)
        if mine != theirs:
            self.differences.append(f"{where}: {what}: here {mine}, there {theirs}")


@dataclass
class Rounds:
    chain: Chain
    people: dict[Account, Participant]
    scratch: Path
    same: Same = field(default_factory=Same)
    deltas: dict[int, dict[int, Delta]] = field(default_factory=dict)  # by round and proposer index
    starts: dict[int, Path] = field(default_factory=dict)  # by round, the adapter it began with
    accepted: dict[int, list[int]] = field(default_factory=dict)
    held: dict[int, list[int]] = field(default_factory=dict)
    lineage: list[Adopted] = field(default_factory=list)
    repeated: set[bytes] = field(default_factory=set)  # the deltas of earlier rounds
    views: dict[int, CommonView] = field(default_factory=dict)  # by seed
    strings: dict[tuple[int, Path], Strings] = field(default_factory=dict)  # by seed and delta: the same for all

    def run(self) -> Same:
        adapter = compute_initial_adapter(self.chain.document)
        audits = self.chain.audits(self.people)
        for number in range(1, int(self.chain.row["round"]) + 1):
            result = self.chain.result(number)
            if result.proposers:
                adapter = self._round(result, adapter, [row for row in audits if row.round < number])
            for place, closed in enumerate(audits, start=1):
                if closed.round == number:
                    self._audit(place, closed, audits[: place - 1])
        return self.same

    def _round(self, result: RoundResult, adapter: GlobalAdapter, audits: Sequence[ClosedAudit]) -> GlobalAdapter:
        number, where = result.round, f"round {result.round}"
        self.starts[number] = self._write(f"start-{number}", encode_global(adapter))
        self.deltas[number] = self._train(result)
        order = self.held[number] = [index for index in bits(result.held_set) if index in self.deltas[number]]
        scores, filters = [], []
        for seat in bits(result.scores_revealed):
            row = self._vote(result, result.voters[seat], order)
            theirs = tuple(map(list, self.chain.board("score_of", TASK, number, seat)))
            self.same.note("scores and filters of a voter", f"{where}, seat {seat}", row, theirs)
            scores.append(row[0])
            filters.append(row[1])
        self.repeated |= {encode(self.deltas[number][index]) for index in order}
        terms = self.chain.row["terms"]
        tally = compute_tally(scores, filters, result.held_set, terms["loss_limit"], terms["mad_multiple"])
        accepted = [index for index in order if tally.verdicts[index] is Verdict.ACCEPTED] if scores else []
        self.accepted[number] = accepted
        self.same.note("accepted set", where, accepted, result.accepted())
        after = self._adopt(result, adapter, accepted, audits)
        self.same.note("global adapter", where, name(after), result.adapter_after.hex())
        return after

    def _train(self, result: RoundResult) -> dict[int, Delta]:
        """Of all who committed to a proposal."""
        found = {}
        for index, account in enumerate(result.proposers):
            who = self.people[account]
            if who.secrets.load(TASK, result.round, "proposal") is None:
                continue
            out, seed = self.scratch / f"delta-{result.round}-{index}", who.peer.seed
            who.engine.train(self.starts[result.round], mix_seeds(seed, result.round, seed), out, lambda _event: None)
            data = out.read_bytes()
            found[index] = parse_delta(data, self.chain.document.layout, self.chain.document.format)
            theirs = self.chain.delta_of(result.manifests[index])
            if theirs is not None:
                where = f"round {result.round}, proposer {index}"
                self.same.note("proposal", where, compute_file_digest(data).hex(), theirs.hex())
        return found

    def _vote(self, result: RoundResult, account: Account, order: Sequence[int]) -> tuple[list[int], list[int]]:
        who, number = self.people[account], result.round
        record = who.secrets.load(TASK, number, "scores") or {}
        start, paths = self.starts[number], [self.scratch / f"delta-{number}-{index}" for index in order]
        deltas = [self.deltas[number][index] for index in order]
        scores, filters = [0] * SEATS_MAX, [0] * SEATS_MAX
        ball = self.chain.document.budget.norm_thousandths
        rows = zip(order, who.engine.score(start, paths), filter_bits(deltas, ball), deltas, strict=True)
        for index, score, found, delta in rows:
            scores[index] = max(-SCORE_LIMIT, min(SCORE_LIMIT, score))
            filters[index] = found | (FILTER_NEAR_DUPLICATE if encode(delta) in self.repeated else 0)
        if len(order) >= MIN_PROPOSALS and result.adapter_before != bytes(self.chain.row["adapter0"]):
            seed = self.chain.seed(number, record["seed_height"], b"flock probes")
            profiles = measure_likeness(who.engine, start, paths, seed)
            for place in find_suspects(compute_cosines(compute_gram(deltas)), profiles):
                filters[order[place]] |= FILTER_NEAR_DUPLICATE
        for index in self._refuse(result, who, order, record):
            scores[index] = SCORE_LIMIT
        return scores, filters

    def _refuse(self, result: RoundResult, who: Participant, order: Sequence[int], record: Any) -> list[int]:
        every = self.chain.row["terms"]["audit_rounds"]
        if not every or not order:
            return []
        seed = self.chain.seed(result.round, record["seed_height"], b"flock recital")
        pairs = [(self.starts[result.round], self.scratch / f"delta-{result.round}-{index}") for index in order]
        values = self._measure(who, pairs, seed, record["own_seed"])
        return [index for index, value in zip(order, values, strict=True) if find(value) is Finding.GUILTY]

    def _adopt(
        self, result: RoundResult, adapter: GlobalAdapter, accepted: list[int], audits: Sequence[ClosedAudit]
    ) -> GlobalAdapter:
        if not accepted:
            return adapter
        base = adapter
        for row in plan_removal(self.lineage, audits, result.round):
            base = take_out(base, [self.deltas[row.round][index] for index in row.present], row.places)
        candidate = apply(base, [self.deltas[result.round][index] for index in accepted])
        paths = [self._write(f"{what}-{result.round}", encode_global(row)) for what, row in
                 (("base", base), ("candidate", candidate))]  # fmt: skip
        seats = [result.voters[seat] for seat in bits(result.scores_revealed)]
        yes = sum(self._prefers(account, *paths) for account in seats)
        for choice, votes in ((candidate, yes), (base, len(seats) - yes)):
            if votes and has_two_thirds(votes, len(seats)) and 2 * votes >= len(result.voters):
                if name(choice) != name(adapter):
                    added = tuple((index, result.proposers[index]) for index in accepted if choice is candidate)
                    self.lineage.append(Adopted(result.round, added))
                return choice
        return adapter

    def _prefers(self, account: Account, before: Path, after: Path) -> bool:
        losses = [self.people[account].engine.evaluate(path, "hold_out")["loss"] for path in (before, after)]
        return is_acceptable_loss(losses[0], losses[1], self.chain.row["terms"]["tolerance"])

    def _audit(self, place: int, closed: ClosedAudit, before: Sequence[ClosedAudit]) -> None:
        first, here = self.chain.find_opening(place)
        every = self._list_held(range(closed.round, first - 1, -1))[:MAX_AUDITED]
        before_them = self._list_held(range(first - 1, max(0, first - 1 - OLDER_ROUNDS), -1))[:MAX_OLDER]
        for account, who in sorted(self.people.items()):
            record = who.secrets.load(TASK, place, "audit")
            if record is None:
                continue
            seed = self.chain.seed(closed.round, record["seed_height"], b"flock audit")
            values = self._measure(
                who, self._find_pairs(every), seed, record["own_seed"],
                [list(self.people).index(a) for _, _, a in [*every, *before_them]], self._find_pairs(before_them),
            )  # fmt: skip
            judged = here - {account}  # the others are looked at for what they show of these
            rows = [(a, n, value) for (n, _, a), value in zip(every, values, strict=True) if a in judged]
            mine = sorted({a for a, n, value in rows if accuses(value, is_out_already(before, a, n))})
            where = f"audit {place}, 0x{account.hex()}"
            self.same.note(
                "whom an auditor names", where, [a.hex() for a in mine], [a.hex() for a in record["accused"]]
            )

    def _measure(
        self,
        who: Participant,
        pairs: Sequence[tuple[Path, Path]],
        seed: int,
        own_seed: int,
        authors: Sequence[int] = (),
        older: Sequence[tuple[Path, Path]] = (),
    ) -> list[int]:
        """As `inspection.audit` does, without authors as well: voters compare nothing. What a proposal by itself shows
        to all is looked for once; beside each other each measures them with what it remembers."""
        view, results, suspects = self._view(who.engine, seed), list[Measured](), Filed(who.engine, pairs)
        for (_, delta), suspect in zip(pairs, suspects, strict=True):
            if (seed, delta) not in self.strings:
                self.strings[seed, delta] = view.find_strings(suspect)
            found = self.strings[seed, delta]
            results.append(who.own.measure(suspect, found, own_seed))
        if authors:
            remembered = who.remembered.to_rows(LENGTHS[-1])
            compared = Filed(who.engine, [*pairs, *older])
            shared = view.find_shared(compared, authors, who.engine.document.budget.batch, remembered, len(older))
            results = join(results, who.own.measure_shared(compared, shared, own_seed, who.remembered))
            who.remembered.add_guilty(results)
        return [summarise(row.common, row.own) for row in results]

    def _list_held(self, rounds: Iterable[int]) -> list[tuple[int, int, Account]]:
        """Round, index and proposer of what voters held."""
        return [
            (number, index, self.chain.result(number).proposers[index])
            for number in rounds
            for index in self.held.get(number, ())
        ]

    def _find_pairs(self, held: Sequence[tuple[int, int, Account]]) -> list[tuple[Path, Path]]:
        return [(self.starts[number], self.scratch / f"delta-{number}-{index}") for number, index, _ in held]

    def _view(self, engine: Engine, seed: int) -> CommonView:
        if seed not in self.views:
            self.views[seed] = CommonView(engine.model, seed, engine.document.reference)
        return self.views[seed]

    def _write(self, stem: str, data: bytes) -> Path:
        path = self.scratch / stem
        path.write_bytes(data)
        return path


def name(adapter: GlobalAdapter) -> str:
    return compute_file_digest(encode_global(adapter)).hex()


def encode(delta: Delta) -> bytes:
    return delta.mantissas.tobytes() + delta.exponents.tobytes()


def make_people(peers: Sequence[DemoPeer], document: TaskDocument, scratch: Path) -> dict[Account, Participant]:
    torch.set_num_threads(1)
    model, people = AdaptedModel(BASE_FOLDER, document), {}
    for peer in peers:
        home, rest = Home(peer.home), scratch / f"rest-of-{peer.number}"
        rest.mkdir()
        split = split_rows(builtin_rows(peer.domain, peer.domain_slice), home.path / "training" / "split.json")
        feedback = Feedback(rest, document.encode(), document.layout.parameters)
        engine = Engine(model, document, split, peer.attack or None, feedback=feedback)
        people[peer.account] = Participant(
            peer, engine, OwnView(engine), RoundSecrets(home.path / "rounds" / "secrets")
        )
    return people


@contextmanager
def open_chain(home: Home) -> Iterator[Chain]:
    store = ChainStore(home.folder("chain"))
    try:
        yield Chain(Executor(home.load_genesis(), store), BlobStore(home.folder("blobs")))
    finally:
        store.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="of a demo that has ended")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--peers", type=int, default=6)
    parser.add_argument("--poisoners", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    plan = make_plan(
        peers=options.peers, rounds=3, poisoners=options.poisoners, seed=options.seed, folder=options.home.resolve()
    )
    with open_chain(Home(plan.peers[0].home)) as chain, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        same = Rounds(chain, make_people(plan.peers, chain.document, folder), folder).run()
    for line in same.differences:
        print(line, file=sys.stderr)
    counts = {what: {"equal": equal, "of": of} for what, (equal, of) in same.counts.items()}
    if options.json:
        print(json.dumps(counts))
    else:
        print("\n".join(f"{what:32} {row['equal']} of {row['of']} equal" for what, row in counts.items()))
    wanted = [counts.get(what, {"equal": 0, "of": 0}) for what in ("accepted set", "global adapter")]
    return 0 if all(row["of"] and row["equal"] == row["of"] for row in wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
