"""An indexer of the board: what it stores, variable by variable, from events alone (of the board and of Delegation).

It starts from genesis's numbers, and knows of each event the height and the chain time of its block. Only what an event
says is applied; what follows from it by counting (a free row, the leading adapter, who came when) is counted here.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from contracts_support import AUDIT, DRAW_PROPOSERS

Log = dict[str, Any]
Row = defaultdict[str, Any]  # a struct: fields by name, 0 where nothing was written

SEATS, ROWS, PAID_FROM, LANES, EXPELLED = 16, 64, 4, 8, 3
SEAT = 1 << 192  # in what blames an account: votes of seats above, stake below
SHARES = (1 << 32) - 1
ACCEPTED, REJECTED_AGGREGATE = 1, 9
NO_SCORES = sum(1 << 31 + 32 * lane for lane in range(8))  # eight packed zeros
NOBODY = bytes(20)


def rows() -> Any:
    return defaultdict(lambda: defaultdict(int))


def nested() -> Any:
    return defaultdict(rows)


def seats() -> Any:
    """By task and round: a row for each seat."""
    return defaultdict(lambda: defaultdict(lambda: [defaultdict(int) for _ in range(SEATS)]))


class BoardIndex:
    def __init__(self, numbers: dict[str, int]) -> None:
        """`numbers`: the board's, as genesis sets them."""
        self.height = self.now = 0
        self.initialized, self.rules_version, self.rules = True, 1, {1: numbers}
        self.task_count, self.live = 0, list[int]()
        self.tasks, self.accounts = rows(), defaultdict[int, list[bytes]](list)
        self.members, self.rounds, self.owners, self.cases = nested(), nested(), nested(), nested()
        self.records = nested()
        self.leavers: Any = defaultdict(lambda: defaultdict(list))
        self.proposals, self.ballots = seats(), seats()
        self.adoptions, self.misses, self.shares = nested(), nested(), nested()
        self.accusation_words, self.audit_words, self.blames = nested(), nested(), nested()
        self.agreements, self.approved_at = 0, rows()
        self.next_rules, self.enact_at = dict[str, int](), 0
        self.total_bonds = self.total_unbonding = self.total_pots = self.total_carried = 0
        self.total_rewards = self.burned = 0
        self.audited: list[Log] = []  # of the audit that closes
        self.last: tuple[str, Log] = ("", {})  # the event before
        self.judged_round: dict[int, int] = {}

    def feed(self, name: str, log: Log) -> None:
        handler: Callable[[Log], None] = getattr(self, f"on_{name}")
        handler(log)
        self.last = name, log

    def _just_taken(self, log: Log, round: int) -> int:
        """What the event before says that was taken of the same account, in that round."""
        name, last = self.last
        is_of_it = name in ("Slashed", "Carried") and last["task"] == log["task"] and last["account"] == log["account"]
        return last["amount"] if is_of_it and last["round"] == round else 0

    def variables(self) -> dict[str, Any]:
        """As the sources name them, with the module."""
        for task in self.tasks:
            self.tasks[task]["able"] = sum(self._is_able(task, who) for who in self.accounts[task])
        book = (
            "initialized", "rules_version", "rules", "task_count", "live", "tasks", "accounts", "members", "records",
            "leavers", "rounds", "proposals", "ballots", "owners", "adoptions", "misses", "total_bonds",
            "total_unbonding", "total_pots", "total_carried", "total_rewards", "burned",
        )  # fmt: skip
        changes = ("agreements", "approved_at", "next_rules", "enact_at")
        return {
            **{f"book.{name}": getattr(self, name) for name in book},
            **{f"changes.{name}": getattr(self, name) for name in changes},
            "accusations.cases": self.cases, "accusations.shares": self.shares,
            "accusations.spoken": self.accusation_words, "audits.blames": self.blames,
            "audits.spoken": self.audit_words,
        }  # fmt: skip

    # ------------------------------------------------ tasks

    def on_TaskOpened(self, log: Log) -> None:
        self.task_count += 1
        self.live.append(log["task"])
        kept = {name: log[name] for name in ("creator", "document", "adapter", "pot", "terms")}
        self.tasks[log["task"]].update(kept, adapter0=log["adapter"], round=1, rules=self.rules_version)
        self.total_pots += log["pot"]
        self.burned += log["fee"]

    def on_PhaseChanged(self, log: Log) -> None:
        task = self.tasks[log["task"]]
        task.update(phase=log["phase"], phase_started=self.now, phase_block=self.height, round=log["round"])
        if log["phase"] == DRAW_PROPOSERS:
            task.update(rules=self.rules_version, close_height=self.height)
        if log["phase"] != AUDIT:
            task["hearing_again"] = False

    def on_SeedHeight(self, log: Log) -> None:
        self.tasks[log["task"]]["seed_height"] = log["height"]

    def on_TaskStopped(self, log: Log) -> None:
        self.tasks[log["task"]]["stopped"] = True

    def on_TaskEnded(self, log: Log) -> None:
        task = self.tasks[log["task"]]
        self._set_pot(log["task"], log["pot"])
        task["rest_per_seat"] = log["rest_per_seat"]
        self.total_rewards += log["rest_per_seat"] * task["paid_seats"]
        at, last = self.live.index(log["task"]), self.live.pop()
        if at < len(self.live):
            self.live[at] = last

    def on_PotWithdrawn(self, log: Log) -> None:
        self._set_pot(log["task"], self.tasks[log["task"]]["pot"] - log["amount"])

    def _set_pot(self, task: int, pot: int) -> None:
        self.total_pots -= self.tasks[task]["pot"] - pot
        self.tasks[task]["pot"] = pot

    # ------------------------------------------------ participants

    def _is_able(self, task: int, who: bytes) -> bool:
        member = self.members[task][who]
        is_away = member["leaving_at"] or member["unseated"] or self.records[task][who]["suspended"]
        return not is_away and member["bond"] >= self.tasks[task]["terms"]["min_bond"] + member["held"]

    def _add_fresh(self, task: int, who: bytes, amount: int) -> None:
        member = self.members[task][who]
        is_settled = member["fresh_height"] <= self.tasks[task]["close_height"]
        member.update(fresh=(0 if is_settled else member["fresh"]) + amount, fresh_height=self.height)

    def on_Joined(self, log: Log) -> None:
        task, who = log["task"], log["account"]
        member, row = self.members[task][who], self.tasks[task]
        if member["joined_height"]:
            self._add_fresh(task, who, log["amount"])
        else:
            free = next(number for number in range(ROWS) if not row["rows"] >> number & 1)
            row["rows"] |= 1 << free
            self.accounts[task].append(who)
            member.update(joined_height=self.height, joined_round=row["round"], domain=log["domain"], row=free)
        member["bond"] = log["bond"]
        self.total_bonds += log["amount"]

    def on_LeaveRequested(self, log: Log) -> None:
        self.members[log["task"]][log["account"]]["leaving_at"] = self.height

    def on_Rejoined(self, log: Log) -> None:
        self.members[log["task"]][log["account"]].update(unseated=False, missed=0, joined_height=self.height)

    def on_Left(self, log: Log) -> None:
        task, who, amount = log["task"], log["account"], log["amount"]
        member = self.members[task].pop(who)
        assert member["bond"] == amount
        self.accounts[task].remove(who)
        self.tasks[task]["rows"] &= ~(1 << member["row"])
        if amount:
            self.leavers[task][who].append({"amount": amount, "release_at": log["release_at"]})
        self.total_bonds -= amount
        self.total_unbonding += amount

    def on_BondWithdrawn(self, log: Log) -> None:
        task, who = log["task"], log["account"]
        waiting = [leaver for leaver in self.leavers[task][who] if leaver["release_at"] > self.now]
        free = sum(leaver["amount"] for leaver in self.leavers[task][who]) - sum(one["amount"] for one in waiting)
        assert free == log["amount"]
        self.leavers[task][who] = waiting
        self.total_unbonding -= free

    def on_Slashed(self, log: Log) -> None:
        self._take(log)
        self.burned += log["amount"]

    def on_Carried(self, log: Log) -> None:
        self._take(log)
        self.tasks[log["task"]]["carried"] += log["amount"]
        self.total_carried += log["amount"]

    def _take(self, log: Log) -> None:
        member = self.members[log["task"]][log["account"]]
        assert log["amount"] <= member["bond"], "slashed more than what was bonded then"
        member["bond"] -= log["amount"]
        self.total_bonds -= log["amount"]

    def on_CarriedBurned(self, log: Log) -> None:
        assert self.tasks[log["task"]].pop("carried") == log["amount"]
        self.total_carried -= log["amount"]
        self.burned += log["amount"]

    # ------------------------------------------------ the messages of seats

    def on_Eligible(self, log: Log) -> None:
        task = self.tasks[log["task"]]
        row = self.rounds[log["task"]][log["round"]]
        row.update(candidates=log["accounts"], stake=log["stake"])
        row.update(adapter_before=task["adapter"], adapter_after=task["adapter"])
        self.shares[log["task"]][log["round"]] = log["shares"]

    def on_Drawn(self, log: Log) -> None:
        task, number, role = log["task"], log["round"], log["role"]
        self.rounds[task][number]["proposers" if role == 1 else "voters"] = log["accounts"]
        for index, who in enumerate(log["accounts"]):
            self.members[task][who]["seat"] = number << 5 | (role - 1) << 4 | index

    def _seat(self, log: Log, role: str) -> tuple[Row, int]:
        row = self.rounds[log["task"]][log["round"]]
        return row, row[role].index(log["account"])

    def on_Committed(self, log: Log) -> None:
        row, index = self._seat(log, "proposers")
        order = row["committed"].bit_count() + 1
        row["committed"] |= 1 << index
        self.proposals[log["task"]][log["round"]][index].update(commitment=log["commitment"], order=order)

    def on_Revealed(self, log: Log) -> None:
        row, index = self._seat(log, "proposers")
        proposals, manifest = self.proposals[log["task"]][log["round"]], log["manifest"]
        row["revealed"] |= 1 << index
        proposals[index]["manifest"] = manifest
        owner = self.owners[log["task"]][manifest]
        is_mine = owner["round"] == 0 or (
            owner["round"] == log["round"] and proposals[owner["index"]]["order"] > proposals[index]["order"]
        )
        if is_mine:
            owner.update(round=log["round"], index=index)

    def on_Availability(self, log: Log) -> None:
        row, index = self._seat(log, "voters")
        row["attested"] |= 1 << index
        self.ballots[log["task"]][log["round"]][index]["attestation"] = log["held"] | log["invalid"] << SEATS

    def on_InputSet(self, log: Log) -> None:
        row = self.rounds[log["task"]][log["round"]]
        row["held_set"] = log["held_set"]
        for index, who in enumerate(row["proposers"]):
            if log["held_set"] >> index & 1:
                self.members[log["task"]][who]["last_held"] = log["round"]

    def on_ScoresCommitted(self, log: Log) -> None:
        row, index = self._seat(log, "voters")
        row["score_committed"] |= 1 << index
        self.ballots[log["task"]][log["round"]][index]["score_commitment"] = log["commitment"]

    def on_ScoresRevealed(self, log: Log) -> None:
        row, index = self._seat(log, "voters")
        row["score_revealed"] |= 1 << index
        row["earning"] |= log["earns"] << index
        self.ballots[log["task"]][log["round"]][index].update(scores=log["scores"], filters=log["filters"])

    def on_VoteRevealed(self, log: Log) -> None:
        row, index = self._seat(log, "voters")
        row["score_revealed"] |= 1 << index
        if any(log["adapter"]):
            self.ballots[log["task"]][log["round"]][index]["choice"] = log["adapter"]
            self._vote(log)

    def on_AdoptionAttested(self, log: Log) -> None:
        row, index = self._seat(log, "voters")
        row["adoption_votes"] |= 1 << index
        self._vote(log)

    def _vote(self, log: Log) -> None:
        row, votes = self.rounds[log["task"]][log["round"]], self.adoptions[log["task"]][log["round"]]
        votes[log["adapter"]] += 1
        if votes[log["adapter"]] > row["leading_votes"]:
            row.update(leading=log["adapter"], leading_votes=votes[log["adapter"]])

    def on_ParentMissing(self, log: Log) -> None:
        self.misses[log["task"]][log["round"]][log["account"]] = True
        self.rounds[log["task"]][log["round"]]["missing"] += log["stake"]

    # ------------------------------------------------ how a round ends

    def on_Tallied(self, log: Log) -> None:
        kept = {name: log[name] for name in ("center", "mad", "medians")}
        self.rounds[log["task"]][log["round"]].update(kept, tallied=True, accepted_count=log["accepted"])

    def on_Verdict(self, log: Log) -> None:
        task, verdict = self.tasks[log["task"]], log["verdict"]
        assert log["slashed"] == self._just_taken(log, log["round"])
        row, index = self._seat(log, "proposers")
        row["verdicts"] |= verdict << 4 * index
        if task["terms"]["voting_rule"] and verdict in (ACCEPTED, REJECTED_AGGREGATE):  # decided: all or none of them
            accepted = row["held_set"].bit_count() if verdict == ACCEPTED else 0
            row.update(tallied=True, medians=[NO_SCORES] * 2, accepted_count=accepted)
        if verdict == ACCEPTED:
            self.members[log["task"]][log["account"]]["last_accepted"] = log["round"]
            task["accepted_audit"] = task["counted_audits"] + 1

    def on_Adopted(self, log: Log) -> None:
        task, row = self.tasks[log["task"]], self.rounds[log["task"]][log["round"]]
        if log["adapter"] != task["adapter"]:
            row["adopted_before"] = task["adopted"]
            task["adopted"] = log["round"]
        task["adapter"] = row["adapter_after"] = log["adapter"]

    def on_FellBack(self, log: Log) -> None:
        task, row = self.tasks[log["task"]], self.rounds[log["task"]][log["round"]]
        task["adopted"] = self.rounds[log["task"]][task["adopted"]]["adopted_before"]
        task["adapter"] = row["adapter_after"] = log["adapter"]

    def on_SeatsClosed(self, log: Log) -> None:
        row = self.rounds[log["task"]][log["round"]]
        for role in ("proposers", "voters"):
            for index, who in enumerate(row[role] or ()):
                member = self.members[log["task"]][who]
                member["missed"] = member["missed"] + 1 if log[role] >> index & 1 else 0

    def on_Unseated(self, log: Log) -> None:
        self.members[log["task"]][log["account"]]["unseated"] = True

    def on_Settled(self, log: Log) -> None:
        task, row = self.tasks[log["task"]], self.rounds[log["task"]][log["round"]]
        row.update(settled=True, earning=log["earning"], carried=log["carried"])
        if not row["tallied"] or row["candidates"] < PAID_FROM:
            return
        row.update({name: log[name] for name in ("share", "per_proposer", "per_voter")})
        proposers, voters = row["accepted_count"], log["earning"].bit_count()
        owed = proposers * log["per_proposer"] + voters * log["per_voter"]
        from_carried = min(owed, log["carried"])
        assert task["pot"] - log["pot"] == owed - from_carried
        self._set_pot(log["task"], log["pot"])
        task["carried"] -= from_carried
        self.total_carried -= from_carried
        self.total_rewards += owed
        task["paid_seats"] += proposers + voters
        task["paid_rounds"] += proposers + voters > 0

    def on_Claimed(self, log: Log) -> None:
        """All that was open to the seat."""
        row, who = self.rounds[log["task"]][log["round"]], log["account"]
        is_proposer = who in row["proposers"]
        seat = row["proposers"].index(who) if is_proposer else SEATS + row["voters"].index(who)
        if row["per_proposer" if is_proposer else "per_voter"]:
            row["claimed"] |= 1 << seat
        if self.tasks[log["task"]]["rest_per_seat"]:
            row["claimed"] |= 1 << seat + 2 * SEATS
        self.total_rewards -= log["amount"]

    def on_delegation_claimed(self, log: Log) -> None:
        """In Delegation; what it pays is of the board's rewards."""
        self.total_rewards -= log["amount"]

    # ------------------------------------------------ accusations

    def _case(self, log: Log) -> tuple[Row, int]:
        index = self.rounds[log["task"]][log["round"]]["proposers"].index(log["account"])
        return self.cases[log["task"]][log["round"]], index

    def on_Accused(self, log: Log) -> None:
        case, index = self._case(log)
        if not case["named"]:
            words = self.shares[log["task"]][log["round"]]
            case["total"] = sum(word >> 32 * lane & SHARES for word in words for lane in range(LANES))
            case["closed"] = self.tasks[log["task"]]["close_height"]
            case.update(guilty=[0, 0], innocent=[0, 0], held=[0] * SEATS)
        case["named"] |= 1 << index
        case["open"] |= 1 << index
        case["until"] = log["until"]
        case["held"][index] = log["held"]
        self.members[log["task"]][log["account"]]["held"] += log["held"]

    def on_Confirmed(self, log: Log) -> None:
        row = self.members[log["task"]][log["account"]]["row"]
        self.accusation_words[log["task"]][log["round"]][row] |= log["guilty"] | log["innocent"]
        case = self.cases[log["task"]][log["round"]]
        for name in ("guilty", "innocent"):
            for index in range(SEATS):
                if log[name] >> index & 1:
                    case[name][index >> 3] += log["share"] << 32 * (index & 7)

    def on_Convicted(self, log: Log) -> None:
        case, index = self._case(log)
        assert log["slashed"] == self._just_taken(log, log["round"])
        case["convicted"] |= 1 << index
        self._release(log, case["held"][index])

    def on_Freed(self, log: Log) -> None:
        self._release(log, log["amount"])
        if self.tasks[log["task"]]["phase"] != AUDIT:
            self._add_fresh(log["task"], log["account"], log["amount"])

    def _release(self, log: Log, amount: int) -> None:
        case, index = self._case(log)
        case["open"] &= ~(1 << index)
        self.members[log["task"]][log["account"]]["held"] -= amount

    # ------------------------------------------------ audits

    def on_AuditOpened(self, log: Log) -> None:
        task = self.tasks[log["task"]]
        task.update(audit_stake=log["stake"], auditors=log["auditors"], heard=0, heard_stake=0)
        task.update(hearing_again=log["again"], ending=log["ending"])
        self.blames[log["task"]][log["audit"]][NOBODY] = log["stake"] + task["round"] * SEAT
        self.judged_round[log["task"]] = log["round"]

    def on_Blamed(self, log: Log) -> None:
        task, said = self.tasks[log["task"]], self.blames[log["task"]][log["audit"]]
        self.audit_words[log["task"]][log["audit"]][log["account"]] = True
        task["heard"] += 1
        task["heard_stake"] += log["stake"]
        members = self.members[log["task"]]
        for who in (who for who in log["accused"] if who in members and members[who]["last_held"]):
            said[who] += log["stake"] + SEAT * log["has_seat"]

    def on_Audited(self, log: Log) -> None:
        assert log["slashed"] == self._just_taken(log, self.tasks[log["task"]]["round"])
        self.audited.append(log)

    def on_Struck(self, log: Log) -> None:
        record, member = self.records[log["task"]][log["account"]], self.members[log["task"]][log["account"]]
        record.update(strikes=log["strikes"], passing=False)
        if log["strikes"]:
            record["struck"] = self.tasks[log["task"]]["round"]
        if log["strikes"] == EXPELLED and not member["leaving_at"]:
            member["leaving_at"] = self.height

    def _note_passed(self, task: int, audit: int) -> None:
        """Of those with strikes, whose new proposal this audit is the first to pass."""
        for who in self.accounts[task]:
            record = self.records[task][who]
            is_out = 2 * (self.blames[task][audit][who] % SEAT) > self.tasks[task]["audit_stake"]
            is_new = self.members[task][who]["last_held"] > record["struck"]
            if 0 < record["strikes"] < EXPELLED and not is_out and is_new:
                record["passing"] = True

    def on_AuditClosed(self, log: Log) -> None:
        task = self.tasks[log["task"]]
        task.update(audits=log["audit"], seats_heard=self.judged_round[log["task"]])
        task["void_audits"] = task["void_audits"] + 1 if log["void"] else 0
        task["counted_audits"] += not log["void"]
        if not log["void"]:
            task["audited_before"], task["audited"] = task["audited"], task["round"]
            self._note_passed(log["task"], log["audit"])
        for one in self.audited:
            member = self.members[one["task"]][one["account"]]
            self.records[one["task"]][one["account"]]["suspended"] = one["suspended"]
            if one["guilty"]:
                is_second = 0 < member["blamed_audit"] == task["counted_audits"] - 1
                member["blamed_audit"] = 0 if is_second else task["counted_audits"]
        self.audited.clear()

    # ------------------------------------------------ the board's numbers

    def on_RulesApproved(self, log: Log) -> None:
        self.approved_at[log["ballot"]][log["account"]] = self.now

    def on_RulesAgreed(self, log: Log) -> None:
        self.agreements += 1
        self.next_rules, self.enact_at = log["rules"], log["enact_at"]

    def on_RulesEnacted(self, log: Log) -> None:
        self.rules_version, self.enact_at = log["version"], 0
        self.rules[log["version"]] = self.next_rules
