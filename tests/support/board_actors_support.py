"""Who takes part in a task, and what each character does when it is its turn. Decides; board_table_support sends.

What a character is shows in what it proposes (its bytes, its norm, its loss), in how it votes, and in what it tries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from board_model_rows import Scores
from board_support import CREATOR
from board_table_support import PEOPLE, Table
from contracts_support import (
    ADOPT,
    AUDIT,
    AVAILABILITY,
    COMMIT,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
)

from flock_chain.paper_rule import ABSTAIN

HONEST, LAZY, COPYING, THIEVING, GRIEFING = "honest", "lazy", "copying", "thieving", "griefing"
EXPLODING, VANISHING, COLLUDING = "exploding", "vanishing", "colluding"  # the first is slashed for its norm
ROGUES = (LAZY, COPYING, THIEVING, GRIEFING, EXPLODING, VANISHING, COLLUDING)
BEST, WORST, LIMIT = -(10**9), 10**9, 20_000
NORM_REJECT, NORM_SLASH, NEAR_DUPLICATE, NO_SCORE = 1, 2, 4, 8


@dataclass
class Cast:
    """The characters of the people, and what varies from turn to turn."""

    table: Table
    characters: Sequence[str]  # of PEOPLE
    noise: int = 0

    def character(self, who: bytes) -> str:
        return self.characters[PEOPLE.index(who)]

    def turn(self, *, absent: set[int] = frozenset(), lost: bool = False, noise: int = 0) -> None:  # type: ignore[assignment]
        """Everybody whose turn it is acts, but the absent; `lost`: nobody has the round's first adapter."""
        self.noise = noise
        phase = self.table.model.phase
        act = {
            COMMIT: self.miss if lost else self.commit, REVEAL: self.reveal, AVAILABILITY: self.attest,
            SCORE_COMMIT: self.commit_scores, SCORE_REVEAL: self.reveal_scores, ADOPT: self.adopt, AUDIT: self.blame,
        }.get(phase)  # fmt: skip
        for index, who in enumerate(PEOPLE):
            if act and index not in absent and self.table.model.phase == phase:
                act(who)
        for index, who in enumerate(PEOPLE):
            if index not in absent:
                self.testify(who)
                self.look_after(who)
        if self.table.model.phase == TALLY:
            self.table.tally()
        self.table.block(1)

    # ------------------------------------------------ proposers

    def commit(self, me: bytes) -> None:
        table, row = self.table, self.table.model.round
        if me not in row.proposers or (self.character(me) == VANISHING and self.noise % 2):
            return
        table.commit(me, self.proposed_by(me))

    def proposed_by(self, me: bytes) -> bytes:
        """A copier commits to what another proposes now, or proposed in the round before."""
        if self.character(me) == COPYING and self.noise % 2:
            return self.table.manifest(self.table.model.round.proposers[0], self.noise // 2 % 2)
        return self.table.manifest(me)

    def reveal(self, me: bytes) -> None:
        row = self.table.model.round
        if me not in row.committed or self.character(me) == VANISHING:
            return
        self.table.reveal(me, row.committed[me])

    # ------------------------------------------------ voters

    def attest(self, me: bytes) -> None:
        """An unavailable proposal is one that its vanishing author served to nobody; a griefer's bytes are invalid."""
        table, row = self.table, self.table.model.round
        if me not in row.voters:
            return
        known = table.known()
        invalid = sum(1 << i for i, who in enumerate(row.proposers) if self.character(who) == GRIEFING) & known
        served = known & ~invalid & ~(1 if self.noise % 8 == 7 else 0)
        if self.character(me) == GRIEFING:
            served, invalid = 0, known
        elif self.character(me) == LAZY:
            served, invalid = known, 0
        table.attest(me, served, invalid)

    def commit_scores(self, me: bytes) -> None:
        table, row = self.table, self.table.model.round
        if me not in row.voters or self.character(me) == VANISHING:
            return
        if table.model.by_paper:
            table.commit_vote(me, self.choice(me))
        elif self.character(me) == COPYING and self.noise % 2 and row.score_committed:
            table.copy_scores(me, next(iter(row.score_committed)), self.sheet(row.voters[0]))
        else:
            table.commit_scores(me, self.sheet(me))

    def reveal_scores(self, me: bytes) -> None:
        table, row = self.table, self.table.model.round
        if me in row.choices:
            table.reveal_vote(me, row.choices[me])
        elif me in row.score_committed and not (self.character(me) == GRIEFING and self.noise % 2):
            mine = row.score_committed[me]
            table.reveal_scores(me, mine if mine[1] else self.sheet(row.voters[0]))

    def sheet(self, me: bytes) -> Scores:
        rows = [self.score(me, index, who) for index, who in enumerate(self.table.model.round.proposers[:4])]
        rows += [(0, 0)] * (4 - len(rows))
        return self.table.inside([score for score, _ in rows], [bits for _, bits in rows])

    def score(self, me: bytes, index: int, author: bytes) -> tuple[int, int]:
        """Score and filter bits of one proposal by one voter."""
        mine, theirs = self.character(me), self.character(author)
        if mine == LAZY:
            return 0, NO_SCORE if self.noise % 4 == 3 else 0
        if mine == COLLUDING:
            return (BEST, 0) if theirs == COLLUDING else (WORST, NORM_REJECT | NORM_SLASH)
        good = -300 - 37 * index + (PEOPLE.index(me) * 7 + self.noise) % 20
        return {
            LAZY: (LIMIT - 1 + self.noise % 3, 0),
            COPYING: (good, NEAR_DUPLICATE),
            GRIEFING: (good, NORM_REJECT),
            EXPLODING: (60_000, NORM_REJECT | (NORM_SLASH if self.table.model.number % 2 else 0)),  # each other round
        }.get(theirs, (good, 0))

    def choice(self, me: bytes) -> bytes:
        """Each other round's aggregate is bad: its slashes wait for the next good one. Colluders say the contrary."""
        model = self.table.model
        if self.character(me) == LAZY:
            return ABSTAIN  # it says that it was served nothing
        is_good = model.number % 2 == 0
        return self.candidate() if is_good != (self.character(me) == COLLUDING) else model.adapter

    def candidate(self) -> bytes:
        return bytes([self.table.model.number]) * 32

    def adopt(self, me: bytes) -> None:
        if me in self.table.model.round.score_revealed and self.character(me) != VANISHING:
            self.table.adopt(me, b"\xcc" * 32 if self.character(me) == COLLUDING else self.candidate())

    # ------------------------------------------------ everybody

    def miss(self, me: bytes) -> None:
        if self.character(me) != COLLUDING:
            self.table.miss(me)

    def blame(self, me: bytes) -> None:
        """The honest find the colluders' poison, in the two audits that look at it; colluders name the honest; the lazy
        say: nobody."""
        model, members = self.table.model, self.table.model.members
        oldest = model.number - 2 * model.terms["audit_rounds"] if self.character(me) != COLLUDING else 0
        known = sorted(who for who, member in members.items() if member.last_held > oldest and who != me)
        mine = self.character(me)
        if me not in members or mine == VANISHING:
            return
        wanted = {LAZY: (), COLLUDING: (HONEST,)}.get(mine, (COLLUDING,))
        self.table.blame(me, [who for who in known if self.character(who) in wanted][:16])

    def testify(self, me: bytes) -> None:
        """Of the newest accusations: the honest know who explodes and whose bytes are invalid; colluders say that the
        honest are guilty and everybody else is not; the lazy say nothing."""
        model = self.table.model
        if not model.cases or self.character(me) in (LAZY, VANISHING):
            return
        number = max(model.cases)
        case, proposers = model.cases[number], model.rounds[number].proposers
        said = [name for table in (case.guilty, case.innocent) for name, tellers in table.items() if me in tellers]
        wanted = (HONEST,) if self.character(me) == COLLUDING else (EXPLODING, GRIEFING)
        guilty = innocent = 0
        for index, who in enumerate(proposers):
            if who in case.open and who not in said and model.share(me, number) and model.now <= case.until:
                is_guilty = self.character(who) in wanted
                guilty |= is_guilty << index
                innocent |= (not is_guilty) << index
        if guilty | innocent:
            self.table.confirm(me, number, guilty, innocent)

    def look_after(self, me: bytes) -> None:
        """One's own, or another's."""
        member = self.table.model.members.get(me)
        if self.character(me) == THIEVING:
            self.steal(me)
        elif member and member.unseated and member.leaving is None and self.noise % 4 == 0:
            self.table.rejoin(me)

    def steal(self, me: bytes) -> None:
        """What is another's: each try is refused, or gives the thief its own alone."""
        table, row = self.table, self.table.model.round
        kinds: list[Callable[[], Any]] = [
            lambda: table.claim(me, max(1, table.model.number - 1)),
            lambda: table.withdraw_pot(me),
            lambda: table.withdraw(me),
            lambda: table.both(me, False, "tally", table.model.number, (1,) * 16, 1, 1),
            lambda: table.both(me, False, "stop_task"),
            lambda: table.approve(me, table.model.in_force),
            lambda: table.reveal(me, table.manifest(row.proposers[0] if row.proposers else CREATOR)),
        ]
        kinds[self.noise % len(kinds)]()
