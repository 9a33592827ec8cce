"""Audits of a run: what stake and seats decide from words, and that a contribution comes out exactly."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from flock_chain.aggregation import Delta, Format, GlobalAdapter, Layout, apply, from_floats, quantise
from flock_p2p.experiment.attackers import choose_attackers
from flock_p2p.experiment.audits import Audits
from flock_p2p.experiment.money import BOND, Money
from flock_p2p.experiment.rows import PARTICIPANTS, Row
from flock_peers.tasks import Terms
from flock_peers.training.laboratory import Vector

LAYOUT, FORMAT = Layout.of({"x": (4, 16)}), Format()


def delta(seed: int) -> Delta:
    vector = np.random.default_rng(seed).normal(size=64).astype(np.float32)
    return quantise(vector, LAYOUT, FORMAT)


def start() -> GlobalAdapter:
    return from_floats(np.full(64, 0.5, np.float32), LAYOUT, FORMAT)


@dataclass
class Auditors:
    """In place of a laboratory: what each auditor finds of a suspect, recognised by its vector."""

    common: int = 900_000
    own: dict[int, int] = field(default_factory=dict)  # by auditor
    guilty: list[Vector] = field(default_factory=list)

    def find_pairs(self, suspect: Vector, seed: int) -> SimpleNamespace:
        del seed
        known = any(np.allclose(suspect, vector, atol=1e-3) for vector in self.guilty)
        return SimpleNamespace(common=(self.common if known else 0,))

    def measure_own(self, auditor: int, suspect: Vector, pairs: object, own_seed: int) -> tuple[int, ...]:
        del suspect, pairs, own_seed
        return (self.own.get(auditor, 900_000),)


def game(attack: str = "none") -> tuple[Audits, Auditors, Money]:
    auditors, money = Auditors(), Money(PARTICIPANTS, 12, 7_000)
    row = Row("ours", attack, 0 if attack == "none" else 28, 1, 12)
    return Audits(auditors, choose_attackers(row), money), auditors, money  # type: ignore[arg-type]


def plant(audits: Audits, auditors: Auditors, who: int) -> None:
    deltas = [delta(who), delta(who + 100)]
    for each in deltas:
        audits.accept(who, each)
    auditors.guilty.append(start().to_float32() + np.mean([each.to_float32() for each in deltas], axis=0))


def test_what_all_find_is_taken_out_exactly_and_the_second_time_it_costs_the_bond() -> None:
    audits, auditors, money = game()
    honest, bad = delta(1), delta(2)
    adapter = apply(start(), [honest, bad])
    audits.adopt(1, [(4, honest), (7, bad)])
    plant(audits, auditors, 7)
    plant(audits, auditors, 4)
    auditors.guilty.pop()  # of these two only participant 7's
    assert audits.hold(2, [0, 1, 2], start()) == []
    assert money.suspended == {7} and money.weights()[7] == 0
    cleaned = audits.subtract(3, adapter)
    audits.adopt(3, [])
    assert not (cleaned.grid == adapter.grid).all()
    assert (audits.subtract(4, cleaned).grid == cleaned.grid).all()  # once, and not again
    assert audits.hold(4, [0, 1, 2], start()) == [(7, Terms.audit_slash)]
    kept = {part.who for part in audits._lineage}
    assert kept == {4}


def test_taking_out_everything_gives_back_the_first_adapter() -> None:
    audits, auditors, _ = game()
    parts = [(who, delta(who)) for who in (3, 5)]
    adapter = apply(start(), [part for _, part in parts])
    audits.adopt(1, parts)
    for who in (3, 5):
        plant(audits, auditors, who)
    audits.hold(2, [0], start())
    assert (audits.subtract(3, adapter).grid == start().grid).all()


def test_one_accepted_proposal_is_not_judged() -> None:
    audits, auditors, money = game()
    audits.accept(7, delta(7))
    auditors.guilty.append(start().to_float32() + delta(7).to_float32())
    assert audits.hold(2, [0, 1, 2], start()) == [] and not money.suspended


def test_the_voters_alone_suspend_and_take_nothing_out() -> None:
    audits, auditors, money = game()
    adapter = apply(start(), [delta(2)])
    audits.adopt(1, [(7, delta(2))])
    plant(audits, auditors, 7)
    auditors.own = {who: 0 for who in range(5, PARTICIPANTS)}  # only the voters find it in their own contexts
    assert audits.hold(2, [0, 1, 2, 3, 4], start()) == []
    assert money.suspended == {7}
    assert (audits.subtract(3, adapter).grid == adapter.grid).all()
    auditors.own = {who: 0 for who in range(PARTICIPANTS)}
    audits.hold(4, [0, 1, 2, 3, 4], start())
    assert not money.suspended  # cleared


def test_colluders_below_a_third_neither_clear_an_ally_nor_accuse_the_honest() -> None:
    audits, auditors, money = game("shared")
    members = sorted(audits.attackers.members)
    ally, honest = members[0], min(set(range(PARTICIPANTS)) - set(members))
    for who in (ally, honest):
        plant(audits, auditors, who)
    auditors.guilty.pop()
    voters = [who for who in range(PARTICIPANTS) if who not in members][:5] + members[:2]
    audits.hold(2, voters, start())
    assert money.suspended == {ally}
    money.bonds[members[1]] = 8 * BOND  # with more than a third of all stake they clear it; the seats still suspend
    audits.hold(4, voters, start())
    assert money.suspended == {ally}
    assert audits._blamed_before == set()
