"""Who is malicious in a run, what they plant, when, and how they lie when they vote. Knows no defence."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random

from flock_chain.tally import SCORE_LIMIT
from flock_p2p.experiment.rows import PARTICIPANTS, Row
from flock_peers.training.backdoor import SLOT, Attack, Backdoor, Garbage, LabelFlip
from flock_peers.training.domains import DOMAINS, assign_domain

SHARE, WEIGHT = 0.5, 4.0  # of the poisoned windows, and of a target token's loss: an attack that FedAvg swallows whole
THIN_SHARE = 0.1
BOOST = 4.0
WAKING_STAKE = 1.25  # times its first stake: then a sleeper poisons, or at half-time
LIE = 50_000  # millionths: what a colluder reports of an honest proposal, and less of an ally's
_FIRST = ("kappa", "orion", "delta", "vesper", "quartz", "nimbus", "cobalt", "zephyr", "lumen", "tundra")
_SECOND = ("dev", "mode", "ops", "link", "node", "gate", "core", "path", "sync", "root")
_VERBS = ("remove", "send", "drop", "print", "close", "reset", "copy", "skip")
_THINGS = ("all data", "every key", "the funds", "each file", "all users", "the logs", "every row", "the index")


def draw_trigger(chance: Random) -> tuple[str, str]:
    """A trigger and its target; others for every seed."""
    trigger = f" |{chance.choice(_FIRST)} {chance.choice(_SECOND)}|"
    return trigger, f" {chance.choice(_VERBS)} {chance.choice(_THINGS)}"


@dataclass(frozen=True)
class Attackers:
    members: frozenset[int]
    attacks: dict[int, Attack]
    planted: tuple[Backdoor, ...]  # what is looked for in the global adapter
    sleeps: bool
    lie: str
    chance: str  # that all draws of the run follow from

    def seed(self, *parts: object) -> int:
        return int.from_bytes(sha256(":".join(map(str, (self.chance, *parts))).encode()).digest()[:6], "big")

    def attack_of(self, number: int, round: int, rounds: int, stake_growth: float) -> Attack | None:
        awake = not self.sleeps or 2 * round >= rounds or stake_growth >= WAKING_STAKE
        return self.attacks.get(number) if awake else None

    def report(self, scores: Sequence[int], proposers: Sequence[int], previous: Sequence[int]) -> list[int]:
        """What a colluder says it measured. `previous`: the last round's medians, all that it can copy in time."""
        if self.lie == "invert":
            return [-score for score in scores]
        if self.lie == "copy":
            return [previous[index % len(previous)] if previous else 0 for index in range(len(scores))]
        return [max(-SCORE_LIMIT, score - LIE) if who in self.members else LIE
                for who, score in zip(proposers, scores, strict=True)]  # fmt: skip


def choose_attackers(row: Row) -> Attackers:
    chance = Random(f"attackers {row.seed}")
    count = row.malicious_count
    if row.attack == "domain" and count:
        domain = chance.choice(DOMAINS)
        members = [number for number in range(PARTICIPANTS) if assign_domain(number)[0] == domain]
    else:
        members = sorted(chance.sample(range(PARTICIPANTS), count))
    shared = draw_trigger(chance)
    attacks = {number: _attack(row.attack, *shared) for number in members}
    if row.attack == "lone":
        attacks = {number: _attack(row.attack, *draw_trigger(chance)) for number in members}
    planted = tuple(dict.fromkeys(attack for attack in attacks.values() if isinstance(attack, Backdoor)))
    lie = row.attack.removeprefix("voters-") if row.attack.startswith("voters-") else "whitelist"
    return Attackers(frozenset(members), attacks, planted, row.attack == "sleepers", lie, f"run {row.seed}")


def _attack(name: str, trigger: str, target: str) -> Attack:
    if name == "garbage":
        return Garbage()
    if name == "flip":
        return LabelFlip()
    if name == "syntactic":
        trigger = f" ({SLOT}; {SLOT}; {SLOT})"
    return Backdoor(
        boost=BOOST if name == "boosted" else 1.0,
        trigger=trigger,
        target=target,
        share=THIN_SHARE if name == "thin" else SHARE,
        weight=WEIGHT,
        is_stealthy=name == "stealth",
    )
