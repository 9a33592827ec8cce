"""A network that somebody founds with a key of its own: it makes blocks, and others join it as they join any."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from process_support import Joined, run_cli, wait_until

from flock_peers.home import Home

pytestmark = pytest.mark.process

SECONDS = 120  # for what takes a few on an idle machine
SENDS = 3  # orders that make a block each: an idle chain makes one a minute


def here(home: Path, *told: str) -> Joined:
    """On this machine alone, at free ports, with no trainer."""
    return Joined(home, "--listen", "127.0.0.1", "--port", "0", "--http", "-1", "--observe", "--quiet", *told)


def test_a_second_peer_joins_a_founded_network_by_address_and_both_are_at_the_same_height(tmp_path: Path) -> None:
    done = run_cli("init", "--home", str(tmp_path / "first"), "--new-network", "our lan")
    assert done.returncode == 0, done
    genesis = Home(tmp_path / "first").load_genesis().hash.hex()
    with ExitStack() as stack:
        first = here(tmp_path / "first")
        stack.callback(first.interrupt)
        address = wait_until("the first peer runs", SECONDS, first.ask)["address"]
        second = here(tmp_path / "second", "--genesis", genesis, "--bootstrap", address)
        stack.callback(second.interrupt)
        account = wait_until("the second one runs", SECONDS, second.ask)["account"]
        for _ in range(SENDS):
            order = ("send", "--home", str(first.home), "--to", account, "--amount", "11")
            assert (done := run_cli(*order)).returncode == 0, done

        def find_level() -> bool:
            one, other = first.ask(), second.ask()
            return (one["height"], one["block"]) == (other["height"], other["block"]) and one["height"] >= SENDS

        wait_until("both have the same blocks", SECONDS, find_level)
        bond = run_cli("stake", "add", "--home", str(second.home), "--amount", "32")
        admitted = run_cli("stake", "admit", "--home", str(first.home), "--account", account, "--amount", "32")
        assert bond.returncode == admitted.returncode == 0, (bond, admitted)
        assert "granted    32" in run_cli("stake", "--home", str(second.home)).stdout


def test_a_network_of_two_founders_makes_blocks_when_both_run(tmp_path: Path) -> None:
    assert run_cli("init", "--home", str(tmp_path / "second")).returncode == 0
    shown = run_cli("keys", "--home", str(tmp_path / "second")).stdout
    (founder,) = (line.split()[1] for line in shown.splitlines() if line.startswith("founder"))
    done = run_cli("init", "--home", str(tmp_path / "first"), "--new-network", "ours", "--founder", founder)
    assert done.returncode == 0, done
    with ExitStack() as stack:
        first = here(tmp_path / "first")
        stack.callback(first.interrupt)
        address = wait_until("the first peer runs", SECONDS, first.ask)["address"]
        second = here(tmp_path / "second", "--bootstrap", address)
        stack.callback(second.interrupt)
        account = wait_until("the second one runs", SECONDS, second.ask)["account"]
        done = run_cli("send", "--home", str(first.home), "--to", account, "--amount", "1")
        assert done.returncode == 0, done
        wait_until("the second one has the block", SECONDS, lambda: second.ask()["height"] >= 1)
        assert [peer.ask()["is_validator"] for peer in (first, second)] == [True, True]
