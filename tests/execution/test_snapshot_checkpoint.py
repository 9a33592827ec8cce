"""Starting from a checkpoint: only what its id proves is kept, whoever lies is named, and a kill loses nothing."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from driver_support import on_mock_clock
from snapshot_support import CertifiedChain, Joiner, Server, account

from flock_chain.codec import decode, encode
from flock_chain.errors import Misuse, Refused, Unavailable
from flock_chain.execution import records
from flock_chain.execution.records import Pin
from flock_p2p.verify import verify_home
from flock_peers import snapshots
from flock_peers.checkpoint import ASK_SECONDS, MAX_NAMED, _describe_strangers, _say_who_has
from flock_peers.driver.offences import DROP_SECONDS
from flock_peers.home import Home, write_private
from flock_peers.ledger import open_ledger
from flock_peers.staging import STAGING, discard_staging, is_started, parse_checkpoint
from flock_peers.store.chain_store import ChainStore

EVIL = 1  # the number of the server that sins


@pytest.fixture(scope="module")
def chain() -> CertifiedChain:
    return CertifiedChain()


def serve(chain: CertifiedChain, folder: Path, *heights: int) -> Server:
    folder.mkdir()
    return Server(chain, folder, *(heights or (8, 12)))


def make_joiner(folder: Path, *servers: Server) -> Joiner:
    folder.mkdir(exist_ok=True)
    return Joiner(folder, *servers)


@pytest.mark.parametrize("checkpoint,begins", [(12, 12), (14, 12), (11, 8), (8, 8)])
@on_mock_clock
async def test_a_home_begins_with_the_last_snapshot_before_its_checkpoint_and_goes_on_from_there(
    chain: CertifiedChain, tmp_path: Path, checkpoint: int, begins: int
) -> None:
    server = serve(chain, tmp_path / "server")
    joiner = make_joiner(tmp_path / "home", server)
    assert await joiner.start(chain.pin(checkpoint)) == begins
    async with open_ledger(chain.genesis, joiner.home / "chain") as ledger:
        assert ledger.height() == ledger.base() == begins
        assert ledger.head.state_root == records.read_block(chain.store, begins).state_root
        assert await ledger.block_and_certificate(begins) == chain.row(begins)
        assert await ledger.block_and_certificate(begins - 1) is None
        for height in range(begins + 1, 15):
            await ledger.commit(*chain.row(height))
        assert ledger.head.id == chain.executor.head.id
    assert not (joiner.home / STAGING).exists()
    assert [row.height for row in snapshots.open_index(joiner.home / "snapshots", joiner.blobs).rows] == [begins]


@on_mock_clock
async def test_a_second_start_with_the_same_checkpoint_changes_nothing(chain: CertifiedChain, tmp_path: Path) -> None:
    joiner = make_joiner(tmp_path / "home", serve(chain, tmp_path / "server"))
    assert not is_started(joiner.home / "chain", chain.pin(14))
    await joiner.start(chain.pin(14))
    assert is_started(joiner.home / "chain", chain.pin(14))  # on its way: block 14 is not here yet
    assert is_started(joiner.home / "chain", chain.pin(12)) and is_started(joiner.home / "chain", chain.pin(5))
    assert not is_started(joiner.home / "chain", Pin(90, bytes(32)))
    with pytest.raises(Refused, match=r"has block .* there.*Either the checkpoint is wrong"):
        is_started(joiner.home / "chain", Pin(12, bytes(32)))


@on_mock_clock
async def test_a_long_absent_home_jumps_and_keeps_its_old_chain_until_the_new_one_is_whole(
    chain: CertifiedChain, tmp_path: Path
) -> None:
    joiner = make_joiner(tmp_path / "home", serve(chain, tmp_path / "server"))
    async with open_ledger(chain.genesis, joiner.home / "chain") as ledger:
        await ledger.commit(*chain.row(1))
    server = joiner.servers[0]
    true_range, server.answer_range = server.answer_range, _nothing  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await joiner.start(chain.pin(12))
    async with open_ledger(chain.genesis, joiner.home / "chain") as ledger:
        assert ledger.height() == 1
    server.answer_range = true_range  # type: ignore[method-assign]
    assert await joiner.start(chain.pin(12)) == 12


async def _nothing(_payload: bytes) -> bytes:
    return encode([])


# ---- whose fault it is


@on_mock_clock
async def test_a_wrong_hash_is_said_with_who_contradicts_it(chain: CertifiedChain, tmp_path: Path) -> None:
    joiner = make_joiner(tmp_path / "home", *(serve(chain, tmp_path / f"server{n}") for n in range(2)))
    for height in (12, 14):
        with pytest.raises(Refused, match=r"no connected peer has this block at that height.*get it again") as caught:
            await joiner.start(Pin(height, b"\x77" * 32))
        assert f"0x{account(1).hex()}" in str(caught.value)
        assert str(caught.value).count(f" have {chain.pin(height).block_id.hex()}") == 1  # of both at once
    assert not (joiner.home / "chain").exists()


def test_of_many_who_have_another_block_a_few_are_named() -> None:
    assert _say_who_has(["0xa"]) == "0xa has" and _say_who_has(["0xa", "0xb"]) == "0xa, 0xb have"
    assert _say_who_has(["0xa", "0xb", "0xc"]) == "0xa, 0xb, 0xc have"
    assert _say_who_has([f"0x{n}" for n in range(8)]) == "0x0, 0x1, 0x2 and 5 more have"


def test_of_many_different_blocks_a_few_are_named() -> None:
    told = _describe_strangers({account(n): f"block{n}" for n in range(MAX_NAMED + 2)})
    assert [f"block{n}" in told for n in range(MAX_NAMED + 2)] == [True] * MAX_NAMED + [False] * 2
    assert told.endswith("; others have 2 more blocks")
    for blocks in (MAX_NAMED, 1):  # it is blocks that are counted, not who has them
        assert "others" not in _describe_strangers({account(n): f"block{n % blocks}" for n in range(3 * MAX_NAMED)})


@on_mock_clock
async def test_a_checkpoint_before_every_snapshot_is_too_old(chain: CertifiedChain, tmp_path: Path) -> None:
    joiner = make_joiner(tmp_path / "home", serve(chain, tmp_path / "server"))
    with pytest.raises(Unavailable, match="too old: the oldest snapshot that is served is of block 8"):
        await joiner.start(chain.pin(7))


@on_mock_clock
async def test_where_nobody_has_a_snapshot_or_the_block_that_is_said(chain: CertifiedChain, tmp_path: Path) -> None:
    server = serve(chain, tmp_path / "server", 8)
    server.snapshots._index._rows = []
    joiner = make_joiner(tmp_path / "home", server)
    with pytest.raises(Unavailable, match=r"serves a snapshot at or before it .*join without --checkpoint"):
        await joiner.start(chain.pin(12))
    ahead = make_joiner(tmp_path / "home", serve(chain, tmp_path / "other"))
    with pytest.raises(Unavailable, match="does not have block 15 yet"):
        await ahead.start(Pin(90, bytes(32)))


def test_what_is_no_checkpoint_is_refused_with_its_form() -> None:
    good = "12:" + "ab" * 32
    assert parse_checkpoint(good) == parse_checkpoint("12:0x" + "ab" * 32) == Pin(12, b"\xab" * 32)
    assert str(parse_checkpoint(good)) == good
    for text in ("", "12", "12:", "0:" + "ab" * 32, "-1:" + "ab" * 32, good + "cd", "x:" + "ab" * 32, "1" * 16 + good):
        with pytest.raises(Misuse, match="give HEIGHT:HASH"):
            parse_checkpoint(text)


Spoil = Callable[[Server, CertifiedChain, CertifiedChain], None]


def _tamper(server: Server, _chain: CertifiedChain, _other: CertifiedChain) -> None:
    """Chunks that match their content id, of a state that is not the block's."""
    row = next(row for row in server.snapshots.rows if row.height == 12)
    path = server.blobs.file_path(row.digest)
    assert path is not None
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    _offer(server, path.with_name("tampered"), bytes(data), row)


