"""Which rows a task takes: its document names a format, and a participant's own rows are held against it before it pays
or fetches anything. Knows no file and no tokenizer."""

from collections.abc import Sequence
from typing import Protocol

from flock_chain.errors import Misuse

ANY, TEXT, COMPLETIONS, CHAT = "any", "text", "completions", "chat"
DATA_FORMATS = {  # name -> what a row is, in words
    ANY: "rows of every kind",
    TEXT: 'text: {"text": ...} in JSONL, or text files',
    COMPLETIONS: '{"prompt": ..., "completion": ...} in JSONL',
    CHAT: '{"messages": [...]} in JSONL',
}


class Kinded(Protocol):
    @property
    def kind(self) -> str: ...

    @property
    def where(self) -> str: ...


def check_rows(rows: Sequence[Kinded], wanted: str, source: str) -> None:
    """Raises Misuse with the first row that the task does not take, and how many there are."""
    wrong = [row for row in rows if wanted not in (ANY, row.kind)]
    if wrong:
        first = f"{wrong[0].where} holds {wrong[0].kind}" if wrong[0].where else f"one holds {wrong[0].kind}"
        raise Misuse(
            f"{source}: the task takes {wanted} rows ({DATA_FORMATS[wanted]}), and {len(wrong)} of {len(rows)} rows "
            f"are others (the first: {first}); give --data with such rows"
        )
