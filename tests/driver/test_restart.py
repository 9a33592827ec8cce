"""A halted chain goes on from its last final block with the operators that are left, by a document they agreed on."""

from pathlib import Path

import pytest
import trio
from driver_support import on_mock_clock
from execution_support import KEYS, VALIDATORS, Chain, make_genesis
from set_support import LedgerCluster, LedgerPeer

from flock_chain.consensus.validators import ValidatorSet
from flock_chain.errors import InvalidEncoding, Misuse, Refused
from flock_chain.restart import Restart, decode_restart
from flock_peers.home import Home, write_private
from flock_peers.restarts import Halt, apply_restart, load_restarts, propose_restart
from flock_peers.store.chain_store import ChainStore
from flock_peers.store.record_log import open_record_log

A, B, C, D = VALIDATORS
GENESIS = make_genesis()
SET = ValidatorSet(tuple((row.account, row.stake) for row in GENESIS.validators))


def make_home(peer: LedgerPeer, path: Path) -> Home:
    """What this stopped peer would have on disk."""
    home = Home(path / f"home-{peer.key.account.hex()[:8]}")
    write_private(home.genesis_path, peer.cluster.genesis.encode())
    with ChainStore(home.folder("chain")) as store:
        store.commit(dict(peer.store.rows))
    peer.folder.rename(home.path / "consensus")
    peer.folder = home.path / "consensus"
    return home


async def halt(cluster: LedgerCluster) -> None:
    """Two of four are gone at once, in the middle of a busy chain; the others go on voting for nothing."""
    await cluster.start()
    await cluster.grow(6)
    for key in (C, D):
        cluster.peers[key].stop()
    await trio.sleep(60)
    before = [peer.ledger.height() for peer in cluster.running()]
    await trio.sleep(120)
    assert [peer.ledger.height() for peer in cluster.running()] == before, "it has not halted"
    cluster.peers[A].stop(), cluster.peers[B].stop()
    await trio.sleep(1)


@on_mock_clock
async def test_the_operators_that_are_left_restart_a_halted_chain_from_its_last_final_block(tmp_path):
    async with trio.open_nursery() as nursery:
        cluster = LedgerCluster(tmp_path, nursery, VALIDATORS)
        await halt(cluster)
        peers = [cluster.peers[A], cluster.peers[B]]
        height = max(peer.ledger.height() for peer in peers)
        front = next(peer for peer in peers if peer.ledger.height() == height)
        restart = propose_restart(
            cluster.genesis,
            Halt(height, bytes(front.ledger.head.id), await front.ledger.validators()),
            [C.account, D.account],
        )
        for peer in peers:
            home = make_home(peer, tmp_path)
            with home.lock():
                assert apply_restart(home, restart.encode(), restart.hash.hex()) == restart
            assert load_restarts(home) == (restart,)
            await cluster.start(peer.key, restarts=load_restarts(home))
        await cluster.grow(10)
        assert await cluster.members() == {A, B}
        found = front.ledger.block(height + 1)
        assert found.parent_id == restart.block_id
        # One that was left out follows with the document, and gets nowhere without it.
        await cluster.start(C, restarts=(restart,))
        await cluster.grow(4)
        assert not cluster.peers[C].driver.status.is_validator
        cluster.peers[C].stop()
        await cluster.start(D)
        await trio.sleep(60)
        assert cluster.peers[D].ledger.height() <= height
        cluster.peers[D].stop()
        await cluster.grow(2)
        cluster.assert_agreement()
        nursery.cancel_scope.cancel()


def test_a_document_is_canonical_and_pinned_by_its_hash():
    restart = Restart(bytes(GENESIS.hash), 7, b"b" * 32, tuple(sorted((A.account, B.account))))
    data = restart.encode()
    assert decode_restart(data) == restart
    text = data.decode()
    for changed in (
        text.replace('"height":7', '"height":true'),
        text.replace('"height":7', '"height": 7'),
        text.replace('"format":1', '"format":2'),
        text.replace(b"b".hex() * 32, "62"),
        text.replace('"keep":[', '"keep":[[],'),
        text.replace(A.account.hex(), B.account.hex()),
        text[:-1],
        "[]",
    ):
        with pytest.raises(InvalidEncoding, match="restart document"):
            decode_restart(changed.encode())


