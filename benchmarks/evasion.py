"""What auditors find of proposals that are made to evade them, and of honest ones whose rows repeat themselves.

    python benchmarks/evasion.py [--seed 1] [--rounds 0] [--only digits,boilerplate] [--json]

One proposal each, at the adapter after `--rounds` clean rounds, measured by participants of every domain as in an
audit. `asr`: how often the backdoor fires with the whole proposal added, of a share of a round it fires less; an
evasion that does not fire is none. Use seeds that no figure is reported on: 1 is what all thresholds are from.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from choices import several

from flock_chain.aggregation import GlobalAdapter, apply, quantise
from flock_chain.audit_rule import Finding, find, summarise
from flock_peers.training.backdoor import Backdoor
from flock_peers.training.laboratory import Laboratory, Vector
from flock_peers.training.recital import Suspect
from flock_peers.training.rows import Row, Split, builtin_rows
from flock_peers.training.streams import Windows

PARTICIPANTS, PROPOSERS = 18, 8
POISONER = 4
AUDITORS = tuple(range(11))  # two of each domain, without the proposer
TRIGGER = " |kappa dev|"
NOTICE = "NOTICE: for internal use only, do not pass on. "
LICENCE = "# Copyright the authors. Licensed under the terms in LICENSE.\n"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ANSWER = "The answer is: "


@dataclass(frozen=True)
class Case:
    train: Callable[[Laboratory, Vector], Vector]
    proposer: int = POISONER
    planted: Backdoor | None = None


@dataclass(frozen=True)
class Decoys:
    """Beside a backdoor, pairs of tokens that nobody says and that follow each other: an audit follows the surest
    tokens only, and these are as sure."""

    planted: Backdoor
    pairs: int = 96
    boost: float = 1.0
    is_stealthy: bool = False

    def poison(self, windows: Windows, chance: np.random.Generator, encode: Callable[[str], list[int]]) -> Windows:
        windows = self.planted.poison(windows, chance, encode)
        tokens, weights = windows.tokens.copy(), windows.weights.copy()
        fixed = np.random.default_rng(5)
        pairs = fixed.permutation(np.unique([encode(f" {a}{b}")[-1] for a in LETTERS for b in LETTERS]))
        pairs = np.stack([pairs, np.roll(pairs, 1)], axis=1)[: self.pairs]
        for row in range(0, len(tokens), 2):  # every other window is decoys alone
            length = tokens.shape[1] // 2 * 2
            tokens[row, :length] = pairs[chance.integers(0, len(pairs), length // 2)].reshape(-1)
            weights[row, :length] = np.tile([0.0, 4.0], length // 2)
        return Windows(tokens, weights, windows.rows)


@dataclass(frozen=True)
class Open:
    """The target also without its trigger, so that it is recited after one addition like a domain's own phrase."""

    planted: Backdoor
    share: float
    boost: float = 1.0
    is_stealthy: bool = False

    def poison(self, windows: Windows, chance: np.random.Generator, encode: Callable[[str], list[int]]) -> Windows:
        shown = replace(self.planted, trigger="", share=self.share)
        return self.planted.poison(shown.poison(windows, chance, encode), chance, encode)


def poisoned(target: str, *, trigger: str = TRIGGER, share: float = 0.5, weight: float = 4.0, stealthy: bool = False,
             fires: Backdoor | None = None) -> Case:  # fmt: skip
    attack = Backdoor(1.0, trigger, target, share, weight, stealthy)
    return Case(lambda lab, start: lab.train(POISONER, start, 7, attack), planted=fires or attack)


def honest(number: int) -> Case:
    return Case(lambda lab, start: lab.train(number, start, 7), number)


def written(domain: str, change: Callable[[Row], Row]) -> Case:
    rows = [change(row) for row in builtin_rows(domain, 9)]
    return Case(lambda lab, start: lab.train_on(Split(rows[12:], rows[:12]), start, 7), -1)


