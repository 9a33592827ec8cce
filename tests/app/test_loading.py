"""What a process does before it is a peer: all modules at once, with no search for garbage; one arena of memory."""

import gc
import platform
import subprocess
import sys

import pytest
from process_support import count_arenas

from flock_p2p import loading
from flock_p2p.loading import load_peer


def test_nothing_is_looked_through_while_modules_come_and_everything_is_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def watch(name: str) -> None:
        seen.append((name, gc.isenabled()))
        if name == "bad":
            raise ImportError(name)

    monkeypatch.setattr(loading, "import_module", watch)
    monkeypatch.setattr(loading, "MODULES", ("one", "two"))
    load_peer()
    assert seen == [("one", False), ("two", False)] and gc.isenabled()
    gc.disable()
    try:
        load_peer()
        assert not gc.isenabled()  # as whoever called it had it
    finally:
        gc.enable()
    monkeypatch.setattr(loading, "MODULES", ("bad",))
    with pytest.raises(ImportError):
        load_peer()
    assert gc.isenabled()


def test_who_has_loaded_a_peer_lacks_no_large_library_of_it() -> None:
    """Or the rest would come in the middle of a start, looked through."""
    code = (
        "import sys; from flock_p2p.loading import load_peer; load_peer(); print(len(sys.modules));"
        "import flock_p2p.commands.join, flock_peers.network.mdns, flock_peers.training.rows; print(len(sys.modules))"
    )
    before, after = map(
        int, subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split()
    )
    assert after - before < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("limit", ["limit_arenas()", "True"])
def test_threads_share_one_arena_of_memory_once_they_are_told_to(limit: str) -> None:
    code = (
        "import sys, threading; from flock_p2p.allocator import limit_arenas;"
        f"assert {limit};"
        "work = lambda: [bytearray(2_000) for _ in range(100)];"
        "threads = [threading.Thread(target=work) for _ in range(4)];"
        "[each.start() for each in threads]; [each.join() for each in threads];"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        arenas = count_arenas(process.pid)
        process.communicate()
    assert (arenas == 0) == (limit == "limit_arenas()")  # or what finds nothing would go unnoticed
