"""Follows a demo network through its rounds by asking its peers, and prints what changes. Decides only when to stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flock_chain.errors import Unavailable
from flock_p2p.demo.lessons import count_wanted, find_taught, is_enough, read_lesson
from flock_p2p.demo.network import Network
from flock_p2p.demo.plan import POT
from flock_peers.plural import plural
from flock_peers.training.domains import reference_text

POLL_SECONDS = 0.5
STALL_SECONDS = 180.0  # without a new phase: the longest phase of the demo's terms is over by then
BASELINE_SECONDS = 80.0  # a round: every honest peer trains the steps of all of them, on shared cores
SETTLE_SECONDS = 60.0  # after the last round: equal heads, claims final, proposals kept

Say = Callable[[str], None]


@dataclass
class Watched:
    """What was seen while the network ran."""

    statuses: list[dict[str, Any]] = field(default_factory=list)  # the last of each peer
    rounds: int = 0
    seconds: float = 0.0
    are_heads_equal: bool = False
    baselines: dict[int, dict[str, Any]] = field(default_factory=dict)  # by peer number, honest ones


class Watch:
    def __init__(self, network: Network, say: Say) -> None:
        self._network, self._plan, self._say = network, network.plan, say
        self._started = time.monotonic()
        self._poisoners = {"0x" + peer.account.hex() for peer in self._plan.peers if peer.attack}
        self._poisoner_proposed = not self._poisoners
        self._told: tuple[Any, ...] = ()
        self._stop_sent = False
        self._more: tuple[int, str] | None = None  # why a round after this one is played, if one is

    def run(self) -> Watched:
        self._open_task()
        changed_at = time.monotonic()
        while True:
            statuses = self._poll()
            if self._tell(statuses):
                changed_at = time.monotonic()
            task = statuses[0]["task"]
            if task is not None:
                self._note_draw(task)
                if task["is_ended"]:
                    break
            if time.monotonic() - changed_at > STALL_SECONDS:
                raise Unavailable(f"nothing has changed for {STALL_SECONDS:.0f} s; see the logs in {self._plan.folder}")
            time.sleep(POLL_SECONDS)
        return self._settle()

    def _open_task(self) -> None:
        terms = self._plan.terms
        values = {name: getattr(terms, name) for name in terms.__dataclass_fields__}
        wanted = {"name": "demo", "terms": values, "bits": self._plan.bits, "reference": reference_text()}
        self._network.ask(0, "open_task", pot=str(POT), **wanted)
        self._say(
            f"task opened by peer 0: pot {POT // 10**18} coins, "
            f"{plural(terms.proposers, 'proposer')} and {plural(terms.voters, 'voter')} a round"
        )

    def _poll(self) -> list[dict[str, Any]]:
        return [self._network.ask(peer.number, "status") for peer in self._plan.peers]

    def _tell(self, statuses: list[dict[str, Any]]) -> bool:
        task = statuses[0]["task"]
        if task is None:
            return False
        key = (task["round"], task["phase"], task["deadline"])  # a task's last audits follow each other
        if key == self._told:
            return False
        self._told = key
        rounds = self._plan.rounds
        label = (
            f"round {task['round']} of {rounds}" if task["round"] <= rounds else f"extra round {task['round'] - rounds}"
        )
        heights = [status["height"] for status in statuses]
        line = f"{label:<14} {task['phase']:<15} height {max(heights)}"
        if max(heights) != min(heights):
            line += f" (slowest {min(heights)})"
        self._say(line + self._detail(task, statuses))
        return True

    def _detail(self, task: dict[str, Any], statuses: list[dict[str, Any]]) -> str:
        phase = task["phase"]
        if phase == "COMMIT":
            return "  proposers " + ", ".join(self._names(task["proposers"]))
        if phase == "AVAILABILITY":
            return "  voters " + ", ".join(self._names(task["voters"])) + self._losses(task, statuses)
        if phase == "ADOPT":
            pairs = zip(self._names(task["proposers"]), task["verdicts"])
            return "  " + ", ".join(f"{name} {verdict.lower()}" for name, verdict in pairs)
        return ""

    def _losses(self, task: dict[str, Any], statuses: list[dict[str, Any]]) -> str:
        known = [
            f"{status['training']['loss']:.3f}"
            for status in statuses
            if status["account"] in task["proposers"] and isinstance(status["training"].get("loss"), float)
        ]
        return f"  training losses {', '.join(known)}" if known else ""

    def _names(self, accounts: list[str]) -> list[str]:
        return [self._plan.title_of(bytes.fromhex(account[2:])) for account in accounts]

    def _note_draw(self, task: dict[str, Any]) -> None:
        """Once the guaranteed rounds are running out, a poisoner has had its turn and enough domains were adopted, the
        creator ends the task."""
        if task["revealed"] and self._poisoners & set(task["proposers"]):
            self._poisoner_proposed = True
        number = task["round"]
        is_late = number >= self._plan.rounds and task["phase"] not in ("WAITING", "DRAW_PROPOSERS", "ENDED")
        if not is_late or not self._plan.terms.extra_rounds:
            return
        if self._more and self._more[0] < number:
            self._say(f"an extra round{self._more[1]}")
            self._more = None
        if not self._stop_sent:
            self._more = number, self._stop_or_explain(task)

    def _stop_or_explain(self, task: dict[str, Any]) -> str:
        """Why a further round is played, should one be: an order that is sent as a round ends is final in the next."""
        number = task["round"]
        if why := self._explain_more(task):
            return f", by the luck of the draw: before round {number} ended {why}"
        self._stop_sent = bool(self._network.ask(0, "stop_task", task=task["task"])["sent"])
        return f": round {number} had ended before the order to stop the task was final"

    def _explain_more(self, task: dict[str, Any]) -> str:
        """What a further round is needed for; empty: nothing."""
        why = [] if self._poisoner_proposed else ["no poisoner had proposed"]
        lessons = [read_lesson(row) for row in self._network.ask(0, "rounds", task=task["task"])["rounds"]]
        if not is_enough(self._plan, lessons):
            taught = ", ".join(sorted(find_taught(self._plan, lessons))) or "nothing"
            why.append(f"the adapter had learned {taught} (wanted: {plural(count_wanted(self._plan), 'domain')})")
        return ", and ".join(why)

    def _settle(self) -> Watched:
        """Until all peers are at one head, have claimed, have judged what was accused, and keep every proposal; or as
        they are at the deadline."""
        self._say("the task has ended; waiting until every peer holds the same state")
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            statuses = self._poll()
            rounds = statuses[0]["task"]["round"]
            are_equal = len({(s["height"], s["state_root"]) for s in statuses}) == 1
            is_kept = all(s["task"] and s["task"]["is_ended"] and s["task"]["kept_until"] > rounds for s in statuses)
            is_done = all(
                s["task"] and min(s["task"]["claimed_until"], s["task"]["judged_until"]) > rounds for s in statuses
            )
            if (are_equal and is_kept and is_done) or time.monotonic() > deadline:
                return Watched(statuses, rounds, time.monotonic() - self._started, are_equal)
            time.sleep(POLL_SECONDS)

    def run_baselines(self, watched: Watched) -> None:
        """Each honest peer alone: same base, as many steps as the federation had rounds, the best by its hold-out."""
        honest = [peer.number for peer in self._plan.peers if not peer.attack]
        self._say(
            f"training the isolated baselines: {plural(len(honest), 'peer')} alone, as many steps as "
            f"{plural(watched.rounds, 'round')} had"
        )
        for number in honest:
            self._network.ask(number, "baseline", rounds=watched.rounds)
        most = BASELINE_SECONDS * watched.rounds
        deadline = time.monotonic() + most
        while len(watched.baselines) < len(honest):
            if time.monotonic() > deadline:
                raise Unavailable(f"the baselines took longer than {most:.0f} s; see {self._plan.folder}")
            time.sleep(POLL_SECONDS)
            for number in honest:
                found = self._network.ask(number, "status")["baseline"]
                if found is not None and number not in watched.baselines:
                    watched.baselines[number] = found
                    self._say(f"isolated peer {number}: {found['mean']:.4f} bits per byte")
