"""A demo's outcome as tables for a person and as JSON for a program. Computes no loss and no verdict."""

from statistics import mean
from typing import Any

from flock_chain.content import format_cid
from flock_chain.paper_rule import RULE_PAPER
from flock_chain.tally import Verdict
from flock_p2p.demo.audit import Losses, Outcome, find_verdicts, is_honest, was_slashed
from flock_p2p.demo.lessons import count_for_comparison, find_domains, find_rivals, find_taught, lesson_of
from flock_peers.roles.board import RoundResult
from flock_peers.telemetry import compute_percentile

HIGH_ATTACK, LOW_ATTACK = 0.5, 0.1  # success rates that count as a planted and as a stopped backdoor

REJECTED = (Verdict.REJECTED_LOSS, Verdict.REJECTED_NORM, Verdict.ACCUSED_NORM, Verdict.REJECTED_AGGREGATE)


def find_failures(outcome: Outcome) -> list[str]:
    """What a demo promises and this one did not keep."""
    if outcome.plan.terms.voting_rule == RULE_PAPER:  # shown, not promised
        return [] if outcome.watched.are_heads_equal else ["not all peers hold the same state"]
    checks = [
        (outcome.watched.are_heads_equal, "not all peers hold the same state"),
        (outcome.global_.mean < outcome.base.mean, "the global adapter is no better than the base"),
        (_are_rivals_beaten(outcome), "the global adapter is no better than training alone"),
        (
            not any(was_slashed(row) for row in outcome.standings if not row.peer.attack),
            "an honest peer was slashed",
        ),
    ]
    if any(peer.attack for peer in outcome.plan.peers):
        checks += _attack_checks(outcome)
    return [text for holds, text in checks if not holds]


def find_not_shown(outcome: Outcome) -> list[str]:
    """What a demo is there for and this one could not show, because of whom chance drew: no failure, and no proof."""
    plan = outcome.plan
    if plan.terms.voting_rule == RULE_PAPER:
        return []
    texts = []
    if any(peer.attack for peer in plan.peers) and not _find_poisoned(outcome):
        texts.append("what becomes of a poisoner: none opened a proposal, extra rounds included")
    number, losses = _best_isolated(outcome)
    if outcome.global_.mean >= losses.mean and _are_rivals_beaten(outcome):
        taught, domains = _find_taught(outcome), find_domains(plan)
        text = f"that the global adapter beats training alone: of {len(domains)} domains it learned "
        text += ", ".join(sorted(taught)) or "none"
        if len(taught) >= count_for_comparison(plan):
            text += f", and nothing of {plan.peers[number].domain}, which peer {number} knows"
        texts.append(text)
    return texts


def _find_taught(outcome: Outcome) -> frozenset[str]:
    return find_taught(outcome.plan, map(lesson_of, outcome.results))


def _are_rivals_beaten(outcome: Outcome) -> bool:
    rivals = find_rivals(outcome.plan, _find_taught(outcome), outcome.isolated)
    return all(outcome.global_.mean < outcome.isolated[number].mean for number in rivals)


def _find_poisoned(outcome: Outcome) -> list[Verdict]:
    return [verdict for verdict in find_verdicts(outcome, malicious=True) if verdict is not Verdict.UNOPENED]


def _attack_checks(outcome: Outcome) -> list[tuple[bool, str]]:
    verdicts = _find_poisoned(outcome)
    if not verdicts:
        return []
    return [
        (Verdict.ACCEPTED not in verdicts, "a poisoner's proposal was accepted"),
        (any(was_slashed(row) for row in outcome.standings if row.peer.attack), "no poisoner was slashed"),
        (outcome.attack_averaged > HIGH_ATTACK, "the backdoor would not have worked in a plain average"),
        (outcome.attack_global < LOW_ATTACK, "the backdoor works in the global adapter"),
    ]


def _best_isolated(outcome: Outcome) -> tuple[int, Losses]:
    """The peer that alone would have got the lowest mean over all domains, and its losses."""
    return min(outcome.isolated.items(), key=lambda row: row[1].mean)


def is_success(outcome: Outcome) -> bool:
    return not find_failures(outcome)


# For a person


def format_outcome(outcome: Outcome) -> str:
    parts = [_loss_table(outcome), _round_table(outcome), _money_table(outcome), _network_lines(outcome)]
    failures = find_failures(outcome)
    verdict = [f"NOT AS PROMISED: {text}" for text in failures] or [_summary(outcome)]
    verdict += [
        f"NOT SHOWN, for chance draws who proposes (run it again, or with more --rounds): {text}"
        for text in find_not_shown(outcome)
    ]
    return "\n" + "\n\n".join([*parts, "\n".join(verdict)])


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(len(line) for line in lines), *lines[1:]])


def _loss_table(outcome: Outcome) -> str:
    domains = sorted(outcome.base.domains)
    best = _best_isolated(outcome)
    rows = [["bits per byte (test text)", *domains, "mean", "backdoor fires"]]
    for name, losses, attack in (
        ("base model", outcome.base, f"{outcome.attack_base:.0%}"),
        (f"best isolated (peer {best[0]})", best[1], ""),
        ("isolated, mean of peers", _mean_losses(list(outcome.isolated.values())), ""),
        ("everything averaged", outcome.averaged, f"{outcome.attack_averaged:.0%}"),
        ("global adapter", outcome.global_, f"{outcome.attack_global:.0%}"),
    ):
        rows.append([name, *(f"{losses.domains[d]:.4f}" for d in domains), f"{losses.mean:.4f}", attack])
    return _table(rows)


