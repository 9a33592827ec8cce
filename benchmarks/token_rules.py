"""Other rules of when an audit takes a bond, in the economies of token_dynamics.py, and other habits of poisoners.

    python benchmarks/token_rules.py [--rules NAMES] [--habits NAMES] [--shares 10,20] [--seeds 24] [--anybody]

In tasks without a reference, unless `--detection` names another file.

Rules: `now` (the board's), `row` (two different proposals in a row, as strikes are counted), `ever` (whatever passed
between), `row-twice` (each of them found in two audits in a row), `75`, `80`, `90` (as now, by so many per cent of all
stake), `others` (as now, by two thirds of all stake but the accused's own), `one-limit` (an auditor names by
GUILTY_FROM in both looks). Others of when three strikes expel, where a bond goes as now: `fade` (a proposal that passes
takes one of them away, not all), `of-five` (three of the last five proposals), `kept` (none goes away), `two` (two in a
row).
Habits: `always`, or every `second` or `third` proposal of a colluder is poison. `--anybody`: an honest participant is
mistaken as often as all of its run together are, not as the measured one that it is was.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from board_model import BoardModel  # noqa: E402
from economy_sight_support import UNSEEN, Looks, Measured  # noqa: E402
from economy_support import Economy  # noqa: E402

from flock_chain.paper_rule import RULE_PROPOSALS  # noqa: E402
from flock_chain.tally import has_two_thirds  # noqa: E402

EVERY = {"always": 1, "second": 2, "third": 3}
DETECTION = ROOT / "benchmarks" / "detection_without_reference.json"
RULES = ("now", "row", "ever", "row-twice", "75", "80", "90")
STRIKES: dict[str, Callable[[list[bool]], int]] = {  # of which of an account's proposals were struck, in order
    "fade": lambda shown: reduce(lambda left, struck: left + 1 if struck else max(0, left - 1), shown, 0),
    "of-five": lambda shown: sum(shown[-5:]),
    "kept": sum,
    "two": lambda shown: 3 * all(shown[-2:]) if len(shown) > 1 else 0,
}


class Quorum(BoardModel):
    percent = 0

    def note_blame(self, who: bytes, stake: int) -> None:
        super().note_blame(who, stake if 100 * stake >= self.percent * self.audit.stake else 0)


class Others(BoardModel):
    """Who cannot speak against itself does not count as silent."""

    def note_blame(self, who: bytes, stake: int) -> None:
        whole = self.audit.stake
        self.audit.stake -= self.voice(who)
        super().note_blame(who, stake)
        self.audit.stake = whole


class Different(BoardModel):
    """Of everybody: the last round before its first finding that still counts, and of what came since, what passed."""

    is_wiped = True
    is_confirmed = False  # a finding is two audits in a row

    def note_blame(self, who: bytes, stake: int) -> None:
        found = self.__dict__.setdefault("found", {})
        member = self.members[who]
        is_found = bool(stake) and has_two_thirds(stake, self.audit.stake)
        if is_found and self.is_confirmed and member.blamed != self.counted_audits - 1:
            member.blamed = self.counted_audits
        elif is_found:
            member.blamed = None
            self._find(found, who)
        elif who in found and self.is_wiped and self._passes(found[who], who, stake):
            del found[who]

    def _find(self, found: dict[bytes, list[int]], who: bytes) -> None:
        if who not in found:
            found[who] = [self.number, self.number, False]
        elif self.members[who].last_held > found[who][0]:
            del found[who]
            self.convict(who)

    def _passes(self, finding: list[int], who: bytes, stake: int) -> bool:
        """Two audits that name it by no more than half have looked at a newer proposal."""
        if self.members[who].last_held <= finding[1]:
            return False
        if 2 * stake > self.audit.stake:
            finding[1:] = [self.number, False]
            return False
        was_passing, finding[2] = finding[2], True
        return bool(was_passing)


class Strikes(BoardModel):
    """From an account's first strike on it is kept which of its proposals were struck, and which passed two audits."""

    rule = "kept"

    def note_strike(self, who: bytes, is_out: bool, is_void: bool) -> None:
        member, record = self.members[who], self.records[who]
        shown = self.__dict__.setdefault("shown", {}).setdefault(who, [])
        passing: dict[bytes, int] = self.__dict__.setdefault("passing", {})  # up to which proposal
        if record.expelled or member.last_held <= record.struck:
            return
        if is_out and self.audit.auditors >= 4:
            shown.append(True)
            record.struck, record.passing = self.number, False
        elif shown and not is_out and not is_void:
            if not record.passing:
                record.passing, passing[who] = True, member.last_held
                return
            shown.append(False)
            record.struck, record.passing = passing[who], False
        record.strikes = min(3, STRIKES[self.rule](shown))
        if record.expelled and member.leaving is None:
            member.leaving = self.height


