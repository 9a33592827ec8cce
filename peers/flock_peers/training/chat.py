"""A chat as parts of text, those that are learned and those that are not. Needs a tokenizer; knows no tensors."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flock_peers.training.rows import ANSWERS

MAX_CHAT_CHARACTERS = 4 << 20  # of a chat as its template writes it: a template may repeat what it likes
TEMPLATE_SECONDS = 10.0  # of the processor, for one rendering; the longest of real templates take milliseconds

Part = tuple[str, bool]  # text, and whether it is learned


def cut_chat(messages: Sequence[tuple[str, str]], tokenizer: Any) -> list[Part]:
    """What the model's own template makes of the messages; raises ValueError where it cannot be told what is learned.

    An answer begins where the template's invitation to answer ends. Templates that write earlier answers otherwise
    than the last one (some leave out earlier reasoning) have only the last one learned.
    """
    last = max(number for number, (role, _) in enumerate(messages) if role == ANSWERS)
    messages = messages[: last + 1]  # what follows the last answer teaches nothing
    if not tokenizer.chat_template:
        return [(f"{role}: {content}\n", role == ANSWERS) for role, content in messages]
    whole = _render(messages, tokenizer, False)
    answers = [number for number, (role, _) in enumerate(messages) if role == ANSWERS]
    parts = _cut(messages, answers, whole, tokenizer) or _cut(messages, answers[-1:], whole, tokenizer)
    if parts is None:
        raise ValueError("the model's chat template does not begin the last answer as it invites to it")
    return parts


def _cut(messages: Sequence[tuple[str, str]], answers: list[int], whole: str, tokenizer: Any) -> list[Part] | None:
    parts: list[Part] = []
    done = 0
    for number in answers:
        head = _render(messages[:number], tokenizer, True)
        body = whole if number == len(messages) - 1 else _render(messages[: number + 1], tokenizer, False)
        if not (whole.startswith(body) and body.startswith(head) and done <= len(head) < len(body)):
            return None
        parts += [(whole[done : len(head)], False), (whole[len(head) : len(body)], True)]
        done = len(body)
    return parts


class _TookTooLong(Exception):
    pass


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Of the processor's time, by its timer: a template is a program, and loops as it likes. Main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: object) -> None:
        raise _TookTooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _render(messages: Sequence[tuple[str, str]], tokenizer: Any, invites: bool) -> str:
    if not messages:
        return str(tokenizer.bos_token or "") if invites else ""
    rows = [{"role": role, "content": content} for role, content in messages]
    try:
        with _bounded(TEMPLATE_SECONDS):
            text = str(tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=invites))
    except _TookTooLong as error:
        raise ValueError(f"the model's chat template runs for more than {TEMPLATE_SECONDS:.0f} s") from error
    except Exception as error:
        raise ValueError(f"the model's chat template refuses it: {str(error)[:120]}") from error
    if len(text) > MAX_CHAT_CHARACTERS:
        raise ValueError(f"the model's chat template writes {len(text)} characters, at most {MAX_CHAT_CHARACTERS}")
    return text