def _mean_losses(rows: list[Losses]) -> Losses:
    domains = {name: mean(row.domains[name] for row in rows) for name in rows[0].domains}
    return Losses(mean(row.mean for row in rows), domains)


def _round_table(outcome: Outcome) -> str:
    rows = [["round", "proposer", "verdict", "loss change (ppm)", "adapter after"]]
    for result in outcome.results:
        for index, account in enumerate(result.proposers):
            shown = format_cid(result.adapter_after)[-12:] if index == 0 else ""
            verdict = result.verdicts[index].name.lower()
            if (result.round, account) in outcome.convicted:
                verdict += ", slashed"
            rows.append([str(result.round), outcome.plan.title_of(account), verdict, _median(result, index), shown])
    return _table(rows)


def _median(result: RoundResult, index: int) -> str:
    return str(result.medians[index]) if index < len(result.medians) else ""


def _money_table(outcome: Outcome) -> str:
    rows = [["peer", "domain", "bond before", "bond after", "balance after", "MB per round"]]
    for row, status in zip(outcome.standings, outcome.watched.statuses, strict=True):
        traffic = list(status["bytes_by_round"].values())
        rows.append(
            [
                row.peer.title,
                row.peer.domain,
                _coins(row.bond_before),
                _coins(row.bond_after) + (" slashed" if was_slashed(row) else ""),
                _coins(row.balance_after),
                f"{mean(traffic) / 1e6:.2f}" if traffic else "0",
            ]
        )
    return _table(rows)


def _coins(wei: int) -> str:
    return f"{wei / 10**18:.3f}"


def _network_lines(outcome: Outcome) -> str:
    p50, p95 = _finality(outcome)
    status = outcome.watched.statuses[0]
    return "\n".join(
        [
            f"chain     height {status['height']}, state root {status['state_root'][:16]}, "
            + ("equal on all peers" if outcome.watched.are_heads_equal else "NOT equal on all peers"),
            f"finality  p50 {p50:.2f} s, p95 {p95:.2f} s (a transaction accepted by a peer until it is final there)",
            f"adapter   {outcome.adapter}  ({format_cid(outcome.adapter_digest)})",
            f"verify    python -m flock_p2p verify --home {outcome.plan.peers[0].home}",
        ]
    )


def _summary(outcome: Outcome) -> str:
    honest = find_verdicts(outcome, malicious=False)
    text = f"OK: {honest.count(Verdict.ACCEPTED)} of {len(honest)} honest proposals accepted"
    malicious = find_verdicts(outcome, malicious=True)
    if malicious:
        text += f", {sum(verdict in REJECTED for verdict in malicious)} of {len(malicious)} poisoned ones rejected"
    return text


def _finality(outcome: Outcome) -> tuple[float, float]:
    samples = [value for status in outcome.watched.statuses for value in status["finality_samples"]]
    return compute_percentile(samples, 0.5) or 0.0, compute_percentile(samples, 0.95) or 0.0


# For a program


REPORT_FORMAT = 3


def to_report(outcome: Outcome) -> dict[str, Any]:
    p50, p95 = _finality(outcome)
    best = _best_isolated(outcome)[1]
    isolated = _mean_losses(list(outcome.isolated.values()))
    return {
        "format": REPORT_FORMAT,
        "peers": len(outcome.plan.peers),
        "rounds": outcome.watched.rounds,
        "seed": outcome.plan.seed,
        "height": max(status["height"] for status in outcome.watched.statuses),
        "state_roots_equal": outcome.watched.are_heads_equal,
        "finality_seconds": {"p50": p50, "p95": p95},
        "loss": {
            "base": outcome.base.mean,
            "isolated_best_mean": best.mean,
            "isolated_mean": isolated.mean,
            "global": outcome.global_.mean,
            "averaged": outcome.averaged.mean,
            "per_domain": {
                domain: {
                    "base": outcome.base.domains[domain],
                    "isolated_best_mean": best.domains[domain],
                    "global": outcome.global_.domains[domain],
                    "averaged": outcome.averaged.domains[domain],
                }
                for domain in sorted(outcome.base.domains)
            },
        },
        "attack_success": {
            "base": outcome.attack_base,
            "global": outcome.attack_global,
            "averaged": outcome.attack_averaged,
        },
        "proposals": [
            {
                "round": result.round,
                "account": "0x" + account.hex(),
                "verdict": verdict.name.lower(),
                "malicious": not is_honest(outcome, account),
                "convicted": (result.round, account) in outcome.convicted,
            }
            for result in outcome.results
            for account, verdict in zip(result.proposers, result.verdicts, strict=True)
        ],
        "stakes": [
            {
                "account": "0x" + row.peer.account.hex(),
                "before": str(row.bond_before),
                "after": str(row.bond_after),
                "malicious": bool(row.peer.attack),
            }
            for row in outcome.standings
        ],
        "bytes_per_peer_round": {status["account"]: status["bytes_by_round"] for status in outcome.watched.statuses},
        "adapter": str(outcome.adapter),
        "adapter_cid": format_cid(outcome.adapter_digest),
        "seconds": outcome.watched.seconds,
        "taught": sorted(_find_taught(outcome)),
        "failures": find_failures(outcome),
        "not_shown": find_not_shown(outcome),
    }
