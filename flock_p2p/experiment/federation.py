"""One run: rounds of draw, training, vote, aggregation and pay, measured after each. Knows no file and no screen."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from statistics import mean
from typing import Any

from flock_chain.aggregation import Delta, GlobalAdapter, compute_delta_file_bytes, quantise
from flock_chain.audit_rule import CONVICT_FROM
from flock_chain.parameters import DEMO
from flock_chain.tally import Verdict
from flock_contracts.draw import draw
from flock_p2p.experiment.attackers import Attackers, choose_attackers
from flock_p2p.experiment.judges import REJECTED, Decision, Judge, Ours, Seats, make_judge
from flock_p2p.experiment.money import BOND, Money
from flock_p2p.experiment.rows import PARTICIPANTS, PROPOSERS, VOTERS, Row
from flock_peers.tasks import Terms
from flock_peers.training.domains import DOMAINS
from flock_peers.training.laboratory import Laboratory, Vector

Progress = Callable[[int, int], None]  # rounds done, and in all


@dataclass
class Federation:
    row: Row
    laboratory: Laboratory
    rate: int | None = None  # of the server, in thousandths; None: as the method has it
    attackers: Attackers = field(init=False)
    money: Money = field(init=False)
    judge: Judge = field(init=False)
    adapter: GlobalAdapter = field(init=False)
    history: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # "honest ACCEPTED", "malicious REJECTED_LOSS", ...

    def __post_init__(self) -> None:
        row = self.row
        self.attackers = choose_attackers(row)
        self.money = Money(PARTICIPANTS, row.rounds, Terms.proposer_share)
        self.rate = row.server_rate if self.rate is None else self.rate
        self.judge = make_judge(row, self.laboratory, self.attackers, self.money, DEMO.norm_slash, self.rate)
        start = self.laboratory.initial_adapter()
        self.adapter = replace(start, format=replace(start.format, server_lr_thousandths=self.rate))

    def run(self, progress: Progress) -> dict[str, Any]:
        for number in range(self.row.rounds):
            self._round(number)
            progress(number + 1, self.row.rounds)
        return self._result()

    def _seed(self, *parts: object) -> bytes:
        return sha256(":".join(map(str, (self.row.seed, *parts))).encode()).digest()

    def _round(self, number: int) -> None:
        proposers, voters = self._draw(number)
        deltas = [self._propose(who, number) for who in proposers]
        decision = self.judge.decide(Seats(number, proposers, voters, deltas, self.adapter))
        self.adapter = decision.adapter
        accepted = [who for who, verdict in zip(proposers, decision.verdicts) if verdict is Verdict.ACCEPTED]
        if decision.paid_voters:
            self.money.pay(number, accepted, decision.paid_voters)
        for who, bps in decision.slashes:
            self.money.slash(who, bps, forfeit=decision.forfeits)
        self._record(number, proposers, voters, decision)

    def _draw(self, number: int) -> tuple[list[int], list[int]]:
        """The board's seats: M' = max(3, min(M, E - K)), K' = min(K, E - M') of E eligible ones, by stake."""
        weights = self.money.weights()
        eligible = sum(weight > 0 for weight in weights)
        voters = max(3, min(VOTERS, eligible - PROPOSERS))
        proposers = draw(self._seed(number, "proposers"), weights, min(PROPOSERS, eligible - voters))
        rest = self.money.weights(without=proposers)
        return proposers, draw(self._seed(number, "voters"), rest, voters)

    def _propose(self, who: int, number: int) -> Delta:
        attack = self.attackers.attack_of(who, number, self.row.rounds, self.money.growth(who))
        seed = int.from_bytes(self._seed(number, who, "train")[:6], "big")
        start = self.adapter.to_float32()
        change = self.laboratory.train(who, start, seed, attack, self.judge.proximal)
        return quantise(change, self.adapter.layout, self.adapter.format)

    def _record(self, number: int, proposers: list[int], voters: list[int], decision: Decision) -> None:
        for who, verdict in zip(proposers, decision.verdicts):
            key = f"{'malicious' if who in self.attackers.members else 'honest'} {verdict.name}"
            self.counts[key] = self.counts.get(key, 0) + 1
        bad_voters = sum(who in self.attackers.members for who in voters)
        self.history.append({
            "round": number + 1,
            "proposers": proposers,
            "verdicts": [verdict.name for verdict in decision.verdicts],
            "malicious_proposers": sum(who in self.attackers.members for who in proposers),
            "captured": 2 * bad_voters > len(voters),
            "adopted": decision.adopted,
            "honest_stake": self._stake(False),
            "malicious_stake": self._stake(True),
            **self._measure(self.adapter.to_float32()),
            **decision.notes,
        })  # fmt: skip

    def _stake(self, malicious: bool) -> float | None:
        """Mean bond, in first bonds."""
        mine = [bond for who, bond in enumerate(self.money.bonds) if (who in self.attackers.members) == malicious]
        return round(mean(mine) / BOND, 4) if mine else None

    def _measure(self, vector: Vector) -> dict[str, float]:
        fired = self.laboratory.attack_success(vector, self.attackers.planted)
        return {
            "clean_loss": round(mean(self.laboratory.test(vector).values()), 5),
            "asr": round(max(fired, default=0.0), 4),
        }

    def _result(self) -> dict[str, Any]:
        document, members = self.laboratory.document, self.attackers.members
        asr = [point["asr"] for point in self.history]
        captured = [point["round"] for point in self.history if point["captured"]]
        rejected = {
            kind: sum(n for key, n in self.counts.items() if _is_rejection(key, kind))
            for kind in ("honest", "malicious")
        }
        proposed = {
            kind: sum(n for key, n in self.counts.items() if key.startswith(kind)) for kind in ("honest", "malicious")
        }
        return {
            **asdict(self.row),
            "server_lr_thousandths": self.rate,
            "malicious_count": len(members),
            "clean_loss": self.history[-1]["clean_loss"],
            "asr_final": asr[-1],
            "asr_peak": max(asr),
            "asr_peak_before_capture": max(asr[: captured[0] - 1], default=0.0) if captured else max(asr),
            "captured_rounds": captured,
            "honest_rejected": rejected["honest"],
            "honest_proposals": proposed["honest"],
            "malicious_rejected": rejected["malicious"],
            "malicious_proposals": proposed["malicious"],
            "honest_slashed": sum(who not in members for who in self.money.slashed),
            "malicious_slashed": sum(who in members for who in self.money.slashed),
            "bytes": sum(proposed.values()) * compute_delta_file_bytes(document.layout, document.format),
            "counts": self.counts,
            "audits": self.judge.audits.notes if isinstance(self.judge, Ours) else [],
            "convict_from": CONVICT_FROM,  # what was run before has none: it was GUILTY_FROM
            "suspended": sorted(self.money.suspended),
            "members": sorted(members),
            "domains": {name: round(x, 5) for name, x in self.laboratory.test(self.adapter.to_float32()).items()},
            "history": self.history,
        }


def _is_rejection(key: str, kind: str) -> bool:
    who, verdict = key.split()
    return who == kind and Verdict[verdict] in REJECTED


def run_central(row: Row, laboratory: Laboratory, progress: Progress) -> dict[str, Any]:
    """The two ends between which a federation lies: everybody alone, and all data in one place."""
    start = laboratory.initial_adapter().to_float32()
    if row.method == "pooled":
        losses = [laboratory.test(laboratory.train_pooled(start, row.rounds, PROPOSERS, row.seed))]
        progress(row.rounds, row.rounds)
    else:
        losses = []
        for number in range(len(DOMAINS)):  # one participant of each domain
            losses.append(laboratory.test(laboratory.train_alone(number, start, row.rounds, row.seed * 100 + number)))
            progress((number + 1) * row.rounds // len(DOMAINS), row.rounds)
    means = [mean(loss.values()) for loss in losses]
    own = [loss[laboratory.domains[number]] for number, loss in enumerate(losses)]
    return {
        **asdict(row),
        "malicious_count": 0,
        "clean_loss": round(mean(means), 5),
        "best_loss": round(min(means), 5),
        "own_domain_loss": round(mean(own), 5) if row.method == "isolated" else None,
        **dict.fromkeys(("asr_final", "asr_peak", "asr_peak_before_capture"), 0.0),
        "captured_rounds": [],
        **dict.fromkeys(("honest_rejected", "honest_proposals", "malicious_rejected", "malicious_proposals"), 0),
        **dict.fromkeys(("honest_slashed", "malicious_slashed", "bytes"), 0),
        "domains": {name: round(mean(loss[name] for loss in losses), 5) for name in losses[0]},
        "history": [],
    }


def run_row(row: Row, laboratory: Laboratory, progress: Progress) -> dict[str, Any]:
    if row.method in ("isolated", "pooled"):
        return run_central(row, laboratory, progress)
    return Federation(row, laboratory).run(progress)
