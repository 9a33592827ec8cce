"""What the task board's state says of an adapter: the one reading that both who collects and who checks a proof do."""

from dataclasses import dataclass
from typing import Any, Protocol

from flock_chain.errors import InvalidContent
from flock_chain.tally import Verdict
from flock_p2p.provenance.document import ProposalRow, RoundRow


class Views(Protocol):
    def view(self, contract: str, function: str, *arguments: object) -> object: ...


@dataclass(frozen=True)
class OnChain:
    document: bytes  # content id of the task document
    adapter: bytes  # after the last of the rounds
    rounds: tuple[RoundRow, ...]
    is_settled: bool  # whether all these rounds are over


def read_rounds(state: Views, task: int, last: int) -> OnChain:
    row: Any = state.view("TaskBoard", "task_view", task)
    rounds, is_settled, adapter = [], True, row["adapter0"]
    for number in range(1, last + 1):
        result: Any = state.view("TaskBoard", "round_result", task, number)
        is_settled = is_settled and result["settled"]
        adapter = result["adapter_after"]
        rounds.append(RoundRow(number, adapter, tuple(_read_proposals(result, f"task {task} round {number}"))))
    return OnChain(row["document"], adapter, tuple(rounds), is_settled)


def _read_proposals(result: Any, name: str) -> list[ProposalRow]:
    rows = zip(result["proposers"], result["manifests"], result["verdicts"], result["medians"], strict=True)
    try:
        return [ProposalRow(bytes(who), bytes(manifest), Verdict(v).name, int(m)) for who, manifest, v, m in rows]
    except ValueError as error:  # the state of a proof may be made up
        raise InvalidContent(f"{name}: the chain says what no contract of its own does: {error}") from error
