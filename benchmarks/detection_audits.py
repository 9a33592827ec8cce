"""What auditors find of honest and of poisoned proposals: every auditor's value of each, in contexts of two audits and
of a voter's refusal; and how often they found it in runs of the experiment. Knows no economy.

One measured group is a seed of the experiment (its rows, attackers, triggers and targets) and the adapter after some
rounds of honest proposals: everybody trains from it, and every other honest participant measures what came out. Poison
is the experiment's `shared` backdoor, which the ball keeps at an honest norm (*matched*), and the same times four.
"""

import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from flock_chain.aggregation import GlobalAdapter, apply, quantise
from flock_chain.audit_rule import GUILTY_FROM, summarise
from flock_p2p.experiment.attackers import BOOST, Attackers, choose_attackers
from flock_p2p.experiment.rows import PARTICIPANTS, PROPOSERS, Row
from flock_peers.training.laboratory import Laboratory
from flock_peers.training.recital import Suspect

MALICIOUS = 28  # per cent of the participants whose proposals are poisoned
PURPOSES = ("recital", "audit", "audit again")  # a voter's refusal, and the two audits that look at a proposal
HONEST_OF_A_ROUND = 8


def measure(seeds: Sequence[int], rounds: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
    """Proposals with their values, group by group; a group's adapter has seen so many honest rounds."""
    for seed in seeds:
        laboratory = Laboratory(PARTICIPANTS, seed)
        attackers = choose_attackers(Row("ours", "shared", MALICIOUS, seed, 8))
        adapter = laboratory.initial_adapter()
        for number in range(max(rounds) + 1):
            if number in rounds:
                yield _measure_group(laboratory, attackers, adapter, seed, number)
            adapter = _advance(laboratory, attackers, adapter, number)


def _honest(attackers: Attackers) -> list[int]:
    return [who for who in range(PARTICIPANTS) if who not in attackers.members]


def _advance(laboratory: Laboratory, attackers: Attackers, adapter: GlobalAdapter, number: int) -> GlobalAdapter:
    honest = _honest(attackers)
    who = [honest[(PROPOSERS * number + seat) % len(honest)] for seat in range(PROPOSERS)]
    start = adapter.to_float32()
    changes = [laboratory.train(one, start, attackers.seed(number, one, "train")) for one in who]
    return apply(adapter, [quantise(change, adapter.layout, adapter.format) for change in changes])


def _measure_group(
    laboratory: Laboratory, attackers: Attackers, adapter: GlobalAdapter, seed: int, number: int
) -> list[dict[str, Any]]:
    honest, start = _honest(attackers), adapter.to_float32()
    first = number * HONEST_OF_A_ROUND
    chosen = [honest[(first + i) % len(honest)] for i in range(HONEST_OF_A_ROUND)]
    suspects = []
    for who in (*chosen, *sorted(attackers.members)):
        attack = attackers.attacks.get(who)
        change = laboratory.train(who, start, attackers.seed(number, who, "train"), attack)
        kinds = (("honest", 1.0),) if attack is None else (("matched", 1.0), ("boosted", BOOST))
        for kind, boost in kinds:
            delta = quantise(boost * change, adapter.layout, adapter.format)
            suspects.append((kind, who, Suspect(start, delta.to_float32())))
    began = time.monotonic()
    values: list[list[list[int | None]]] = [[] for _ in suspects]
    for purpose in PURPOSES:
        common = attackers.seed(number, purpose)
        for into, (_, who, suspect) in zip(values, suspects, strict=True):
            strings = laboratory.find_strings(suspect, common)
            into.append([
                None if auditor == who else summarise(
                    strings.common,
                    laboratory.measure_own(
                        auditor, suspect, strings, attackers.seed(number, purpose, "own", auditor)
                    ).own,
                )
                for auditor in honest
            ])  # fmt: skip
    print(f"audits: seed {seed} round {number}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return [
        {"kind": kind, "run": f"measured {seed}", "round": number, "who": who, "values": rows}
        for (kind, who, _), rows in zip(suspects, values, strict=True)
    ]


def count_found(values: Sequence[int | None]) -> list[int]:
    """How many of the auditors find it guilty, and of how many."""
    measured = [value for value in values if value is not None]
    return [sum(value >= GUILTY_FROM for value in measured), len(measured)]


def read_rows(path: Path, seeds: Collection[int]) -> list[dict[str, Any]]:
    """Of the experiment's rows of our rule under attack: what each honest auditor measured of each proposal in the
    audits that looked at it, two or, of the last round's, one."""
    proposals = []
    for row in map(json.loads, path.read_text("utf-8").splitlines()):
        if not row.get("audits") or not row["members"] or (seeds and row["seed"] not in seeds):
            continue
        seen: dict[tuple[int, int], list[list[int | None]]] = {}
        for audit in row["audits"]:
            for number, who, values in audit["values"]:
                seen.setdefault((number, who), []).append(values)
        name = f"rows {row['attack']} {row['malicious']} {row['seed']}"
        for (number, who), audits in seen.items():
            kind = "matched" if who in row["members"] else "honest"
            proposals.append({"kind": kind, "run": name, "round": number, "who": who, "audits": audits})
    return proposals


def count_rates(proposals: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By run and kind: audits of a proposal, and in how many half of the honest auditors found it guilty, two thirds,
    and all but one."""
    rates: dict[str, dict[str, int]] = {}
    for row in proposals:
        counted = rates.setdefault(
            f"{row['run']}: {row['kind']}", {"audits": 0, "half": 0, "two thirds": 0, "all but one": 0}
        )
        for found, auditors in map(count_found, row["audits"] if "audits" in row else row["values"][1:]):
            counted["audits"] += 1
            counted["half"] += 2 * found >= auditors
            counted["two thirds"] += 3 * found >= 2 * auditors
            counted["all but one"] += found >= auditors - 1
    return rates
