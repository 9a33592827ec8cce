import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from app_support import BAD_SCORE, KEYS, Played, Script, certify, make_genesis, play, small_document

from flock_chain.aggregation import Format
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import keccak256
from flock_chain.errors import Misuse, Unavailable
from flock_chain.execution import records
from flock_chain.execution.executor import Executor
from flock_p2p.verify import VerifyReport, format_report, verify_home
from flock_p2p.verify.chain import replay
from flock_p2p.verify.tasks import check_tasks
from flock_peers.home import Home
from flock_peers.store.blob_reader import BlobReader
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.chain_store import ChainStore

_KEPT: list[TemporaryDirectory[str]] = []


def folder() -> Path:
    _KEPT.append(TemporaryDirectory(prefix="flock-verify-"))
    return Path(_KEPT[-1].name)


def quiet(_what: str, _done: int, _total: int) -> None:
    pass


@lru_cache(maxsize=1)
def honest() -> Played:
    """Round 1: seat 2 is rejected by loss, the candidate adopted. Round 2: seat 2 loses bond by its norm, nothing is
    adopted."""
    return play(
        folder() / "home",
        Script(
            scale=lambda number, seat: 0.05 if (number, seat) == (2, 2) else 0.01,
            score=lambda number, seat: BAD_SCORE if (number, seat) == (1, 2) else -1_000 * (seat + 1),
            adopt=lambda number, before, candidate: candidate if number == 1 else before,
            says=((2, 0b100, 0),),
        ),
    )


@lru_cache(maxsize=1)
def replayed() -> Executor:
    report = VerifyReport("")
    with ChainStore(honest().home / "chain", read_only=True) as stored:
        executor = replay(honest().genesis, stored, report, quiet)
    assert report.ok, report.failures
    return executor


def copy(path: Path) -> Path:
    shutil.copytree(honest().home, path, ignore=shutil.ignore_patterns("control.sock"))
    return path


def check_blobs(home: Path) -> VerifyReport:
    """The rounds alone, on the replayed chain: what a full verification finds in the blobs."""
    report = VerifyReport(str(home))
    check_tasks(replayed(), BlobReader(home / "blobs"), report, quiet)
    return report


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def snapshot(home: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in home.rglob("*") if path.is_file()}


# ---- what is in order


def test_a_task_in_four_bits_is_recomputed_from_its_packed_proposals(tmp_path: Path) -> None:
    document = replace(small_document(), format=Format.of_bits(4))
    report = verify_home(play(tmp_path / "home", Script(rounds=1), document=document).home)
    assert report.ok and not report.could_not_check and report.proposals == 3, format_report(report)
    assert report.adapters[-1].origin == "recomputed from 3 accepted proposals"


def test_a_task_with_a_server_rate_is_recomputed_with_it(tmp_path: Path) -> None:
    document = replace(small_document(), format=Format(server_lr_thousandths=2_000))
    played = play(tmp_path / "home", Script(rounds=1), document=document)
    report = verify_home(played.home)
    assert report.ok and report.adapters[-1].origin == "recomputed from 3 accepted proposals", format_report(report)


def test_an_honest_home_verifies_and_is_not_changed_by_it() -> None:
    before, seen = snapshot(honest().home), []
    report = verify_home(honest().home, lambda what, done, total: seen.append((what, done, total)))
    assert report.ok and not report.could_not_check and not report.remarks, format_report(report)
    assert (report.rounds, report.proposals, report.blocks) == (2, 6, honest().head)
    origins = [row.origin for row in report.adapters]
    assert origins[:2] == ["computed from the document", "recomputed from 2 accepted proposals"]
    assert origins[2].startswith("the previous one: the voters did not adopt the candidate")
    assert ("blocks", honest().head, honest().head) in seen and ("task 1 rounds", 2, 2) in seen
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    assert "OK: every block" in format_report(report)
    assert snapshot(honest().home) == before


def test_verification_needs_neither_torch_nor_libp2p() -> None:
    code = "import sys, flock_p2p.verify; print({'torch', 'transformers', 'libp2p'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_a_running_peers_home_is_refused() -> None:
    with Home(honest().home).lock(), pytest.raises(Unavailable, match="stop that one first"):
        verify_home(honest().home)


