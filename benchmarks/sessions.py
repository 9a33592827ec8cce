"""What the processes of a session use: a program and whatever it started. Linux only."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
_STATE, _SESSION, _CPU, _CHILDREN = 0, 3, slice(11, 13), slice(13, 15)  # of /proc/PID/stat, behind the command's name


@dataclass(frozen=True)
class Usage:
    cpu: float  # seconds, of ended children too that were waited for
    memory: dict[int, int]  # bytes that are the process' alone and its part of what it shares, by process
    own: dict[int, int]  # of them those that are no file's: what it asked for itself


def measure_session(leader: int) -> Usage:
    cpu, memory, own = 0.0, {}, {}
    for pid, fields in _processes(leader):
        cpu += sum(map(int, (*fields[_CPU], *fields[_CHILDREN]))) / TICKS
        memory[pid], own[pid] = _read_memory(pid)
    return Usage(cpu, memory, own)


def _processes(leader: int) -> Iterator[tuple[int, list[str]]]:
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        if int(fields[_SESSION]) == leader and fields[_STATE] != "Z":
            yield int(path.name), fields


def _read_memory(pid: int) -> tuple[int, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0  # ended meanwhile
    rows = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return rows.get("Pss", 0), rows.get("Pss_Anon", 0)


def end_session(process: "subprocess.Popen[bytes]", seconds: float = 10.0) -> None:
    """The leader is asked first; whatever of its session is left then is killed."""
    if process.poll() is None:
        process.terminate()
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    for pid, _ in list(_processes(process.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(seconds)
