"""`upgrade`: shows and installs a schedule on a stopped home; what is executed already cannot be changed."""

import json
from pathlib import Path

import pytest
from execution_support import KEYS, Chain, make_genesis, with_parameters

from flock_chain.upgrades import KNOWN_RULES, Schedule, Step
from flock_p2p.cli import EXIT_MISUSE, EXIT_REFUSED, EXIT_REMOTE, EXIT_UNAVAILABLE, main
from flock_peers.home import Home, write_private
from flock_peers.store.chain_store import ChainStore

GENESIS = make_genesis(with_parameters(epoch_blocks=3, epoch_seconds=0))
LATER = Schedule(GENESIS.hash, (Step(4, 1, (("block_gas_limit", 20_000_000),)), Step(9, max(KNOWN_RULES) + 1)))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Of a peer in the first block of epoch 2."""
    home = Home(tmp_path / "home")
    write_private(home.key_path, KEYS[0].secret.hex().encode())
    home.store_genesis(GENESIS.encode())
    chain = Chain(GENESIS)
    with ChainStore(home.folder("chain")) as store:
        store.commit(chain.executor.genesis_writes())
        while chain.executor.head.height < 7:
            store.commit(chain.add().writes)
    return home


def install(home: Home, schedule: Schedule, end: bytes = b"") -> int:
    path = home.path.parent / "schedule.json"
    path.write_bytes(schedule.encode() + end)
    return main(["upgrade", "--home", str(home.path), "--install", str(path)])


def test_a_schedule_is_shown_after_it_was_installed(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(home, LATER, b"\n") == 0
    capsys.readouterr()
    assert main(["upgrade", "--home", str(home.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schedule"] == LATER.hash.hex() and [row["known"] for row in found["steps"]] == [True, False]
    assert main(["upgrade", "--home", str(home.path)]) == 0
    out = capsys.readouterr().out
    assert LATER.hash.hex() in out and "epoch 4   rules 1, block_gas_limit 20000000" in out
    assert "epoch 9   rules 2  (not in this release: it will stop before that epoch)" in out
    assert home.load_upgrades(GENESIS) == LATER


def test_an_epoch_with_executed_blocks_cannot_be_changed_and_the_next_one_can(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    for epoch, code in ((1, EXIT_REFUSED), (2, EXIT_REFUSED), (3, 0)):
        assert install(home, Schedule(GENESIS.hash, (Step(epoch, 1),))) == code
    assert "epoch 3 at the earliest" in capsys.readouterr().err
    assert install(home, Schedule(GENESIS.hash)) == 0  # taken back before it began


def test_what_is_no_schedule_of_this_network_is_refused_by_name(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(home, Schedule(bytes(32), LATER.steps)) == EXIT_REMOTE
    assert "for genesis" in capsys.readouterr().err
    assert main(["upgrade", "--home", str(home.path), "--install", str(home.path / "none")]) == EXIT_MISUSE
    assert not home.upgrades_path.exists()


def test_a_running_peers_home_and_one_without_a_network_are_left_alone(home: Home, tmp_path: Path) -> None:
    with home.lock():
        assert install(home, LATER) == EXIT_UNAVAILABLE
    assert not home.upgrades_path.exists()
    assert main(["upgrade", "--home", str(tmp_path / "new")]) == EXIT_MISUSE
