"""The task board's slow, obvious twin: one task in plain Python, dictionaries by account. Knows no EVM and no ABI.

Each method answers whether the contract must accept the call, and changes the model where it must.
"""

from dataclasses import dataclass, field

from contracts_support import (
    ADOPT,
    AUDIT,
    AVAILABILITY,
    COMMIT,
    DRAW_PROPOSERS,
    DRAW_VOTERS,
    ENDED,
    PARAMETERS,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    WAITING,
)

from flock_chain.paper_rule import compute_paper_outcome
from flock_chain.tally import FILTER_NO_SCORE, SEATS_MAX, Verdict, compute_tally, has_two_thirds
from flock_contracts.draw import draw

BPS = 10_000
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
Scores = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass
class Member:
    bond: int
    joined: int
    later: list[tuple[int, int]] = field(default_factory=list)  # (height, amount) of every addition
    leaving: int | None = None
    last_accepted: int | None = None
    missed: int = 0  # seats in a row
    unseated: bool = False
    accepted_audit: int = 0  # audits closed at that time
    blamed: int | None = None  # the last audit whose two thirds of all stake blamed it
    suspended: bool = False

    def bond_at(self, close: int) -> int:
        return self.bond - sum(amount for height, amount in self.later if height > close)


@dataclass
class Round:
    candidates: int = 0
    proposers: list[bytes] = field(default_factory=list)
    voters: list[bytes] = field(default_factory=list)
    committed: dict[bytes, bytes] = field(default_factory=dict)  # in order; account -> manifest
    revealed: set[bytes] = field(default_factory=set)
    attested: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    held: int = 0
    score_committed: dict[bytes, Scores] = field(default_factory=dict)
    score_revealed: dict[bytes, Scores] = field(default_factory=dict)
    votes: dict[bytes, bytes] = field(default_factory=dict)
    choices: dict[bytes, bytes] = field(default_factory=dict)  # by the paper's rule: committed, then revealed
    opened: dict[bytes, bytes] = field(default_factory=dict)
    majority: list[bytes] = field(default_factory=list)
    carried: int = 0  # from rounds before
    missing: set[bytes] = field(default_factory=set)
    gave_up: bool = False  # its parent is nowhere
    verdicts: dict[bytes, Verdict] = field(default_factory=dict)
    tallied: bool = False


@dataclass
class Audit:
    """`stake` and `said` count who bonded until the block in which it began, and who has left since."""

    stake: int
    auditors: int
    seats: list[bytes]
    said: dict[bytes, tuple[int, tuple[bytes, ...]]] = field(default_factory=dict)


