"""A proof from somebody who made up a network, its state and its only validator's votes: refused in words."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from fuzz_provenance import OWNER, believe, make_proof

from flock_chain import canonical_json
from flock_chain.consensus.certificates import make_certificate, verify_finality
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import Certificate, Kind
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_certificate
from flock_chain.crypto import Account, Key, keccak256, recover
from flock_chain.errors import InvalidContent, InvalidEncoding
from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.blocks import decode_header
from flock_contracts.loader import load
from flock_p2p.provenance import FILE_NAME, ProvenanceReport, check_provenance, format_provenance, known_sets
from flock_p2p.provenance.check import check_files
from flock_p2p.provenance.document import FileRow, decode_provenance
from flock_p2p.provenance.known_sets import MAX_SETS, KnownSets, find_steps
from flock_p2p.provenance.rounds import read_rounds

_ENDLESS = bytes.fromhex("5f5f5f5f5f305af1")  # calls itself, with all of its gas


def check(made: bytes, path: Path) -> ProvenanceReport:
    """Put together and signed, as whoever made it up can: every row under its own hash."""
    (path / FILE_NAME).write_bytes(believe(made))
    return check_provenance(path / FILE_NAME)


def with_code(contract: str, code: bytes) -> bytes:
    """Where the genesis document's contract should be."""
    value = json.loads(make_proof().encode())
    old, new = keccak256(load(contract).runtime).hex(), keccak256(code).hex()
    value["rows"] = {key: row.replace(old, new) for key, row in value["rows"].items()} | {new: code.hex()}
    return canonical_json.encode(value)


def with_long_path() -> bytes:
    """Branches below branches, as many as a key has digits and one more."""
    proof, rows, child = make_proof(), [], bytes(32)
    for _ in range(65):
        rows.append(rlp.encode([*[child] * 16, b""]))
        child = keccak256(rows[-1])
    blocks = [(replace(decode_header(header), state_root=child).encoded, seal) for header, seal in proof.blocks]
    return replace(proof, rows=tuple(sorted(rows, key=keccak256)), blocks=tuple(blocks)).encode()


def with_stake(stake: bytes) -> bytes:
    proof = make_proof()
    return replace(proof, genesis=proof.genesis.replace(b'"32000000000000000000"', stake)).encode()


def test_what_is_made_up_well_is_told_apart_by_its_genesis_hash_alone(tmp_path: Path) -> None:
    assert check(make_proof().encode(), tmp_path).ok
    assert not check_provenance(tmp_path / FILE_NAME, "ab" * 32).ok


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: with_code("TaskBoard", _ENDLESS), "none that the genesis document pins"),
        (lambda: with_code("Stake", b"\x5f\x5f\xf3"), "none that the genesis document pins"),
        (with_long_path, "longer than its key"),
        (lambda: with_stake(b'"0"'), "a weight is positive"),
    ],
    ids=["code that calls itself", "code that answers nothing", "a path without end", "nobody's stake"],
)
def test_a_made_up_state_is_refused_with_its_reason(tmp_path: Path, make: Callable[[], bytes], words: str) -> None:
    (failure,) = check(make(), tmp_path).failures
    assert words in failure


def test_numbers_in_a_made_up_state_that_fit_no_type_are_its_makers_fault(tmp_path: Path) -> None:
    """Accounts in the contracts' slots, of 32 bytes instead of 20."""
    value = json.loads(make_proof().encode())
    leaves = {key: rlp.decode(bytes.fromhex(row)) for key, row in value["rows"].items()}
    accounts = {key: leaf for key, leaf in leaves.items() if leaf[1] == rlp.encode(bytes(OWNER))}
    assert accounts
    for key, (path, _) in accounts.items():
        huge = rlp.encode([path, rlp.encode((1 << 256) - 1)]).hex()
        (failure,) = check(canonical_json.encode(value | {"rows": value["rows"] | {key: huge}}), tmp_path).failures
        assert "bytes that do not fit the ABI" in failure


def test_a_verdict_that_there_is_not_is_no_verdict() -> None:
    row = {"settled": True, "adapter_after": bytes(32), "proposers": [bytes(20)], "manifests": [bytes(32)],
           "verdicts": [77], "medians": [0]}  # fmt: skip
    views = {"task_view": {"adapter0": bytes(32), "document": bytes(32)}, "round_result": row}
    state = SimpleNamespace(view=lambda _contract, function, *_arguments: views[function])
    with pytest.raises(InvalidContent, match="task 1 round 1: the chain says"):
        read_rounds(state, 1, 1)


