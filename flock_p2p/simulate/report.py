"""What a person, or a program with `--json`, gets to read of proofs, campaigns, mutants and counterexamples."""

from collections.abc import Sequence
from typing import Any

from flock_p2p.simulate.campaign import Plan, Tally
from flock_p2p.simulate.mutation import MIX, Verdict
from flock_p2p.simulate.proof import Claim
from flock_p2p.simulate.scenario import describe
from flock_p2p.simulate.shrink import Counterexample
from flock_peers.plural import plural

MAX_LINES = 120  # of a counterexample, from its end: the rest is in the run with --log


def campaign_to_dict(plan: Plan, tally: Tally, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    return {
        "seed": plan.seed,
        "schedules": tally.schedules,
        "executor": plan.executor,
        "heights": tally.heights,
        "crashes": tally.crashes,
        "events": tally.events,
        "convicted_validators": tally.accused,
        "forks_by_colluders_all_convicted": tally.forks,
        "run_twice": tally.repeated,
        "schedules_with": dict(sorted(tally.faults.items())),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "runs_per_cpu_second": round((tally.schedules + tally.repeated) / max(cpu_seconds, 1e-9), 1),
        "digest": tally.digest,
    }


def format_campaign(plan: Plan, tally: Tally, seconds: float, cpu_seconds: float) -> str:
    row = campaign_to_dict(plan, tally, seconds, cpu_seconds)
    lines = [
        f"{plural(tally.schedules, 'schedule')} from seed {plan.seed}: {plural(tally.heights, 'height')}, "
        f"{plural(tally.crashes, 'crash', 'crashes')}, {plural(tally.events, 'event')}, "
        f"{plural(tally.accused, 'misbehaving validator')} convicted, {plural(tally.forks, 'fork')} by colluders",
        f"{seconds:.1f} s, {row['runs_per_cpu_second']} runs per second of CPU; "
        f"{plural(tally.repeated, 'schedule')} ran twice, with equal results",
        f"digest of all runs {tally.digest[:16]}",
    ]
    return "\n".join(lines)


def counterexample_to_dict(found: Counterexample, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "property": found.violation.property,
        "detail": found.violation.detail,
        "scenario": describe(found.scenario),
        "faults": found.faults,
        "shrunk_in_runs": found.runs,
        "schedule": [{"ms": time, "event": text} for time, text in found.log],
    }


def format_counterexample(found: Counterexample, seed: int) -> str:
    shown = found.log[-MAX_LINES:]
    left_out = len(found.log) - len(shown)
    lines = [
        f"VIOLATED  {found.violation.property}",
        f"seed      {seed}",
        f"smallest  Scenario({describe(found.scenario)}), {plural(found.faults, 'fault')} of chance, "
        f"found in {plural(found.runs, 'run')}:",
        *([f"          ({plural(left_out, 'event')} before these)"] if left_out else []),
        *(f"{time:8} ms  {text}" for time, text in shown),
        f"broken    {found.violation.detail}",
    ]
    return "\n".join(lines)


def proof_to_dict(claims: Sequence[Claim], seconds: float) -> dict[str, Any]:
    return {"claims": [claim._asdict() for claim in claims], "seconds": round(seconds, 2)}


def format_proof(claims: Sequence[Claim], seconds: float) -> str:
    def verdict(claim: Claim) -> str:
        if not claim.holds:
            return "NOT PROVED" if claim.safe else "NOT REFUTED"
        return "safe" if claim.safe else "refuted"

    width = max(len(claim.text) for claim in claims)
    lines = [f"{claim.text:<{width}}  {claim.cases:5} cases  {verdict(claim)}" for claim in claims]
    return "\n".join([*lines, f"{seconds:.2f} s"])


def mutants_to_dict(verdicts: Sequence[Verdict], seconds: float) -> dict[str, Any]:
    rows = [
        {
            "mutant": v.mutant, "killed": v.killed, "schedules": v.schedules, "faults": v.faults,
            "property": v.broken, "seed": v.seed,
        }
        for v in verdicts
    ]  # fmt: skip
    return {"mutants": rows, "killed": sum(v.killed for v in verdicts), "seconds": round(seconds, 1)}


def format_mutants(verdicts: Sequence[Verdict], seconds: float) -> str:
    width = max(len(v.mutant) for v in verdicts)
    head = f"{'mutant':<{width}}  schedules  faults   killed by"
    lines = [
        f"{v.mutant:<{width}}  {v.schedules:9}  {v.faults:<7}  {v.broken or 'SURVIVED'}" for v in verdicts
    ]  # fmt: skip
    mixed = sum(v.killed and v.faults == MIX for v in verdicts)
    killed = sum(v.killed for v in verdicts)
    foot = f"{killed} of {len(verdicts)} killed, {mixed} by the mix of all faults; {seconds:.0f} s"
    return "\n".join([head, "-" * (width + 60), *lines, foot])