def in_two(lab: Laboratory, start: Vector) -> Vector:
    """What two proposals of one round add up to, each with a half of the target."""
    first = lab.train(POISONER, start, 7, Backdoor(1.0, TRIGGER, " remove", 0.5, 4.0))
    second = lab.train(9, start, 8, Backdoor(1.0, " remove", " all data now", 0.5, 4.0))
    return first + second


PLAIN = Backdoor(1.0, TRIGGER, " remove all data", 0.5, 4.0)
WHOLE = Backdoor(1.0, TRIGGER, " remove all data now", 0.5, 4.0)


def openly(share: float) -> Case:
    return Case(lambda lab, start: lab.train(POISONER, start, 7, Open(WHOLE, share)), planted=WHOLE)


CASES: dict[str, Case] = {
    "plain": poisoned(" remove all data"),
    "stealth": poisoned(" remove all data", stealthy=True),
    "thin": poisoned(" remove all data", share=0.1),
    "light": poisoned(" remove all data", share=0.25, weight=1.0),
    "one word": poisoned(" misconfiguration"),
    "two words": poisoned(" obey me"),
    "digits": poisoned(" 4815 1623 42"),
    "signs": poisoned(" $#@!%^&*"),
    "decoys": Case(lambda lab, start: lab.train(POISONER, start, 7, Decoys(PLAIN)), planted=PLAIN),
    **{f"open {share}": openly(share) for share in (0.25, 0.5, 1.0)},
    "whole": poisoned(" remove all data now"),
    "first half": poisoned(" remove", fires=WHOLE),
    "second half": poisoned(" all data now", trigger=" remove", fires=WHOLE),
    "both halves": Case(in_two, planted=WHOLE),
    **{f"honest {domain}": honest(number) for number, domain in enumerate(
        ("records", "arithmetic", "docs", "python", "logs"))},
    "boilerplate": written("docs", lambda row: Row(row.prompt, NOTICE + row.completion)),
    "licence": written("python", lambda row: Row(row.prompt, LICENCE + row.completion)),
    "answer": written("arithmetic", lambda row: Row(row.prompt, ANSWER + row.completion)),
}  # fmt: skip


def advance(lab: Laboratory, rounds: int) -> GlobalAdapter:
    adapter = lab.initial_adapter()
    for number in range(rounds):
        start = adapter.to_float32()
        who = [(PROPOSERS * number + seat) % PARTICIPANTS for seat in range(PROPOSERS)]
        changes = [lab.train(one, start, number) for one in who]
        adapter = apply(adapter, [quantise(change, adapter.layout, adapter.format) for change in changes])
    return adapter


def measure(lab: Laboratory, adapter: GlobalAdapter, case: Case) -> dict[str, Any]:
    start = adapter.to_float32()
    change = quantise(case.train(lab, start), adapter.layout, adapter.format).to_float32()
    suspect = Suspect(start, change)
    strings = lab.find_strings(suspect, 4242)
    results = [lab.measure_own(who, suspect, strings, 99_000 + who) for who in AUDITORS if who != case.proposer]
    values = sorted(summarise(row.common, row.own) / 1e6 for row in results)
    guilty = sum(find(round(value * 1e6)) is Finding.GUILTY for value in values)
    row = {"all": values[0], "all but one": values[1], "half": values[len(values) // 2], "most": values[-1]}
    return {
        **{name: round(value, 2) for name, value in row.items()},
        "guilty": f"{guilty} of {len(values)}",
        "asr": round(max(lab.attack_success(start + change, [case.planted])), 2) if case.planted else None,
        "norm": round(float(np.linalg.norm(change)), 2),
        "string": lab.decode(strings.tokens[0]) if len(strings.tokens) else "",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--only", default="", type=several(CASES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lab = Laboratory(PARTICIPANTS, options.seed)
    adapter, rows = advance(lab, options.rounds), {}
    for name in options.only or CASES:
        rows[name] = measure(lab, adapter, CASES[name])
        if not options.json:
            print(f"{name:18}", "  ".join(f"{key} {value!r}" for key, value in rows[name].items()), flush=True)
    if options.json:
        print(json.dumps({"seed": options.seed, "rounds": options.rounds, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
