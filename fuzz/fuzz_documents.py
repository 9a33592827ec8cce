"""Targets: documents and files that come as blobs or by hand. What decodes must encode to the same bytes."""

import json
from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Any

import numpy as np
from fuzz_mutators import mutate_bytes, mutate_json, mutate_msgpack, mutate_safetensors
from fuzz_seeds import golden
from fuzz_target import Target

from flock_chain import bounded_json, canonical_json, codec
from flock_chain.aggregation import Format, Layout, encode_delta, encode_global, from_floats, parse_delta, quantise
from flock_chain.aggregation.adapter import parse_global
from flock_chain.content import ChunkList, compute_chunk_list, decode_chunk_list, format_cid, parse_cid
from flock_chain.genesis import decode_genesis
from flock_chain.parameters import DEMO
from flock_chain.proposal import decode_manifest
from flock_chain.restart import decode_restart
from flock_chain.upgrades import decode_schedule
from flock_peers.training.document import decode_document

_HASH = bytes(range(32, 64))
_LAYOUT = Layout.of({"m.q_proj.lora_A.weight": (2, 20), "m.q_proj.lora_B.weight": (20, 2)})


def again(decode: Callable[[bytes], Any], encode: Callable[[Any], bytes] | None = None) -> Callable[[bytes], None]:
    """One value, one encoding."""

    def run(data: bytes) -> None:
        value = decode(data)
        assert (encode(value) if encode else value.encode()) == data, "accepted, but encoded differently"

    return run


def _run_json(data: bytes) -> None:
    """The bound on depth must hold whatever strings hide: the parser is never handed more than it."""
    value = bounded_json.loads(data, depth=4)
    assert _depth(value) <= 4


def _depth(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(_depth, items), default=0)


def _run_hex(data: bytes) -> None:
    document = canonical_json.decode(data, "a document", max_bytes=4_096, depth=3)
    assert len(canonical_json.parse_hex(document, 4, "it")) == 4


def _run_chunk_list(data: bytes) -> None:
    chunks: ChunkList = decode_chunk_list(data, digest=sha256(data).digest(), max_file_bytes=1 << 40)
    assert chunks.encode() == data and sum(chunks.bounds(i)[1] for i in range(len(chunks.digests))) == chunks.size


def _run_cid(data: bytes) -> None:
    text = data.decode("latin-1")
    assert format_cid(parse_cid(text)) == text


def _vector(exponent: int) -> Any:
    values = [(index * index * 7_919 % 4_001 - 2_000) * 2.0**exponent for index in range(_LAYOUT.parameters)]
    return np.array(values, np.float32)


def _seed_delta() -> list[bytes]:
    return [encode_delta(quantise(_vector(-20), _LAYOUT, Format()))]


def _seed_global() -> list[bytes]:
    return [encode_global(from_floats(_vector(-14), _LAYOUT, Format()))]


def _seed_json() -> list[bytes]:
    rows = ['{"a":[1,{"b":"]["}]}', '"\\""', "[[[[1]]]]", '{"a":"\\\\","b":[]}', "[1e5,-0.5,null]", '["\\ud800"]']
    return [row.encode() for row in rows]


def _mutate_codec(data: bytes, random: Random) -> bytes:
    return mutate_msgpack(data, random)


def targets() -> list[Target]:
    decode_of_network = lambda data: decode_schedule(data, genesis_hash=_HASH, genesis=DEMO)  # noqa: E731
    documents = ("genesis document", "upgrade schedule", "restart document", "task document", "manifest")
    return [
        Target(
            "codec", again(codec.decode, codec.encode), lambda: golden("documents", "task document", "manifest"),
            _mutate_codec,
        ),
        Target("bounded_json", _run_json, _seed_json, mutate_bytes, (ValueError,)),
        Target("canonical_json", _run_hex, lambda: [json.dumps("00ff00ff").encode()], mutate_json),
        Target("genesis", again(decode_genesis), lambda: golden("documents", documents[0]), mutate_json),
        Target("upgrade_schedule", again(decode_of_network), lambda: golden("documents", documents[1]), mutate_json),
        Target("restart", again(decode_restart), lambda: golden("documents", documents[2]), mutate_json),
        Target("task_document", again(decode_document), lambda: golden("documents", documents[3]), mutate_msgpack),
        Target("manifest", again(decode_manifest), lambda: golden("documents", documents[4]), mutate_msgpack),
        Target("chunk_list", _run_chunk_list, lambda: [compute_chunk_list([b"x"]).encode()], mutate_bytes),
        Target("content_id", _run_cid, lambda: golden("documents", "content id"), mutate_bytes),
        Target(
            "delta", again(lambda data: parse_delta(data, _LAYOUT, Format()), encode_delta), _seed_delta,
            mutate_safetensors,
        ),
        Target(
            "global_adapter", again(lambda data: parse_global(data, _LAYOUT, Format()), encode_global), _seed_global,
            mutate_safetensors,
        ),
    ]  # fmt: skip
