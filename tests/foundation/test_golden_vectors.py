"""Every format against its committed bytes, and every version number against the next one."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from golden_support import CHAIN_ID, GROUPS, HASH, KEYS, load

from flock_chain import codec
from flock_chain.consensus.wire import decode_message
from flock_chain.content import decode_chunk_list
from flock_chain.crypto import Account
from flock_chain.errors import FlockError
from flock_chain.execution.transactions import decode_transaction
from flock_chain.genesis import decode_genesis
from flock_chain.parameters import DEMO
from flock_chain.proposal import decode_manifest
from flock_chain.upgrades import decode_schedule
from flock_peers.network.hello import check_hello, decode_hello
from flock_peers.training.base_manifest import parse_base
from flock_peers.training.document import decode_document


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_a_changed_byte_of_a_format_fails_by_its_name(group: str) -> None:
    made, golden = GROUPS[group](), load(group)
    assert sorted(made) == sorted(golden), f"{group}: formats without a golden vector, or vectors without a format"
    changed = [name for name, sample in made.items() if sample.data.hex() != golden[name]]
    assert not changed, f"these formats changed; give them a new version, then write the vectors anew: {changed}"


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_golden_bytes_decode_and_encode_to_themselves(group: str) -> None:
    golden = load(group)
    for name, sample in GROUPS[group]().items():
        if sample.again is not None:
            assert sample.again(bytes.fromhex(golden[name])).hex() == golden[name], name


def _next_msgpack(group: str, name: str, key: object) -> bytes:
    value = codec.decode(bytes.fromhex(load(group)[name]))
    value[key] += 1
    return codec.encode(value)


def _next_json(name: str) -> bytes:
    value = json.loads(bytes.fromhex(load("documents")[name]))
    value["format"] += 1
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _hello(data: bytes) -> None:
    check_hello(decode_hello(data), HASH, KEYS[0].account, "192.0.2.7:4200")


CASES: list[tuple[str, Callable[[], bytes], Callable[[bytes], object], str]] = [
    ("genesis", lambda: _next_json("genesis document"), decode_genesis, "format 3, this release reads format 2"),
    (
        "schedule",
        lambda: _next_json("upgrade schedule"),
        lambda data: decode_schedule(data, genesis_hash=HASH, genesis=DEMO),
        "format 2, this release reads 1",
    ),
    (
        "task",
        lambda: _next_msgpack("documents", "task document with a reference", "format"),
        decode_document,
        "format 4",
    ),
    (
        "base",
        lambda: _next_msgpack("documents", "base manifest", "format"),
        lambda data: parse_base(codec.decode(data)),
        "base manifest: format 2, this release reads format 1",
    ),
    ("manifest", lambda: _next_msgpack("documents", "manifest", "format"), decode_manifest, "format 2"),
    ("hello", lambda: _next_msgpack("network", "hello", "version"), _hello, "speaks version 3 .* this peer speaks 2"),
    (
        "message",
        lambda: _next_msgpack("consensus", "message: vote", 0),
        lambda data: decode_message(data, Account(bytes(20))),
        "version 2, this peer speaks 1",
    ),
]


@pytest.mark.parametrize(("make", "decode", "words"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_the_next_version_is_refused_by_its_number(
    make: Callable[[], bytes], decode: Callable[[bytes], object], words: str
) -> None:
    with pytest.raises(FlockError, match=words):
        decode(make())


def test_another_magic_or_transaction_type_is_refused_by_name() -> None:
    data = bytes.fromhex(load("documents")["chunk list"]).replace(b"chunks-1", b"chunks-2")
    from hashlib import sha256

    with pytest.raises(FlockError, match="magic"):
        decode_chunk_list(data, digest=sha256(data).digest())
    with pytest.raises(FlockError, match="type 0x3 is not allowed"):
        decode_transaction(b"\3" + bytes.fromhex(load("chain")["transaction: type 2"])[1:], CHAIN_ID)


def test_a_vote_of_another_version_of_the_digest_is_worth_nothing() -> None:
    """The version is a part of what is hashed: the statement of another one has another signer."""
    from golden_support import DOMAIN

    from flock_chain.consensus import digest
    from flock_chain.consensus.types import Kind
    from flock_chain.crypto import keccak256, recover

    assert keccak256(b"flock-p2p consensus vote 1") == digest.DOMAIN
    signed = DOMAIN.digest(Kind.NOTARIZE, 9, 2, HASH)
    other = replace(DOMAIN, chain_id=CHAIN_ID + 1).digest(Kind.NOTARIZE, 9, 2, HASH)
    assert recover(other, KEYS[0].sign(signed)) != KEYS[0].account
