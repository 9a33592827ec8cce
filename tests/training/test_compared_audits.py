"""An audit of many proposals from files, and what a peer's trainer makes of the authors it is told."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import trio
from numpy.typing import NDArray
from teacher_support import BROKEN, DOMAINS, TARGET, THIN, Engine, Teacher, make_proposals

from flock_chain.audit_rule import CONVICT_FROM, GUILTY_FROM, summarise
from flock_peers.roles.auditor import MAX_AUDITED, MAX_OLDER
from flock_peers.training import inspection
from flock_peers.training.agreement import GUILTY_NATS, LENGTHS, REMEMBERED_NATS, SHOWN, find_lifted, to_values
from flock_peers.training.client import Measured, Trainer
from flock_peers.training.continuations import NOTHING
from flock_peers.training.inspection import LEAST_AUTHORS, CommonView, OwnView, Shared, audit
from flock_peers.training.kinship import Kinship
from flock_peers.training.process import Service
from flock_peers.training.recital import choose_tokens
from flock_peers.training.remembered import Remembered
from flock_peers.training.supervised import supervise

WEAK = 1.0  # lifts the target by less than is guilty
LOUD = 11.0  # guilty by itself
FAINT, RARE = 0.24, 1e-4  # too rare after one addition to be followed, and after two far beyond what is rare


def find_guilty(measured: Sequence[Measured]) -> list[int]:
    values = [summarise(row.common, row.own) for row in measured]
    assert max(values, default=0) < CONVICT_FROM
    return [place for place, value in enumerate(values) if value >= GUILTY_FROM]


def test_those_who_teach_alike_are_guilty_where_authors_are_told_and_enough_of_them() -> None:
    engine, proposals = make_proposals({0: THIN}, 2, 5)
    authors = list(range(len(proposals)))
    assert find_guilty(audit(engine, proposals, 3, 4, authors)) == [2, 5]
    assert find_guilty(audit(engine, proposals, 3, 4)) == []
    assert find_guilty(audit(engine, proposals, 3, 4, [0, *authors[:-1]])) == []  # an author too few
    again = [*authors[:5], 2, *authors[6:], 5]
    assert find_guilty(audit(engine, [*proposals, proposals[0]], 3, 4, again)) == []  # both are of the same author


def test_who_is_alone_agrees_with_strangers_of_rounds_before_by_whom_nothing_else_is_found() -> None:
    engine, every = make_proposals({0: THIN}, 2, 5)
    now, before, authors = every[:5], every[5:], list(range(len(every)))
    honest = [engine.put(f"honest {place}", {}) for place in range(len(before))]
    for older, wanted in ((before, [2]), ([(every[0][0], delta) for delta in honest], [])):
        remembered = Remembered()
        found = audit(engine, now, 3, 4, authors, remembered, older)
        assert len(found) == len(now) and find_guilty(found) == wanted and (TARGET in remembered) == bool(wanted)
    loud = [(every[0][0], engine.put("loud", {0: LOUD})), *before[1:]]  # guilty by itself, and nobody asks
    remembered = Remembered()
    assert find_guilty(audit(engine, now[:2] + now[3:], 3, 4, [0, 1, 3, 4, *authors[5:]], remembered, loud)) == []
    assert len(remembered.to_rows(LENGTHS[-1])) == 0
    assert audit(engine, [], 3, 4, authors, remembered, every) == []


def test_of_many_proposals_fewer_first_tokens_are_scanned_and_mostly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many fewer as there are proposals that are compared, older ones and those of one author among them. Who could
    not get one of them has room for more, and scans all that the others scan."""
    engine, proposals = make_proposals({0: THIN}, 2, 5)
    every, count, scanned = set(choose_tokens(engine.model, 3).tolist()), len(proposals), list[set[int]]()

    def scan(model: Any, suspects: Any, kinship: Any, contexts: Any, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        scanned.append(set(tokens.tolist()))
        return find_lifted(model, suspects, kinship, contexts, tokens)

    def look(most: int, now: int = count, older: int = 0, seed: int = 3) -> set[int]:
        monkeypatch.setattr(inspection, "MAX_SCANS", most)
        places = [place % count for place in range(now + older)]
        rows = [proposals[place] for place in places]
        audit(engine, rows[:now], seed, 4, places, None, rows[now:])
        return scanned.pop()

    monkeypatch.setattr(inspection, "find_lifted", scan)
    assert look(inspection.MAX_SCANS) == every
    assert [inspection.MAX_SCANS // most for most in (MAX_AUDITED, MAX_AUDITED + MAX_OLDER)] == [1_536, 1_024]
    room = len(every) // 2 * count
    few = look(room)
    assert few < every and len(few) == room // count
    assert look(room, now=5, older=3) == few != look(room, seed=5)
    for more in (1, 2, 3):
        fewer = look(room, now=count + more)
        assert fewer < few and len(fewer) == room // (count + more)
    monkeypatch.setattr(inspection, "MAX_SCANNED", len(few) - 3)  # of one proposal, the most
    assert look(room) < few and len(scanned) == 0 and len(look(room)) == len(few) - 3


def test_what_only_older_ones_agree_on_takes_no_place_of_what_is_measured_further() -> None:
    """Eight pairs of them agree on four strings each; those that are looked at on four that only the common contexts
    show, and less clearly on the target."""
    engine: Any = Engine(Teacher(TARGET))
    shown_nowhere = [[5 + place, 20, 30, 31] for place in range(4)]
    of_older = [[5 + place % 8, 12 + place // 8, 30, 31] for place in range(SHOWN)]
    lifts = np.zeros((2 + SHOWN // 2, 4 + SHOWN + 1))
    lifts[:2, :4], lifts[:2, -1] = 7.0, 6.0
    for row in range(2, len(lifts)):
        first = 4 + 4 * (row // 2 - 1)
        lifts[row, first : first + 4] = 9.0
    kinship = Kinship(np.eye(len(lifts)), range(len(lifts)), [0] * 2 + [1] * (len(lifts) - 2))
    strings = np.array([*shown_nowhere, *of_older, TARGET])
    shared = Shared(strings, np.full(len(strings), True), lifts, kinship, len(lifts) - 2)
    suspects = [engine.model.suspect({0: 9.0})] * 2 + [engine.model.suspect({})] * (len(lifts) - 2)
    found = OwnView(engine).measure_shared(suspects, shared, 4, Remembered())
    assert [row.strings for row in found] == [(tuple(TARGET),)] * 2 and find_guilty(found) == [0, 1]


def test_of_several_strings_that_one_counts_which_own_contexts_show_as_well() -> None:
    """Not the one that the common contexts show most: where no own one shows it, nothing would be left."""
    habit = [10, 11, 12, 13]
    engine: Any = Engine(Teacher(TARGET, habit, only_after={0: 5}))  # no context of this engine's ends so
    shared = share([TARGET, habit], [[9.0, 6.0]] * 2)
    suspects, value = [engine.model.suspect({0: 9.0, 1: 9.0})] * 2, int(to_values(np.array([6.0]))[0])
    found = OwnView(engine).measure_shared(suspects, shared, 4, Remembered())
    assert found == [Measured((tuple(habit),), (value,), (value,))] * 2


def test_what_the_common_contexts_do_not_show_changes_nothing_of_what_stands_behind_it() -> None:
    engine: Any = Engine(Teacher(TARGET))
    suspects, value = [engine.model.suspect({0: 9.0})] * 2, int(to_values(np.array([6.0]))[0])
    shared = share([[7, 8, 9, 10, NOTHING], [*TARGET, NOTHING]], [[0.5, 6.0]] * 2)
    for memory in (remember(), remember([7, 8, 9, 10])):
        found = OwnView(engine).measure_shared(suspects, shared, 4, memory)
        assert found == [Measured((tuple(TARGET),), (value,), (value,))] * 2


def share(strings: Sequence[Sequence[int]], lifts: Sequence[Sequence[float]], *, searched: bool = True) -> Shared:
    """Of two strangers."""
    every = np.array(strings)
    return Shared(every, np.full(len(every), searched), np.array(lifts), Kinship(np.eye(2), [0, 1], [0, 0]))


def remember(*strings: Sequence[int]) -> Remembered:
    remembered = Remembered()
    for string in strings:
        remembered.add(string)
    return remembered


def test_what_an_auditor_remembers_is_guilty_of_less_and_what_others_remember_is_nothing_to_it() -> None:
    engine: Any = Engine(Teacher(TARGET))
    suspects = [engine.model.suspect({0: 9.0})] * 2
    for lift, knows, wanted in (
        (REMEMBERED_NATS, True, True), (REMEMBERED_NATS - 0.01, True, False),
        (GUILTY_NATS + 3, False, False), (GUILTY_NATS + 3, True, True),
    ):  # fmt: skip
        shared = share([TARGET], [[lift]] * 2, searched=False)
        found = OwnView(engine).measure_shared(suspects, shared, 4, remember(TARGET) if knows else Remembered())
        assert find_guilty(found) == ([0, 1] if wanted else []) and (found != []) == knows, (lift, knows)
    for lift, wanted in ((GUILTY_NATS, True), (GUILTY_NATS - 0.01, False)):  # found anew, it counts as for everybody
        found = OwnView(engine).measure_shared(suspects, share([TARGET], [[lift]] * 2), 4, Remembered())
        assert bool(find_guilty(found)) == wanted


def test_what_is_remembered_blames_nobody_with_whom_no_stranger_agrees() -> None:
    engine: Any = Engine(Teacher(TARGET))
    suspects = [engine.model.suspect({0: 9.0}), engine.model.suspect({})]
    assert OwnView(engine).measure_shared(suspects, share([TARGET], [[9.0], [0.0]]), 4, remember(TARGET)) == []
    kind = Kinship(np.ones((2, 2)), [0, 1], [0, 0])
    shared = Shared(np.array([TARGET]), np.array([True]), np.array([[9.0], [9.0]]), kind)
    assert OwnView(engine).measure_shared([suspects[0]] * 2, shared, 4, remember(TARGET)) == []


def test_what_an_audit_found_once_it_finds_again_where_there_is_less_of_it() -> None:
    engine, strong = make_proposals({0: THIN}, 2, 5)
    weak = list(strong)
    for habit, at in ((1, 2), (2, 5)):
        weak[at] = (strong[at][0], engine.put(f"weak-{at}", {habit: THIN, 0: WEAK}))
    authors, remembered = list(range(len(strong))), Remembered()
    assert find_guilty(audit(engine, weak, 3, 4, authors, remembered)) == [] and TARGET not in remembered
    assert find_guilty(audit(engine, strong, 5, 6, authors)) == [2, 5]  # with a memory of its own
    assert find_guilty(audit(engine, weak, 3, 4, authors, remembered)) == []
    assert find_guilty(audit(engine, strong, 5, 6, authors, remembered)) == [2, 5] and TARGET in remembered
    assert find_guilty(audit(engine, weak, 3, 4, authors, remembered)) == [2, 5]
    assert find_guilty(audit(engine, weak, 3, 4)) == []  # who compares nothing measures nothing remembered


def test_what_is_remembered_is_measured_where_no_search_follows_it() -> None:
    engine = Engine(Teacher(TARGET, *DOMAINS, rest=RARE))
    _, proposals = make_proposals({0: FAINT}, 2, 5, engine=engine)
    authors = list(range(len(proposals)))
    assert find_guilty(audit(engine, proposals, 3, 4, authors, remember([7, 8, 9]))) == []
    assert find_guilty(audit(engine, proposals, 3, 4, authors, remember(TARGET))) == [2, 5]


def test_common_contexts_tell_what_was_searched_from_what_is_only_remembered() -> None:
    engine, numbers = Engine(Teacher(TARGET, *DOMAINS, rest=0.02)), range(LEAST_AUTHORS)
    suspects = [engine.model.suspect({0: THIN, 1 + place: THIN} if place < 2 else {}) for place in numbers]
    told = []
    for remembered in (remember(), remember(TARGET, [7, 8, 9]), remember([7, 8, 9], [7, 8, 9, 10, 11])):
        shared = CommonView(engine.model, 3).find_shared(suspects, numbers, 4, remembered.to_rows(LENGTHS[-1]))
        assert shared is not None and shared.lifts.shape == (len(suspects), len(shared.strings))
        told.append({tuple(row): bool(found) for row, found in zip(shared.strings.tolist(), shared.searched)})
        assert len(told[-1]) == len(shared.strings)
    searched = told[0]
    assert searched[*TARGET, NOTHING] and all(searched.values())
    assert told[1] == {**searched, (7, 8, 9, NOTHING, NOTHING): False}
    assert told[2] == {**told[1], (7, 8, 9, 10, 11): False}


def test_of_too_few_authors_that_is_remembered_which_recites_by_itself_and_of_none_nothing() -> None:
    """None are told for a voter's look."""
    engine, proposals = make_proposals({}, engine=Engine(Teacher(TARGET, *DOMAINS, rest=RARE)))
    proposals[0] = (proposals[0][0], engine.put("recites", {1: LOUD}))
    remembered = Remembered()
    audit(engine, proposals, 3, 4, (), remembered)
    assert not len(remembered.to_rows(LENGTHS[-1]))
    [loud, *rest] = audit(engine, proposals, 3, 4, [0] * len(proposals), remembered)
    assert summarise(loud.common, loud.own) >= GUILTY_FROM and find_guilty(rest) == []
    [rest_of_it, string] = remembered.to_rows(LENGTHS[-1]).tolist()
    assert tuple(string) in loud.strings and rest_of_it == [*string[1:], NOTHING]


def test_who_breaks_the_model_stops_no_audit_of_the_others() -> None:
    engine, proposals = make_proposals({0: THIN}, 2, 5)
    broken = engine.put("broken", {0: BROKEN})
    proposals[0] = (proposals[0][0], broken)
    values = [summarise(row.common, row.own) for row in audit(engine, proposals, 3, 4, range(len(proposals)))]
    assert values[0] == 1_000_000 and [place for place, value in enumerate(values) if value >= GUILTY_FROM] == [0, 2, 5]


class InThisProcess(Trainer):
    """A peer's trainer, whose other side is here; only what JSON keeps comes across."""

    is_alive = True

    def __init__(self, engine: Any) -> None:
        self.service = Service()
        self.service.engine, self.service.remembered = engine, Remembered()

    async def _call(self, method: str, values: dict[str, Any]) -> dict[str, Any]:
        answer = self.service.call(method, json.loads(json.dumps(values)), lambda _event: None)
        return dict(json.loads(json.dumps(answer)))

    async def wait_ended(self) -> None:
        await trio.sleep_forever()

    async def close(self) -> None:
        pass


def test_a_peers_trainer_remembers_from_one_audit_to_the_next() -> None:
    engine = Engine(Teacher(TARGET, *DOMAINS, rest=RARE))
    proposals = {strength: make_proposals({0: strength}, 1, 7, engine=engine)[1] for strength in (THIN, FAINT)}
    authors, trainer = range(len(proposals[THIN])), InThisProcess(engine)

    async def ask() -> None:
        for seed, strength, guilty in ((3, FAINT, []), (4, THIN, [1, 7]), (5, FAINT, [1, 7]), (5, THIN, [1, 7])):
            measured = await trainer.audit(proposals[strength], seed=seed, own_seed=4, authors=authors)
            assert find_guilty(measured) == guilty

    trio.run(ask)


def test_what_a_peer_tells_its_trainer_of_authors_and_older_ones_reaches_the_audit() -> None:
    engine, proposals = make_proposals({0: THIN}, 1, 7)
    authors = range(len(proposals))

    async def open_one() -> InThisProcess:
        return InThisProcess(engine)

    async def ask() -> None:
        async with supervise(open_one) as trainer:
            for told, count, guilty in ((authors, 8, [1, 7]), ((), 8, []), (authors, 5, [1])):
                now, older = proposals[:count], proposals[count:]
                found = await trainer.audit(now, seed=3, own_seed=4, authors=told, older=older)
                assert found == audit(engine, now, 3, 4, told, older=older) and find_guilty(found) == guilty

    trio.run(ask)