def _cut(server: Server, _chain: CertifiedChain, _other: CertifiedChain) -> None:
    row = next(row for row in server.snapshots.rows if row.height == 12)
    path = server.blobs.file_path(row.digest)
    assert path is not None
    _offer(server, path.with_name("cut"), path.read_bytes()[:-100], row)


def _offer(server: Server, path: Path, data: bytes, row: snapshots.Snapshot) -> None:
    path.write_bytes(data)
    digest = server.blobs.put_file(path)
    server.snapshots._index.announce(snapshots.Snapshot(12, row.block_id, digest, len(data)))
    server.snapshots._index._rows = [r for r in server.snapshots.rows if r.digest == digest]


def _lie_about_headers(server: Server, _chain: CertifiedChain, other: CertifiedChain) -> None:
    async def answer(payload: bytes) -> bytes:
        if b"headers" in payload:
            return encode([records.read_block(other.store, height).header.encoded for height in (13, 14)])
        return await Server.answer(server, payload)

    server.answer = answer  # type: ignore[method-assign]


def _drip_headers(server: Server, _chain: CertifiedChain, _other: CertifiedChain) -> None:
    """Right, but one at a time, each just before the answer would be late."""

    async def answer(payload: bytes) -> bytes:
        request = decode(payload)
        if request[0] == "headers":
            await trio.sleep(0.9 * ASK_SECONDS)
            return await Server.answer(server, encode([*request[:2], 1]))
        return await Server.answer(server, payload)

    server.answer = answer  # type: ignore[method-assign]


