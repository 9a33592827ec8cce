"""Content ids against an IPFS library; chunk lists: verified first, then parsed, canonical."""

import struct
from hashlib import sha256

import pytest
from cid import CIDv1, make_cid
from hypothesis import given
from hypothesis import strategies as st
from multihash import digest as make_multihash

from flock_chain.content import (
    CHUNK_BYTES,
    MAX_OBJECT_BYTES,
    ChunkList,
    compute_chunk_list,
    decode_chunk_list,
    format_cid,
    object_digest,
    parse_cid,
    split_chunks,
)
from flock_chain.errors import InvalidContent, InvalidEncoding, Misuse


@given(st.binary(max_size=100))
def test_a_content_id_is_what_an_ipfs_library_prints(data):
    text = format_cid(object_digest(data))
    other = CIDv1("raw", make_multihash(data, "sha2-256").encode())
    assert text == other.encode("base32").decode()
    assert parse_cid(text) == make_cid(text).multihash[2:] == sha256(data).digest()


def test_a_known_content_id_stays():
    assert format_cid(object_digest(b"hello")) == "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"


GOOD = format_cid(sha256(b"x").digest())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        GOOD.upper(),
        "B" + GOOD[1:],
        GOOD[:-1],
        GOOD + "a",
        GOOD + "=",
        " " + GOOD,
        GOOD + "\n",
        GOOD[:-1] + ("b" if GOOD[-1] != "b" else "c"),
        "z" + GOOD[1:],
        "bé" + GOOD[2:],
        "b1" + GOOD[2:],
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
        "b" * 10_000,
    ],
)
def test_a_text_that_is_no_content_id_is_refused(text):
    with pytest.raises(InvalidEncoding, match="content id"):
        parse_cid(text)


def test_an_id_of_another_codec_or_hash_is_refused():
    digest = make_multihash(b"x", "sha2-256").encode()
    for text in (
        CIDv1("dag-pb", digest).encode("base32").decode(),
        CIDv1("raw", make_multihash(b"x", "sha2-512").encode()).encode("base32").decode(),
    ):
        with pytest.raises(InvalidEncoding):
            parse_cid(text)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_a_chunk_list_covers_a_file_exactly(size):
    data = bytes(size)
    chunks = compute_chunk_list(split_chunks(data))
    assert decode_chunk_list(chunks.encode(), digest=chunks.digest) == chunks
    bounds = [chunks.bounds(index) for index in range(len(chunks.digests))]
    assert b"".join(data[start : start + length] for start, length in bounds) == data
    assert all(
        sha256(data[start : start + length]).digest() == digest
        for (start, length), digest in zip(bounds, chunks.digests, strict=True)
    )


def test_a_known_chunk_list_stays():
    chunks = compute_chunk_list(split_chunks(bytes(range(256)) * 5_000))
    assert chunks.size == 1_280_000
    assert chunks.digest.hex() == "de5d7a8ae63031fe9e6d0bf5b0ea34df20cdfa222961ba6882c32d8c50a819dc"


def test_pieces_that_are_not_full_are_misuse():
    for pieces in ([b"a", b"b"], [b""], [bytes(CHUNK_BYTES + 1)], [bytes(CHUNK_BYTES), b""]):
        with pytest.raises(Misuse, match="full"):
            compute_chunk_list(pieces)
    for index in (-1, 1):
        with pytest.raises(Misuse):
            compute_chunk_list([b"a"]).bounds(index)


def test_a_chunk_list_is_verified_before_it_is_parsed():
    chunks = compute_chunk_list([b"a"])
    with pytest.raises(InvalidContent, match="content id"):
        decode_chunk_list(chunks.encode() + b"x", digest=chunks.digest)
    with pytest.raises(InvalidContent, match="content id"):
        decode_chunk_list(b"garbage", digest=chunks.digest)


HASH = bytes(32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"flock-chunks-1\n",
        ChunkList(1, CHUNK_BYTES, (HASH,)).encode()[:-1],
        ChunkList(1, CHUNK_BYTES, (HASH,)).encode() + b"\0",
        b"Flock" + ChunkList(1, CHUNK_BYTES, (HASH,)).encode()[5:],
        ChunkList(1, CHUNK_BYTES, ()).encode(),
        ChunkList(1, CHUNK_BYTES, (HASH, HASH)).encode(),
        ChunkList(0, CHUNK_BYTES, (HASH,)).encode(),
        ChunkList(CHUNK_BYTES + 1, CHUNK_BYTES, (HASH,)).encode(),
        ChunkList(1, 1, (HASH,)).encode(),
        ChunkList(1, 0, (HASH,)).encode(),
        ChunkList(1, CHUNK_BYTES // 2, (HASH,)).encode(),
        ChunkList(4 * CHUNK_BYTES + 1, CHUNK_BYTES, (HASH,) * 5).encode(),
        ChunkList(2**64 - 1, CHUNK_BYTES, (HASH,)).encode(),
        b"flock-chunks-1\n" + struct.pack(">QI", 1, CHUNK_BYTES) + bytes(MAX_OBJECT_BYTES),
    ],
)
def test_a_chunk_list_that_is_not_canonical_is_refused(data):
    with pytest.raises(InvalidEncoding, match="chunk list"):
        decode_chunk_list(data, digest=sha256(data).digest(), max_file_bytes=4 * CHUNK_BYTES)


def test_the_longest_object_has_an_id_and_a_longer_one_none():
    assert object_digest(bytes(MAX_OBJECT_BYTES))
    with pytest.raises(Misuse):
        object_digest(bytes(MAX_OBJECT_BYTES + 1))
    with pytest.raises(Misuse):
        format_cid(b"short")