def board_of(rule: str) -> type[BoardModel]:
    if rule in STRIKES:
        return type("Strikes", (Strikes,), {"rule": rule})
    if rule == "others":
        return Others
    if rule.isdigit():
        return type("Quorum", (Quorum,), {"percent": int(rule)})
    changes = {"row": {}, "ever": {"is_wiped": False}, "row-twice": {"is_confirmed": True}}
    return BoardModel if rule in ("now", "one-limit") else type("Different", (Different,), changes[rule])


class Anybody(Measured):
    def _look(self, kind: str, number: int) -> Looks:
        if kind != "honest":
            return super()._look(kind, number)
        return self.luck.choice([look for _, looks in sorted(self.looks.get(kind, UNSEEN).items()) for look in looks])


def economy_of(rule: str, habit: str, measured: Measured, share: int, seed: int) -> Economy:
    shown: dict[bytes, int] = {}

    class Habitual(Economy):
        board = board_of(rule)

        def poisons(self, who: bytes) -> bool:
            shown[who] = shown.get(who, 0) + 1
            return who in self.malicious and shown[who] % EVERY[habit] == 1 % EVERY[habit]

        def _looked_at(self) -> list[tuple[bytes, int, bool, Looks]]:
            looked = super()._looked_at()
            return [(who, times, is_out and rule != "one-limit", looks) for who, times, is_out, looks in looked]

    return Habitual(measured, rule=RULE_PROPOSALS, malicious=50 * share // 100, seed=seed)


def play(rule: str, habit: str, share: int, seeds: int, detection: Path, anybody: bool) -> Iterator[tuple[float, ...]]:
    for seed in range(1, seeds + 1):
        measured = (Anybody if anybody else Measured)(detection, "matched", seed)
        economy = economy_of(rule, habit, measured, share, seed)
        seen = economy.run()
        yield (
            seen.honest_slashes > 0, seen.honest_slashed_by_audits, seen.malicious_slashed_by_audits,
            economy.expelled(False), economy.expelled(True), economy.seated_malicious(),
            economy.seated_malicious() > 0,
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--habits", default="always", help=f"of {', '.join(EVERY)}")
    parser.add_argument("--shares", default="10,20,30,40", help="per cent malicious")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--anybody", action="store_true", help="mistakes of auditors meet anybody")
    parser.add_argument("--detection", type=Path, default=DETECTION)
    options = parser.parse_args()
    print("rule       habit   bad%  runs with honest slashed, with bad left, "
          "honest bonds, bad bonds, honest expelled, bad, bad left")  # fmt: skip
    for rule in options.rules.split(","):
        for habit in options.habits.split(","):
            for share in map(int, options.shares.split(",")):
                rows = list(play(rule, habit, share, options.seeds, options.detection, options.anybody))
                runs, *means, left = zip(*rows, strict=True)
                values = " ".join(f"{statistics.mean(column):8.2f}" for column in means)
                print(f"{rule:10} {habit:7} {share:4} {sum(runs):4}, {sum(left):2} of {len(rows)} {values}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
