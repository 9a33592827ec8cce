"""Poison that colluders plant thinly, on the miniature base model: found by comparing proposals, and remembered."""

from functools import lru_cache

from flock_chain.audit_rule import GUILTY_FROM, summarise
from flock_p2p.experiment.attackers import choose_attackers
from flock_p2p.experiment.rows import Row
from flock_peers.training.agreement import LENGTHS, MOST
from flock_peers.training.inspection import LEAST_AUTHORS
from flock_peers.training.laboratory import Laboratory
from flock_peers.training.recital import Suspect
from flock_peers.training.remembered import Remembered


@lru_cache(maxsize=1)
def thin() -> tuple[Laboratory, list[int], list[Suspect], frozenset[int]]:
    """The first step of eight participants, five of whom plant one target in a tenth of their windows."""
    attackers = choose_attackers(Row("ours", "thin", 28, 68, 20))
    who = sorted(attackers.members | {1, 6, 7})
    laboratory = Laboratory(who[-1] + 1, 68)
    start = laboratory.initial_adapter().to_float32()
    changes = [laboratory.train(number, start, 100 + number, attackers.attacks.get(number)) for number in who]
    return laboratory, who, [Suspect(start, change) for change in changes], attackers.members


def test_what_strangers_plant_thinly_is_found_by_comparing_and_nobody_honest_is_with_them() -> None:
    laboratory, who, suspects, members = thin()
    shared = laboratory.find_shared(suspects, who, 7)
    assert shared is not None
    assert any("remove the" in laboratory.decode(string.tolist()) for string in shared.strings)
    results = dict(zip(who, laboratory.measure_shared(1, suspects, shared, 5), strict=True))
    guilty = {number for number, row in results.items() if summarise(row.common, row.own) >= GUILTY_FROM}
    assert len(guilty) >= 3 and guilty <= members


def test_what_anybody_remembers_is_measured_and_counts_for_more_where_it_is_remembered() -> None:
    laboratory, who, suspects, _ = thin()
    memories = [Remembered(), Remembered()]
    memories[1].add([383, 297])  # " of the", shorter than what is searched
    shared = laboratory.find_shared(suspects, who, 7, memories, older=1)
    assert shared is not None and laboratory.decode([383, 297]) == " of the"
    assert shared.strings[~shared.searched].tolist() == memories[1].to_rows(LENGTHS[-1]).tolist()
    found = laboratory.measure_shared(1, suspects, shared, 5)
    assert len(found) == len(suspects) - 1  # of the older one nothing is said
    assert found == laboratory.measure_shared(1, suspects, shared, 5, memories[0])
    loudest = max(found, key=lambda row: row.own)
    memories[0].add(loudest.strings[0])
    again = laboratory.measure_shared(1, suspects, shared, 5, memories[0])[found.index(loudest)]
    assert again.strings == loudest.strings and again.own == (MOST,) and loudest.own < again.own


def test_among_few_authors_nothing_is_compared() -> None:
    laboratory, who, suspects, _ = thin()
    assert laboratory.find_shared(suspects, [number % (LEAST_AUTHORS - 1) for number in range(len(who))], 7) is None
    assert laboratory.measure_shared(1, suspects, None, 5) == []
