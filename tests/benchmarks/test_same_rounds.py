"""Whom benchmarks/same_rounds.py judges in an audit, for which rounds, and beside which, and whom its voters call
alike: as the auditors and voters of peers do."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import same_rounds
from app_support import KEYS, Game, Script, small_document
from roles_support import DOCUMENT, make_delta
from same_rounds_audits import Auditors, Measurer
from same_rounds_chain import Chain, open_chain
from same_rounds_made import Made
from teacher_support import TARGET, THIN, make_proposals

from flock_chain.aggregation import quantise
from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM, summarise
from flock_chain.crypto import Account, Key
from flock_chain.tally import FILTER_NEAR_DUPLICATE, NORM_BITS
from flock_peers.home import Home
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.training.inspection import OwnView, audit
from flock_peers.training.remembered import Remembered

TERMS = {"audit_rounds": 1, "proposers": 2, "min_participants": 4}
EVERYBODY = {key.account for key in KEYS}
VOID = 2


class SilentOnce(Game):
    """One audit in which one participant alone says something: it does not count."""

    def _blame(self, number: int, audit: Any) -> list[tuple[Key, str, Sequence[Any]]]:
        said = super()._blame(number, audit)
        return said[:1] if audit["number"] == VOID else said


class Guilty(Measurer):
    """Measures nothing: every proposal is worth its author's bond."""

    looked_at = 0

    def measure(self, _who: Any, pairs: Any, *how: Any) -> list[int]:
        self.looked_at += len(pairs)
        _, _, self.authors, self.older = how
        return [CONVICT_FROM] * len(pairs)


def test_an_audit_looks_where_the_chain_looked_and_judges_whom_it_still_had(tmp_path: Path) -> None:
    played = SilentOnce(tmp_path / "home", small_document(), Script(rounds=3, terms=TERMS)).run()
    authors = {Account(who) for number in (1, 2, 3) for who in played.proposers[number]}
    gone, auditor = Account(played.proposers[2][0]), min(EVERYBODY - {played.proposers[2][0]})

    class Left(Chain):
        """On the board nobody goes whose proposals an audit may still look at: here one has."""

        def find_opening(self, audit: int) -> tuple[int, set[Account]]:
            first, here = super().find_opening(audit)
            return first, here - {gone}

    people: Any = {who: SimpleNamespace(secrets=RoundSecrets(tmp_path / who.hex())) for who in EVERYBODY}
    record = {"accused": sorted(authors - {gone, auditor}), "own_seed": 1, "seed_height": 1}
    people[auditor].secrets.save(1, 3, "audit", record)
    with open_chain(Home(played.home)) as chain:
        assert [chain.find_opening(audit) for audit in (1, 2, 3)] == [(1, EVERYBODY)] * 3
        made = Made(tmp_path, held={n: [0, 1] for n in (1, 2, 3)}, starts=dict.fromkeys((1, 2, 3), tmp_path))
        guilty, audits = Guilty(), chain.audits(EVERYBODY)
        auditors = Auditors(Left(chain.executor, chain.blobs), people, made, guilty)
        named = list(auditors.audit(3, audits[2], audits[:2]))
    assert named == [(auditor, record["accused"], record["accused"])]
    assert guilty.looked_at == 6


def test_an_audit_compares_with_the_two_rounds_before_those_that_it_looks_at(tmp_path: Path) -> None:
    last = 5
    played = Game(tmp_path / "home", small_document(), Script(rounds=last, terms=TERMS)).run()
    people: Any = {who: SimpleNamespace(secrets=RoundSecrets(tmp_path / who.hex())) for who in EVERYBODY}
    record = {"accused": [], "own_seed": 1, "seed_height": 1}
    people[min(EVERYBODY)].secrets.save(1, last, "audit", record)
    with open_chain(Home(played.home)) as chain:
        held = {n: [1] if n == 3 else [0, 1] for n in range(1, last + 1)}
        made = Made(tmp_path, held=held, starts={n: tmp_path / f"start-{n}" for n in held})
        guilty, audits = Guilty(), chain.audits(EVERYBODY)
        assert len(list(Auditors(chain, people, made, guilty).audit(last, audits[-1], audits[:-1]))) == 1
    assert guilty.looked_at == 4
    older = [(3, 1), (2, 0), (2, 1)]
    assert guilty.older == [(tmp_path / f"start-{n}", tmp_path / f"delta-{n}-{place}") for n, place in older]
    made = [played.proposers[n][place] for n, place in [(5, 0), (5, 1), (4, 0), (4, 1), *older]]
    assert [list(people)[number] for number in guilty.authors] == made


def test_beside_each_other_and_older_ones_it_finds_what_a_peers_trainer_finds() -> None:
    engine, every = make_proposals({0: THIN}, 2, 5)
    authors = range(len(every))
    for now, older in ((every, []), (every[:5], every[5:])):
        who: Any = SimpleNamespace(engine=engine, own=OwnView(engine), remembered=Remembered())
        remembered = Remembered()
        wanted = [summarise(row.common, row.own) for row in audit(engine, now, 3, 4, authors, remembered, older)]
        assert Measurer().measure(who, now, 3, 4, authors, older) == wanted
        assert wanted[2] >= GUILTY_FROM and len(wanted) == len(now)
        assert (who.remembered.to_rows(5) == remembered.to_rows(5)).all() and TARGET in who.remembered


@pytest.mark.parametrize(("last", "is_first", "alike"), [(7, False, [4, 5]), (7, True, []), (6, False, [])])
def test_a_voter_leaves_out_whose_norm_turns_it_away_where_it_looks_for_likeness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int, is_first: bool, alike: list[int]
) -> None:
    """Seat 0 was never held; seat 2 is four times as long as the others, 4 and 5 share a half of their weights."""
    order, first = range(1, last + 1), b"\1" * 32
    deltas = {index: make_delta(index, 4e-2 if index == 2 else 1e-2) for index in order}
    for index in (4, 5):
        vector = deltas[index].to_float32() + make_delta(77).to_float32()
        deltas[index] = quantise(vector, DOCUMENT.layout, DOCUMENT.format)
    looked_at = list[Path]()

    def measure_likeness(_engine: Any, _start: Path, paths: Sequence[Path], _seed: int) -> list[list[int]]:
        looked_at.extend(paths)
        return [[1_000 * (i == j) for j in range(len(paths))] for i in range(len(paths))]

    monkeypatch.setattr(same_rounds, "measure_likeness", measure_likeness)
    row = {"adapter0": first, "terms": {"audit_rounds": 0}}
    chain: Any = SimpleNamespace(document=DOCUMENT, row=row, seed=lambda *_: 5)
    who: Any = SimpleNamespace(
        engine=SimpleNamespace(score=lambda _start, paths: [0] * len(paths)), secrets=RoundSecrets(tmp_path / "secrets")
    )
    who.secrets.save(1, 3, "scores", {"seed_height": 1})
    made = Made(tmp_path, deltas={3: deltas}, starts={3: tmp_path / "start-3"})
    voter, result = min(EVERYBODY), SimpleNamespace(round=3, adapter_before=first if is_first else b"\2" * 32)
    _, filters = same_rounds.Rounds(chain, {voter: who}, made)._vote(result, voter, list(order))  # type: ignore[arg-type]
    assert [index for index, bits in enumerate(filters) if bits & FILTER_NEAR_DUPLICATE] == alike
    assert [index for index, bits in enumerate(filters) if bits & NORM_BITS] == [2]
    assert looked_at == [made.delta_path(3, index) for index in order if index != 2] * bool(alike)