def test_no_restart_is_made_where_a_quorum_is_left_or_for_strangers():
    halted = Halt(7, b"b" * 32, SET)
    with pytest.raises(Refused, match="the chain goes on without a restart"):
        propose_restart(GENESIS, halted, [A.account])
    with pytest.raises(Misuse, match="is not in the set"):
        propose_restart(GENESIS, halted, [A.account, KEYS[5].account])
    with pytest.raises(Refused, match="nobody would be left"):
        propose_restart(GENESIS, halted, [key.account for key in VALIDATORS])
    assert set(propose_restart(GENESIS, halted, [A.account, B.account]).keep) == {C.account, D.account}


class Stopped:
    """A home whose chain stands at a height, with logs that hold a vote for the next."""

    def __init__(self, path: Path, height: int) -> None:
        self.home, self.chain = Home(path / "home"), Chain(GENESIS)
        write_private(self.home.genesis_path, GENESIS.encode())
        for _ in range(height):
            self.chain.add()
        with ChainStore(self.home.folder("chain")) as store:
            store.commit(dict(self.chain.store.rows))
        for name in ("signer.log", "wal.log"):
            log, _ = open_record_log(self.home.folder("consensus") / name)
            log.close()
        (self.home.path / "consensus" / "wal.log").write_bytes(b"what was voted for")

    def restart(self, **changes: object) -> Restart:
        head = self.chain.executor.head
        values = {
            "genesis_hash": bytes(GENESIS.hash), "height": head.height, "block_id": bytes(head.id),
            "keep": tuple(sorted((A.account, B.account))),
        }  # fmt: skip
        return Restart(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"genesis_hash": bytes(32)}, "another one"),
        ({"block_id": bytes(32)}, "not the document's"),
        ({"height": 2}, "the chain did not halt there"),
        ({"keep": tuple(sorted(key.account for key in VALIDATORS[:3]))}, "goes on without a restart"),
        ({"keep": (KEYS[5].account,)}, "an account that is not in the set"),
    ],
)
def test_a_document_that_does_not_fit_this_home_changes_nothing(tmp_path, changes, reason):
    stopped = Stopped(tmp_path, 3)
    restart = stopped.restart(**changes)
    with pytest.raises(Refused, match=reason):
        apply_restart(stopped.home, restart.encode(), restart.hash.hex())
    with pytest.raises(Refused, match="the document's hash is"):
        apply_restart(stopped.home, stopped.restart().encode(), "00" * 32)
    assert load_restarts(stopped.home) == ()
    assert (stopped.home.path / "consensus" / "wal.log").read_bytes() == b"what was voted for"


def test_an_interrupted_installation_starts_no_peer_and_is_finished_by_the_same_command(tmp_path, monkeypatch):
    stopped = Stopped(tmp_path, 3)
    home, restart = stopped.home, stopped.restart()

    class PowerCut(Exception):
        pass

    def cut(*_arguments: object) -> None:
        raise PowerCut

    for point in ("shutil.copy2", "flock_peers.restarts.open_record_log", "os.replace"):
        with monkeypatch.context() as patched:
            patched.setattr(point, cut)
            with pytest.raises(PowerCut):
                apply_restart(home, restart.encode(), restart.hash.hex())
        if point != "os.replace" or (home.path / "restarts" / f"{restart.hash.hex()}.pending").exists():
            with pytest.raises(Refused, match="was not installed to its end"):
                load_restarts(home)
    apply_restart(home, restart.encode(), restart.hash.hex())
    apply_restart(home, restart.encode(), restart.hash.hex())
    assert load_restarts(home) == (restart,)
    consensus = home.path / "consensus"
    assert (consensus / f"before-{restart.hash.hex()[:16]}" / "wal.log").read_bytes() == b"what was voted for"
    log, rows = open_record_log(consensus / "signer.log")
    log.close()
    assert len(rows) == 1 and not (consensus / "wal.log").exists()
