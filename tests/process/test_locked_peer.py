"""A peer whose key is locked, as a process: it starts with the passphrase from a descriptor, and writes no secret."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from process_support import wait_until
from rpc_support import OTHER, VALIDATOR, make_rpc_genesis
from secret_support import find_secrets, secrets_of

from flock_peers.control import request_control
from flock_peers.home import Home, write_private
from flock_peers.keystore import encode_keystore

pytestmark = pytest.mark.process
SECONDS = 180  # for what takes ten on an idle machine
PASSPHRASE = b"a passphrase of nine odd words"


@contextmanager
def running(home: Home) -> Iterator[dict[str, str]]:
    """What it printed, by the first word of each line."""
    read, write = os.pipe()
    os.write(write, PASSPHRASE + b"\n")
    os.close(write)
    options = [
        "--observe",
        "--listen",
        "127.0.0.1",
        "--port",
        "0",
        "--http",
        "0",
        "--rpc",
        "--passphrase-fd",
        str(read),
    ]
    with (home.path / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flock_p2p", "join", "--home", str(home.path), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output, text=True, pass_fds=[read],
        )  # fmt: skip
    os.close(read)
    try:
        said = {}
        for line in process.stdout or ():
            name, _, rest = line.strip().partition(" ")
            said[name] = rest.strip()
            if name == "to":
                break
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    write_private(home.path / "printed.log", out.encode())


def test_a_locked_peer_runs_with_its_passphrase_and_writes_no_secret(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    write_private(home.genesis_path, make_rpc_genesis().encode())
    write_private(home.key_path, encode_keystore(VALIDATOR, PASSPHRASE, n=1 << 12))
    with running(home) as said:
        assert said["account"] == "0x" + VALIDATOR.account.hex()
        status = wait_until("an answer", SECONDS, lambda: request_control(home.control_path, "status"))
        request_control(home.control_path, "send", to="0x" + OTHER.account.hex(), amount="1")
        with urllib.request.urlopen(said["metrics"], timeout=SECONDS) as answer:
            metrics = answer.read()
    assert VALIDATOR.secret.hex() not in json.dumps(status)
    names = {path.name for path in home.path.rglob("*")}
    assert {"peer.log", "chain.mdb", "printed.log"} <= names and home.log_path.stat().st_size > 100
    write_private(home.path / "metrics", metrics)
    assert find_secrets(home.path, [PASSPHRASE, *secrets_of(VALIDATOR)]) == []
