"""Real peers over loopback: one syncs the chain and drops the one whose disk lies, one starts from a checkpoint."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from execution_support import USERS
from network_support import in_trio, wait_until
from snapshot_support import BLOCKS, CertifiedChain

from flock_chain.crypto import Key
from flock_chain.errors import Refused, Unavailable
from flock_chain.execution import records
from flock_chain.execution.records import Pin
from flock_peers.control import request_control
from flock_peers.home import Home, write_private
from flock_peers.peer import Peer
from flock_peers.peer_opening import open_peer, start_from_checkpoint
from flock_peers.settings import PeerSettings
from flock_peers.store.chain_store import ChainStore


def make_home(path: Path, chain: CertifiedChain, key: Key, *, stored: bool) -> Home:
    home = Home(path)
    write_private(home.genesis_path, chain.genesis.encode())
    write_private(home.key_path, key.secret.hex().encode() + b"\n")
    home.bring_up_to_date()
    if stored:
        with ChainStore(home.folder("chain")) as store:
            store.commit(dict(chain.store.rows))
    return home


@asynccontextmanager
async def running(home: Home, *bootstrap: str) -> AsyncIterator[Peer]:
    async with open_peer(settings(home, *bootstrap)) as peer:
        for address in bootstrap:
            await peer.host.connect(address)
        yield peer


def settings(home: Home, *bootstrap: str) -> PeerSettings:
    return PeerSettings(home=home.path, listen_port=0, bootstrap=bootstrap, participate=False)


@in_trio()
async def test_a_newcomer_syncs_over_sockets_and_names_the_peer_whose_disk_lies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = CertifiedChain()
    good = make_home(tmp_path / "good", chain, USERS[0], stored=True)
    bad = make_home(tmp_path / "bad", chain, USERS[1], stored=True)
    with ChainStore(bad.path / "chain") as store:
        for height in range(1, BLOCKS):
            store.commit({records.certificate_key(height): chain.row(height + 1)[1]})
    newcomer = make_home(tmp_path / "new", chain, USERS[2], stored=False)
    async with AsyncExitStack() as stack:
        liar = await stack.enter_async_context(running(bad))
        peer = await stack.enter_async_context(running(newcomer, liar.host.address))
        await wait_until(lambda: "is dropped for 600 s: as a provider of blocks" in caplog.text)
        assert f"0x{liar.account.hex()} is dropped" in caplog.text and peer.ledger.height() == 0
        honest = await stack.enter_async_context(running(good))
        await peer.host.connect(honest.host.address)
        await wait_until(lambda: peer.ledger.height() == BLOCKS)
        assert peer.ledger.head == honest.ledger.head
        assert peer.host.is_connected(liar.account)  # its voice is not taken, only its blocks


@in_trio()
async def test_a_newcomer_starts_from_a_checkpoint_over_sockets_and_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = CertifiedChain()
    old = make_home(tmp_path / "old", chain, USERS[0], stored=True)
    newcomer = make_home(tmp_path / "new", chain, USERS[2], stored=False)
    async with running(old) as server:
        for height in (8, 12):
            await trio.to_thread.run_sync(server.snapshots.make, height)
        told = settings(newcomer, server.host.address)
        with pytest.raises(Refused, match="no connected peer has this block"):
            await start_from_checkpoint(told, Pin(13, bytes(32)))
        await start_from_checkpoint(told, chain.pin(13))
        async with running(newcomer, server.host.address) as peer:
            assert peer.ledger.base() == 12
            await wait_until(lambda: peer.ledger.height() == BLOCKS)
            assert peer.ledger.head == server.ledger.head
            assert [row.height for row in peer.snapshots.rows] == [12]
            status = await peer.control.status({})
            assert (status["base"], status["snapshots"], status["sync"]) == (12, [12], None)
        await start_from_checkpoint(told, chain.pin(13))  # the same command again: nothing to do
    assert "upgrade schedule" not in caplog.text  # both follow the same one, before and after the start


@pytest.mark.process
@in_trio(240)
async def test_the_command_starts_from_a_checkpoint_and_goes_on_from_there(tmp_path: Path) -> None:
    chain = CertifiedChain()
    async with running(make_home(tmp_path / "old", chain, USERS[0], stored=True)) as server:
        await trio.to_thread.run_sync(server.snapshots.make, 12)
        join = [sys.executable, "-m", "flock_p2p", "join", "--observe", "--port", "0", "--quiet"]
        join += ["--home", str(tmp_path / "new"), "--bootstrap", server.host.address, "--checkpoint"]
        start: Any = partial(trio.run_process, [*join, str(chain.pin(13))], stdout=subprocess.DEVNULL, check=False)
        async with trio.open_nursery() as nursery:
            process = await nursery.start(start)
            status = await wait_for_status(Home(tmp_path / "new"))
            assert (status["base"], status["height"], status["block"]) == (12, BLOCKS, server.ledger.head.id.hex())
            process.send_signal(signal.SIGTERM)


async def wait_for_status(home: Home) -> Any:
    while True:
        try:
            status = await trio.to_thread.run_sync(request_control, home.control_path, "status")
            if status["height"] == BLOCKS:
                return status
        except Unavailable:
            pass
        await trio.sleep(0.2)
