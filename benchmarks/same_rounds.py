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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from same_rounds_audits import Auditors, Measurer
from same_rounds_chain import Chain, open_chain
from same_rounds_made import Made
from same_rounds_people import Participant, make_people

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
from flock_chain.audit_rule import Adopted, ClosedAudit, Finding, find, plan_removal
from flock_chain.crypto import Account
from flock_chain.paper_rule import is_acceptable_loss
from flock_chain.suspicion import MIN_PROPOSALS, choose_compared, compute_cosines, find_suspects
from flock_chain.tally import FILTER_NEAR_DUPLICATE, SCORE_LIMIT, SEATS_MAX, Verdict, compute_tally, has_two_thirds
from flock_p2p.demo.audit import TASK
from flock_p2p.demo.plan import make_plan
from flock_peers.home import Home
from flock_peers.roles.board import RoundResult, bits
from flock_peers.roles.library import compute_file_digest
from flock_peers.training.client import mix_seeds
from flock_peers.training.document import compute_initial_adapter
from flock_peers.training.inspection import measure_likeness


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
    made: Made
    same: Same = field(default_factory=Same)
    lineage: list[Adopted] = field(default_factory=list)
    repeated: set[bytes] = field(default_factory=set)  # the deltas of earlier rounds
    measurer: Measurer = field(default_factory=Measurer)

    def run(self) -> Same:
        adapter = compute_initial_adapter(self.chain.document)
        audits = self.chain.audits(self.people)
        auditors = Auditors(self.chain, self.people, self.made, self.measurer)
        for number in range(1, int(self.chain.row["round"]) + 1):
            result = self.chain.result(number)
            if result.proposers:
                adapter = self._round(result, adapter, [row for row in audits if row.round < number])
            for place, closed in enumerate(audits, start=1):
                if closed.round == number:
                    for account, *named in auditors.audit(place, closed, audits[: place - 1]):
                        mine, theirs = ([each.hex() for each in row] for row in named)
                        self.same.note("whom an auditor names", f"audit {place}, 0x{account.hex()}", mine, theirs)
        return self.same

    def _round(self, result: RoundResult, adapter: GlobalAdapter, audits: Sequence[ClosedAudit]) -> GlobalAdapter:
        number, where = result.round, f"round {result.round}"
        self.made.starts[number] = self.made.write(f"start-{number}", encode_global(adapter))
        deltas = self.made.deltas[number] = self._train(result)
        order = self.made.held[number] = [index for index in bits(result.held_set) if index in deltas]
        scores, filters = [], []
        for seat in bits(result.scores_revealed):
            row = self._vote(result, result.voters[seat], order)
            theirs = tuple(map(list, self.chain.board("score_of", TASK, number, seat)))
            self.same.note("scores and filters of a voter", f"{where}, seat {seat}", row, theirs)
            scores.append(row[0])
            filters.append(row[1])
        self.repeated |= {encode(deltas[index]) for index in order}
        terms = self.chain.row["terms"]
        tally = compute_tally(scores, filters, result.held_set, terms["loss_limit"], terms["mad_multiple"])
        accepted = [index for index in order if tally.verdicts[index] is Verdict.ACCEPTED] if scores else []
        self.same.note("accepted set", where, accepted, result.accepted())
        after = self._adopt(result, adapter, accepted, audits)
        self.same.note("global adapter", where, name(after), result.adapter_after.hex())
        return after

    def _train(self, result: RoundResult) -> dict[int, Delta]:
        """Of all who committed to a proposal."""
        found, start = {}, self.made.starts[result.round]
        for index, account in enumerate(result.proposers):
            who = self.people[account]
            if who.secrets.load(TASK, result.round, "proposal") is None:
                continue
            out, seed = self.made.delta_path(result.round, index), who.peer.seed
            who.engine.train(start, mix_seeds(seed, result.round, seed), out, lambda _event: None)
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
        start, paths = self.made.starts[number], [self.made.delta_path(number, index) for index in order]
        deltas = [self.made.deltas[number][index] for index in order]
        scores, filters = [0] * SEATS_MAX, [0] * SEATS_MAX
        ball = self.chain.document.budget.norm_thousandths
        exact = filter_bits(deltas, ball)
        rows = zip(order, who.engine.score(start, paths), exact, deltas, strict=True)
        for index, score, found, delta in rows:
            scores[index] = max(-SCORE_LIMIT, min(SCORE_LIMIT, score))
            filters[index] = found | (FILTER_NEAR_DUPLICATE if encode(delta) in self.repeated else 0)
        compared = choose_compared(exact)
        if len(compared) >= MIN_PROPOSALS and result.adapter_before != bytes(self.chain.row["adapter0"]):
            seed = self.chain.seed(number, record["seed_height"], b"flock probes")
            profiles = measure_likeness(who.engine, start, [paths[place] for place in compared], seed)
            for place in find_suspects(compute_cosines(compute_gram([deltas[i] for i in compared])), profiles):
                filters[order[compared[place]]] |= FILTER_NEAR_DUPLICATE
        for index in self._refuse(result, who, order, record):
            scores[index] = SCORE_LIMIT
        return scores, filters

    def _refuse(self, result: RoundResult, who: Participant, order: Sequence[int], record: Any) -> list[int]:
        every = self.chain.row["terms"]["audit_rounds"]
        if not every or not order:
            return []
        seed = self.chain.seed(result.round, record["seed_height"], b"flock recital")
        pairs = [self.made.find_pair(result.round, index) for index in order]
        values = self.measurer.measure(who, pairs, seed, record["own_seed"])
        return [index for index, value in zip(order, values, strict=True) if find(value) is Finding.GUILTY]

    def _adopt(
        self, result: RoundResult, adapter: GlobalAdapter, accepted: list[int], audits: Sequence[ClosedAudit]
    ) -> GlobalAdapter:
        if not accepted:
            return adapter
        base, deltas = adapter, self.made.deltas
        for row in plan_removal(self.lineage, audits, result.round):
            base = take_out(base, [deltas[row.round][index] for index in row.present], row.places)
        candidate = apply(base, [deltas[result.round][index] for index in accepted])
        paths = [self.made.write(f"{what}-{result.round}", encode_global(row)) for what, row in
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


def name(adapter: GlobalAdapter) -> str:
    return compute_file_digest(encode_global(adapter)).hex()


def encode(delta: Delta) -> bytes:
    return delta.mantissas.tobytes() + delta.exponents.tobytes()


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
        same = Rounds(chain, make_people(plan.peers, chain.document, folder), Made(folder)).run()
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
