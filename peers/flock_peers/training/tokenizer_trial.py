"""Whether a tokenizer comes to an end: tried in a process that can be ended, before the model is opened.

tokenizer.json may hold regular expressions of a stranger's. Over the right text one runs for hours, in a call that no
signal of Python's interrupts, and the task's reference, its creator's choice as well, is first read in an audit, after
the bond was paid. Other kinds of tokenizer have no expressions of their own. Nor does a text stay as long as it is: a
megabyte may be put in a letter's place. Needs no torch.
"""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from flock_chain.errors import Misuse
from flock_peers.training.rows import Row

TRIAL_SECONDS = 60.0  # of the processor, for each text; real text takes tenths of one, 150,000 tokens a second
MAX_TRIED_CHARACTERS = 1 << 16  # of the own rows: as many as a reference has at most
PIECE_TOKENS = 5  # that become text together: an audit's longest string
MEMORY_BYTES = 1 << 30  # private and writable, and this much more for each byte of the file: a vocabulary takes 20
MEMORY_OF_A_BYTE = 32
PLAIN = "The quick brown fox jumps over 13 lazy dogs.\n"
NO_TOKEN = "it makes no token of it"


def check_tokenizer(folder: Path, reference: str, rows: Iterable[Row]) -> None:
    """Raises Misuse that says over which text it did not end, or failed."""
    _try(folder, {"the first of the own rows": _take(rows), "the task's reference": reference})


def check_before_rows(folder: Path, reference: str) -> None:
    """The same of a model that is no task's yet: whose rows they will be nobody knows, so any text has to do. One that
    fails at what it has no token for fails at everybody's."""
    _try(folder, {"plain text": PLAIN, "the task's reference": reference})


def _try(folder: Path, texts: dict[str, str]) -> None:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    memory = MEMORY_BYTES + MEMORY_OF_A_BYTE * path.stat().st_size
    done = subprocess.run(
        [sys.executable, "-m", "flock_peers.training.tokenizer_trial", str(path), str(TRIAL_SECONDS), str(memory)],
        input=json.dumps(texts).encode(), capture_output=True, check=False,
    )  # fmt: skip
    what = _get_last(done.stdout) or "its own file"
    if done.returncode == -signal.SIGPROF:
        raise Misuse(
            f"base model {folder}: its tokenizer is not through with {what} after {TRIAL_SECONDS:.0f} s of the "
            "processor; take another model"
        )
    if b"memory allocation" in done.stderr:
        raise Misuse(
            f"base model {folder}: its tokenizer takes more than {memory >> 20} MiB at {what}; take another model"
        )
    if done.returncode != 0:
        why = _get_last(done.stderr)[:200] or f"code {done.returncode}"
        raise Misuse(f"base model {folder}: its tokenizer fails at {what} ({why})")


def _take(rows: Iterable[Row]) -> str:
    text = ""
    for row in rows:
        text += "\n".join([row.prompt, row.completion, *(content for _, content in row.messages), ""])
        if len(text) >= MAX_TRIED_CHARACTERS:
            break
    return text[:MAX_TRIED_CHARACTERS]


def _get_last(lines: bytes) -> str:
    return (lines.decode(errors="replace").strip().splitlines() or [""])[-1]


def main(path: str, seconds: float, memory: int) -> None:
    """Tokens become text again, too: each by itself, and those of the texts a few at a time."""
    from tokenizers import Tokenizer

    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    tokenizer = Tokenizer.from_file(path)
    texts = json.load(sys.stdin)
    _begin("its own tokens", seconds)
    tokenizer.decode_batch([[token] for token in range(tokenizer.get_vocab_size())])
    for what, text in texts.items():
        _begin(what, seconds)
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        if text and not tokens:
            sys.exit(NO_TOKEN)
        tokenizer.decode_batch([tokens[place : place + PIECE_TOKENS] for place in range(0, len(tokens), PIECE_TOKENS)])


def _begin(what: str, seconds: float) -> None:
    """The signal has no handler of Python's, which would wait for the call: it ends the process."""
    print(what, flush=True)
    signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