def test_a_block_that_nobody_signed_is_recovered_once_however_many_sets_were_made_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each set agrees with its signers but for the last; tried one by one, 1,000 of them took 3,000 recoveries."""
    keys, header = [Key(bytes([n]) * 32) for n in (1, 2, 3, 4)], decode_header(make_proof().blocks[0][0])
    domain, calls = ChainDomain(1, bytes(32)), []
    votes = [Signer(own, domain).sign(Kind.FINALIZE, header.height, 1, header.id)[0] for own in keys[:3]]
    signed = ValidatorSet(tuple((own.account, 1) for own in keys))
    certificate = make_certificate(
        Kind.FINALIZE, header.height, 1, header.id, {vote.signer: vote.signature for vote in votes}, signed
    )

    def count(digest: bytes, signature: bytes) -> Account:
        calls.append(signature)
        return recover(digest, signature)

    asked: list[ValidatorSet] = []

    def verify(certificate: Certificate, **arguments: Any) -> None:
        asked.append(arguments["validators"])
        verify_finality(certificate, **arguments)

    monkeypatch.setattr(known_sets, "verify_finality", verify)
    known = KnownSets(count)
    for number in range(1_000):
        other = Account(number.to_bytes(20, "big"))
        for _ in range(2):  # the same one twice is one
            known.add([*((own.account, 1) for own in keys[:2]), (other, 1), (keys[3].account, 1)])
    with pytest.raises(InvalidContent, match="not signed by a set that is proven here"):
        known.check_finality(header, encode_certificate(certificate), domain)
    assert len(calls) == 3 and len(known) == MAX_SETS and len(asked) == 1  # the others name somebody else, too
    known.add(signed.rows)
    for number in range(MAX_SETS - 1):  # now it is the oldest
        known.add([*((own.account, 1) for own in keys[:2]), (Account(number.to_bytes(20, "big")), 1)])
    known.check_finality(header, encode_certificate(certificate), domain)
    assert asked[-1] == signed


def test_the_sets_that_are_forgotten_are_those_that_were_named_the_longest_ago() -> None:
    sets = [((Account(number.to_bytes(20, "big")), 1),) for number in range(MAX_SETS + 1)]
    known = KnownSets()
    for rows in (*sets[:-1], sets[0], sets[-1]):
        known.add(rows)
    assert sets[0] in known and sets[1] not in known and [row.rows for row in known][:2] == [sets[-1], sets[0]]


def test_no_honest_proof_is_refused_for_a_set_that_its_writer_believes_to_be_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Restarts make sets known, too: who writes a proof forgot them, so whoever checked it had forgotten others."""
    monkeypatch.setattr(known_sets, "MAX_SETS", 4)
    for seed in range(300):
        check_made_up_epochs(Random(seed))


def check_made_up_epochs(chance: Random) -> None:
    """Sets of few members come back often; each epoch names the next two, and after a restart its own goes on."""
    choices = [((Account(bytes([number]) * 20), 1), (Account(bytes(20)), 1)) for number in range(1, 7)]
    serving, following = choices[0], choices[0]
    blocks: list[tuple[int, tuple[known_sets.Rows, known_sets.Rows], bool]] = []
    signed_by: list[known_sets.Rows] = []
    for height in range(60):
        signed_by.append(serving)
        is_restart = chance.random() < 0.3
        if is_restart:
            serving = following = serving[: chance.randint(1, 2)]
        else:
            serving, following = following, chance.choice(choices)
        blocks.append((height, (serving, following), is_restart))
    known = KnownSets()
    known.add(choices[0])
    for height in find_steps(choices[0], blocks):
        assert signed_by[height] in known
        for row in blocks[height][1]:
            known.add(row)
    assert serving in known


@pytest.mark.parametrize("name", ["\x1b[2J", "\ud800", "a\nb", "x" * 256, "é" * 128, ""])
def test_a_name_that_is_unfit_for_a_terminal_or_a_disk_is_no_name_of_a_file(name: str) -> None:
    with pytest.raises(InvalidEncoding, match="not the name of a file"):
        decode_provenance(replace(make_proof(), files=(FileRow(name, 1, bytes(32)),)).encode())


def test_a_terminal_obeys_no_name_of_a_file(tmp_path: Path) -> None:
    """Beside the proof, and not in it."""
    (tmp_path / "\x1b[2J\nOK: all is well").touch()
    report = ProvenanceReport(str(tmp_path))
    check_files(make_proof(), tmp_path, report)
    lines = format_provenance(report).split("\n")
    assert all(line.isprintable() for line in lines) and not any(line.startswith("OK: all") for line in lines)
    assert any("?[2J?OK: all is well: not part of what was exported" in line for line in lines)


def test_a_file_that_cannot_be_read_is_a_failure_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_bytes(b"x")
    monkeypatch.setattr("flock_p2p.provenance.check.describe_file", lambda path: path.with_name("gone").read_bytes())
    report = ProvenanceReport(str(tmp_path))
    check_files(replace(make_proof(), files=(FileRow("README.md", 1, bytes(32)),)), tmp_path, report)
    assert any("gone: cannot be read (No such file" in text for text in report.failures)
