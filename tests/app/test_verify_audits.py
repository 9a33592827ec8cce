"""What audits take out of the global adapter: the same for a peer, for `verify`, and as if it had never been there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio
from app_support import Played, Script, play, small_document

from flock_chain.execution.executor import Executor
from flock_p2p.verify import verify_home
from flock_p2p.verify.chain import replay
from flock_p2p.verify.report import VerifyReport, format_report
from flock_peers.contents import Contents
from flock_peers.roles.library import Library
from flock_peers.roles.removal import Removal
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.chain_store import ChainStore

TERMS = {"audit_rounds": 1, "proposers": 2, "min_participants": 4, "audit_slash": 5_000}


def guilty_of(audit: int, played: Played) -> Sequence[bytes]:
    """After the first round, and again after the second, everybody names the first round's first proposer."""
    return [played.proposers[1][0]] if audit in (1, 2) else []


def game(path: Path, rounds: int = 2, **changes: Any) -> Played:
    return play(path, Script(rounds=rounds, terms=TERMS, blames=guilty_of, **changes))


def quiet(_what: str, _done: int, _total: int) -> None:
    pass


class Views:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def view(self, contract: str, function: str, *args: Any, height: int | None = None) -> Any:
        await trio.lowlevel.checkpoint()
        return self._executor.view(contract, function, *args, height=height)


def bases(played: Played, rounds: Sequence[int]) -> list[bytes]:
    """What a peer that comes late computes from the chain and its proposals."""
    found = []

    async def compute() -> None:
        with ChainStore(played.home / "chain", read_only=True) as stored:
            executor = replay(played.genesis, stored, VerifyReport("late"), quiet)
            store = BlobStore(played.home / "blobs")
            contents = Contents(store, None)  # type: ignore[arg-type]
            library = Library(1, small_document(), played.genesis.hash, contents, contents)
            removal = Removal(library, Views(executor))
            for number in rounds:
                found.append(await removal.compute_base(number, played.adapters[number - 1]))

    trio.run(compute)
    return found


def test_what_an_audit_found_guilty_is_out_from_the_next_round_on_and_verify_recomputes_it(tmp_path: Path) -> None:
    played = game(tmp_path / "home", 3)
    report = verify_home(played.home)
    assert report.ok and not report.could_not_check, format_report(report)
    origins = [row.origin for row in report.adapters]
    assert "less" not in origins[1] + origins[3] and not report.remarks
    assert origins[2].endswith(", less 1 contributions that audits found guilty")
    *after, again = bases(played, [1, 2, 3, 2])
    assert again == after[1]  # asked for a round whose adoption is known by now
    assert [base == before for base, before in zip(after, played.adapters, strict=False)] == [True, False, True]


def test_what_was_found_guilty_after_the_last_round_is_said_to_be_still_in_the_adapter(tmp_path: Path) -> None:
    played = game(tmp_path / "home", 1)
    report = verify_home(played.home)
    wanted = "task 1: its current adapter still contains what audits found guilty since: round 1 proposer 0"
    assert report.ok and report.remarks == [wanted], format_report(report)


def test_voters_that_do_not_want_the_round_s_proposals_still_take_the_guilty_s_out(tmp_path: Path) -> None:
    taken: list[bytes] = []

    def adopt(number: int, _before: bytes, candidate: bytes) -> bytes:
        return taken[0] if number == 2 and taken else candidate

    first = game(tmp_path / "first")
    taken += bases(first, [2])
    store = BlobStore(first.home / "blobs")
    path = store.file_path(taken[0])
    assert path is not None
    played = game(tmp_path / "second", adopt=adopt)
    assert played.adapters[2] == taken[0]
    report = verify_home(played.home)
    origins = [row.origin for row in report.adapters]
    assert origins[2].startswith("the previous one, less "), format_report(report)
    assert not [text for text in report.failures if "round 2" in text], format_report(report)


def test_an_adapter_that_keeps_what_was_found_guilty_fails_by_name(tmp_path: Path) -> None:
    kept = game(tmp_path / "kept", forgets=True)
    failures = "\n".join(verify_home(kept.home).failures)
    assert "task 1 round 2: the voters adopted" in failures
