"""The chain on disk: one process, all or nothing, also under kill -9."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from execution_support import USERS, Chain, make_genesis

from flock_chain.errors import Unavailable
from flock_chain.execution import records
from flock_chain.execution.executor import Executor
from flock_peers.store.chain_store import ChainStore

WRITER = """
import sys
from pathlib import Path
from execution_support import USERS, Chain, make_genesis
from flock_chain.execution import records
from flock_peers.store.chain_store import ChainStore

with ChainStore(Path(sys.argv[1])) as store:
    chain = Chain(make_genesis(), store)
    while True:
        transfer = chain.call(USERS[0], USERS[1].account, value=1, gas=21_000)
        candidate = chain.build([transfer])
        height = candidate.block.height
        store.commit({**candidate.writes, records.certificate_key(height): b"certificate" + candidate.block.id})
        chain.executor.advance(candidate)
        print(height, flush=True)
"""


def test_rows_come_back_and_none_deletes(tmp_path: Path) -> None:
    with ChainStore(tmp_path) as store:
        store.commit({b"a": b"1", b"b": b"2"})
        store.commit({b"a": None, b"c": b"", b"missing": None})
        assert [store.get(key) for key in (b"a", b"b", b"c")] == [None, b"2", b""]
    with ChainStore(tmp_path) as store:
        assert store.get(b"b") == b"2"


def mapped_bytes(path: Path) -> int:
    """Of a file, as this process' memory."""
    place, held = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            place = line.endswith(str(path))
        elif place and line.startswith("Rss:"):
            held += int(line.split()[1]) << 10
    return held


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_was_looked_at_does_not_stay_in_this_process_memory(tmp_path: Path) -> None:
    rows = {number.to_bytes(32, "big"): bytes([number % 256]) * 2_000 for number in range(2_000)}
    with ChainStore(tmp_path) as store:
        store.commit(dict(rows))
        assert all(store.get(key) == value for key, value in rows.items())
        assert mapped_bytes(tmp_path / "chain.mdb") > 4_000_000
        store.commit({b"head": b"1"})
        assert mapped_bytes(tmp_path / "chain.mdb") < 1_000_000
        assert all(store.get(key) == value for key, value in rows.items())


def test_a_second_user_of_one_home_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with ChainStore(tmp_path), pytest.raises(Unavailable, match="in use by another process"):
        ChainStore(tmp_path)
    ChainStore(tmp_path).close()


def test_a_chain_that_is_no_chain_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "chain.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(Unavailable, match="restore it, or sync again"):
        ChainStore(tmp_path)
    with pytest.raises(Unavailable, match="restore it"):  # and the lock was let go
        ChainStore(tmp_path)


def test_a_kill_in_the_middle_leaves_head_state_and_certificate_in_agreement(tmp_path: Path) -> None:
    genesis, reached = make_genesis(), 0
    with ChainStore(tmp_path) as store:
        store.commit(Executor(genesis, store).genesis_writes())
    for run in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },  # the code that is tested here, and its support
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        for _ in range(3 + run):  # then it is somewhere in a block, unknown where
            assert writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        announced = [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        with ChainStore(tmp_path) as store:
            reached = check_agreement(store, genesis, at_least=max([reached + 3 + run, *announced]))


def check_agreement(store: ChainStore, genesis: object, at_least: int) -> int:
    executor = Executor(genesis, store)  # type: ignore[arg-type] # a Genesis
    head = executor.head
    assert head.height >= at_least
    assert executor.account(USERS[0].account).nonce == head.height  # the state is the head's, all of it
    for height in range(1, head.height + 1):
        block = records.read_block(store, height)
        assert store.get(records.certificate_key(height)) == b"certificate" + block.id
        assert len(records.read_receipts(store, height)) == len(block.transactions)
    assert store.get(records.height_key(head.height + 1)) is None
    return head.height


def test_a_chain_goes_on_from_disk_as_from_memory(tmp_path: Path) -> None:
    memory = Chain()
    with ChainStore(tmp_path) as store:
        store.commit(Executor(memory.genesis, store).genesis_writes())
    for _ in range(3):
        built = memory.add(memory.call(USERS[0], USERS[1].account, value=1, gas=21_000))
        with ChainStore(tmp_path) as store:
            executor = Executor(memory.genesis, store)
            candidate = executor.verify(built.block.encoded)
            store.commit(candidate.writes)
    assert candidate.block.id == memory.executor.head.id