def test_a_folder_that_is_no_home_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="no genesis document here"):
        verify_home(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_home_without_a_chain_says_so(tmp_path: Path) -> None:
    shutil.copy(honest().home / "genesis.json", tmp_path)
    with pytest.raises(Unavailable, match="no chain here yet"):
        verify_home(tmp_path)


# ---- damaged blobs


def test_one_flipped_byte_in_a_stored_proposal_fails_and_names_file_round_and_account(tmp_path: Path) -> None:
    home = copy(tmp_path / "home")
    path = home / honest().delta_path(2, 1).relative_to(honest().home)
    flip(path, 100)
    report = verify_home(home)
    (failure,) = report.failures
    assert str(path) in failure and "round 2" in failure and honest().proposers[2][1].hex() in failure
    assert "chunk 0 of 1" in failure
    assert any("adapter was not recomputed" in text for text in report.could_not_check)
    assert path.exists()


@pytest.mark.parametrize("seat", [0, 2])
def test_a_damaged_manifest_fails_whether_its_proposal_was_accepted_or_not(tmp_path: Path, seat: int) -> None:
    home = copy(tmp_path / "home")
    path = home / honest().manifest_path(1, seat).relative_to(honest().home)
    flip(path)
    (failure,) = check_blobs(home).failures
    assert str(path) in failure and "round 1" in failure and honest().proposers[1][seat].hex() in failure


def test_a_damaged_global_adapter_or_document_fails(tmp_path: Path) -> None:
    home = copy(tmp_path / "home")
    path = home / "blobs" / "files" / honest().adapters[1].hex()
    flip(path)
    report = check_blobs(home)
    assert len(report.failures) == 1 and str(path) in report.failures[0]
    flip(path)
    document: bytes = replayed().view("TaskBoard", "task_view", 1)["document"]  # type: ignore[index]
    flip(home / "blobs" / "objects" / document.hex())
    assert "document" in check_blobs(home).failures[0]


# ---- missing blobs


def test_a_rejected_proposal_that_is_gone_could_not_be_checked_and_does_not_fail(tmp_path: Path) -> None:
    home = copy(tmp_path / "home")
    (home / honest().delta_path(1, 2).relative_to(honest().home)).unlink()
    report = check_blobs(home)
    assert report.ok and report.proposals == 5
    assert any(
        "round 1" in text and honest().proposers[1][2].hex() in text and "REJECTED_LOSS" in text
        for text in report.could_not_check
    )
    assert report.adapters[1].origin == "recomputed from 2 accepted proposals"
    assert "2 things could not be checked" in format_report(report)


def test_without_an_accepted_proposal_later_rounds_go_on_from_the_stored_adapter(tmp_path: Path) -> None:
    home = copy(tmp_path / "home")
    (home / honest().manifest_path(1, 0).relative_to(honest().home)).unlink()
    report = check_blobs(home)
    assert report.ok
    assert any("round 1: its adapter was not recomputed" in text for text in report.could_not_check)
    assert [row.origin.split(":")[0] for row in report.adapters[1:]] == ["not recomputed", "the previous one"]


def test_a_peer_that_took_no_part_verifies_the_chain_and_the_tallies(tmp_path: Path) -> None:
    BlobStore(tmp_path / "blobs")
    report = check_blobs(tmp_path)
    assert report.ok and report.rounds == 2 and report.proposals == 0
    assert "its document is not stored here" in report.could_not_check[0]


# ---- a chain that is not the network's


def tamper(home: Path, change: dict[bytes, bytes | None]) -> None:
    with ChainStore(home / "chain") as store:
        store.commit(change)


@pytest.mark.parametrize(
    ("part", "message"),
    [("body", "block 2: "), ("state_root", "block 2: block: state_root"), ("gone", "block 2 is not stored")],
)
def test_a_tampered_block_fails_by_its_height(tmp_path: Path, part: str, message: str) -> None:
    home = copy(tmp_path / "home")
    with ChainStore(home / "chain", read_only=True) as store:
        data = records.read_block_bytes(store, 2)
        block = records.read_block(store, 2)
        key = records.block_key(block.id)
    assert data is not None
    changed = {
        "body": data[:-1] + bytes([data[-1] ^ 1]),
        "state_root": data.replace(block.state_root, keccak256(b"other")),
        "gone": None,
    }[part]
    tamper(home, {key: changed})
    report = verify_home(home)
    assert any(text.startswith(message) for text in report.failures), report.failures
    assert report.blocks == 1 and "FAILED" in format_report(report)


def test_tampered_certificates_state_and_receipts_fail_each_by_name(tmp_path: Path) -> None:
    home, genesis = copy(tmp_path / "home"), honest().genesis
    validators = ValidatorSet(tuple((row.account, row.stake) for row in genesis.validators))
    domain = ChainDomain(genesis.chain_id, genesis.hash)
    with ChainStore(home / "chain", read_only=True) as store:
        ids = [records.read_block(store, height).id for height in range(6)]
        state_root = records.read_block(store, 6).state_root
    other = ChainDomain(genesis.chain_id, bytes(32))
    tamper(
        home,
        {
            records.certificate_key(1): certify(validators, domain, 1, ids[1], signers=4),
            records.certificate_key(2): certify(validators, domain, 2, ids[3]),
            records.certificate_key(3): None,
            records.certificate_key(4): certify(validators, other, 4, ids[4]),
            records.certificate_key(5): b"no certificate",
            state_root: b"another node",
            records.receipts_key(ids[2]): b"",
        },
    )
    report = verify_home(home)
    text = "\n".join(report.failures)
    for expected in (
        "block 1: certificate: weight",
        "block 2: certificate: does not finalize this block",
        "block 3: no finality certificate",
        "block 4: FINALIZE vote of height 4: signed by another account",
        "block 5: ",
        f"state: state node {state_root.hex()}",
        f"state: the receipts of a block ({ids[2].hex()})",
    ):
        assert expected in text
    assert len(report.failures) == 7


def test_another_head_or_another_genesis_document_fails(tmp_path: Path) -> None:
    home = copy(tmp_path / "home")
    with ChainStore(home / "chain", read_only=True) as store:
        second = records.read_block(store, 2).id
    tamper(home, {records.HEAD: second})
    assert verify_home(home).failures == ["chain: the home stores a block 3 above its head"]
    genesis = make_genesis("another network")
    (home / "genesis.json").write_bytes(genesis.encode())
    failures = verify_home(home).failures
    assert "the stored chain begins with document" in failures[0]
    flip(home / "genesis.json", 5)
    report = verify_home(home)
    assert "genesis.json" in report.failures[0] and not report.blocks and "FAILED" in format_report(report)


# ---- creators who lie


def test_a_creators_wrong_first_adapter_is_no_fault_of_the_home(tmp_path: Path) -> None:
    played = play(tmp_path / "home", Script(rounds=1, later=((None, keccak256(b"not the document's")),)))
    report = verify_home(played.home)
    assert report.ok and not report.is_complete, report.failures
    assert "task 2: its round-0 adapter is not the one that its document describes: its creator's fault" in (
        "\n".join(report.could_not_check)
    )


# ---- voters who lie


def test_what_two_thirds_of_dishonest_voters_decided_fails_by_name(tmp_path: Path) -> None:
    """They call a good proposal invalid, overlook a norm, and adopt an adapter that follows from nothing."""
    junk = keccak256(b"an adapter of their own")
    played = play(
        tmp_path / "home",
        Script(
            rounds=1,
            scale=lambda _number, seat: 0.05 if seat == 1 else 0.01,
            filters=lambda _number, exact: [0 for _ in exact],
            adopt=lambda _number, _before, _candidate: junk,
            invalid=lambda _number: 1,
        ),
    )
    report = verify_home(played.home)
    slandered, loud = (played.proposers[1][seat].hex() for seat in (0, 1))
    text = "\n".join(report.failures)
    assert f"0x{slandered}: rejected as invalid bytes, but it is well formed" in text
    assert f"filters of 0x{loud}: exact is norm, the voters decided nothing" in text
    assert "round 1: the voters adopted bafkrei" in text and "its accepted proposals give bafkrei" in text
    assert len(report.failures) == 3
    assert report.adapters[1].origin.startswith("WRONG")
    assert f"accusation of 0x{slandered}: false; its bond is its own" in "\n".join(report.remarks)
    assert len(report.remarks) == 4 and len(KEYS) == 6  # each of the three voters reported no norm


def test_a_conviction_that_the_proposals_do_not_bear_out_fails_by_name(tmp_path: Path) -> None:
    """All seats and all stake lie about a good norm, and let a bad one go."""
    played = play(
        tmp_path / "home",
        Script(
            rounds=1,
            scale=lambda _number, seat: 0.05 if seat == 1 else 0.01,
            filters=lambda _number, _exact: [3, 3, 0],
            says=((1, 0b001, 0b010),),
        ),
    )
    report = verify_home(played.home)
    slandered, loud = (played.proposers[1][seat].hex() for seat in (0, 1))
    text = "\n".join(report.failures)
    assert f"accusation of 0x{slandered}: it lost a part of its bond, but the accusation is false" in text
    assert f"accusation of 0x{loud}: true, but not confirmed in time" in "\n".join(report.remarks)


def test_a_round_that_gave_up_its_adapter_goes_on_from_the_one_before(tmp_path: Path) -> None:
    played = play(tmp_path / "home", Script(rounds=3, lost=lambda number: number == 2))
    report = verify_home(played.home)
    assert report.ok and not report.could_not_check, format_report(report)
    assert played.adapters[2] == played.adapters[0] != played.adapters[1]
    origins = [row.origin for row in report.adapters]
    assert origins[2] == "the one before: two thirds of the stake could not get it"
    assert origins[3].startswith("recomputed from ")


def test_rounds_by_the_paper_s_rule_are_recomputed_from_the_votes(tmp_path: Path) -> None:
    """The second aggregate is rejected by all voters."""
    script = Script(
        terms={"voting_rule": 1, "rule_slash": 500},
        adopt=lambda number, before, after: after if number == 1 else before,
    )
    played = play(tmp_path / "home", script)
    report = verify_home(played.home)
    assert report.ok and not report.could_not_check, format_report(report)
    origins = [row.origin for row in report.adapters]
    assert origins[1] == "recomputed from 3 accepted proposals"
    assert origins[2] == "the previous one: no proposal was accepted"
    assert played.adapters[2] == played.adapters[1] != played.adapters[0]


def test_an_aggregate_that_follows_from_nothing_fails_though_its_voters_named_it(tmp_path: Path) -> None:
    junk = keccak256(b"an adapter of their own")
    script = Script(rounds=1, terms={"voting_rule": 1}, adopt=lambda _number, _before, _after: junk)
    report = verify_home(play(tmp_path / "home", script).home)
    assert [text for text in report.failures if "the voters adopted bafkrei" in text] == report.failures != []
