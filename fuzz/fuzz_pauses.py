"""Inputs that were slow because the machine stood still, told from those that are slow. Runs nothing itself."""

from collections.abc import Callable, Iterable

TIMEOUT_PREFIX = "timeout-"  # of the engine's files


def leave_out_pauses(found: Iterable[str], run_alone: Callable[[str], int]) -> set[str]:
    """Of the files of a slice those that are no finding: too slow then, and fine alone.

    `run_alone`: the exit status of a process that gets a file's input alone, under the same limit of seconds.
    """
    return {name for name in found if name.startswith(TIMEOUT_PREFIX) and run_alone(name) == 0}
