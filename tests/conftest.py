"""For every test: what a run of tests leaves in the machine's folder for temporary files is of that run alone; and the
longest files come first, so that none is begun when all others are over."""

import math
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flock_peers import user_folder


def pytest_configure() -> None:
    """A shell has what it starts in the background ignore Ctrl-C, as `make test` does: that went on for minutes."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of two files at once, whoever has a file of one test has the third at once, too: so that is no long one."""
    items.sort(key=_get_place)


def _get_place(item: pytest.Item) -> float:
    mark = item.get_closest_marker("early")
    return math.inf if mark is None else int(mark.args[0])


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A key's lock is machine-wide, on purpose, and tests use fixed keys: two runs of them would refuse each other, and
    so would two processes of one run. Peers that a test starts as processes lock where they do for a user."""
    tmp_path_factory.getbasetemp()  # stays where pytest keeps it
    where = user_folder.find_own_home
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="ft-") as folder:  # short: control sockets of long homes lie here
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        user_folder.find_own_home = lambda: Path(folder)
        yield
        user_folder.find_own_home = where
        tempfile.tempdir = before[1]
        if before[0] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before[0]
