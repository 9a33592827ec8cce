"""Work in a fork of this process, with a limit of CPU seconds; and Vyper's compiler in half its time.

Knows neither mutants nor tests: whoever calls says what the child does, and gets what it cost.
"""

import gc
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vyper.ir.optimizer as optimizer

GRACE = 5  # CPU seconds between the signal that ends a child and the one that nobody can catch


@dataclass(frozen=True)
class Ended:
    code: int | None  # None where the limit of CPU time ended it
    cpu: float  # seconds of it and of its own children


def run_in_child(work: Callable[[], int], limit: int, log: Path) -> Ended:
    """`work` returns the exit code. Time that the child waits for a core counts nothing."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + GRACE))
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(target, 1)
            os.dup2(target, 2)
            code = work()
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    cpu = usage.ru_utime + usage.ru_stime
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGXCPU or cpu >= limit:
            return Ended(None, cpu)
        raise SystemExit(f"a child was ended by signal {os.WTERMSIG(status)}:\n{log.read_text('utf-8')[-2_000:]}")
    return Ended(os.WEXITSTATUS(status), cpu)


@contextmanager
def quick_compiler() -> Iterator[None]:
    """Its optimiser walks again and again over what it has left as it is; the code that comes out is the same.

    (A test compares it with the committed artifacts, which the compiler made as it is.)
    """
    plain, collects = optimizer._optimize, gc.isenabled()

    def once(node: Any, parent: Any) -> Any:
        above = None if parent is None else parent.value  # all of its parent that it looks at
        if above in node.__dict__.get("done_below", ()):
            return False, node
        changed, found = plain(node, parent)
        found.__dict__.setdefault("done_below", set()).add(above)
        return changed, found

    gc.disable()
    optimizer._optimize = once
    try:
        yield
    finally:
        optimizer._optimize = plain
        if collects:
            gc.enable()
