"""What a verification found, for people and as JSON. Checks nothing itself."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from flock_chain.content import format_cid
from flock_peers.plural import plural

Progress = Callable[[str, int, int], None]  # what is being checked, how many are done, of how many

FORMAT = 1  # of `to_dict`


@dataclass(frozen=True)
class AdapterRow:
    """A task's global adapter after a round, and how it was confirmed."""

    task: int
    round: int  # 0: the adapter that the document describes
    adapter: str  # content id
    origin: str


@dataclass
class VerifyReport:
    """`failures`: what is provably wrong. `could_not_check`: what is not here. `remarks`: lost votes, worth a look."""

    home: str
    network: str = ""
    genesis: str = ""  # hash, hex
    blocks: int = 0  # replayed, without the genesis block
    head: str = ""  # block id, hex
    state_root: str = ""  # of the replayed head, hex
    tasks: int = 0
    rounds: int = 0
    proposals: int = 0  # whose bytes are here and were hashed and parsed again
    adapters: list[AdapterRow] = field(default_factory=list)
    could_not_check: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def is_complete(self) -> bool:
        """Whether everything that the chain names was here to be checked."""
        return not self.could_not_check

    def fail(self, text: str) -> None:
        self.failures.append(text)

    def skip(self, text: str) -> None:
        self.could_not_check.append(text)

    def add_adapter(self, task: int, number: int, digest: bytes, origin: str) -> None:
        self.adapters.append(AdapterRow(task, number, format_cid(digest), origin))

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "ok": self.ok, "complete": self.is_complete, **asdict(self)}


def format_report(report: VerifyReport) -> str:
    certified = "" if report.failures else ", every one with its certificate"
    lines = [
        f"home      {report.home}",
        f"network   {report.network}, genesis {report.genesis}",
        f"chain     {plural(report.blocks, 'block')} replayed{certified}; head {report.head}",
        f"state     root {report.state_root}",
        f"rounds    {report.rounds} in {plural(report.tasks, 'task')}; "
        f"{plural(report.proposals, 'proposal')} hashed and parsed again",
    ]
    if not report.head:
        lines[1:] = [f"network   {report.network}" if report.network else "network   unknown"]
    lines += [f"adapter   task {row.task} round {row.round}: {row.adapter} ({row.origin})" for row in report.adapters]
    for title, texts in (
        ("Remarks", report.remarks),
        ("Could not check", report.could_not_check),
        ("FAILED", report.failures),
    ):
        if texts:
            lines += ["", f"{title} ({len(texts)}):", *(f"  - {text}" for text in texts)]
    return "\n".join([*lines, "", _conclude(report)])


def _conclude(report: VerifyReport) -> str:
    if report.failures:
        failed = plural(len(report.failures), "check")
        return f"FAILED: {failed}; what this home stores is not what its network decided, or was."
    if report.could_not_check:
        left = plural(len(report.could_not_check), "thing")
        return f"OK for everything that is stored here; {left} could not be checked."
    return "OK: every block, vote, verdict and adapter was recomputed and agrees."
