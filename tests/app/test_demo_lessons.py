"""How many rounds a demo plays, and whom its global adapter is then held to beat: by what the drawn rounds taught."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from app_support import Script, play

from flock_chain.execution.executor import Executor
from flock_chain.tally import Verdict
from flock_p2p.demo import watch
from flock_p2p.demo.audit import Losses, Outcome, Standing
from flock_p2p.demo.lessons import Lesson, count_for_comparison, find_rivals, find_taught, is_enough, read_lesson
from flock_p2p.demo.outcome import find_failures, find_not_shown, format_outcome, is_success, to_report
from flock_p2p.demo.plan import EXTRA_ROUNDS, Plan, make_plan
from flock_p2p.demo.watch import Watch, Watched
from flock_peers.home import Home
from flock_peers.roles.board import Phase, RoundResult
from flock_peers.store.chain_store import ChainStore
from flock_peers.task_list import list_rounds

RECORDS, ARITHMETIC, DOCS, POISONER, LOGS, MORE_RECORDS = range(6)  # the demo's peers, by what they hold
ACCEPTED, ACCUSED, REJECTED = Verdict.ACCEPTED, Verdict.ACCUSED_NORM, Verdict.REJECTED_LOSS
ALONE = {RECORDS: 3.02, ARITHMETIC: 3.08, DOCS: 3.33, LOGS: 3.16, MORE_RECORDS: 2.99}
BEFORE, AFTER = bytes(32), bytes(31) + b"\1"
# The rounds of a demo that ended as a failure: records twice, and voters who then kept what they had.
UNLUCKY = (
    ({MORE_RECORDS: ACCEPTED, RECORDS: ACCEPTED, POISONER: ACCUSED}, True),
    ({RECORDS: ACCEPTED, MORE_RECORDS: ACCEPTED}, False),
    ({ARITHMETIC: ACCEPTED, DOCS: REJECTED}, False),
)
Played = tuple[Mapping[int, Verdict], bool]


def plan_of(**changes: Any) -> Plan:
    options = {"peers": 6, "rounds": 3, "poisoners": 1, "seed": 908, "extra_rounds": EXTRA_ROUNDS}
    return make_plan(folder=Path("/demo"), **(options | changes))


def taught(*who: int) -> Lesson:
    return Lesson(tuple(PLAN.peers[number].account for number in who), is_adopted=True)


PLAN = plan_of()


def test_of_a_round_that_was_adopted_the_accepted_honest_domains_are_taught() -> None:
    assert find_taught(PLAN, [taught(RECORDS, MORE_RECORDS), taught(ARITHMETIC)]) == {"records", "arithmetic"}
    assert find_taught(PLAN, [taught(POISONER)]) == set()
    kept = Lesson((PLAN.peers[LOGS].account,), is_adopted=False)
    assert find_taught(PLAN, [kept]) == set() and find_taught(PLAN, [Lesson((b"stranger",), True)]) == set()


def test_a_demo_goes_on_until_more_than_half_of_the_honest_domains_were_adopted() -> None:
    two = [taught(RECORDS, MORE_RECORDS), taught(ARITHMETIC), taught(RECORDS)]
    assert count_for_comparison(PLAN) == 3  # of records, arithmetic, docs and logs; python is the poisoner's
    assert not is_enough(PLAN, two) and is_enough(PLAN, [*two, taught(LOGS)])


@pytest.mark.parametrize(("rounds", "enough"), [(1, (RECORDS,)), (2, (RECORDS, LOGS))])
def test_of_a_shorter_demo_one_domain_a_round_is_enough(rounds: int, enough: Sequence[int]) -> None:
    plan = plan_of(rounds=rounds)
    assert is_enough(plan, [taught(*enough)]) and not is_enough(plan, [taught(*enough[1:])])


def test_by_the_papers_rule_no_round_more_is_played_for_what_was_taught() -> None:
    assert is_enough(plan_of(by_paper=True), [])


def test_nobody_is_a_rival_until_enough_was_taught_and_then_those_whose_text_was() -> None:
    assert find_rivals(PLAN, {"records", "logs"}, ALONE) == []
    assert find_rivals(PLAN, {"records", "logs", "docs"}, ALONE) == [RECORDS, DOCS, LOGS, MORE_RECORDS]
    assert find_rivals(PLAN, {"arithmetic", "logs", "docs"}, ALONE) == [ARITHMETIC, DOCS, LOGS]


# What is said of it at the end


def outcome_of(played: Sequence[Played], mean: float, plan: Plan = PLAN) -> Outcome:
    results = []
    for number, (verdicts, is_adopted) in enumerate(played, 1):
        who = tuple(plan.peers[index].account for index in verdicts)
        results.append(
            RoundResult(
                task=1, round=number, proposers=who, voters=(), manifests=(bytes(32),) * len(who), held_set=0,
                verdicts=tuple(verdicts.values()), medians=(0,) * len(who), scores_revealed=3, adapter_before=BEFORE,
                adapter_after=AFTER if is_adopted else BEFORE,
            )
        )  # fmt: skip
    statuses = [
        {"height": 9, "state_root": "00", "account": f"{number}", "bytes_by_round": {}, "finality_samples": []}
        for number in range(len(plan.peers))
    ]
    proposed = {index for verdicts, _ in played for index in verdicts}
    standings = [Standing(peer, peer.bond, 0 if peer.attack else peer.bond, 0) for peer in plan.peers]
    return Outcome(
        plan, Watched(statuses, len(played), 90.0, are_heads_equal=True), results, standings, Path("/demo/adapter"),
        bytes(32), losses(3.43), losses(mean), losses(2.9), {number: losses(row) for number, row in ALONE.items()},
        attack_base=0.0, attack_global=0.0, attack_averaged=1.0 if POISONER in proposed else 0.0,
    )  # fmt: skip


def losses(mean: float) -> Losses:
    return Losses(mean, {"records": mean})


def test_who_was_taught_one_domain_alone_is_not_held_to_beat_the_peer_that_knows_it_and_says_so() -> None:
    unlucky = outcome_of(UNLUCKY, 3.0056)
    assert find_failures(unlucky) == [] and is_success(unlucky)
    (text,) = find_not_shown(unlucky)
    assert text == "that the global adapter beats training alone: of 4 domains it learned records"
    assert "\nOK: " in format_outcome(unlucky)
    assert format_outcome(unlucky).endswith(
        f"\nNOT SHOWN, for chance draws who proposes (run it again, or with more --rounds): {text}"
    )
    report = to_report(unlucky)
    assert report["failures"] == [] and report["not_shown"] == [text] and report["taught"] == ["records"]


def test_a_proposer_who_joined_by_hand_is_shown_by_its_account_as_while_the_demo_ran() -> None:
    outcome = outcome_of(UNLUCKY, 3.0056)
    joined = replace(outcome.results[1], proposers=(b"\x4e" * 20, PLAN.peers[POISONER].account))
    rows = format_outcome(replace(outcome, results=[joined])).splitlines()
    assert [row.split()[1] for row in rows if row.startswith("2 ")] == ["0x4e4e4e4e", "peer"]
    assert "peer 3 (poisoner)" in next(row for row in rows if row.startswith("2 ") and "peer" in row)


def test_who_was_taught_enough_and_is_no_better_than_a_peer_alone_fails() -> None:
    lucky = (*UNLUCKY, ({ARITHMETIC: ACCEPTED, LOGS: ACCEPTED}, True))
    for mean, failures in ((2.98, []), (3.0, ["the global adapter is no better than training alone"])):
        outcome = outcome_of(lucky, mean)
        assert find_failures(outcome) == failures and find_not_shown(outcome) == []
    assert "NOT SHOWN" not in format_outcome(outcome_of(lucky, 2.98))


def test_a_domain_that_nobody_drawn_holds_is_no_failure_and_is_named() -> None:
    played = (({ARITHMETIC: ACCEPTED, LOGS: ACCEPTED, POISONER: ACCUSED}, True), ({DOCS: ACCEPTED}, True))
    beaten, beating = outcome_of(played, 3.0), outcome_of(played, 2.9)
    assert find_failures(beaten) == [] and find_not_shown(beating) == []
    assert find_not_shown(beaten) == [
        "that the global adapter beats training alone: of 4 domains it learned arithmetic, docs, logs, and nothing of "
        "records, which peer 5 knows"
    ]


def test_a_poisoner_whom_chance_never_drew_is_no_failure_either() -> None:
    played = (({ARITHMETIC: ACCEPTED, LOGS: ACCEPTED, RECORDS: ACCEPTED}, True),)
    outcome = outcome_of(played, 2.5)
    assert find_failures(outcome) == []
    (text,) = find_not_shown(outcome)
    assert text == "what becomes of a poisoner: none opened a proposal, extra rounds included"
    unopened = outcome_of((({POISONER: Verdict.UNOPENED}, False), *played), 2.5)
    assert find_failures(unopened) == [] and find_not_shown(unopened) == [text], "drawn, and too late to open it"
    assert find_not_shown(outcome_of(played, 2.5, plan_of(poisoners=0))) == [], "there is none"
    passed = outcome_of((({POISONER: ACCEPTED}, True), *played), 2.5)
    assert "a poisoner's proposal was accepted" in find_failures(passed)


def test_an_adapter_that_learned_nothing_is_a_failure_whoever_was_drawn() -> None:
    assert find_failures(outcome_of(UNLUCKY, 3.43)) == ["the global adapter is no better than the base"]


def test_of_the_papers_rule_equal_states_are_promised_and_nothing_else() -> None:
    outcome = outcome_of(UNLUCKY, 4.0, plan_of(by_paper=True))
    assert find_failures(outcome) == [] and find_not_shown(outcome) == []
    unequal = replace(outcome, watched=replace(outcome.watched, are_heads_equal=False))
    assert find_failures(unequal) == ["not all peers hold the same state"]


# While it runs


class Drawn:
    """A network whose rounds are known beforehand: two phases each, and whoever watches it is asked for the next."""

    PHASES = (Phase.COMMIT, Phase.AVAILABILITY, Phase.ADOPT)

    def __init__(self, plan: Plan, played: Sequence[Played]) -> None:
        self.plan, self._played, self._step = plan, played, 0
        self.stopped_in: int | None = None
        self.lines: list[str] = []

    @property
    def _round(self) -> int:
        return min(self._step // len(self.PHASES), len(self._played) - 1) + 1

    def _is_over(self) -> bool:
        done = self._step // len(self.PHASES)
        last = self.plan.rounds + self.plan.terms.extra_rounds
        return done >= last or (self.stopped_in is not None and done >= self.stopped_in)

    def ask(self, _number: int, method: str, **_params: Any) -> Any:
        if method == "rounds":
            return {"rounds": [self._row(number) for number in range(1, self._round + 1)]}
        if method == "stop_task":
            assert self.stopped_in is None and self._round >= self.plan.rounds
            self.stopped_in = self._round
            return {"sent": True}
        assert method in ("status", "open_task")
        phase = Phase.ENDED if self._is_over() else self.PHASES[self._step % len(self.PHASES)]
        row = self._row(self._round)
        return {
            "height": 9, "state_root": "00", "account": "0x", "training": {},
            "task": {
                "task": 1, "round": self._round, "phase": phase.name, "deadline": self._step, "revealed": 1,
                "voters": [], "is_ended": self._is_over(), "kept_until": 99, "claimed_until": 99, "judged_until": 99,
                "proposers": row["proposers"], "verdicts": row["verdicts"],
            },
        }  # fmt: skip

    def _row(self, number: int) -> dict[str, Any]:
        """Of the running round nothing is known yet."""
        verdicts, is_adopted = self._played[number - 1]
        is_known = number < self._round
        return {
            "round": number,
            "proposers": ["0x" + self.plan.peers[index].account.hex() for index in verdicts],
            "verdicts": [(each if is_known else Verdict.NONE).name for each in verdicts.values()],
            "adapter_before": "00", "adapter_after": "01" if is_known and is_adopted else "00",
        }  # fmt: skip

    def sleep(self, _seconds: float) -> None:
        self._step += 1

    def monotonic(self) -> float:
        return 0.0


class TooLate(Drawn):
    """What is to be seen of a round is seen in its last phase, and the order to stop is final in the next round."""

    def ask(self, number: int, method: str, **params: Any) -> Any:
        answer = super().ask(number, method, **params)
        if method == "status":
            answer["task"]["revealed"] = int(answer["task"]["phase"] == Phase.ADOPT.name)
        if self.stopped_in is not None and method == "stop_task":
            self.stopped_in += 1
        return answer


def follow(
    monkeypatch: pytest.MonkeyPatch, played: Sequence[Played], plan: Plan = PLAN, kind: type[Drawn] = Drawn
) -> Drawn:
    network: Any = kind(plan, played)
    monkeypatch.setattr(watch, "time", network)
    monkeypatch.setattr(watch, "reference_text", str)  # the real one takes a second, and nobody reads it here
    Watch(network, network.lines.append).run()
    return network  # type: ignore[no-any-return]


def test_the_creator_stops_in_the_last_round_asked_for_where_enough_was_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {ARITHMETIC: ACCEPTED, LOGS: ACCEPTED}
    drawn = follow(monkeypatch, ((UNLUCKY[0]), (both, True), UNLUCKY[2]))
    assert drawn.stopped_in == 3 and not any("extra round" in line for line in drawn.lines)


def test_a_further_round_is_played_and_explained_where_one_domain_alone_was_taught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = follow(monkeypatch, (*UNLUCKY, ({ARITHMETIC: ACCEPTED, LOGS: ACCEPTED}, True), UNLUCKY[0]))
    assert drawn.stopped_in == 5  # what the fourth taught is known in the fifth
    told = [line for line in drawn.lines if line.startswith("an extra round")]
    assert told == [
        f"an extra round, by the luck of the draw: before round {number} ended the adapter had learned records "
        "(wanted: 3 domains)"
        for number in (3, 4)
    ]


def test_a_round_that_is_played_because_the_order_to_stop_came_too_late_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both, last = {ARITHMETIC: ACCEPTED, LOGS: ACCEPTED}, {POISONER: ACCUSED, DOCS: ACCEPTED}
    played = (({RECORDS: ACCEPTED}, True), (both, True), (last, True), ({DOCS: ACCEPTED}, True))
    drawn = follow(monkeypatch, played, kind=TooLate)
    told = [line for line in drawn.lines if line.startswith("an extra round")]
    assert told == ["an extra round: round 3 had ended before the order to stop the task was final"]
    assert drawn.stopped_in == 4 and any(line.startswith("extra round 1 ") for line in drawn.lines)


def test_no_more_than_the_extra_rounds_are_played_whatever_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    never = ({DOCS: REJECTED, ARITHMETIC: ACCEPTED}, False)
    drawn = follow(monkeypatch, (never,) * 9)
    assert drawn.stopped_in is None
    told = [line for line in drawn.lines if line.startswith("an extra round")]
    assert len(told) == EXTRA_ROUNDS and told[0].endswith(
        "before round 3 ended no poisoner had proposed, and the adapter had learned nothing (wanted: 3 domains)"
    )


def test_a_peer_tells_which_proposals_of_a_round_were_accepted_and_whether_voters_adopted_them(tmp_path: Path) -> None:
    played = play(tmp_path / "home", Script(adopt=lambda number, before, new: new if number == 1 else before))
    with ChainStore(Home(played.home).folder("chain")) as store:
        executor = Executor(played.genesis, store)

        class Views:
            async def view(self, contract: str, name: str, *words: Any, height: int | None = None) -> Any:
                assert height is None
                return executor.view(contract, name, *words)

        rows = trio.run(list_rounds, Views(), 1)
    first, second = (read_lesson(row) for row in rows)
    assert [row["round"] for row in rows] == [1, 2]
    assert first.is_adopted and not second.is_adopted and first.accepted and second.accepted
    assert first.accepted == tuple(bytes.fromhex(account[2:]) for account in rows[0]["proposers"])
