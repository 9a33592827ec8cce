"""The task board's slow, obvious twin: one task in plain Python, dictionaries by account. Knows no EVM and no ABI.

Each method answers whether the contract must accept the call, and changes the model where it must. Here: how phases
close, one after the other; the modules below it hold the rest.
"""

from collections.abc import Callable

from board_model_money import BPS
from board_model_rows import Audit, Round
from board_model_verdicts import Verdicts
from contracts_support import (
    ADOPT,
    AUDIT,
    AVAILABILITY,
    COMMIT,
    DRAW_PROPOSERS,
    DRAW_VOTERS,
    ENDED,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    WAITING,
)

from flock_chain.tally import Verdict, has_two_thirds
from flock_contracts.draw import draw

SECONDS = {
    WAITING: "wait_seconds",
    COMMIT: "commit_seconds",
    REVEAL: "reveal_seconds",
    AVAILABILITY: "availability_seconds",
    SCORE_COMMIT: "score_commit_seconds",
    SCORE_REVEAL: "score_reveal_seconds",
    TALLY: "tally_seconds",
    ADOPT: "adopt_seconds",
    AUDIT: "audit_seconds",
}


class BoardModel(Verdicts):
    def is_missing(self) -> bool:
        stake = sum(self.weight(who) for who in self.members)
        missing = sum(self.weight(who) for who in self.round.missing)
        return missing > 0 and has_two_thirds(missing, stake)

    def open_audit(self) -> None:
        number = self.number if self.round.voters or self.number == 1 else self.number - 1
        voices = [self.voice(who) for who in self.members]
        seats = [] if self.hearing_again or number <= self.seats_heard else self.rounds[number].voters
        self.audit = Audit(sum(voices), sum(voice > 0 for voice in voices), seats, number)
        self.enter(AUDIT)

    def is_due(self) -> bool:
        row = self.round
        if self.phase in (DRAW_PROPOSERS, DRAW_VOTERS):
            return self.height >= self.seed_height
        if self.phase == ENDED:
            return False
        everybody: dict[int, Callable[[], bool]] = {
            WAITING: self.has_enough,
            COMMIT: lambda: len(row.committed) == len(row.proposers) or self.is_missing(),
            REVEAL: lambda: len(row.revealed) == len(row.committed),
            AVAILABILITY: lambda: len(row.attested) == len(row.voters),
            SCORE_COMMIT: lambda: len(row.score_committed) + len(row.choices) == len(row.voters),
            SCORE_REVEAL: lambda: (
                len(row.score_revealed) + len(row.opened) == len(row.score_committed) + len(row.choices)
            ),
            TALLY: lambda: False,
            ADOPT: lambda: len(row.votes) == len(row.score_revealed),
            AUDIT: lambda: len(self.audit.said) == self.audit.auditors,
        }
        late = self.now >= self.started + self.terms[SECONDS[self.phase]]
        return everybody[self.phase]() or (late and self.height >= self.started_height + self.rules["phase_min_blocks"])

    def poke(self, mixes: dict[int, bytes]) -> bool:
        """`mixes`: by height, as far as known."""
        if not self.is_due():
            return False
        row = self.round
        {
            WAITING: self.close_waiting,
            DRAW_PROPOSERS: lambda: self.draw_proposers(mixes),
            COMMIT: self.close_commit,
            DRAW_VOTERS: lambda: self.draw_voters(mixes),
            REVEAL: self.close_reveal,
            AVAILABILITY: self.close_availability,
            SCORE_COMMIT: lambda: self.enter(SCORE_REVEAL) if row.score_committed or row.choices else self.void(),
            SCORE_REVEAL: self.close_score_reveal,
            TALLY: self.void,
            ADOPT: self.close_adopt,
            AUDIT: self.close_audit,
        }[self.phase]()
        return True

    def close_waiting(self) -> None:
        if self.has_enough():
            self.start()
        else:
            self.end()

    def start(self) -> None:
        self.rules = self.in_force
        self.close, self.seed_height = self.height, self.height + self.rules["seed_delay"]
        self.enter(DRAW_PROPOSERS)

    def seats(self) -> tuple[int, int]:
        eligible, wanted = self.round.candidates, self.terms["proposers"]
        if eligible < 4:
            return 1, eligible - 1
        voters = max(3, min(self.terms["voters"], eligible - wanted))
        return min(wanted, eligible - voters), voters

    def draw_proposers(self, mixes: dict[int, bytes]) -> None:
        weights = {who: self.weight(who) for who in self.members}
        self.round.candidates = sum(weight > 0 for weight in weights.values())
        self.keep_shares(weights)
        self.round.proposers = self.drawn(mixes[self.seed_height], weights, self.seats()[0])
        self.enter(COMMIT)

    def draw_voters(self, mixes: dict[int, bytes]) -> None:
        weights = {who: 0 if who in self.round.proposers else self.weight(who) for who in self.members}
        self.round.voters = self.drawn(mixes[self.seed_height], weights, self.seats()[1])
        self.enter(REVEAL)

    def drawn(self, seed: bytes, weights: dict[bytes, int], count: int) -> list[bytes]:
        accounts = list(weights)
        found = [accounts[index] for index in draw(seed, list(weights.values()), count)]
        self.pools.note_seats(self.number, {who: weights[who] for who in found})
        return found

    def close_commit(self) -> None:
        if self.is_missing():
            self.round.gave_up, self.adapter = True, self.past.pop()
            self.finish()
            return
        if not self.round.committed:
            self.finish()
            return
        self.seed_height = self.height + self.rules["seed_delay"]
        self.enter(DRAW_VOTERS)

    def close_reveal(self) -> None:
        row = self.round
        for who in row.committed:
            if who not in row.revealed:
                row.verdicts[who] = Verdict.UNOPENED
                self.slash(who, self.rules["missed_reveal_slash"])
        if row.revealed - set(row.verdicts):
            self.enter(AVAILABILITY)
        else:
            self.finish()

    def close_availability(self) -> None:
        row, seats = self.round, len(self.round.voters)
        for index, who in enumerate(row.proposers):
            if who not in row.revealed or who in row.verdicts:
                continue
            if has_two_thirds(sum(held >> index & 1 for held, _ in row.attested.values()), seats):
                row.held |= 1 << index
                self.members[who].last_held = self.number
            elif has_two_thirds(sum(invalid >> index & 1 for _, invalid in row.attested.values()), seats):
                row.verdicts[who] = Verdict.INVALID
                self.accuse(who, self.rules["invalid_bytes_slash"])
            else:
                row.verdicts[who] = Verdict.VOID
        if row.held:
            self.enter(SCORE_COMMIT)
        else:
            self.finish()

    def close_score_reveal(self) -> None:
        row = self.round
        for who in (*row.score_committed, *row.choices):
            if who not in row.score_revealed and who not in row.opened:
                self.slash(who, self.rules["missed_reveal_slash"])
        if self.by_paper:
            self.decide()
            self.finish()
        elif row.score_revealed:
            self.enter(TALLY)
        else:
            self.void()

    def void(self) -> None:
        for index, who in enumerate(self.round.proposers):
            if self.round.held >> index & 1:
                self.round.verdicts[who] = Verdict.VOID
        self.finish()

    def tally(self) -> bool:
        if self.phase != TALLY:
            return False
        self.judge()
        if Verdict.ACCEPTED in self.round.verdicts.values():
            self.enter(ADOPT)
        else:
            self.finish()
        return True

    def close_adopt(self) -> None:
        row = self.round
        for adapter in set(row.votes.values()):
            votes = sum(vote == adapter for vote in row.votes.values())
            if has_two_thirds(votes, len(row.score_revealed)) and 2 * votes >= len(row.voters):
                self.take(adapter)
        self.finish()

    def close_audit(self) -> None:
        self.judge_blamed()
        self.go_on()

    def finish(self) -> None:
        if not self.round.gave_up:
            self.close_seats()
        self.settle()
        every = self.terms["audit_rounds"]
        if every and self.number % every == 0 and not self.is_over():
            self.open_audit()
        else:
            self.go_on()

    def is_over(self) -> bool:
        return self.ending or self.stopped or self.number == self.terms["rounds"] + self.terms["extra_rounds"]

    def go_on(self) -> None:
        was_heard_again, self.hearing_again = self.hearing_again, False
        if self.is_over():
            self.end()
            return
        if not was_heard_again and not self.has_enough() and self.able(with_suspended=True) >= self.least:
            self.hearing_again = True
            self.open_audit()
            return
        self.number += 1
        self.rounds[self.number] = Round()
        if self.has_enough():
            self.start()
        else:
            self.enter(WAITING)

    def stop(self) -> bool:
        started = self.number - (self.phase == WAITING)
        if self.phase == ENDED or self.stopped or started < self.terms["rounds"]:
            return False
        self.stopped = True
        if self.phase == WAITING:
            self.end()
        return True

    def end(self) -> None:
        accepted = self.accepted_audit
        if self.terms["audit_rounds"] and accepted is not None and self.counted_audits < accepted + 2:
            self.ending = True
            self.open_audit()
            return
        self.burned, self.carried = self.burned + self.carried, 0
        if self.paid:
            done = min(len({number for number, _ in self.paid}), self.terms["rounds"])
            per_seat = self.pot * done // self.terms["rounds"] * self.terms["rest_share"] // BPS // len(self.paid)
            for seat in self.paid if per_seat else []:
                self.rewards[seat] = self.rewards.get(seat, 0) + per_seat - self.pools.rest(*seat, per_seat)
            self.rest_per_seat = per_seat
            self.pot -= per_seat * len(self.paid)
        self.enter(ENDED)
