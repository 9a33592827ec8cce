"""Every row of the first table of invariants in contracts/README.md, broken on purpose: the tests it names must fail.

    python benchmarks/contract_rows.py [--only WORDS] [--json]

Each wrong contract is compiled in a temporary place, and the row's own tests run on it, no others (the machines with
`FLOCK_EXAMPLES` examples, 50 unless told). Exit code 1 where a row has no wrong contract here, or passes on one.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract_mutants import ROOT, SLOW_TO_IMPORT, TESTS, Campaign, users_of

from flock_contracts.build_artifacts import SOURCES

README = ROOT / "contracts" / "README.md"
HEAD = "| sentence | checked on compiled bytecode by |\n|---|---|\n"


@dataclass(frozen=True)
class Wrong:
    """A change of one module that makes a sentence untrue; the sentence by its beginning."""

    sentence: str
    module: str
    before: str
    after: str


WRONG = (
    Wrong("conservation over balances", "book", "        self.burned += amount\n        log events.Slashed(task=task, "
          "round=round, account=account, amount=amount)\n    return amount\n\n\n@internal\ndef _carry",
          "        log events.Slashed(task=task, round=round, account=account, amount=amount)\n    return amount\n\n\n"
          "@internal\ndef _carry"),
    Wrong("contract balance >= liabilities", "TaskBoard", "    book.total_rewards -= amount\n    log events.Claimed",
          "    log events.Claimed"),
    Wrong("nothing negative", "book", "    self.members[task][account].bond -= amount\n",
          "    self.members[task][account].bond = unsafe_sub(self.members[task][account].bond, amount)\n"),
    Wrong("totals equal their rows", "book", "    self.total_unbonding += member.bond\n",
          "    self.total_unbonding += 0\n"),
    Wrong("each withdrawal once", "book", "    self.leavers[task][account] = waiting\n", ""),
    Wrong("A cannot affect what B can withdraw", "TaskBoard", "    book.rounds[task][round].claimed |= mask\n",
          "    book.rounds[task][round].claimed |= mask | 2**64 - 1\n"),
    Wrong("slashed <= staked at the time", "book", "uint256 = min(held, self.members[task][account].bond)\n",
          "uint256 = held\n"),
    Wrong("one offence slashes once", "evidence",
          '    assert stakes.tombstoned_at[signer] == 0, "stake: convicted before"\n', ""),
    Wrong("only a valid conflicting pair", "evidence", "assert differ and a.kind != NULLIFY", "assert differ or True"),
    Wrong("any flipped byte, high-s", "evidence", "one.s > 0 and one.s <= HALF_ORDER and", "one.s > 0 and"),
    Wrong("any flipped byte, high-s", "evidence", "    assert signer == self._signer(b), ",
          "    assert signer != empty(address), "),
    Wrong("any honest signing history", "evidence", "(a.kind == NULLIFY and b.kind == FINALIZE)", "a.kind == NULLIFY"),
    Wrong("evidence window < unbonding", "Stake", "    assert evidence_window < unbonding_delay, ",
          "    assert evidence_window <= unbonding_delay, "),
    Wrong("self-reporting loses", "evidence", "REWARD: constant(uint256) = 20 ", "REWARD: constant(uint256) = 1 "),
    Wrong("tombstones are for ever", "absence",
          '    assert stakes.tombstoned_at[account] == 0, "stake: tombstoned"\n', ""),
    Wrong("one commit and one reveal", "TaskBoard",
          "    committed: uint256 = book.rounds[task][round].score_committed\n"
          '    assert not packing._has(committed, index), "board: already committed"\n',
          "    committed: uint256 = book.rounds[task][round].score_committed\n"),
    Wrong("a reveal fits exactly one commitment", "TaskBoard",
          "    assert digest == book.proposals[task][round][index].commitment, ", "    assert digest != manifest, "),
    Wrong("weight = snapshot weight", "epochs", "rows.append((weight << 160) | convert(account, uint256))",
          "rows.append((max(weight, old[index]) << 160) | convert(account, uint256))"),
    Wrong("phases and rounds only forward", "rounds", "    book.tasks[task].round += 1\n",
          "    book.tasks[task].round = max(1, book.tasks[task].round - 1)\n"),
    Wrong("payouts of a round equal its pot", "rounds", "per_voter = (share - proposers_part) // voters",
          "per_voter = (share - proposers_part) // (voters + 1)"),
    Wrong("after a deadline anybody can advance", "clock", "    return old_enough and now >= self._deadline(task)",
          "    return old_enough and now >= self._deadline(task) and book.tasks[task].able > 0"),
    Wrong("from every reachable state every unit", "book", "    if phase == types.ENDED:\n        return True\n",
          "    if phase == types.ENDED:\n        return member.last_accepted == 0\n"),
    Wrong("bounded gas for every function", "book", "    close_height: uint256 = self.tasks[task].close_height\n"
          "    if self.members[task][account].suspended or",
          "    close_height: uint256 = self.tasks[task].close_height\n"
          "    whole: types.Member = self.members[task][account]\n"
          "    if whole.suspended or self.members[task][account].suspended or"),
    Wrong("a hostile receiver blocks nobody", "TaskBoard", "    book.rounds[task][round].claimed |= mask\n",
          '    book.rounds[task][round].claimed |= mask\n    for seat: address in book.rounds[task][round].voters:\n'
          '        raw_call(seat, b"")\n'),
    Wrong("the next set never empty", "epochs", "if fall == 0 or fall == total:", "if fall == 0:"),
    Wrong("draw = its Python reference", "drawing", "if ticket < weight:", "if ticket <= weight:"),
    Wrong("frequency follows stake", "drawing", "        total -= left[index]\n", "        total -= 0\n"),
    Wrong("seed fixed before its draw", "seating", "block.number + book.rules[book.tasks[task].rules].seed_delay",
          "block.number"),
    Wrong("stake bonded before the seed", "book", "    if self.members[task][account].fresh_height > close_height:\n",
          "    if self.members[task][account].fresh_height > block.number:\n"),
    Wrong("a proposer never judges itself", "seating", "            weights[index] = 0  # a proposer does not vote",
          "            weights[index] = 1"),
    Wrong("earliest commitment owns", "TaskBoard", ".order < order:", ".order > order:"),
    Wrong("an unavailable proposal blocks", "rounds", "            book._judge(task, round, index, types.VOID, 0)\n"
          "    book.rounds[task][round].held_set = held_set\n",
          "            book._judge(task, round, index, types.VOID, 100)\n"
          "    book.rounds[task][round].held_set = held_set\n"),
    Wrong("scores bounded", "packing", "assert scores[index] <= SCORE_LIMIT and scores[index] >= -SCORE_LIMIT, ",
          "assert scores[index] <= 2 * SCORE_LIMIT, "),
    Wrong("the aggregate between min and max", "packing", "    return below <= middle and up_to > middle",
          "    return below <= middle"),
    Wrong("events replayed by an indexer", "rounds",
          "        pot=book.tasks[task].pot,\n    )\n\n\n@internal\ndef _credit",
          "        pot=book.tasks[task].pot + 1,\n    )\n\n\n@internal\ndef _credit"),
    Wrong("a task's parameters frozen", "rounds", "            slash: uint256 = book.rules[book.tasks[task].rules]."
          "missed_reveal_slash\n            book._judge",
          "            slash: uint256 = book.rules[book.rules_version].missed_reveal_slash\n            book._judge"),
    Wrong("actors: honest, lazy", "tallying", "    if packing._has_two_thirds(counts[1], voters):\n",
          "    if packing._has_two_thirds(counts[1], 2 * voters):\n"),
)  # fmt: skip


def rows() -> dict[str, list[str]]:
    """The tests that each sentence of the table names."""
    table = README.read_text("utf-8").split(HEAD)[1].split("\n\n")[0]
    found = {}
    for line in table.splitlines():
        sentence, tests = line.strip("| ").split(" | ")
        found[sentence] = re.findall(r"`(test_\w+\.py(?:::test_\w+)?)`", tests)
    return found


class Rows(Campaign):
    """Wrong contracts with a known purpose; nothing is kept."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull), SOURCES, [])

    def break_row(self, wrong: Wrong, tests: list[str]) -> dict[str, Any]:
        row: dict[str, Any] = {"sentence": wrong.sentence, "module": wrong.module, "by": None}
        with tempfile.TemporaryDirectory(prefix="row-") as folder:
            sources, artifacts = Path(folder, "vyper"), Path(folder, "artifacts")
            shutil.copytree(self.sources, sources)
            artifacts.mkdir()
            path = sources / f"{wrong.module}.vy"
            text = path.read_text("utf-8")
            if text.count(wrong.before) != 1:
                return row | {"outcome": f"the text to change is there {text.count(wrong.before)} times"}
            path.write_text(text.replace(wrong.before, wrong.after), "utf-8")
            outcome, _ = self._compile(users_of(wrong.module, self.sources), sources, artifacts)
            if outcome:
                return row | outcome
            found, ended = self._test(artifacts, sources, [], {}, first_failure=True, tests=tests)
            killed = ended.code is not None and bool(found["failed"])
            by = (found["failed"] or "").removeprefix(f"{TESTS}/")
            return row | {"outcome": "failed" if killed else "passed", "by": by, "test_cpu": round(ended.cpu, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="sentences that hold these words")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args()
    os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")
    os.environ.setdefault("FLOCK_EXAMPLES", "50")
    os.environ.setdefault("FLOCK_STAKE_EXAMPLES", os.environ["FLOCK_EXAMPLES"])
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    named, campaign, results = rows(), Rows(), []
    for wrong in WRONG:
        if options.only and options.only not in wrong.sentence:
            continue
        tests = next(tests for sentence, tests in named.items() if sentence.startswith(wrong.sentence))
        results.append(campaign.break_row(wrong, [f"{TESTS}/{test}" for test in tests]))
        row = results[-1]
        print(
            f"{row['outcome']:8} {row['module']:10} {wrong.sentence:40} {row['by'] or ''}", file=sys.stderr, flush=True
        )
    untried = [one for one in named if not any(one.startswith(wrong.sentence) for wrong in WRONG)]
    passed = [row for row in results if row["outcome"] != "failed"]
    if options.json:
        print(json.dumps({"rows": results, "untried": untried}))
    print(f"{len(results) - len(passed)} of {len(results)} seen to fail; untried: {untried or 'none'}", file=sys.stderr)
    return 1 if passed or untried else 0


if __name__ == "__main__":
    sys.exit(main())