class BoardModel:
    def __init__(self, terms: dict[str, int], pot: int, height: int, now: int, adapter: bytes) -> None:
        self.terms, self.pot = terms, pot
        self.members: dict[bytes, Member] = {}  # in the order of joining
        self.unbonding: dict[bytes, tuple[int, int]] = {}
        self.rewards: dict[tuple[int, bytes], int] = {}
        self.owners: dict[bytes, tuple[int, bytes]] = {}  # manifest -> (round, account)
        self.burned, self.carried, self.stopped = PARAMETERS["task_fee"], 0, False
        self.by_paper = bool(terms["voting_rule"])
        self.paid: list[tuple[int, bytes]] = []  # (round, account) of every paid seat
        self.number, self.rounds, self.adapter = 1, {1: Round()}, adapter
        self.height, self.now = height, now
        self.close = self.seed_height = 0
        self.past: list[bytes] = []  # adapters before the present one, to fall back to
        self.audits, self.audit = 0, Audit(0, 0, [])
        self.accepted_audit: int | None = None
        self.ending = False
        self.enter(WAITING)

    # ------------------------------------------------ sums

    @property
    def round(self) -> Round:
        return self.rounds[self.number]

    @property
    def liabilities(self) -> int:
        bonds = sum(member.bond for member in self.members.values())
        unbonding = sum(amount for amount, _ in self.unbonding.values())
        return bonds + unbonding + self.pot + self.carried + sum(self.rewards.values()) + self.burned

    # ------------------------------------------------ participants

    def join(self, who: bytes, amount: int) -> bool:
        member = self.members.get(who)
        if self.phase == ENDED or amount == 0:
            return False
        if member is None:
            if amount < self.terms["min_bond"] or len(self.members) == 64:
                return False
            self.members[who] = Member(amount, self.height)
            self.note_late(amount, 1)
            return True
        if member.leaving is not None:
            return False
        member.bond += amount
        member.later.append((self.height, amount))
        self.note_late(amount, 0)
        return True

    def note_late(self, amount: int, new: int) -> None:
        if self.phase == AUDIT and self.close == self.height:
            self.audit.stake += amount
            self.audit.auditors += new

    def leave(self, who: bytes) -> bool:
        if who not in self.members:
            return False
        if self.is_free(who):
            self.remove(who)
            return True
        if self.members[who].leaving is not None:
            return False
        self.members[who].leaving = self.height
        return True

    def rejoin(self, who: bytes) -> bool:
        member = self.members.get(who)
        if self.phase == ENDED or member is None or not member.unseated or member.leaving is not None:
            return False
        member.unseated, member.missed, member.joined = False, 0, self.height
        return True

    def evict(self, who: bytes) -> bool:
        if who not in self.members or not self.is_free(who):
            return False
        idle = self.members[who].unseated or self.members[who].leaving is not None
        in_the_way = idle and len(self.members) == 64
        if self.members[who].bond >= self.terms["min_bond"] and not in_the_way:
            return False
        self.remove(who)
        return True

    def is_free(self, who: bytes) -> bool:
        if self.phase == ENDED:
            return True
        accepted = self.members[who].last_accepted
        if accepted is not None and self.number <= accepted + PARAMETERS["bond_unlock_rounds"]:
            return False
        member = self.members[who]
        awaits = self.audits < member.accepted_audit + 2 or member.blamed == self.audits
        if self.terms["audit_rounds"] and accepted is not None and awaits:
            return False
        if self.phase == WAITING:
            return True
        if who in self.round.proposers or who in self.round.voters:
            return False
        return self.phase > DRAW_VOTERS or self.weight(who) == 0

    def remove(self, who: bytes) -> None:
        amount = self.unbonding.get(who, (0, 0))[0] + self.members.pop(who).bond
        self.unbonding[who] = (amount, self.now + PARAMETERS["unbonding_delay"])

    def withdraw(self, who: bytes) -> bool:
        amount, release = self.unbonding.get(who, (0, 0))
        if amount == 0 or self.now < release:
            return False
        del self.unbonding[who]
        return True

    def claim(self, who: bytes, round: int) -> bool:
        return self.rewards.pop((round, who), 0) > 0

    def stop(self) -> bool:
        started = self.number - (self.phase == WAITING)
        if self.phase == ENDED or self.stopped or started < self.terms["rounds"]:
            return False
        self.stopped = True
        if self.phase == WAITING:
            self.end()
        return True

    def withdraw_pot(self) -> bool:
        if self.phase != ENDED or self.pot == 0:
            return False
        self.pot = 0
        return True

    # ------------------------------------------------ seats

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

    def miss(self, who: bytes) -> bool:
        """Says that the round's parent is nowhere."""
        if self.phase != COMMIT or not self.past or who not in self.members or who in self.round.missing:
            return False
        if self.weight(who) == 0:
            return False
        self.round.missing.add(who)
        return True

    def is_missing(self) -> bool:
        stake = sum(self.weight(who) for who in self.members)
        missing = sum(self.weight(who) for who in self.round.missing)
        return missing > 0 and has_two_thirds(missing, stake)

    def blame(self, who: bytes, audit: int, accused: tuple[bytes, ...]) -> bool:
        if self.phase != AUDIT or audit != self.audits + 1 or who in self.audit.said or who not in self.members:
            return False
        stake = self.members[who].bond_at(self.close) if self.members[who].joined <= self.close else 0
        known = {name for name, member in self.members.items() if member.last_accepted is not None}
        if stake == 0 or list(accused) != sorted(set(accused)) or who in accused or set(accused) - known:
            return False
        self.audit.said[who] = (stake, accused)
        return True

    def open_audit(self) -> None:
        voters = self.round.voters or self.rounds.get(self.number - 1, Round()).voters
        self.close = self.height
        self.audit = Audit(sum(member.bond for member in self.members.values()), len(self.members), voters)
        self.enter(AUDIT)

    def close_audit(self) -> None:
        self.audits += 1
        for who, member in self.members.items():
            blamers = {name: stake for name, (stake, accused) in self.audit.said.items() if who in accused}
            is_guilty = bool(blamers) and has_two_thirds(sum(blamers.values()), self.audit.stake)
            named = sum(name in self.audit.seats for name in blamers)
            member.suspended = is_guilty or (named > 0 and 7 * named >= 5 * len(self.audit.seats))
            if is_guilty and member.blamed == self.audits - 1 and member.blamed is not None:
                member.blamed = None
                if self.audit.auditors >= 4:
                    self.burned += self.cut(who, self.terms["audit_slash"])
            elif is_guilty:
                member.blamed = self.audits
        self.go_on()

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
        self.finish()

    def accept(self, who: bytes) -> None:
        self.members[who].last_accepted = self.number
        self.members[who].accepted_audit = self.accepted_audit = self.audits

    def take(self, adapter: bytes) -> None:
        if adapter != self.adapter:
            self.past.append(self.adapter)
        self.adapter = adapter

    def carry(self, who: bytes) -> None:
        self.carried += self.cut(who, self.terms["rule_slash"]) if self.round.candidates >= 4 else 0

    def adopt(self, who: bytes, adapter: bytes) -> bool:
        row = self.round
        if not self.is_turn(who, ADOPT, list(row.score_revealed)) or who in row.votes:
            return False
        row.votes[who] = adapter
        return True

    def tally(self) -> bool:
        row = self.round
        if self.phase != TALLY:
            return False
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
            if verdict is Verdict.SLASHED_NORM:
                self.slash(who, PARAMETERS["norm_slash"])
        if Verdict.ACCEPTED in row.verdicts.values():
            self.enter(ADOPT)
        else:
            self.finish()
        return True

    def slash(self, who: bytes, bps: int) -> None:
        if self.round.candidates >= 4:
            self.burned += self.cut(who, bps)

    def cut(self, who: bytes, bps: int) -> int:
        amount = self.members[who].bond * bps // BPS
        self.members[who].bond -= amount
        return amount

    # ------------------------------------------------ phases

    def enter(self, phase: int) -> None:
        self.phase, self.started, self.started_height = phase, self.now, self.height

    def weight(self, who: bytes) -> int:
        member = self.members[who]
        if (
            member.suspended
            or member.unseated
            or member.joined > self.close
            or (member.leaving is not None and member.leaving < self.close)
        ):
            return 0
        bond = member.bond_at(self.close)
        return bond if bond >= self.terms["min_bond"] else 0

    def has_enough(self) -> bool:
        return self.able >= max(2, self.terms["min_participants"])

    @property
    def able(self) -> int:
        stays = [m for m in self.members.values() if m.leaving is None and not m.unseated and not m.suspended]
        return sum(member.bond >= self.terms["min_bond"] for member in stays)

    def is_due(self) -> bool:
        row = self.round
        if self.phase in (DRAW_PROPOSERS, DRAW_VOTERS):
            return self.height >= self.seed_height
        if self.phase == ENDED:
            return False
        everybody = {
            WAITING: self.has_enough(),
            COMMIT: len(row.committed) == len(row.proposers) or self.is_missing(),
            REVEAL: len(row.revealed) == len(row.committed),
            AVAILABILITY: len(row.attested) == len(row.voters),
            SCORE_COMMIT: len(row.score_committed) + len(row.choices) == len(row.voters),
            SCORE_REVEAL: len(row.score_revealed) + len(row.opened) == len(row.score_committed) + len(row.choices),
            TALLY: False,
            ADOPT: len(row.votes) == len(row.score_revealed),
            AUDIT: len(self.audit.said) == self.audit.auditors,
        }
        late = self.now >= self.started + self.terms[SECONDS[self.phase]]
        return everybody[self.phase] or (late and self.height >= self.started_height + PARAMETERS["phase_min_blocks"])

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
        self.close, self.seed_height = self.height, self.height + PARAMETERS["seed_delay"]
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
        self.round.proposers = self.drawn(mixes[self.seed_height], weights, self.seats()[0])
        self.enter(COMMIT)

    def draw_voters(self, mixes: dict[int, bytes]) -> None:
        weights = {who: 0 if who in self.round.proposers else self.weight(who) for who in self.members}
        self.round.voters = self.drawn(mixes[self.seed_height], weights, self.seats()[1])
        self.enter(REVEAL)

    def drawn(self, seed: bytes, weights: dict[bytes, int], count: int) -> list[bytes]:
        accounts = list(weights)
        return [accounts[index] for index in draw(seed, list(weights.values()), count)]

    def close_commit(self) -> None:
        if self.is_missing():
            self.round.gave_up, self.adapter = True, self.past.pop()
            self.finish()
            return
        if not self.round.committed:
            self.finish()
            return
        self.seed_height = self.height + PARAMETERS["seed_delay"]
        self.enter(DRAW_VOTERS)

    def close_reveal(self) -> None:
        row = self.round
        for who in row.committed:
            if who not in row.revealed:
                row.verdicts[who] = Verdict.UNOPENED
                self.slash(who, PARAMETERS["missed_reveal_slash"])
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
            elif has_two_thirds(sum(invalid >> index & 1 for _, invalid in row.attested.values()), seats):
                row.verdicts[who] = Verdict.INVALID
                self.slash(who, PARAMETERS["invalid_bytes_slash"])
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
                self.slash(who, PARAMETERS["missed_reveal_slash"])
        if self.by_paper:
            self.decide()
        elif row.score_revealed:
            self.enter(TALLY)
        else:
            self.void()

    def void(self) -> None:
        for index, who in enumerate(self.round.proposers):
            if self.round.held >> index & 1:
                self.round.verdicts[who] = Verdict.VOID
        self.finish()

    def close_adopt(self) -> None:
        row = self.round
        for adapter in set(row.votes.values()):
            votes = sum(vote == adapter for vote in row.votes.values())
            if has_two_thirds(votes, len(row.score_revealed)) and 2 * votes >= len(row.voters):
                self.take(adapter)
        self.finish()

    def close_seats(self) -> None:
        row = self.round
        for who in row.proposers:
            self.note(who, who not in row.revealed)
        committed, opened = {*row.score_committed, *row.choices}, {*row.score_revealed, *row.opened}
        asked = [(AVAILABILITY, {*row.attested}), (SCORE_COMMIT, committed), (SCORE_REVEAL, opened)]
        done = [acts for phase, acts in asked if self.phase >= phase] + ([{*row.votes}] if self.phase == ADOPT else [])
        for who in row.voters:
            was_away = any(who not in acts for acts in done)
            unopened = who in committed - opened
            if was_away and not unopened and (who in row.attested or who in committed):
                self.slash(who, PARAMETERS["seat_absence_slash"])
            self.note(who, was_away)

    def note(self, who: bytes, was_away: bool) -> None:
        member = self.members[who]
        member.missed = member.missed + 1 if was_away else 0
        member.unseated = member.unseated or member.missed >= PARAMETERS["seat_absence_limit"]

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
        if self.is_over():
            self.end()
            return
        self.number += 1
        self.rounds[self.number] = Round()
        if self.has_enough():
            self.start()
        else:
            self.enter(WAITING)

    def end(self) -> None:
        if self.terms["audit_rounds"] and self.accepted_audit is not None and self.audits < self.accepted_audit + 2:
            self.ending = True
            self.open_audit()
            return
        self.burned, self.carried = self.burned + self.carried, 0
        if self.paid:
            done = min(len({number for number, _ in self.paid}), self.terms["rounds"])
            per_seat = self.pot * done // self.terms["rounds"] * self.terms["rest_share"] // BPS // len(self.paid)
            for seat in self.paid if per_seat else []:
                self.rewards[seat] = self.rewards.get(seat, 0) + per_seat
            self.pot -= per_seat * len(self.paid)
        self.enter(ENDED)

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
                if amount := total // len(accounts):
                    self.rewards[self.number, who] = amount
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
