"""What a trainer's process cannot do, tried in real processes; and what becomes of one that does too much."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from training_support import miniature, miniature_document, write_initial_adapter, write_split

from flock_chain.errors import Unavailable
from flock_peers.training.client import Trainer, TrainerConfig, TrainerDied
from flock_peers.training.supervised import supervise

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


def run(code: str) -> str:
    """What a fresh interpreter prints that runs `code` under the limits."""
    start = "import errno, os, socket, ctypes\nfrom flock_peers.training import limits\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@linux
def test_the_kernel_refuses_every_socket_and_ordinary_calls_go_on() -> None:
    code = """
print(limits.close_network())
libc = ctypes.CDLL(None, use_errno=True)
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
    print(libc.socket(family, socket.SOCK_STREAM, 0), errno.errorcode[ctypes.get_errno()])
import platform
for number in (425, 438, *{"x86_64": (101, 311), "aarch64": (117, 271)}[platform.machine()]):
    ctypes.set_errno(0)
    print(libc.syscall(number, 0, 0, 0, 0, 0, 0), errno.errorcode[ctypes.get_errno()])
if platform.machine() == "x86_64":  # the same call by the second ABI's number, and a number that no kernel has
    for number in (0x40000000 + 41, 0x40000000 + 335):
        ctypes.set_errno(0)
        print(libc.syscall(number, socket.AF_INET, socket.SOCK_STREAM, 0), errno.errorcode[ctypes.get_errno()])
else:
    print("-1 EACCES\\n-1 EACCES")
try:
    socket.socket()
except PermissionError:
    print("python too")
import threading
seen = []
thread = threading.Thread(target=lambda: seen.append(libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)))
thread.start(); thread.join()
print(seen, len(os.listdir("/")) > 3)
"""
    lines = run(code).splitlines()
    assert lines[0] == "True"
    unix = 1 if not Path("/dev/nvidiactl").exists() else 0
    assert [line for line in lines[1:5] if line == "-1 EACCES"] == ["-1 EACCES"] * (3 + unix)
    assert lines[5:] == ["-1 EACCES"] * 6 + ["python too", "[-1] True"]  # io_uring, and what enters another process


@linux
def test_memory_files_and_descriptors_end_where_the_limits_say(tmp_path: Path) -> None:
    code = f"""
limits.limit_files(0)
import resource
print(resource.getrlimit(resource.RLIMIT_CORE))
print(limits.limit_memory(0) == limits.SPARE_BYTES)
kept = bytearray(limits.SPARE_BYTES // 2)
try:
    bytearray(limits.SPARE_BYTES)
except MemoryError:
    print("memory")
with open({str(tmp_path / "file")!r}, "wb") as file:
    file.truncate(limits.LEAST_FILE_BYTES)
    try:
        file.truncate(limits.LEAST_FILE_BYTES + 1)
    except OSError as error:
        print(errno.errorcode[error.errno])
opened = []
try:
    while True:
        opened.append(os.open("/", os.O_RDONLY))
except OSError as error:
    print(errno.errorcode[error.errno], len(opened) < limits.MAX_OPEN_FILES)
"""
    assert run(code).splitlines() == ["(0, 0)", "True", "memory", "EFBIG", "EMFILE True"]


def test_a_trainer_that_takes_too_much_memory_is_replaced_and_goes_on_and_a_killed_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child's engine allocates what no machine has when its home holds a file of that name."""
    monkeypatch.setenv("FLOCK_TEST_HOME", str(tmp_path))
    code = (
        "import os, torch\n"
        "from pathlib import Path\n"
        "from flock_peers.training import engine, process\n"
        "greedy, train = Path(os.environ['FLOCK_TEST_HOME']) / 'greedy', engine.Engine.train\n"
        "def hungry(self, *values):\n"
        "    if greedy.exists():\n"
        "        kept = [torch.empty(1 << 26) for _ in range(1 << 20)]\n"
        "    return train(self, *values)\n"
        "engine.Engine.train = hungry\n"
        "process.main()\n"
    )
    config = TrainerConfig(
        miniature_document(), write_split(tmp_path / "home"), base=miniature()[0], domain="arithmetic"
    )
    start, delta = write_initial_adapter(miniature_document(), tmp_path), tmp_path / "delta"
    opened: list[Trainer] = []

    async def open_one() -> Any:
        opened.append(await Trainer.open(config, command=[sys.executable, "-c", code]))
        return opened[-1]

    async def scenario() -> None:
        async with supervise(open_one) as trainer:
            await trainer.train(start, round=1, seed=1, out_path=delta)
            honest = delta.read_bytes()
            (tmp_path / "greedy").touch()
            with pytest.raises(TrainerDied, match="memory"):
                await trainer.train(start, round=1, seed=1, out_path=delta)
            (tmp_path / "greedy").unlink()
            assert not opened[0].is_alive
            await trainer.train(start, round=1, seed=1, out_path=delta)
            assert len(opened) == 2 and delta.read_bytes() == honest
            os.kill(opened[1].pid, signal.SIGKILL)  # what comes then is the supervisor's, in test_participant_trainer
            with pytest.raises(TrainerDied, match="killed by signal 9"):
                await trainer.measure(start, [delta])

    async def bounded() -> None:
        with trio.fail_after(500):
            await scenario()

    trio.run(bounded)
    assert issubclass(TrainerDied, Unavailable)
