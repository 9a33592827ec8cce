"""The twin's messages of seats: what each may say, once, in which phase. Knows not how a phase closes."""

from board_model_accusations import Accusations
from board_model_rows import Scores
from contracts_support import ADOPT, AUDIT, AVAILABILITY, COMMIT, REVEAL, SCORE_COMMIT, SCORE_REVEAL

from flock_chain.tally import SEATS_MAX, Verdict


class Seats(Accusations):
    def is_turn(self, who: bytes, phase: int, seats: list[bytes]) -> bool:
        return self.phase == phase and who in seats

    def commit(self, who: bytes, manifest: bytes) -> bool:
        if not self.is_turn(who, COMMIT, self.round.proposers) or who in self.round.committed:
            return False
        self.round.committed[who] = manifest
        return True

    def reveal(self, who: bytes, manifest: bytes) -> bool:
        row = self.round
        if not self.is_turn(who, REVEAL, row.proposers) or row.committed.get(who) != manifest or who in row.revealed:
            return False
        row.revealed.add(who)
        number, owner = self.owners.setdefault(manifest, (self.number, who))
        if owner == who and number == self.number:
            return True
        order = list(row.committed)
        if number < self.number or order.index(owner) < order.index(who):
            row.verdicts[who] = Verdict.DUPLICATE
        else:
            self.owners[manifest] = (self.number, who)
            row.verdicts[owner] = Verdict.DUPLICATE
        return True

    def attest(self, who: bytes, held: int, invalid: int) -> bool:
        row = self.round
        known = sum(1 << index for index, proposer in enumerate(row.proposers) if proposer in row.revealed)
        if not self.is_turn(who, AVAILABILITY, row.voters) or who in row.attested:
            return False
        if held & invalid or (held | invalid) & ~known:
            return False
        row.attested[who] = (held, invalid)
        return True

    def commit_scores(self, who: bytes, scores: Scores) -> bool:
        committed = (*self.round.score_committed, *self.round.choices)
        if not self.is_turn(who, SCORE_COMMIT, self.round.voters) or who in committed:
            return False
        self.round.score_committed[who] = scores
        return True

    def reveal_scores(self, who: bytes, scores: Scores) -> bool:
        row = self.round
        if self.by_paper or not self.is_turn(who, SCORE_REVEAL, row.voters) or who in row.score_revealed:
            return False
        outside = [index for index in range(SEATS_MAX) if not row.held >> index & 1]
        if row.score_committed.get(who) != scores or any(scores[0][i] or scores[1][i] for i in outside):
            return False
        row.score_revealed[who] = scores
        return True

    def commit_vote(self, who: bytes, choice: bytes) -> bool:
        """By the paper's rule, or in vain: only the opening tells the two kinds of commitments apart."""
        row = self.round
        if not self.is_turn(who, SCORE_COMMIT, row.voters) or who in row.score_committed or who in row.choices:
            return False
        row.choices[who] = choice
        return True

    def reveal_vote(self, who: bytes, choice: bytes) -> bool:
        row = self.round
        if not self.by_paper or not self.is_turn(who, SCORE_REVEAL, row.voters):
            return False
        if who in row.opened or row.choices.get(who) != choice:
            return False
        row.opened[who] = choice
        return True

    def adopt(self, who: bytes, adapter: bytes) -> bool:
        row = self.round
        if not self.is_turn(who, ADOPT, list(row.score_revealed)) or who in row.votes:
            return False
        row.votes[who] = adapter
        return True

    def miss(self, who: bytes) -> bool:
        """Says that the round's parent is nowhere."""
        if self.phase != COMMIT or not self.past or who not in self.members or who in self.round.missing:
            return False
        if self.weight(who) == 0:
            return False
        self.round.missing.add(who)
        return True

    def voice(self, who: bytes) -> int:
        """In an audit: its bond as it was when the last round began."""
        has_say = self.members[who].joined <= self.close and not self.records[who].expelled
        own = self.members[who].bond_at(self.close) if has_say else 0
        return own + self.pools.closed(who) if own else 0

    def blame(self, who: bytes, audit: int, accused: tuple[bytes, ...]) -> bool:
        if self.phase != AUDIT or audit != self.audits + 1 or who in self.audit.said or who not in self.members:
            return False
        stake = self.voice(who)
        if stake == 0 or list(accused) != sorted(set(accused)) or who in accused:
            return False
        shown = tuple(name for name in accused if name in self.members and self.members[name].last_held)
        self.audit.said[who] = (stake, shown)
        return True
