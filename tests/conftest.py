"""For every test: what a run of tests leaves in the machine's folder for temporary files is of that run alone."""

import os
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A key's lock is machine-wide, on purpose, and tests use fixed keys: two runs of them would refuse each other."""
    tmp_path_factory.getbasetemp()  # stays where pytest keeps it
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="ft-") as folder:  # short: control sockets of long homes lie here
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        yield
        tempfile.tempdir = before[1]
        if before[0] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before[0]
