"""What checking a provenance file found, for people and as JSON. Checks nothing itself."""

from dataclasses import asdict, dataclass, field
from typing import Any

from flock_peers.plural import plural

FORMAT = 1  # of `to_dict`


@dataclass
class ProvenanceReport:
    path: str
    network: str = ""
    genesis: str = ""  # hash, hex
    is_pinned: bool | None = None  # whether it is the genesis hash that the user named; None where none was
    task: int = 0
    round: int = 0
    adapter: str = ""  # content id
    height: int = 0  # of the block whose state says so
    block: str = ""  # its id, hex
    restarts: list[str] = field(default_factory=list)  # hashes of the documents by which the network went on
    are_weights_checked: bool = False  # whether what peft loads is that adapter
    checked: list[str] = field(default_factory=list)
    could_not_check: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failures

    def fail(self, text: str) -> None:
        self.failures.append(text)

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "ok": self.ok, **asdict(self)}


def format_provenance(report: ProvenanceReport) -> str:
    lines = [f"file      {report.path}"]
    if report.genesis:
        lines.append(f"network   {report.network}, genesis {report.genesis} ({_tell_trust(report)})")
    lines += [f"restart   {text} (compare it with what its operators agreed on)" for text in report.restarts]
    if report.adapter:
        lines.append(f"adapter   {report.adapter}, task {report.task}, after round {report.round}")
    if report.block:
        lines.append(f"block     {report.height}:{report.block}")
    lines += [f"checked   {text}" for text in report.checked]
    for title, texts in (("Could not check", report.could_not_check), ("FAILED", report.failures)):
        if texts:
            lines += ["", f"{title} ({len(texts)}):", *(f"  - {text}" for text in texts)]
    verdict = "OK: this network's voters adopted this adapter in that round, if the genesis hash is the one you trust."
    if not report.are_weights_checked:
        verdict = "OK for what the chain says of that adapter, if you trust the genesis hash. No weights were checked: "
        verdict += "what is called by its name may be another one."
    failed = f"FAILED: {plural(len(report.failures), 'check')}; do not believe what this folder says of itself."
    return "\n".join(_make_printable(line) for line in (*lines, "", verdict if report.ok else failed))


def _tell_trust(report: ProvenanceReport) -> str:
    if report.is_pinned is None:
        return "compare it with one you trust; --genesis HASH pins it"
    return "as you named it" if report.is_pinned else "not the one you named"


def _make_printable(line: str) -> str:
    """It quotes the names of strangers' files, and a terminal obeys control characters."""
    return "".join(c if c.isprintable() else "?" for c in line)
