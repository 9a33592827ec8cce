"""The compiled board against its twin in plain Python, under participants of every character.

After every call: the same money to the unit, the same round and phase, and phases only move forward. At the end, from
whatever state was reached: everybody goes on, or nobody acts any more, until the task has ended; everybody leaves, and
nothing but the burned remains. Together the examples must reach what REACHED names. More: benchmarks/contract_soak.py.
"""

import os
import random
from collections import Counter
from typing import Any

import pytest
from board_actors_support import (
    COLLUDING,
    COPYING,
    EXPLODING,
    GRIEFING,
    HONEST,
    LAZY,
    ROGUES,
    THIEVING,
    VANISHING,
    Cast,
)
from board_end_support import check_nothing_left, finish
from board_support import NEW_ADAPTER, padded
from board_table_support import GAP, PEOPLE, SETTERS, Table
from contracts_support import ADOPT, COMMIT, ENDED, PARAMETERS, TALLY
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machine_support import run_seeded

from flock_chain.paper_rule import ABSTAIN
from flock_chain.tally import Verdict

PARTS = 5  # of the run, each with a seed of its own, for several processes
EXAMPLES = int(os.environ.get("FLOCK_EXAMPLES", "500")) // PARTS
STEPS = 6  # rules of an example; a rule is up to 100 calls
# What each part of the run must come to, as the board's logs say it; what is seldom is reached by CASTS and a script.
REACHED = (
    "ACCEPTED", "VOID", "paid round", "unpaid round", "Slashed", "Adopted", "Left", "BondWithdrawn", "PotWithdrawn",
    "Claimed", "RulesAgreed", "TaskEnded", "a name passed over", *(f"phase {phase}" for phase in range(12)),
)  # fmt: skip
CASTS = {  # terms, who besides the honest, what follows
    "honest": ({}, (), ("ACCEPTED", "paid round", "Adopted", "Claimed", "PotWithdrawn")),
    "lazy": ({"proposers": 4}, (LAZY,) * 3, ("REJECTED_LOSS", "paid round")),
    "copying": ({"proposers": 4, "rounds": 8}, (COPYING,) * 4, ("DUPLICATE", "Slashed")),
    "thieving": ({}, (THIEVING,) * 5, ("paid round", "Claimed")),
    "griefing": ({"voters": 5}, (GRIEFING,) * 2, ("INVALID", "Accused", "Convicted")),
    "exploding": (
        {"proposers": 4, "voters": 4, "rounds": 8},
        (EXPLODING,) * 2,
        ("ACCUSED_NORM", "REJECTED_NORM", "Convicted"),
    ),
    "vanishing": ({"rounds": 8}, (VANISHING,) * 3, ("UNOPENED", "Unseated", "Rejoined", "Slashed")),
    "colluding": ({"rounds": 6, "audit_rounds": 1}, (COLLUDING,) * 2, ("Audited", "suspended", "slash by audit")),
    "expelled": (
        {"rounds": 24, "audit_rounds": 1, "voters": 4},
        (COLLUDING,) * 3,
        ("strikes 1", "strikes 2", "strikes 3", "Left"),
    ),
    "the paper's": (
        {"voting_rule": 1, "rounds": 3},
        (COLLUDING,) * 2,
        ("REJECTED_AGGREGATE", "Carried", "paid round", "CarriedBurned"),
    ),
}
who = st.sampled_from(PEOPLE)
amounts = st.sampled_from([0, 1, 99, 100, 101, 250, 1_000, 33_333, 10**18])
score = st.sampled_from([0, 1, -1, 19_999, 20_000, 20_001, 60_000, -300, -301, -299, -(10**9), 10**9])
filter_bits = st.sampled_from([0, 0, 0, 0, 1, 3, 4, 8, 15])
sheets = st.tuples(st.lists(score, min_size=4, max_size=4), st.lists(filter_bits, min_size=4, max_size=4))
noises = st.integers(0, 15)
voices = st.sets(st.sampled_from([*SETTERS, PEOPLE[0]]), min_size=1)
NUMBERS = [
    PARAMETERS,
    PARAMETERS | {"missed_reveal_slash": 400, "seat_absence_slash": 2_000, "unbonding_delay": 60, "rules_delay": 0},
    PARAMETERS | {"seed_delay": 1, "phase_min_blocks": 0, "seat_absence_limit": 1, "invalid_bytes_slash": 1},
    PARAMETERS | {"seed_delay": 3, "norm_slash": 10_000, "bond_unlock_rounds": 0, "rules_delay": 0, "task_fee": 7},
]


