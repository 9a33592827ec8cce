"""What participants measure of proposals that were made anew, and whom they name in audits of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from same_rounds_chain import Chain
from same_rounds_made import Made
from same_rounds_people import Participant

from flock_chain.audit_rule import ClosedAudit, accuses, is_out_already, summarise
from flock_chain.crypto import Account
from flock_p2p.demo.audit import TASK
from flock_peers.roles.auditor import MAX_AUDITED, MAX_OLDER, list_rounds
from flock_peers.training.agreement import LENGTHS
from flock_peers.training.client import Measured
from flock_peers.training.engine import Engine
from flock_peers.training.inspection import CommonView, Filed, join
from flock_peers.training.recital import Strings


@dataclass
class Measurer:
    """Keeps what all see alike."""

    views: dict[int, CommonView] = field(default_factory=dict)  # by seed
    strings: dict[tuple[int, Path], Strings] = field(default_factory=dict)  # by seed and delta

    def measure(
        self,
        who: Participant,
        pairs: Sequence[tuple[Path, Path]],
        seed: int,
        own_seed: int,
        authors: Sequence[int] = (),
        older: Sequence[tuple[Path, Path]] = (),
    ) -> list[int]:
        """As `inspection.audit` does, without authors as well: voters compare nothing. What a proposal by itself shows
        to all is looked for once; beside each other each measures them with what it remembers."""
        view, results, suspects = self._view(who.engine, seed), list[Measured](), Filed(who.engine, pairs)
        for (_, delta), suspect in zip(pairs, suspects, strict=True):
            if (seed, delta) not in self.strings:
                self.strings[seed, delta] = view.find_strings(suspect)
            found = self.strings[seed, delta]
            results.append(who.own.measure(suspect, found, own_seed))
        if authors:
            remembered = who.remembered.to_rows(LENGTHS[-1])
            compared = Filed(who.engine, [*pairs, *older])
            shared = view.find_shared(compared, authors, who.engine.document.budget.batch, remembered, len(older))
            results = join(results, who.own.measure_shared(compared, shared, own_seed, who.remembered))
            who.remembered.add_guilty(results)
        return [summarise(row.common, row.own) for row in results]

    def _view(self, engine: Engine, seed: int) -> CommonView:
        if seed not in self.views:
            self.views[seed] = CommonView(engine.model, seed, engine.document.reference)
        return self.views[seed]


@dataclass
class Auditors:
    """Of what was made anew, each with the seeds that it had there."""

    chain: Chain
    people: Mapping[Account, Participant]
    made: Made
    measurer: Measurer

    def audit(
        self, place: int, closed: ClosedAudit, before: Sequence[ClosedAudit]
    ) -> Iterator[tuple[Account, list[Account], list[Account]]]:
        """Of each auditor, whom it names here, and whom it named there."""
        first, here = self.chain.find_opening(place)
        looked_at, before_them = list_rounds(first, closed.round)
        every, older = self._list_held(looked_at)[:MAX_AUDITED], self._list_held(before_them)[:MAX_OLDER]
        authors = [list(self.people).index(account) for _, _, account in [*every, *older]]
        for account, who in sorted(self.people.items()):
            record = who.secrets.load(TASK, place, "audit")
            if record is None:
                continue
            seed = self.chain.seed(closed.round, record["seed_height"], b"flock audit")
            values = self.measurer.measure(
                who, self._find_pairs(every), seed, record["own_seed"], authors, self._find_pairs(older)
            )
            judged = here - {account}  # the others are looked at for what they show of these
            rows = [(a, n, value) for (n, _, a), value in zip(every, values, strict=True) if a in judged]
            mine = sorted({a for a, n, value in rows if accuses(value, is_out_already(before, a, n))})
            yield account, mine, record["accused"]

    def _list_held(self, rounds: Iterable[int]) -> list[tuple[int, int, Account]]:
        """Round, index and proposer of what voters held, as far as it was made anew."""
        return [
            (number, index, self.chain.result(number).proposers[index])
            for number in rounds
            for index in self.made.held.get(number, ())
        ]

    def _find_pairs(self, held: Sequence[tuple[int, int, Account]]) -> list[tuple[Path, Path]]:
        return [self.made.find_pair(number, index) for number, index, _ in held]