def _say(answer: bytes) -> Spoil:
    def spoil(server: Server, _chain: CertifiedChain, _other: CertifiedChain) -> None:
        async def say(_payload: bytes) -> bytes:
            return answer

        server.answer = say  # type: ignore[method-assign]

    return spoil


def _serve_block(make: Callable[[CertifiedChain, CertifiedChain], Any]) -> Spoil:
    def spoil(server: Server, chain: CertifiedChain, other: CertifiedChain) -> None:
        async def answer(_payload: bytes) -> bytes:
            return encode(make(chain, other))

        server.answer_range = answer  # type: ignore[method-assign]

    return spoil


SINS: dict[str, tuple[Spoil, str]] = {
    "another state": (_tamper, "snapshot of block 12: .*(root|account|sorted|record|encoding|list|trie|rlp|code)"),
    "a snapshot cut short": (_cut, "snapshot of block 12: .*(short|root|missing)"),
    "headers of another chain": (_lie_about_headers, "header 13: not a child"),
    "headers one at a time": (_drip_headers, "took it longer than 10 s"),
    "a list that is none": (_say(encode([[1]])), "not rows of height"),
    "an endless list": (_say(encode([[1, bytes(32), bytes(32), 5]] * 30)), "not a list of at most"),
    "another block": (_serve_block(lambda _chain, other: [other.row(12)]), "not the one that was asked for"),
    "another body": (
        _serve_block(lambda chain, other: [[_mix_body(chain, other), chain.row(12)[1]]]),
        "not the one that was asked for",
    ),
    "a certificate of another block": (
        _serve_block(lambda chain, _other: [[chain.row(12)[0], chain.row(11)[1]]]),
        "does not finalize this block",
    ),
    "a certificate below the quorum": (
        _serve_block(lambda chain, _other: [
            [chain.row(12)[0], chain.certify(12, chain.pin(12).block_id, chain.keys[:2])]
        ]),
        "below the quorum",
    ),
    "more blocks than asked for": (_serve_block(lambda chain, _other: [chain.row(12)] * 3), "not a list of at most 1"),
}  # fmt: skip


def _mix_body(chain: CertifiedChain, other: CertifiedChain) -> bytes:
    from flock_chain.execution.blocks import Block

    header = records.read_block(chain.store, 12).header
    return Block(header, records.read_block(other.store, 12).transactions).encoded


@pytest.fixture(scope="module")
def other() -> CertifiedChain:
    return CertifiedChain(word=b"other")