class Board(RuleBasedStateMachine):
    @initialize(
        pot=st.sampled_from([0, 1, 7, 900_001, 900_001, 900_001, 10**20]),
        rounds=st.integers(1, 3),
        extra=st.integers(0, 2),
        proposers=st.integers(1, 4),
        voters=st.integers(3, 5),
        share=st.sampled_from([0, 3_333, 6_000, 10_000]),
        people=st.sampled_from([3, 4, 6, 7, 8, 8]),
        least=st.sampled_from([0, 2, 4, 5]),
        rule=st.sampled_from([(0, 0), (0, 0), (1, 1_000), (1, 10_000)]),
        rest=st.sampled_from([0, 0, 3_333, 10_000]),
        audits=st.sampled_from([(0, 0), (1, 10_000), (1, 2_500), (2, 10_000)]),
        rogues=st.sampled_from([0, 1, 2, 3, 4, 4, 5, 6, 8]),
        luck=st.integers(0, 10**6),
    )
    def open(
        self, pot: int, rounds: int, extra: int, proposers: int, voters: int, share: int, people: int, least: int,
        rule: tuple[int, int], rest: int, audits: tuple[int, int], rogues: int, luck: int,
    ) -> None:  # fmt: skip
        self.luck = random.Random(luck)
        terms = {"rounds": rounds, "extra_rounds": extra, "proposers": proposers, "voters": voters}
        terms |= {"proposer_share": share, "min_participants": least, "rest_share": rest}
        terms |= {"voting_rule": rule[0], "rule_slash": rule[1]}
        terms |= {"audit_rounds": min(audits[0], rounds), "audit_slash": audits[1]}
        self.table = Table(terms, pot, luck)
        self.model = self.table.model
        characters = self.luck.choices(ROGUES, k=rogues) + [HONEST] * (len(PEOPLE) - rogues)
        self.luck.shuffle(characters)
        self.cast = Cast(self.table, characters)
        for index in range(people):
            self.table.join(PEOPLE[index], 1_000 + index)
        for _ in range(4):
            self.table.block(1)

    # ------------------------------------------------ time

    @rule(seconds=st.sampled_from([0, 1, 5, 11, 25, 90, 1_000]), count=st.integers(1, 4), poked=st.booleans())
    def blocks(self, seconds: int, count: int, poked: bool) -> None:
        for _ in range(count):
            self.table.block(seconds, poked)

    @rule(me=who)
    def poke(self, me: bytes) -> None:
        self.table.poke(me)

    # ------------------------------------------------ money

    @rule(me=who, amount=amounts)
    def join(self, me: bytes, amount: int) -> None:
        self.table.join(me, amount)

    @rule(me=who)
    def leave(self, me: bytes) -> None:
        self.table.leave(me)

    @rule(me=who, back=st.integers(0, 3), kind=st.sampled_from(["evict", "withdraw", "claim", "stop", "pot", "rejoin"]))
    def money(self, me: bytes, back: int, kind: str) -> None:
        table = self.table
        {
            "evict": lambda: table.evict(me), "withdraw": lambda: table.withdraw(me),
            "claim": lambda: table.claim(me, max(1, self.model.number - back)), "stop": table.stop,
            "pot": table.withdraw_pot, "rejoin": lambda: table.rejoin(me),
        }[kind]()  # fmt: skip

    # ------------------------------------------------ the board's numbers

    @rule(
        voices=st.sets(st.sampled_from([*SETTERS, PEOPLE[0]]), min_size=1), which=st.integers(0, 3), wait=st.booleans()
    )
    def change_rules(self, voices: set[bytes], which: int, wait: bool) -> None:
        for voice in sorted(voices):
            self.table.approve(voice, NUMBERS[which])
        if wait:
            for _ in range(8):
                self.table.block(GAP, False)
        self.table.enact(PEOPLE[1])

    # ------------------------------------------------ one participant, at any time

    @rule(me=who, other=who, bits=st.tuples(st.integers(0, 31), st.integers(0, 31)), sheet=sheets, data=st.data())
    def mischief(
        self, me: bytes, other: bytes, bits: tuple[int, int], sheet: tuple[list[int], list[int]], data: st.DataObject
    ) -> None:
        """Any message of anybody: out of turn, twice, for a wrong round, with another's proposal."""
        table = self.table
        accused = [other, me] if bits[0] % 4 == 0 else sorted({other, PEOPLE[bits[1] % len(PEOPLE)]})
        kinds: dict[str, Any] = {
            "commit": lambda: table.commit(me, table.manifest(other)),
            "commit ahead": lambda: table.commit(me, table.manifest(other), 1),
            "reveal": lambda: table.reveal(me, table.manifest(other)),
            "attest": lambda: table.attest(me, *bits),
            "commit scores": lambda: table.commit_scores(me, table.inside(*sheet)),
            "scores": lambda: table.reveal_scores(me, (padded(sheet[0]), padded(sheet[1]))),
            "adopt": lambda: table.adopt(me, NEW_ADAPTER),
            "commit vote": lambda: table.commit_vote(me, NEW_ADAPTER),
            "vote": lambda: table.reveal_vote(me, (NEW_ADAPTER, self.model.adapter, ABSTAIN)[bits[0] % 3]),
            "miss": lambda: table.miss(me),
            "blame": lambda: table.blame(me, accused, bits[1] % 8 == 0),
            "confirm": lambda: table.confirm(me, max(1, self.model.number - bits[1] // 8), bits[0], bits[1]),
            "lift": lambda: table.lift(me, max(1, self.model.number - bits[0] // 8)),
        }
        kinds[data.draw(st.sampled_from(list(kinds)))]()

    @precondition(lambda self: self.model.phase == TALLY)
    @rule(index=st.integers(0, 17), shift=st.sampled_from([-1, 1]))
    def claims_a_wrong_median(self, index: int, shift: int) -> None:
        self.table.tally_wrongly(index, shift)

    # ------------------------------------------------ accusations

    @rule(saying=st.permutations(PEOPLE), count=st.integers(1, len(PEOPLE)), guilty=st.integers(0, 15))
    def many_say(self, saying: list[bytes], count: int, guilty: int) -> None:
        """The same of the newest accusations, one after the other."""
        if self.model.cases:
            for me in saying[:count]:
                self.table.confirm(me, max(self.model.cases), guilty, 15 & ~guilty)

    # ------------------------------------------------ everybody whose turn it is

    @rule(absent=st.sets(st.integers(0, 7), max_size=4), lost=st.booleans(), noise=noises)
    def turn(self, absent: set[int], lost: bool, noise: int) -> None:
        self.cast.turn(absent=absent, lost=lost, noise=noise)

    @rule(turns=st.integers(1, 14), noise=noises)
    def turns(self, turns: int, noise: int) -> None:
        for index in range(turns):
            self.cast.turn(noise=noise + index)

    @rule(until=st.integers(2, 10), noise=noises)
    def go_on_until(self, until: int, noise: int) -> None:
        play_until(self.cast, until, noise)

    @rule(noise=noises)
    def the_adapter_is_nowhere(self, noise: int) -> None:
        play_until(self.cast, COMMIT, noise)
        self.cast.turn(lost=True, noise=noise)

    # ------------------------------------------------ what always holds

    @invariant()
    def each_row_is_the_twin_s_and_nobody_changed_another_s(self) -> None:
        self.table.check_rows()

    def teardown(self) -> None:
        if hasattr(self, "cast"):
            self.table.check_everything()
            end(self.cast, self.luck, turns=40 if self.luck.random() < 0.6 else 0)


def play_until(cast: Cast, phase: int, noise: int) -> None:
    for index in range(14):
        if cast.table.model.phase in (phase, ENDED):
            break
        cast.turn(noise=noise + index)


def end(cast: Cast, luck: random.Random, turns: int) -> None:
    """So many turns more, then nobody acts; when the task has ended, everything comes out."""
    finish(cast, luck, turns)
    check_nothing_left([cast.table])


def run_part(seed: int, examples: int, steps: int = STEPS) -> Counter[str]:
    """So many examples of this seed; what they reached."""
    found: Counter[str] = Counter()

    class Counted(Board):
        def teardown(self) -> None:
            super().teardown()
            if hasattr(self, "cast"):
                found.update(self.table.reached())
                found.update({"examples": 1, "calls and blocks": self.table.steps, "refused": self.table.refused})

    run_seeded(Counted, seed=seed, examples=examples, steps=steps)
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_the_board_does_what_its_twin_does(part: int) -> None:
    found = run_part(part, EXAMPLES)
    assert EXAMPLES < 50 or not [name for name in REACHED if not found[name]], found


def seated(rogues: tuple[str, ...] = (), **terms: int) -> Cast:
    table = Table({"rounds": 4, "extra_rounds": 0, "proposers": 3, "voters": 3} | terms, 900_001, 7)
    for index, me in enumerate(PEOPLE):
        table.join(me, 1_000 + index)
    return Cast(table, [*rogues, *[HONEST] * len(PEOPLE)][: len(PEOPLE)])


@pytest.mark.parametrize("name", CASTS)
def test_each_character_comes_to_what_it_is_made_for(name: str) -> None:
    """Else the machine's actors would be names."""
    terms, rogues, wanted = CASTS[name]
    cast = seated(rogues, **terms)
    end(cast, random.Random(7), turns=400)
    found = cast.table.reached()
    assert not [outcome for outcome in wanted if not found[outcome]], found


def test_every_verdict_is_one_that_a_run_must_come_to() -> None:
    wanted = {*REACHED, *(outcome for _, _, outcomes in CASTS.values() for outcome in outcomes)}
    assert {verdict.name for verdict in Verdict} - wanted == {"NONE"}


def test_a_lost_adapter_other_numbers_and_a_stopped_task_are_all_reached() -> None:
    """What random examples come to seldom: the machine's means do come to it."""
    cast = seated(rounds=2, extra_rounds=5)
    table = cast.table
    play_until(cast, ADOPT, 0)
    cast.turn()
    for voice in SETTERS:
        table.approve(voice, NUMBERS[1])
    play_until(cast, COMMIT, 0)
    cast.turn(lost=True)
    for _ in range(8):
        table.block(GAP, False)
    table.enact(PEOPLE[1])
    table.stop()
    end(cast, random.Random(7), turns=60)
    found = table.reached()
    assert not [name for name in ("FellBack", "RulesEnacted", "TaskStopped", "Adopted") if not found[name]], found
