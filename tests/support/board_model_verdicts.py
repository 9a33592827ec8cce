"""How the twin judges: by scores, by the paper's rule, by an audit, by absence; and what a round pays."""

from board_model_money import BPS
from board_model_seats import Seats
from contracts_support import ADOPT, AVAILABILITY, SCORE_COMMIT, SCORE_REVEAL

from flock_chain.audit_rule import has_majority
from flock_chain.paper_rule import compute_paper_outcome
from flock_chain.tally import FILTER_NO_SCORE, SEATS_MAX, Verdict, compute_tally, has_two_thirds


class Verdicts(Seats):
    def judge(self) -> None:
        """By the scores."""
        row = self.round
        rows = list(row.score_revealed.values())
        terms = (self.terms["loss_limit"], self.terms["mad_multiple"])
        tally = compute_tally([s for s, _ in rows], [f for _, f in rows], row.held, *terms)
        row.tallied = True
        for index, who in enumerate(row.proposers):
            if not row.held >> index & 1:
                continue
            verdict = tally.verdicts[index]
            row.verdicts[who] = verdict
            if verdict is Verdict.ACCEPTED:
                self.accept(who)
            if verdict is Verdict.ACCUSED_NORM:
                self.accuse(who, self.rules["norm_slash"])

    def decide(self) -> None:
        """The paper's rule: the aggregate stands or falls, and with it everybody's stake."""
        row = self.round
        votes = {row.voters.index(who): choice for who, choice in row.opened.items()}
        outcome = compute_paper_outcome(votes, len(row.voters), self.adapter)
        row.tallied = outcome.verdict is not Verdict.VOID
        row.carried = self.carried if outcome.verdict is Verdict.ACCEPTED else 0
        for index, who in enumerate(row.proposers):
            if row.held >> index & 1:
                row.verdicts[who] = outcome.verdict
                if outcome.verdict is Verdict.ACCEPTED:
                    self.accept(who)
                elif outcome.verdict is Verdict.REJECTED_AGGREGATE:
                    self.carry(who)
        for seat in outcome.minority:
            self.carry(row.voters[seat])
        row.majority = [row.voters[seat] for seat in outcome.majority]
        self.take(outcome.adapter)

    def accept(self, who: bytes) -> None:
        self.members[who].last_accepted = self.number
        self.accepted_audit = self.counted_audits

    def take(self, adapter: bytes) -> None:
        if adapter != self.adapter:
            self.past.append(self.adapter)
        self.adapter = adapter

    def judge_blamed(self) -> None:
        """By an audit."""
        self.audits += 1
        heard = sum(stake for stake, _ in self.audit.said.values())
        is_void = not (heard and has_two_thirds(heard, self.audit.stake)) and self.void_audits < 2
        self.void_audits = self.void_audits + 1 if is_void else 0
        self.counted_audits += not is_void
        if not is_void:
            self.audited_before, self.audited = self.audited, self.number
        self.seats_heard = self.audit.round
        blamers_of: dict[bytes, dict[bytes, int]] = {}
        for name, (stake, accused) in self.audit.said.items():
            for who in accused:
                blamers_of.setdefault(who, {})[name] = stake
        for who in self.members:
            blamers = blamers_of.get(who, {})
            is_out = has_majority(sum(blamers.values()), self.audit.stake)
            named = sum(name in self.audit.seats for name in blamers)
            record = self.records[who]
            is_kept = record.suspended and is_void and not self.hearing_again
            record.suspended = is_kept or is_out or (named > 0 and 7 * named >= 5 * len(self.audit.seats))
            self.note_blame(who, sum(blamers.values()))
            self.note_strike(who, is_out, is_void)

    def note_blame(self, who: bytes, stake: int) -> None:
        """Two thirds of all stake named it, in two audits that count in a row: its bond is slashed."""
        member = self.members[who]
        if not (stake and has_two_thirds(stake, self.audit.stake)):
            return
        if member.blamed is not None and member.blamed == self.counted_audits - 1:
            member.blamed = None
            self.convict(who)
        else:
            member.blamed = self.counted_audits

    def convict(self, who: bytes) -> None:
        if self.audit.auditors >= 4:
            self.burned += self.cut(who, self.terms["audit_slash"])

    def note_strike(self, who: bytes, is_out: bool, is_void: bool) -> None:
        """Three proposals in a row for which more than half of all stake named it: it leaves for good."""
        member, record = self.members[who], self.records[who]
        if record.expelled or member.last_held <= record.struck:
            return
        if is_out and self.audit.auditors >= 4:
            record.strikes, record.struck, record.passing = record.strikes + 1, self.number, False
            if record.expelled and member.leaving is None:
                member.leaving = self.height
        elif record.strikes and not is_out and not is_void:
            record.strikes = 0 if record.passing else record.strikes
            record.passing = not record.passing

    def close_seats(self) -> None:
        row = self.round
        for who in row.proposers:
            if who not in row.committed:
                self.slash(who, self.rules["seat_absence_slash"])
            self.note(who, who not in row.revealed)
        committed, opened = {*row.score_committed, *row.choices}, {*row.score_revealed, *row.opened}
        asked = [(AVAILABILITY, {*row.attested}), (SCORE_COMMIT, committed), (SCORE_REVEAL, opened)]
        done = [acts for phase, acts in asked if self.phase >= phase] + ([{*row.votes}] if self.phase == ADOPT else [])
        for who in row.voters:
            was_away = any(who not in acts for acts in done)
            if was_away and who not in committed - opened:
                self.slash(who, self.rules["seat_absence_slash"])
            self.note(who, was_away)

    def note(self, who: bytes, was_away: bool) -> None:
        member = self.members[who]
        member.missed = member.missed + 1 if was_away else 0
        member.unseated = member.unseated or member.missed >= self.rules["seat_absence_limit"]

    def settle(self) -> None:
        row = self.round
        if not row.tallied or row.candidates < 4:
            return
        share = self.pot // (self.terms["rounds"] + self.terms["extra_rounds"] - self.number + 1)
        proposers = [who for who, verdict in row.verdicts.items() if verdict is Verdict.ACCEPTED]
        share += row.carried
        paid = 0
        part = share * self.terms["proposer_share"] // BPS
        for accounts, total in ((proposers, part), (self.earning(), share - part)):
            self.paid += [(self.number, who) for who in accounts]
            for who in accounts:
                amount = total // len(accounts)
                others = self.pools.credit(self.number, who, amount)
                if amount:
                    self.rewards[self.number, who] = amount - others
                    paid += amount
        self.carried -= min(paid, row.carried)
        self.pot -= paid - min(paid, row.carried)

    def earning(self) -> list[bytes]:
        if self.by_paper:
            return self.round.majority
        held = [index for index in range(SEATS_MAX) if self.round.held >> index & 1]
        found = []
        for who, (scores, filters) in self.round.score_revealed.items():
            distinct = {scores[index] for index in held if not filters[index] & FILTER_NO_SCORE}
            if len(distinct) > 1 or (len(distinct) == 1 and len(held) == 1):
                found.append(who)
        return found
