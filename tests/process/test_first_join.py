"""What a first `join` leaves in its home, once the genesis has come: the account of a peer that runs, or none.

Against a peer in this process, the only validator of its chain.
"""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from network_support import in_trio
from process_support import run_cli
from rpc_support import VALIDATOR, Served, serving

from flock_peers.home import Home

pytestmark = pytest.mark.process


def join(home: Path, served: Served, *told: str) -> list[str]:
    address = served.peer.host.address
    return ["join", "--home", str(home), "--quiet", "--port", "0", "--observe", "--bootstrap", address, *told]


@in_trio(120)
async def test_a_first_join_that_is_refused_when_the_genesis_has_come_leaves_no_key(tmp_path: Path) -> None:
    """Somebody would have backed it up, and taken it for the account of the next try."""
    async with serving(tmp_path / "served") as served:
        home = Home(tmp_path / "new")
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = ("--rpc", "--http", str(other.getsockname()[1]))
            done = await trio.to_thread.run_sync(lambda: run_cli(*join(home.path, served, *taken)))
        assert done.returncode == 3 and "is taken" in done.stderr
        assert not home.key_path.exists() and not home.genesis_path.exists()
        told = ("--http", "-1", "--checkpoint", f"1:{'ab' * 32}")
        done = await trio.to_thread.run_sync(lambda: run_cli(*join(home.path, served, *told)))
        assert done.returncode not in (0, 130) and "Traceback" not in done.stderr, done
        assert home.genesis_path.exists() and "network  rpc-test" in done.stdout
        assert not home.key_path.exists() and "key " not in done.stdout and "account" not in done.stdout


@in_trio(120)
async def test_a_first_join_keeps_its_key_before_it_says_its_account_and_the_next_start_has_the_same(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "served") as served:
        home = Home(tmp_path / "new")

        def start() -> str:
            """Until it has said its account; then Ctrl-C."""
            command = [sys.executable, "-m", "flock_p2p", *join(home.path, served, "--http", "-1")]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
                assert process.stdout is not None
                said = [process.stdout.readline() for _ in range(4 if not home.key_path.exists() else 1)]
                process.send_signal(signal.SIGINT)
                assert process.stdout.read() is not None and process.wait() in (0, 130)
            return "".join(said)

        first = await trio.to_thread.run_sync(start)
        account = home.load_key().account
        assert account != VALIDATOR.account and f"key      {home.key_path}  (new; back it up" in first
        assert first.index("key ") < first.index(f"account  0x{account.hex()}")
        assert await trio.to_thread.run_sync(start) == f"account  0x{account.hex()}\n"
