"""Evidence on disk: one pair for each signer, bounded, versioned; a bad file costs nothing but its content."""

from pathlib import Path

import pytest

from flock_chain.codec import encode
from flock_chain.consensus.types import Kind, Vote
from flock_chain.crypto import Account
from flock_chain.errors import InvalidEncoding
from flock_peers.store.evidence_file import MAX_BYTES, MAX_PAIRS, EvidenceFile, Pair, decode_pairs, encode_pairs


def make_pair(number: int, height: int = 5) -> Pair:
    signer = Account(number.to_bytes(20, "big"))
    first, second = (Vote(Kind.FINALIZE, height, 1, bytes([n]) * 32, 0, signer, bytes([n]) * 65) for n in (1, 2))
    return first, second


def test_pairs_are_there_after_a_start_until_they_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "evidence"
    file = EvidenceFile(path)
    for number in (1, 2):
        file.add(make_pair(number))
    file.add(make_pair(1, height=6))  # one convicts
    again = EvidenceFile(path)
    assert again.pairs == [make_pair(1), make_pair(2)]
    assert path.stat().st_mode & 0o777 == 0o600
    again.remove(make_pair(1)[0].signer)
    assert EvidenceFile(path).pairs == [make_pair(2)]


def test_the_file_is_bounded(tmp_path: Path) -> None:
    pairs = [make_pair(number) for number in range(MAX_PAIRS)]
    data = encode_pairs(pairs)
    assert len(data) <= MAX_BYTES and decode_pairs(data) == pairs
    (tmp_path / "evidence").write_bytes(data)
    file = EvidenceFile(tmp_path / "evidence")
    file.add(make_pair(MAX_PAIRS))
    assert len(file.pairs) == MAX_PAIRS
    with pytest.raises(InvalidEncoding):
        decode_pairs(encode_pairs([*pairs, make_pair(MAX_PAIRS)]))


def test_what_is_no_evidence_is_refused_and_a_peer_starts_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = encode_pairs([make_pair(1)])
    (first, _), (_, other) = make_pair(1), make_pair(2)
    for bad in (b"", b"\xff" * 10, good[:-1], encode([2, []]), encode([1, [[]]]), encode_pairs([(first, other)]),
                encode_pairs([make_pair(1)]).replace(bytes([2]) * 65, bytes([2]) * 65, 1)[:-3]):  # fmt: skip
        with pytest.raises(InvalidEncoding):
            decode_pairs(bad)
        (tmp_path / "evidence").write_bytes(bad)
        assert EvidenceFile(tmp_path / "evidence").pairs == []
    assert "version 2" in caplog.text
    wrong = make_pair(1)[0]
    with pytest.raises(InvalidEncoding, match="seven fields"):
        decode_pairs(encode([1, [[[9, *[wrong.height, 1, b"", 0, b"", b""]]] * 2]]))
