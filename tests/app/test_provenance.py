"""What proves an exported adapter to somebody who has neither the home nor the network; and what is no proof."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from app_support import CHAIN_ID, KEYS, certify
from provenance_support import copy, exported, flip, folder, played, proof, read_document, write

from flock_chain import ecvrf
from flock_chain.consensus.digest import ChainDomain, make_domain
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.content import format_cid
from flock_chain.crypto import Account, keccak256
from flock_chain.errors import InvalidEncoding, Misuse, Unavailable
from flock_chain.execution import records
from flock_chain.execution.blocks import decode_header
from flock_chain.execution.executor import Executor
from flock_chain.restart import Restart
from flock_p2p.cli import main
from flock_p2p.provenance import (
    FILE_NAME,
    GLOBAL_NAME,
    Provenance,
    check_provenance,
    collect_provenance,
    format_provenance,
)
from flock_p2p.provenance.document import decode_provenance, describe_file
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.base_manifest import BaseFile
from flock_peers.training.document import decode_document

# ---- what is in order


def test_a_folder_proves_itself_to_who_knows_the_genesis_hash_alone() -> None:
    report = check_provenance(exported(), played().genesis.hash.hex())
    assert report.ok and report.is_pinned, format_provenance(report)
    assert report.adapter == format_cid(played().adapters[2]) and (report.task, report.round) == (1, 2)
    assert report.height == played().head and len(report.checked) == 4 and len(report.could_not_check) == 1
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    assert "OK: this network's voters" in format_provenance(report)


def test_the_sets_of_later_epochs_are_proven_one_from_the_other_and_no_more_blocks_than_that_needs() -> None:
    """The set changes at the end of an epoch or more: those blocks are there, and none of the epochs in between."""
    heights = [decode_header(header).height for header, _ in proof().blocks]
    assert len(heights) >= 2 and heights[-1] == played().head
    assert len(heights) < played().head // 5


def test_what_leads_there_is_told_round_by_round() -> None:
    assert [row.adapter for row in proof().rounds] == played().adapters[1:]
    assert [row.proposer for row in proof().rounds[0].proposals] == played().proposers[1]
    assert [row.loss_change_ppm for row in proof().rounds[0].proposals] == [-1000, -2000, -3000]


def test_the_command_needs_neither_home_nor_torch_nor_libp2p_and_says_1_where_it_does_not_hold(tmp_path: Path) -> None:
    out = copy(tmp_path)
    code = (
        "import sys\nfrom flock_p2p.cli import main\n"
        f"code = main(['verify', '--provenance', {str(out)!r}, '--json'])\n"
        "print(code, {'torch', 'transformers', 'libp2p'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip().endswith("0 set()"), done
    flip(out / GLOBAL_NAME, -1)
    assert main(["verify", "--provenance", str(out / FILE_NAME)]) == 1


def test_the_file_alone_proves_the_adapters_name_and_says_what_it_could_not_check(tmp_path: Path) -> None:
    shutil.copy(exported() / FILE_NAME, tmp_path)
    report = check_provenance(tmp_path / FILE_NAME)
    assert report.ok and not report.is_pinned
    assert any("adapter_model.safetensors" in text for text in report.could_not_check)
    assert any(text.startswith("the weights") for text in report.could_not_check)


def test_a_path_without_a_proof_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"name an exported folder, or the provenance\.json in it"):
        check_provenance(tmp_path)


# ---- a network that was restarted


def serving(executor: Executor) -> ValidatorSet:
    return ValidatorSet(tuple((row.account, row.weight) for row in executor.served().rows))


def go_on(executor: Executor, store: ChainStore, domain: ChainDomain, signers: int) -> None:
    """One more block, final by the votes of the first few."""
    head, leader, validators = executor.head, KEYS[0], serving(executor)
    candidate = executor.execute(
        head, [], timestamp=head.timestamp + 1,
        proposer=leader.account, strict=True,
        vrf_proof=ecvrf.prove(ecvrf.derive_seed(leader), executor.vrf_alpha(head)),
    )  # fmt: skip
    seal = certify(validators, domain, candidate.block.height, candidate.block.id, signers)
    store.commit({**candidate.writes, records.certificate_key(candidate.block.height): seal})
    executor.advance(candidate)


def collect(store: ChainStore, *restarts: Restart) -> Provenance:
    return collect_provenance(
        played().genesis, store, task=1, round=2, adapter=played().adapters[2], document=read_document(),
        restarts=restarts,
    )  # fmt: skip


def restart_of(executor: Executor, keep: tuple[Account, ...]) -> Restart:
    return Restart(bytes(played().genesis.hash), executor.head.height, bytes(executor.head.id), keep)


@lru_cache(maxsize=1)
def restarted() -> tuple[Restart, Provenance]:
    """Three of six go on after the last block, over the ends of two epochs."""
    genesis, home = played().genesis, folder() / "home"
    shutil.copytree(played().home, home)
    with ChainStore(home / "chain") as store:
        keep = tuple(sorted(key.account for key in KEYS[:3]))
        restart = restart_of(Executor(genesis, store), keep)
        executor, domain = Executor(genesis, store, restarts=(restart,)), make_domain(genesis, (restart,))
        for _ in range(12):
            assert set(serving(executor).accounts) <= set(keep)
            go_on(executor, store, domain, 3)
        return restart, collect(store, restart)


def test_after_a_restart_the_proof_holds_for_who_trusts_its_document_too(tmp_path: Path) -> None:
    out, (restart, found) = copy(tmp_path), restarted()
    write(out, found)
    genesis, agreed = played().genesis.hash.hex(), restart.hash.hex()
    report = check_provenance(out, genesis, [agreed])
    assert report.ok and report.height == restart.height + 12, format_provenance(report)
    assert check_provenance(out).ok and agreed in format_provenance(check_provenance(out))
    assert main(["verify", "--provenance", str(out), "--genesis", genesis, "--restart", "0x" + agreed.upper()]) == 0
    for named in ([], ["ab" * 32]):
        (failure,) = check_provenance(out, genesis, named).failures
        assert agreed in failure and "no quorum signed" in failure
    assert json.loads((out / FILE_NAME).read_bytes())["format"] == 2
    heights = [decode_header(header).height for header, _ in found.blocks]
    assert heights[-2:] == [restart.height, restart.height + 12]  # whom it leaves, the restart alone says
    assert json.loads(proof().encode())["format"] == 1  # of a network without restarts nothing has changed


def test_a_restart_document_of_others_proves_nothing_they_did_not_sign(tmp_path: Path) -> None:
    out, (restart, found) = copy(tmp_path), restarted()
    others = sorted(set(later_set().accounts) - set(restart.keep))
    lies = {
        "not signed by a set that is proven here": [
            (),
            (replace(restart, keep=tuple(others)),),
            (replace(restart, height=restart.height - 1),),
        ],
        "is another one there": [(replace(restart, block_id=bytes(32)),)],
        "its block is not here": [(restart, replace(restart, height=restart.height + 99))],
        "of another network": [(replace(restart, genesis_hash=bytes(32)),)],
        "is not in the set": [(replace(restart, keep=(Account(bytes(20)),)),)],
    }
    for words, rows in lies.items():
        for documents in rows:
            write(out, replace(found, restarts=documents))
            (failure,) = check_provenance(out).failures
            assert words in failure, failure


def test_a_restart_after_the_last_block_is_no_part_of_the_proof() -> None:
    (restart, _), document, expected = restarted(), read_document(), proof()
    with ChainStore(played().home / "chain", read_only=True) as stored:
        found = collect_provenance(
            played().genesis, stored, task=1, round=2, adapter=played().adapters[2], document=document,
            restarts=(restart,),
        )  # fmt: skip
    assert found == expected


# ---- lies in good form


def genesis_set() -> ValidatorSet:
    return ValidatorSet(tuple((row.account, row.stake) for row in played().genesis.validators))


def later_set() -> ValidatorSet:
    with ChainStore(played().home / "chain", read_only=True) as stored:
        return ValidatorSet(
            tuple((row.account, row.weight) for row in Executor(played().genesis, stored).served().rows)
        )


def certify_again(
    changed: Provenance, index: int, signers: int, domain: ChainDomain, validators: ValidatorSet
) -> Provenance:
    header = decode_header(changed.blocks[index][0])
    seal = certify(validators, domain, header.height, header.id, signers=signers)
    blocks = (*changed.blocks[:index], (header.encoded, seal), *changed.blocks[index + 1 :])
    return replace(changed, blocks=blocks)


def test_blocks_that_too_few_or_others_signed_prove_nothing(tmp_path: Path) -> None:
    out, genesis = copy(tmp_path), played().genesis
    domain = ChainDomain(CHAIN_ID, genesis.hash)
    write(out, certify_again(proof(), 0, 5, domain, genesis_set()))
    assert check_provenance(out).ok
    for signers, other in ((4, domain), (5, ChainDomain(CHAIN_ID, bytes(32)))):
        write(out, certify_again(proof(), 0, signers, other, genesis_set()))
        (failure,) = check_provenance(out).failures
        assert "not signed by a set that is proven here" in failure


def test_without_the_blocks_between_the_later_set_is_unknown(tmp_path: Path) -> None:
    """Four signers are a quorum of the later set, and were none of the first one."""
    out, domain = copy(tmp_path), ChainDomain(CHAIN_ID, played().genesis.hash)
    later = certify_again(proof(), len(proof().blocks) - 1, 4, domain, later_set())
    write(out, later)
    assert check_provenance(out).ok
    write(out, replace(later, blocks=later.blocks[-1:]))
    (failure,) = check_provenance(out).failures
    assert f"block {played().head}: not signed by a set that is proven here" in failure
    write(out, replace(proof(), blocks=()))
    assert "no block, so nothing is proven" in check_provenance(out).failures[0]
    write(out, replace(proof(), blocks=(proof().blocks[0], *proof().blocks)))
    assert "not above the one before it" in check_provenance(out).failures[0]


def lie_of_loss(whole: Provenance) -> Provenance:
    first = whole.rounds[0]
    proposals = (replace(first.proposals[0], loss_change_ppm=-999_999), *first.proposals[1:])
    return replace(whole, rounds=(replace(first, proposals=proposals), *whole.rounds[1:]))


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lie_of_loss, "task 1 round 1: what is told of it is not what the chain says"),
        (lambda whole: replace(whole, adapter=bytes(32)), "the chain's adapter after round 2 is"),
        (lambda whole: replace(whole, round=1, rounds=whole.rounds[:1]), "the chain's adapter after round 1 is"),
        (lambda whole: replace(whole, rounds=whole.rounds[:1]), "1 round told of, 2 lead to it"),
        (lambda whole: replace(whole, round=1 << 40), "2 rounds told of, 1099511627776 lead to it"),
        (lambda whole: replace(whole, task=2), "proof: "),
        (lambda whole: replace(whole, rows=whole.rows[1:]), "of the state is missing"),
        (lambda whole: replace(whole, rows=tuple(sorted((*whole.rows, b"junk"), key=keccak256))), "needed by nothing"),
        (
            lambda whole: replace(
                whole,
                document=replace(
                    decode_document(whole.document), base_files=(BaseFile("config.json", 3, bytes(32)),)
                ).encode(),
            ),
            "the task document is not the one whose content id is on chain",
        ),
    ],
)
def test_a_lie_is_named(tmp_path: Path, lie: Callable[[Provenance], Provenance], message: str) -> None:
    out = copy(tmp_path)
    write(out, lie(proof()))
    failures = check_provenance(out).failures
    assert len(failures) == 1 and message in failures[0], failures


def test_another_network_is_named_where_the_genesis_hash_is_pinned() -> None:
    report = check_provenance(exported(), keccak256(b"another").hex())
    assert not report.ok and "genesis: this adapter is of the network" in report.failures[0]
    assert "(not the one you named)" in format_provenance(report) and report.is_pinned is False


def test_a_file_name_that_leads_elsewhere_is_refused() -> None:
    changed = replace(proof(), files=(replace(describe_file(exported() / "README.md"), name="../README.md"),))
    with pytest.raises(InvalidEncoding, match="not the name of a file beside this one"):
        decode_provenance(changed.encode())


def test_a_home_without_a_certificate_that_the_proof_needs_says_so() -> None:
    home = folder() / "home"
    shutil.copytree(played().home, home, ignore=shutil.ignore_patterns("control.sock"))
    with ChainStore(home / "chain") as store:
        store.commit({records.certificate_key(played().head): None})
    document = read_document()
    with ChainStore(home / "chain", read_only=True) as stored, pytest.raises(Unavailable, match="certificate of block"):
        collect_provenance(played().genesis, stored, task=1, round=2, adapter=played().adapters[2], document=document)
