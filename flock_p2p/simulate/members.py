"""Who validates which height of a schedule, and who of them misbehaves or may be unlucky. Fixed by the seed alone."""

import random

from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account
from flock_p2p.simulate.scenario import Scenario

RESERVE = 2  # identities beyond the first set, where the set changes
DRAWS = 8  # tries for a next set within the bound; then it stays


class Members:
    """Identities are numbers; a set of a height holds at most `max_byzantine` weight of the faulty ones."""

    def __init__(self, scenario: Scenario, accounts: list[Account]) -> None:
        self._scenario, self._accounts = scenario, accounts
        self._random = random.Random(f"members {scenario.seed}")
        rows = tuple((index, weight) for index, weight in enumerate(scenario.weights or [1] * scenario.n))
        self.byzantine: frozenset[int] = frozenset()
        self.unlucky: frozenset[int] = frozenset()
        self._choose_faulty(rows)
        self._sets = [(rows, self._make(rows))]

    def _make(self, rows: tuple[tuple[int, int], ...]) -> ValidatorSet:
        return ValidatorSet(tuple((self._accounts[index], weight) for index, weight in rows))

    def _choose_faulty(self, rows: tuple[tuple[int, int], ...]) -> None:
        scenario, members = self._scenario, self._make(rows)
        order = self._random.sample(range(scenario.n), scenario.n)
        if scenario.colluders:
            self.byzantine = frozenset(order[: 2 * members.quorum - members.total])  # what two quorums share
            return
        room = members.max_byzantine
        if scenario.corrupt or scenario.lost_signer:  # first: otherwise the misbehaving take all the room
            self.unlucky = frozenset([index for index in order if rows[index][1] <= room][:1])
            room -= sum(rows[index][1] for index in self.unlucky)
        chosen: list[int] = []
        for index in order:
            if index not in self.unlucky and rows[index][1] <= room and len(chosen) < scenario.byzantine:
                room -= rows[index][1]
                chosen.append(index)
        self.byzantine = frozenset(chosen)

    def at(self, height: int) -> ValidatorSet:
        change = self._scenario.set_change
        epoch = (height - 1) // change if change else 0
        while len(self._sets) <= epoch:
            self._sets.append(self._next())
        return self._sets[epoch][1]

    def _next(self) -> tuple[tuple[tuple[int, int], ...], ValidatorSet]:
        """One leaves, one comes, one changes its weight."""
        rows, r = self._sets[-1][0], self._random
        for _ in range(DRAWS):
            outside = [index for index in range(len(self._accounts)) if index not in dict(rows)]
            fresh = list(rows)
            if outside and r.random() < 0.7:
                fresh.append((r.choice(outside), r.randint(1, 3)))
            if len(fresh) > 3 and r.random() < 0.7:
                fresh.pop(r.randrange(len(fresh)))
            position = r.randrange(len(fresh))
            fresh[position] = (fresh[position][0], r.randint(1, 3))
            r.shuffle(fresh)
            members = self._make(tuple(fresh))
            faulty = self.byzantine | self.unlucky
            if sum(weight for index, weight in fresh if index in faulty) <= members.max_byzantine:
                return tuple(fresh), members
        return self._sets[-1]