@pytest.mark.parametrize("sin", SINS)
@on_mock_clock
async def test_who_serves_a_wrong_snapshot_is_dropped_by_name_and_another_one_serves(
    sin: str, chain: CertifiedChain, other: CertifiedChain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, reason = SINS[sin]
    caplog.set_level(logging.WARNING)
    evil, good = serve(chain, tmp_path / "evil"), serve(chain, tmp_path / "good")
    spoil(evil, chain, other)
    joiner = make_joiner(tmp_path / "home", evil)
    with pytest.raises(Unavailable):  # alone, it makes nothing of the home
        await joiner.start(chain.pin(14))
    assert not (joiner.home / "chain").exists()
    lines = [line for line in caplog.messages if "is dropped for" in line]
    assert lines and f"0x{account(EVIL).hex()} is dropped for {DROP_SECONDS:.0f} s" in lines[0]
    assert re.search(reason, lines[0]), lines
    both = make_joiner(tmp_path / "home", evil, good)
    assert await both.start(chain.pin(14)) == 12


# ---- afterwards


@on_mock_clock
async def test_the_chain_must_pass_through_the_checkpoint_whoever_certifies_another_one(
    chain: CertifiedChain, tmp_path: Path
) -> None:
    joiner = make_joiner(tmp_path / "home", serve(chain, tmp_path / "server"))
    await joiner.start(chain.pin(14))
    with ChainStore(joiner.home / "chain") as store:
        store.commit(records.make_pin(Pin(13, b"\x55" * 32)))
    async with open_ledger(chain.genesis, joiner.home / "chain") as ledger:
        with pytest.raises(Refused, match="this home trusts the checkpoint"):
            await ledger.commit(*chain.row(13))
        assert ledger.height() == 12


@on_mock_clock
async def test_verify_says_that_the_history_is_not_here(chain: CertifiedChain, tmp_path: Path) -> None:
    joiner = make_joiner(tmp_path / "home", serve(chain, tmp_path / "server"))
    await joiner.start(chain.pin(12))
    home = Home(joiner.home)
    write_private(home.genesis_path, chain.genesis.encode())
    with pytest.raises(Unavailable, match=r"began with a snapshot at block 12.*nothing can be replayed"):
        verify_home(home.path)


KILLED = """
import os, signal, sys
from pathlib import Path
from flock_chain.execution import records
from flock_chain.execution.blocks import decode_block
from flock_chain.execution.records import Pin
from flock_chain.genesis import decode_genesis
from flock_peers import staging
from flock_peers.store.chain_store import ChainStore

folder = Path(sys.argv[1])
home = folder / "home"
staging.BATCH_ROWS = 80
left = 0

def step(inner):
    def call(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments, **named)
    return call

def start():
    ChainStore.commit = step(ChainStore.commit)
    Path.replace, staging.sync_folder = step(Path.replace), step(staging.sync_folder)
    staging.discard_staging = step(staging.discard_staging)
    block = decode_block((folder / "block").read_bytes(), max_bytes=1 << 20)
    made = staging.Staging(home, decode_genesis((folder / "genesis").read_bytes()))
    made.build(folder / "file", block)
    made.finish(block, b"certificate", Pin(block.height, block.id))

def read_height():
    if not (home / "chain" / "chain.mdb").exists():
        return 0
    with ChainStore(home / "chain", read_only=True) as store:
        head = records.read_head(store)
        assert head is not None and records.read_base(store) == head.height
        assert store.get(records.certificate_key(head.height)) == b"certificate"
        return head.height

killed_at = 0
while True:
    killed_at += 1
    child = os.fork()
    if not child:
        left = killed_at
        start()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    print(read_height(), flush=True)
    if not status:
        break
"""


def test_a_kill_at_any_step_of_the_import_leaves_the_old_chain_or_the_new_one(
    chain: CertifiedChain, tmp_path: Path
) -> None:
    """And the next start makes it whole: the steps are tried one after the other on one home."""
    server = serve(chain, tmp_path / "server")
    path = server.blobs.file_path(server.snapshots.rows[-1].digest)
    assert path is not None
    (tmp_path / "file").write_bytes(path.read_bytes())
    (tmp_path / "block").write_bytes(chain.row(12)[0])
    (tmp_path / "genesis").write_bytes(chain.genesis.encode())
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    heights = [int(line) for line in result.stdout.split()]
    assert len(heights) > 8 and set(heights) == {0, 12} and heights == sorted(heights)
    home = tmp_path / "home"
    discard_staging(home)
    assert sorted(path.name for path in (home / "chain").iterdir() if "lock" not in path.name) == ["chain.mdb"]
