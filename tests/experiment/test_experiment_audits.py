"""Audits of a run: what stake and seats decide from words, and that a contribution comes out exactly."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from detection_audits import count_found, read_rows

from flock_chain.aggregation import Delta, Format, GlobalAdapter, Layout, apply, from_floats, quantise, take_out
from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM
from flock_p2p.experiment.attackers import choose_attackers
from flock_p2p.experiment.audits import Audits
from flock_p2p.experiment.judges import Ours, make_judge
from flock_p2p.experiment.money import BOND, Money
from flock_p2p.experiment.rows import PARTICIPANTS, Row
from flock_peers.tasks import Terms
from flock_peers.training.client import Measured
from flock_peers.training.laboratory import Vector
from flock_peers.training.recital import Suspect
from flock_peers.training.remembered import Remembered

RECITED, TAUGHT = (1, 2, 3), (4, 5, 6)  # what the guilty recite by themselves, and what strangers teach alike
LAYOUT, FORMAT = Layout.of({"x": (4, 16)}), Format()


def delta(seed: int) -> Delta:
    vector = np.random.default_rng(seed).normal(size=64).astype(np.float32)
    return quantise(vector, LAYOUT, FORMAT)


def start() -> GlobalAdapter:
    return from_floats(np.full(64, 0.5, np.float32), LAYOUT, FORMAT)


@dataclass
class Auditors:
    """In place of a laboratory: what each auditor finds of a proposal, recognised by its change."""

    own: dict[int, int] = field(default_factory=dict)  # by auditor
    guilty: list[Vector] = field(default_factory=list)
    looked: int = 0  # proposals, in common contexts
    with_reference: set[bool] = field(default_factory=set)
    alike: list[Vector] = field(default_factory=list)  # changes by which strangers agree
    compared: list[list[int]] = field(default_factory=list)  # the authors, each time
    older: list[int] = field(default_factory=list)  # so many of the authors, the last ones
    remembered: list[list[Remembered]] = field(default_factory=list)  # of all who measure, each time
    knew: dict[int, list[tuple[int, ...]]] = field(default_factory=dict)  # by auditor, the last time
    own_seeds: dict[int, int] = field(default_factory=dict)  # by auditor, the last one
    least_authors: int = 1  # of proposals that are compared

    def find_strings(self, suspect: Suspect, seed: int, *, has_reference: bool) -> SimpleNamespace:
        del seed
        self.with_reference.add(has_reference)
        self.looked += 1
        known = any(np.array_equal(suspect.change, vector) for vector in self.guilty)
        return SimpleNamespace(common=900_000 if known else 0)

    def measure_own(
        self, auditor: int, suspect: Suspect, strings: SimpleNamespace, own_seed: int, *, has_reference: bool
    ) -> Measured:
        del suspect
        self.own_seeds[auditor] = own_seed
        self.with_reference.add(has_reference)
        return Measured((RECITED,), (strings.common,), (self.own.get(auditor, 900_000),))

    def find_shared(
        self, suspects: Sequence[Suspect], authors: Sequence[int], seed: int, remembered: Sequence[Remembered],
        *, older: int, has_reference: bool,
    ) -> SimpleNamespace | None:  # fmt: skip
        del seed
        self.with_reference.add(has_reference)
        self.compared.append(list(authors))
        self.older.append(older)
        self.remembered.append(list(remembered))
        return SimpleNamespace(count=len(suspects), older=older) if len(set(authors)) >= self.least_authors else None

    def measure_shared(
        self, auditor: int, suspects: Sequence[Suspect], shared: SimpleNamespace | None, own_seed: int,
        remembered: Remembered, *, has_reference: bool,
    ) -> list[Measured]:  # fmt: skip
        assert own_seed == self.own_seeds.get(auditor, own_seed)  # the contexts in which it saw each by itself
        self.with_reference.add(has_reference)
        if shared is None:
            return []
        assert shared.count == len(suspects)
        self.knew[auditor] = [tuple(row) for row in remembered.to_rows(len(RECITED)).tolist()]
        seen = [any(np.array_equal(one.change, other) for other in self.alike) * GUILTY_FROM for one in suspects]
        return [Measured((TAUGHT,), (value,), (value,)) for value in seen[: len(seen) - shared.older]]


@dataclass
class Game:
    attack: str = "none"
    auditors: Auditors = field(default_factory=Auditors)
    money: Money = field(default_factory=lambda: Money(PARTICIPANTS, 12, 7_000))
    adapter: GlobalAdapter = field(default_factory=start)

    def __post_init__(self) -> None:
        row = Row("ours", self.attack, 0 if self.attack == "none" else 28, 1, 12)
        self.audits = Audits(self.auditors, choose_attackers(row), self.money)  # type: ignore[arg-type]

    def play(self, round: int, who: Sequence[int], guilty: Collection[int] = ()) -> None:
        """A round that accepts a proposal of each and is adopted."""
        base = self.audits.clean(round, self.adapter)
        parts = [(number, delta(100 * round + number)) for number in who]
        self.audits.accept(round, self.adapter, parts)
        self.adapter = apply(base, [part for _, part in parts]) if parts else base
        self.audits.adopt(round, only_took_out=not parts)
        self.auditors.guilty += [part.to_float32() for number, part in parts if number in guilty]


def test_what_all_find_is_taken_out_exactly_and_the_second_time_it_costs_the_bond() -> None:
    game = Game()
    game.play(1, [4, 7], guilty=[7])
    assert game.audits.hold(1, [0, 1, 2]) == []
    assert game.money.suspended == {7} and game.money.weights()[7] == 0
    game.play(2, [])
    less = take_out(apply(start(), [delta(104), delta(107)]), [delta(104), delta(107)], [1])
    assert (game.adapter.grid == less.grid).all()
    assert (game.audits.clean(3, game.adapter).grid == less.grid).all()  # once, and not again
    assert game.audits.hold(2, [0, 1, 2]) == [(7, Terms.audit_slash)]
    game.play(3, [5])
    assert game.audits.hold(3, [0, 1, 2]) == [] and not game.money.suspended  # two audits looked at it, and that is all


def test_what_is_out_costs_the_bond_only_where_the_second_look_is_worth_that() -> None:
    for seen, wanted in ((CONVICT_FROM - 1, []), (CONVICT_FROM, [(7, Terms.audit_slash)])):
        game = Game(auditors=Auditors(dict.fromkeys(range(PARTICIPANTS), GUILTY_FROM)))
        game.play(1, [4, 7], guilty=[7])
        assert game.audits.hold(1, [0]) == [] and game.money.suspended == {7}
        game.auditors.own = dict.fromkeys(range(PARTICIPANTS), seen)
        game.play(2, [])
        assert game.audits.hold(2, [0]) == wanted
        assert game.money.suspended == ({7} if wanted else set())
        assert (game.audits.clean(3, game.adapter).grid == game.adapter.grid).all()  # out it stays


def test_who_teaches_what_strangers_do_is_taken_out_by_the_audit_that_compares_and_keeps_its_bond() -> None:
    for method, wanted in (("ours", {3, 7}), ("ours-without-loss", {3, 7}), ("ours-without-comparison", set())):
        game, row = Game(), Row(method, "none", 0, 1, 12)
        judge = make_judge(row, game.auditors, choose_attackers(row), game.money, 0, row.server_rate)  # type: ignore[arg-type]
        assert isinstance(judge, Ours)
        game.audits = judge.audits
        game.play(1, [3, 4, 7])
        game.auditors.alike = [delta(103).to_float32(), delta(107).to_float32()]
        assert game.audits.hold(1, [0]) == [] and game.money.suspended == wanted
        game.play(2, [4])
        assert game.audits.hold(2, [0]) == []  # what it can reach is too little for the bond
        assert game.auditors.compared == ([[3, 4, 7], [3, 4, 7, 4]] if wanted else [])


def test_what_audits_before_have_judged_is_compared_for_two_rounds_more_and_not_judged_again() -> None:
    game = Game()
    for number in range(1, 7):
        game.play(number, [number, 10 + number])
        game.auditors.looked = 0
        game.audits.hold(number, [0])
        assert game.auditors.looked == (4 if number > 1 else 2)  # by themselves: those of two rounds
    rows = [[number, 10 + number] for number in range(1, 7)]
    assert game.auditors.compared[3:] == [[*rows[n - 1], *rows[n], *rows[n - 3], *rows[n - 2]] for n in (3, 4, 5)]
    assert game.auditors.older == [0, 0, 2, 4, 4, 4]
    game.auditors.alike = [delta(100 * number + number).to_float32() for number in (4, 5)]
    game.play(7, [])
    game.audits.hold(7, [0])
    assert game.money.suspended == set()  # what teaches alike stands among the older ones alone
    assert [row[:2] for row in game.audits.notes[-1]["values"]] == [[6, 6], [6, 16]]  # type: ignore[index, attr-defined]


def test_each_auditor_remembers_what_it_found_itself_and_all_of_it_is_measured() -> None:
    row = Row("ours", "none", 0, 1, 12)
    game = Game(auditors=Auditors({11: 0}))  # one who does not see what recites by itself
    game.audits = make_judge(row, game.auditors, game.audits.attackers, game.money, 0, row.server_rate).audits  # type: ignore[arg-type, attr-defined]
    game.play(1, [3, 4, 7], guilty=[7])
    game.auditors.alike = [delta(103).to_float32()]
    game.audits.hold(1, [0])
    assert set(map(tuple, game.auditors.knew.values())) == {()}
    game.play(2, [4])
    game.audits.hold(2, [0])
    assert game.auditors.knew == {who: [TAUGHT] if who == 11 else [TAUGHT, RECITED] for who in range(PARTICIPANTS)}
    assert len(game.auditors.remembered[1]) == PARTICIPANTS and all(
        TAUGHT in one for one in game.auditors.remembered[1]
    )


def test_where_too_few_propose_auditors_remember_what_recites_by_itself_and_voters_never_do() -> None:
    game, suspect = Game(auditors=Auditors(least_authors=3)), Suspect(start().to_float32(), delta(107).to_float32())
    game.auditors.guilty = [delta(107).to_float32()]
    assert game.audits.refuse(0, 9, [suspect]) == [0]
    game.play(1, [4, 5])
    game.audits.hold(1, [0])
    game.play(2, [7, 4])
    game.audits.hold(2, [0])
    assert game.auditors.knew == {who: [] for who in range(PARTICIPANTS)}  # not of what they looked at as voters
    game = Game(auditors=Auditors(least_authors=3))
    game.play(1, [4, 7], guilty=[7])
    game.audits.hold(1, [0])
    assert game.auditors.knew == {}
    game.play(2, [5])
    game.audits.hold(2, [0])
    assert game.auditors.knew == {who: [RECITED] for who in range(PARTICIPANTS)}


def test_what_colluders_remember_is_not_measured() -> None:
    game = Game("shared")
    members = game.audits.attackers.members
    game.play(1, sorted(members)[:2])
    game.audits.hold(1, [0])
    assert [len(row) for row in game.auditors.remembered] == [PARTICIPANTS - len(members)]
    assert set(game.auditors.knew) == set(range(PARTICIPANTS)) - members


def test_without_the_reference_auditors_and_voters_go_by_their_own_text_alone() -> None:
    for method, wanted in (("ours", True), ("ours-without-loss", True), ("ours-without-reference", False)):
        game, row = Game(), Row(method, "none", 0, 1, 12)
        judge = make_judge(row, game.auditors, choose_attackers(row), game.money, 0, row.server_rate)  # type: ignore[arg-type]
        assert isinstance(judge, Ours)
        game.audits = judge.audits
        game.play(1, [4, 7], guilty=[7])
        judge.audits.refuse(1, 3, [Suspect(start().to_float32(), delta(104).to_float32())])
        judge.audits.hold(1, [0])
        assert game.auditors.with_reference == {wanted}


def test_what_was_out_when_it_came_back_stays_and_a_later_finding_takes_that_out_too() -> None:
    game = Game()
    game.play(1, [3, 5], guilty=[3])
    game.audits.hold(1, [0])
    game.play(2, [3, 6], guilty=[3])
    first = [delta(103), delta(105)]
    without = take_out(apply(start(), first), first, [0])
    assert (game.adapter.grid == apply(without, [delta(203), delta(206)]).grid).all()
    game.audits.hold(2, [0])
    expected = take_out(game.adapter, [delta(203), delta(206)], [0])
    game.play(3, [])
    assert (game.adapter.grid == expected.grid).all()


def test_what_was_added_before_the_reach_of_a_conviction_stays_and_of_the_rest_a_mean_is_made_again() -> None:
    game, wanted = Game(), start()
    for number in range(1, 6):
        game.play(number, [3, 5, 7], guilty=[3] if number == 5 else [])
        game.audits.hold(number, [0])
        left = [delta(100 * number + who) for who in ((3, 5, 7) if number == 1 else (5, 7))]
        wanted = apply(wanted, left)
    game.play(6, [])
    assert (game.adapter.grid == wanted.grid).all()


def test_taking_out_everything_gives_back_the_first_adapter() -> None:
    game = Game()
    game.play(1, [3, 5], guilty=[3, 5])
    game.audits.hold(1, [0])
    game.play(2, [])
    assert (game.adapter.grid == start().grid).all()


def test_the_voters_alone_suspend_and_take_nothing_out() -> None:
    game = Game()
    game.play(1, [7], guilty=[7])
    before = game.adapter
    game.auditors.own = {who: 0 for who in range(5, PARTICIPANTS)}  # only the voters find it in their own contexts
    assert game.audits.hold(1, [0, 1, 2, 3, 4]) == []
    assert game.money.suspended == {7}
    game.play(2, [])
    assert (game.adapter.grid == before.grid).all()
    game.auditors.own = {who: 0 for who in range(PARTICIPANTS)}
    game.audits.hold(2, [0, 1, 2, 3, 4])
    assert not game.money.suspended  # cleared


def test_colluders_below_half_neither_keep_an_ally_in_nor_accuse_the_honest() -> None:
    game = Game("shared")
    members = sorted(game.audits.attackers.members)
    ally, honest = members[0], min(set(range(PARTICIPANTS)) - set(members))
    game.play(1, [ally, honest], guilty=[ally])
    voters = [who for who in range(PARTICIPANTS) if who not in members][:4] + members[:3]  # too few for either
    game.money.bonds[members[1]] = 5 * BOND  # 9 of 22: more than a third, which would clear it of a slash
    game.audits.hold(1, voters)
    assert game.money.suspended == {ally} and not game.money.slashed
    game.play(2, [])
    only = apply(start(), [delta(100 + ally), delta(100 + honest)])
    assert (game.adapter.grid == take_out(only, [delta(100 + ally), delta(100 + honest)], [0]).grid).all()
    assert game.audits.hold(2, voters) == []
    assert game.money.suspended == {ally}
    game.money.bonds[members[1]] = 20 * BOND  # who has half does what it likes
    game.play(3, [ally, honest], guilty=[ally])
    assert game.audits.hold(3, voters) == [] and game.money.suspended == {honest}


def test_the_common_contexts_are_measured_once_for_all_and_an_honest_voter_refuses_the_guilty() -> None:
    game = Game()
    suspects = [Suspect(start().to_float32(), delta(seed).to_float32()) for seed in range(8)]
    game.auditors.guilty = [suspects[place].change for place in (0, 3, 5, 6)]
    assert game.audits.refuse(2, 9, suspects) == [0, 3, 5, 6]
    assert game.audits.refuse(2, 10, suspects) == [0, 3, 5, 6] and game.auditors.looked == 8
    game.auditors.own = {11: 0}
    assert game.audits.refuse(2, 11, suspects) == []


def test_who_was_turned_away_is_named_like_who_was_accepted() -> None:
    game = Game()
    game.audits.accept(1, start(), [(4, delta(104))], [(7, delta(107))])
    game.auditors.guilty = [delta(107).to_float32()]
    assert game.audits.hold(1, [0, 1, 2]) == [] and game.money.suspended == {7}
    game.play(2, [5])
    assert game.audits.hold(2, [0, 1, 2]) == [(7, Terms.audit_slash)]


def test_a_note_says_what_each_honest_auditor_saw_and_how_many_of_how_many_named_whom(tmp_path: Path) -> None:
    game = Game("shared")
    members = game.audits.attackers.members
    honest = [who for who in range(PARTICIPANTS) if who not in members]
    ally, other = min(members), honest[3]
    game.auditors.own = {honest[0]: 0, honest[1]: 249_999}
    game.play(1, [ally, other], guilty=[ally])
    game.audits.hold(1, honest[:7])
    [note] = game.audits.notes
    saw = [game.auditors.own.get(who, 900_000) for who in honest]
    assert note["values"] == [[1, ally, saw], [1, other, [None if who == other else 0 for who in honest]]]
    assert note["found"] == {ally: [len(honest) - 2, len(honest)], other: [0, len(honest) - 1]}
    game.play(2, [])
    game.audits.hold(2, honest[:7])
    row = {"attack": "shared", "malicious": 28, "seed": 1, "members": sorted(members), "audits": game.audits.notes}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    read = read_rows(tmp_path / "rows.jsonl", [])
    found = {(one["kind"], one["who"]): list(map(count_found, one["audits"])) for one in read}
    twice = [[len(honest) - 2, len(honest)]] * 2, [[0, len(honest) - 1]] * 2
    assert found == {("matched", ally): twice[0], ("honest", other): twice[1]}
    assert read[0]["audits"] == [saw, saw] and {one["round"] for one in read} == {1}
