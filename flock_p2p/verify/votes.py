"""A round's tally and filters, recomputed from what its voters revealed on chain and from the deltas themselves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flock_chain.aggregation import Delta, compute_gram, filter_bits
from flock_chain.paper_rule import compute_paper_outcome
from flock_chain.suspicion import MIN_PROPOSALS, choose_compared, compute_cosines, find_possible_suspects
from flock_chain.tally import (
    FILTER_NEAR_DUPLICATE,
    FILTER_NO_SCORE,
    FILTER_NORM_REJECT,
    FILTER_NORM_SLASH,
    Verdict,
    compute_tally,
    has_two_thirds,
)
from flock_p2p.verify.report import VerifyReport

_BITS = {FILTER_NORM_REJECT: "norm", FILTER_NORM_SLASH: "large norm", FILTER_NEAR_DUPLICATE: "near duplicate"}


@dataclass(frozen=True)
class Ballot:
    """What one voter revealed, by proposer index."""

    voter: bytes
    scores: Sequence[int]
    filters: Sequence[int]


def check_tally(
    where: str, result: Mapping[str, Any], ballots: Sequence[Ballot], terms: Mapping[str, int], report: VerifyReport
) -> None:
    """The verdicts, medians, center and deviation on chain against the reference."""
    tally = compute_tally(
        [ballot.scores for ballot in ballots],
        [ballot.filters for ballot in ballots],
        result["held_set"],
        terms["loss_limit"],
        terms["mad_multiple"],
    )
    count = len(result["proposers"])
    if list(tally.medians[:count]) != list(result["medians"]):
        report.fail(f"{where}: the medians on chain are not those of the revealed scores")
    if (tally.center, tally.mad) != (result["center"], result["mad"]):
        report.fail(f"{where}: center or deviation on chain are not those of the medians")
    for index in members(result):
        found = Verdict(result["verdicts"][index])
        if found != tally.verdicts[index]:
            report.fail(
                f"{where}: verdict of 0x{result['proposers'][index].hex()} is {found.name} on chain, the revealed "
                f"scores give {tally.verdicts[index].name}"
            )


def check_aggregate(where: str, result: Mapping[str, Any], votes: Mapping[int, bytes], report: VerifyReport) -> None:
    """The paper's rule: what the chain decided against the reference. `votes`: as revealed, by voter's seat."""
    outcome = compute_paper_outcome(votes, len(result["voters"]), result["adapter_before"])
    for index in members(result):
        found = Verdict(result["verdicts"][index])
        if found != outcome.verdict:
            report.fail(
                f"{where}: verdict of 0x{result['proposers'][index].hex()} is {found.name} on chain, the votes on the "
                f"aggregate give {outcome.verdict.name}"
            )
    if result["adapter_after"] != outcome.adapter:
        report.fail(f"{where}: the adapter after it is not the one that the voters named")


def check_untallied(where: str, result: Mapping[str, Any], report: VerifyReport) -> None:
    """A settled round without a tally judges nobody."""
    for index in members(result):
        if result["verdicts"][index] != Verdict.VOID:
            report.fail(f"{where}: 0x{result['proposers'][index].hex()} was judged though there was no tally")


def check_filters(
    where: str,
    result: Mapping[str, Any],
    ballots: Sequence[Ballot],
    deltas: Mapping[int, Delta],
    repeated: Collection[int],
    norm_thousandths: int,
    report: VerifyReport,
    *,
    is_first: bool = False,
) -> None:
    """The bits that two thirds reported against the exact ones.

    `deltas`: of the whole input set, for they compare. `repeated`: whose delta is that of an earlier round.
    `norm_thousandths`: the task's ball. `is_first`: at the task's first adapter, where nobody asks who is alike. A
    voter that lacks a member cannot compare: it reports nothing but that, and is not counted here.
    """
    order = members(result)
    found = filter_bits([deltas[index] for index in order], norm_thousandths) if order else []
    alike = frozenset() if is_first else _find_alike([order[place] for place in choose_compared(found)], deltas)
    exact = dict(zip(order, found, strict=True))
    for index in order:
        exact[index] |= FILTER_NEAR_DUPLICATE if index in repeated else 0
    complete = [ballot for ballot in ballots if not any(ballot.filters[i] & FILTER_NO_SCORE for i in order)]
    for index in order:
        name = f"{where}: filters of 0x{result['proposers'][index].hex()}"
        decided = _decide([ballot.filters[index] for ballot in ballots])
        if index in alike and not exact[index] & FILTER_NEAR_DUPLICATE:
            if decided & FILTER_NEAR_DUPLICATE:
                report.remarks.append(f"{name}: SUSPECT: two thirds found it more alike in weights than in function")
            exact[index] |= decided & FILTER_NEAR_DUPLICATE  # a measurement: its voters' word, where it is possible
        if decided & ~exact[index]:
            report.fail(f"{name}: two thirds of the voters reported {_name(decided)}, exact is {_name(exact[index])}")
        elif decided != exact[index] and has_two_thirds(len(complete), len(ballots)):
            report.fail(f"{name}: exact is {_name(exact[index])}, the voters decided {_name(decided)}")
        elif decided != exact[index]:
            report.remarks.append(f"{name}: exact is {_name(exact[index])}, but too few voters held it to say so")
        _remark_outvoted(name, exact[index], index, complete, report)


def _find_alike(order: Sequence[int], deltas: Mapping[int, Delta]) -> frozenset[int]:
    """Whom the functional filter could flag at all: exact, as the weights are."""
    if len(order) < MIN_PROPOSALS:
        return frozenset()
    return frozenset(
        order[place] for place in find_possible_suspects(compute_cosines(compute_gram([deltas[i] for i in order])))
    )


def _remark_outvoted(name: str, exact: int, index: int, ballots: Sequence[Ballot], report: VerifyReport) -> None:
    for ballot in ballots:
        said = ballot.filters[index]
        if said != exact:
            report.remarks.append(f"{name}: voter 0x{ballot.voter.hex()} reported {_name(said)}, not {_name(exact)}")


def _decide(filters: Sequence[int]) -> int:
    counts = {bit: sum(1 for value in filters if value & bit) for bit in _BITS}
    return sum(bit for bit, count in counts.items() if count and has_two_thirds(count, len(filters)))


def _name(bits: int) -> str:
    return " + ".join(name for bit, name in _BITS.items() if bits & bit) or "nothing"


def members(result: Mapping[str, Any]) -> list[int]:
    """The input set, by proposer index."""
    return [index for index in range(len(result["proposers"])) if result["held_set"] >> index & 1]
