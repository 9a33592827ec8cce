"""All modules of a peer at once, with no search for garbage among them."""

import gc
import subprocess
import sys

import pytest

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
