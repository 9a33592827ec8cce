"""What another rule of removal would have left of a row of ours: its own rounds, verdicts and words of auditors again.

    python -m flock_p2p experiment --methods ours --attacks shared --seeds 21,22 --rounds 8 --out FOLDER
    python benchmarks/same_decisions.py FOLDER/rows.jsonl [--reach 0,2,4,all] [--left mean,sum] [--rate 1000,2000]

Everybody trains anew from the adapter that this rule gives; nobody measures, so that a row takes 25 seconds, not 150.
`--reach`: over how many audits a conviction reaches back (0: nothing is taken out). `--left`: whether what is left of a
round becomes a mean again, or keeps its weight (sum). `--rate`: times how much of the mean, in thousandths. What it
cannot say: whom auditors would have named then, and who would have been drawn. A round that adopted nothing keeps the
previous adapter here, even if it took something out.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from same_draws import read_rows

from flock_chain.aggregation import (
    Delta,
    GlobalAdapter,
    apply,
    compute_clip_factors,
    compute_gram,
    remove_contribution,
    take_out,
)
from flock_chain.aggregation.format import RATE_ONE
from flock_chain.audit_rule import GUILTY_FROM, REACH, is_out_already, plan_removal
from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_chain.parameters import DEMO
from flock_chain.tally import Verdict
from flock_p2p.experiment.audits import Audits
from flock_p2p.experiment.federation import Federation
from flock_p2p.experiment.judges import Committee, Decision, Ours, Seats
from flock_p2p.experiment.rows import PARTICIPANTS, Row
from flock_peers.training.laboratory import Laboratory

ALL = 10**6  # audits


@dataclass
class Told(Audits):
    """Who names whom is in the row; what comes out for it is another rule's."""

    record: Sequence[dict[str, Any]] = ()
    reach: int = REACH
    is_mean: bool = True
    convict_from: int = GUILTY_FROM  # of the row's own rule; rows of before had one limit for both looks

    def accuses(self, round: int, who: int, value: int) -> bool:
        is_out = is_out_already(self._closed, Account(who.to_bytes(20, "big")), round)
        return value >= (self.convict_from if is_out else GUILTY_FROM)

    def clean(self, round: int, adapter: GlobalAdapter) -> GlobalAdapter:
        for step in plan_removal(self._lineage, self._closed, round, self.reach):
            parts = [delta for _, delta in self._accepted[step.round].parts]
            if self.is_mean:
                adapter = take_out(adapter, [parts[place] for place in step.present], step.places)
            else:
                adapter = subtract(adapter, parts, step.out)
        return adapter

    def _measure(self, round: int) -> dict[int, list[int]]:
        table = self.record[round - 1]["values"]
        judges = [who for who, bond in enumerate(self.money.bonds) if bond > 0]
        honest = [who for who in judges if who not in self.attackers.members]
        named: dict[int, list[int]] = {who: [] for _, who, _ in table}
        for judge in judges:
            if judge in self.attackers.members:
                accused = set(named) - self.attackers.members
            else:
                place = honest.index(judge)
                accused = {who for number, who, values in table if self.accuses(number, who, values[place] or 0)}
            for who in accused - {judge}:
                named[who].append(judge)
        return named


def subtract(adapter: GlobalAdapter, accepted: Sequence[Delta], places: Sequence[int]) -> GlobalAdapter:
    """Just what `apply` added for them: what is left keeps its weight."""
    gram = compute_gram(accepted)
    factors = compute_clip_factors([gram[place][place] for place in range(len(accepted))])
    for place in places:
        adapter = remove_contribution(adapter, accepted[place], factors[place], len(accepted))
    return adapter


@dataclass
class Repeated(Ours):
    record: Sequence[dict[str, Any]] = ()

    def decide(self, seats: Seats) -> Decision:
        number, point = seats.number + 1, self.record[seats.number]
        verdicts = [Verdict[name] for name in point["verdicts"]]
        held = list(zip(seats.proposers, seats.deltas, strict=True))
        parts = [part for part, verdict in zip(held, verdicts, strict=True) if verdict is Verdict.ACCEPTED]
        base = self.audits.clean(number, seats.adapter)
        self.audits.accept(number, seats.adapter, parts)
        if point["adopted"]:
            self.audits.adopt(number)
        adapter = apply(base, [delta for _, delta in parts]) if point["adopted"] else seats.adapter
        slashes = self._slashes(seats, verdicts) + self.audits.hold(number, seats.voters)
        return Decision(adapter, verdicts, list(seats.voters), slashes, adopted=point["adopted"])


@dataclass
class SameDecisions(Federation):
    record: dict[str, Any] = field(default_factory=dict)
    reach: int = REACH
    is_mean: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        audits = Told(self.laboratory, self.attackers, self.money, record=self.record["audits"], reach=self.reach,
                      is_mean=self.is_mean, convict_from=self.record.get("convict_from", GUILTY_FROM))  # fmt: skip
        committee = Committee(self.laboratory, self.attackers)
        self.judge = Repeated(committee, self.money, DEMO.norm_slash, audits, record=self.record["history"])

    def _draw(self, number: int) -> tuple[list[int], list[int]]:
        proposers, voters = super()._draw(number)
        if proposers != self.record["history"][number]["proposers"]:
            raise Misuse("row: its draws are other ones; was it made by other code?")
        return proposers, voters


def replay(
    ours: dict[str, Any], laboratory: Laboratory, reach: int, *, is_mean: bool, rate: int | None = None
) -> dict[str, Any]:
    """`rate`: of the server, in thousandths; None: the row's own."""
    row = Row(**{one.name: ours[one.name] for one in fields(Row)})
    rate = rate or ours.get("server_lr_thousandths", RATE_ONE)  # rows of before had none
    run = SameDecisions(row, laboratory, rate, record=ours, reach=reach, is_mean=is_mean).run(lambda *_: None)
    return {
        "attack": ours["attack"], "malicious": ours["malicious"], "seed": ours["seed"], "rounds": ours["rounds"],
        "reach": "all" if reach == ALL else reach, "left": "mean" if is_mean else "sum",
        "rate": rate,
        "ours": ours["clean_loss"], "replayed": run["clean_loss"], "asr": run["asr_peak"],
        "by_round": [[point["clean_loss"], point["asr"]] for point in run["history"]], "domains": run["domains"],
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, metavar="rows.jsonl")
    parser.add_argument("--seeds", default="", help="only these (default: all)")
    parser.add_argument("--reach", default=str(REACH), help=f"audits, or all (default: {REACH})")
    parser.add_argument("--left", default="mean", help="mean, sum, or both with a comma (default: mean)")
    parser.add_argument("--rate", default="", help="of the server, in thousandths (default: the row's own)")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args(arguments)
    found = []
    for ours in read_rows(options.rows, {int(seed) for seed in options.seeds.split(",") if seed}):
        laboratory = Laboratory(PARTICIPANTS, ours["seed"])
        for reach in options.reach.split(","):
            for left, rate in product(options.left.split(","), options.rate.split(",")):
                row = replay(
                    ours, laboratory, ALL if reach == "all" else int(reach), is_mean=left == "mean",
                    rate=int(rate) if rate else None,
                )  # fmt: skip
                found.append(row)
                text = ("{attack} {malicious} %, seed {seed}, reach {reach}, {left}, rate {rate}: {replayed:.3f} for "
                        "{ours:.3f}, ASR {asr:.2f}")  # fmt: skip
                print(text.format(**row), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps({"rows": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
