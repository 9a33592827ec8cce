"""What the rounds of a demo have taught the global adapter, and when that is enough to judge it. Knows no network.

Chance draws the seats, and voters may keep the adapter that they have: after three rounds it may have learned of one
domain alone, and then it cannot know more than a peer that trained on nothing else. So a demo plays a few rounds more
where it has to, and is held to what it has been taught.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flock_chain.paper_rule import RULE_PAPER
from flock_chain.tally import Verdict
from flock_p2p.demo.plan import Plan
from flock_peers.roles.board import RoundResult


@dataclass(frozen=True)
class Lesson:
    """One round: whose proposals were accepted, and whether voters then adopted what they add up to."""

    accepted: tuple[bytes, ...]
    is_adopted: bool


def lesson_of(result: RoundResult) -> Lesson:
    accepted = tuple(bytes(result.proposers[index]) for index in result.accepted())
    return Lesson(accepted, result.adapter_after != result.adapter_before)


def read_lesson(row: Mapping[str, Any]) -> Lesson:
    """From a peer's answer to `rounds`."""
    pairs = zip(row["proposers"], row["verdicts"], strict=True)
    accepted = tuple(bytes.fromhex(account[2:]) for account, verdict in pairs if verdict == Verdict.ACCEPTED.name)
    return Lesson(accepted, row["adapter_after"] != row["adapter_before"])


def find_domains(plan: Plan) -> frozenset[str]:
    """What could be taught: the text of honest peers."""
    return frozenset(peer.domain for peer in plan.peers if not peer.attack)


def find_taught(plan: Plan, lessons: Iterable[Lesson]) -> frozenset[str]:
    """The domains of which the global adapter has learned from honest peers."""
    peers = [plan.by_account(account) for each in lessons if each.is_adopted for account in each.accepted]
    return frozenset(peer.domain for peer in peers if peer is not None and not peer.attack)


def count_for_comparison(plan: Plan) -> int:
    """Of how many domains it must have learned before it is promised to beat a peer that knows one: more than half."""
    return len(find_domains(plan)) // 2 + 1


def count_wanted(plan: Plan) -> int:
    """For how many domains a demo goes on: of few rounds one for each, and none where nothing is promised of them."""
    return 0 if plan.terms.voting_rule == RULE_PAPER else min(plan.rounds, count_for_comparison(plan))


def is_enough(plan: Plan, lessons: Iterable[Lesson]) -> bool:
    return len(find_taught(plan, lessons)) >= count_wanted(plan)


def find_rivals(plan: Plan, taught: Collection[str], isolated: Iterable[int]) -> list[int]:
    """The peers, of those trained alone, whom the global adapter is promised to beat: who hold what it was taught, once
    that is enough domains to compare."""
    if len(taught) < count_for_comparison(plan):
        return []
    return [number for number in isolated if plan.peers[number].domain in taught]
