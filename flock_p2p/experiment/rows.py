"""Which runs an experiment consists of: method, attack, share of malicious participants, seed, rounds. Runs nothing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from flock_chain.aggregation.format import RATE_ONE
from flock_chain.errors import Misuse
from flock_p2p.suggestions import suggest

PARTICIPANTS, PROPOSERS, VOTERS = 18, 8, 7
ROUNDS, SLOW_ROUNDS = 12, 20
STEPS, MAX_STEPS = 12, 10_000  # of a local training; twelve as in flock_peers.training.laboratory.BUDGET

BASELINES = (
    "fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedprox", "multi-krum", "trimmed-mean", "median",
    "geometric-median", "fltrust", "flame", "fedavg-rate",
)  # fmt: skip
PARTS = ("norm", "function", "loss", "refusal", "audit", "comparison", "adoption", "reference", "rate")  # of our rule
METHODS = ("isolated", "pooled", "oracle", *BASELINES, "paper", "ours", *(f"ours-without-{part}" for part in PARTS))
VOTER_LIES = ("whitelist", "invert", "copy")
ATTACKS = (
    "none", "shared", "stealth", "boosted", "garbage", "flip", "domain", "lone", "sleepers", "thin", "syntactic",
    *(f"voters-{lie}" for lie in VOTER_LIES),
)  # fmt: skip
SLOW_ATTACKS = ("lone", "sleepers", "thin")
MALICIOUS = (0, 11, 28, 39)  # per cent
CENTRAL = ("isolated", "pooled")  # nobody proposes, so nobody attacks
# The `server_lr_thousandths` of our task: what is added counts more, what audits have yet to find as well. At twice the
# mean a backdoor fired for single rounds (docs/experiment.md).
OUR_RATE = 1_500


@dataclass(frozen=True)
class Row:
    method: str
    attack: str
    malicious: int  # per cent of the participants
    seed: int
    rounds: int
    steps: int = STEPS  # of a local training

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(asdict(self).values())

    @property
    def server_rate(self) -> int:
        """In thousandths. The literature's rules have a rate of their own, the paper's has none."""
        has_ours = self.method in ("oracle", "fedavg-rate") or self.method.startswith("ours")
        return OUR_RATE if has_ours and self.method != "ours-without-rate" else RATE_ONE

    @property
    def malicious_count(self) -> int:
        return 0 if self.attack == "none" else round(PARTICIPANTS * self.malicious / 100)


def plan_rows(
    methods: Sequence[str],
    attacks: Sequence[str],
    malicious: Sequence[int],
    seeds: Sequence[int],
    rounds: int | None = None,
    steps: int = STEPS,
) -> list[Row]:
    """Every combination that differs: without an attack nobody is malicious, and without malice there is no attack."""
    _check("method", methods, METHODS)
    _check("attack", attacks, ATTACKS)
    if any(not 0 <= share <= 50 for share in malicious):
        raise Misuse("--malicious: per cent of the participants, 0 to 50")
    if rounds is not None and not 1 <= rounds <= 1_000:
        raise Misuse("--rounds: 1 to 1000")
    if not 1 <= steps <= MAX_STEPS:
        raise Misuse(f"--steps: 1 to {MAX_STEPS}")
    rows: dict[Row, None] = {}
    for seed, attack, share, method in product(seeds, attacks, malicious, methods):
        row = Row(method, attack, share, seed, rounds or (SLOW_ROUNDS if attack in SLOW_ATTACKS else ROUNDS), steps)
        if attack == "none" or share == 0 or method in CENTRAL:
            row = replace(row, attack="none", malicious=0, rounds=rounds or ROUNDS)
        rows[row] = None
    return list(rows)


def _check(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        near = suggest(unknown, known) or "."
        raise Misuse(f"--{what}s: there is no {' and no '.join(unknown) or 'name'}{near} Known: {', '.join(known)}")
