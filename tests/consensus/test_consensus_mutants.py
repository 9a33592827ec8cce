"""Wrong cores that the simulator must convict: each breaks one rule by overriding one small method."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from consensus_simulator import ForgetfulSigner, Scenario, Simulator, Violation, draw_scenario

from flock_chain.consensus.core import Core
from flock_chain.consensus.events import Broadcast, Effect, Send, Sync
from flock_chain.consensus.types import Kind, Proposal, Vote


class SecondNotarize(Core):
    def _on_proposal(self, sender, proposal):  # type: ignore[no-untyped-def]
        super()._on_proposal(sender, proposal)
        if not self._s.decided and proposal.view == self._s.view:
            self._s.proposals[proposal.view] = proposal
            self._try_notarize()

    def _may_notarize(self, view: int) -> bool:
        s = self._s
        mine, proposal = s.mine.get((Kind.NOTARIZE, view)), s.proposals[view]
        return (Kind.NULLIFY, view) not in s.mine and (mine is None or mine.block_id != proposal.block_id)


class FinalizeAfterNullify(Core):
    def _may_finalize(self, view: int) -> bool:
        return (Kind.FINALIZE, view) not in self._s.mine


class NullifyAfterFinalize(Core):
    def _may_nullify(self, _view: int) -> bool:
        return True

    def _on_timer(self, event):  # type: ignore[no-untyped-def]
        super()._on_timer(event)
        if event.height == self._s.height and not self._s.decided:
            self._nullify(event.view)


class ReplayForgetsNullify(Core):
    def _own_votes(self) -> list[Vote]:
        return [vote for vote in super()._own_votes() if vote.kind != Kind.NULLIFY]


class SendBeforeSync(Core):
    @staticmethod
    def _ordered(effects: list[Effect]) -> list[Effect]:
        ordered = Core._ordered(effects)
        early = [effect for effect in ordered if isinstance(effect, Broadcast | Send)]
        return early + [effect for effect in ordered if not isinstance(effect, Broadcast | Send)]


class NeverSyncs(Core):
    @staticmethod
    def _ordered(effects: list[Effect]) -> list[Effect]:
        return [effect for effect in Core._ordered(effects) if not isinstance(effect, Sync)]


class ReproposalUnchecked(Core):
    """Votes for a re-proposal without its notarization."""

    def _parent_is_notarized(self, _proposal: Proposal) -> bool:
        return True


class GapUnchecked(Core):
    """Votes for a proposal that passes over views which are not nullified."""

    def _gap_is_nullified(self, _proposal: Proposal) -> bool:
        return True


def _scenarios(rule: type[Core]) -> Iterator[Scenario]:
    """Drawn scenarios; for the rules about parents, the faults that show them: liars, and lost kinds of message."""
    for seed in range(1, 1_500):
        scenario = draw_scenario(seed)
        if rule in (ReproposalUnchecked, GapUnchecked):
            scenario = replace(
                scenario, n=4, weights=None, byzantine=1, sin="liar", kind_fault=0.6, drop=0.05, skew=0.2
            )
            scenario = replace(scenario, tail=30, crash=0, crash_all=0, partition=0, duplicate=0, work_delay=20)
        yield scenario


@pytest.mark.parametrize(
    "rule",
    [
        SecondNotarize,
        FinalizeAfterNullify,
        NullifyAfterFinalize,
        ReplayForgetsNullify,
        SendBeforeSync,
        NeverSyncs,
        ReproposalUnchecked,
        GapUnchecked,
    ],
)
def test_a_core_with_one_wrong_rule_is_convicted(rule: type[Core]) -> None:
    for scenario in _scenarios(rule):
        try:
            Simulator(scenario, rule, ForgetfulSigner).run()
        except Violation as violation:
            assert "no progress" not in str(violation), scenario
            return
    pytest.fail(f"{rule.__name__} survived")


def test_a_node_without_logs_signs_slashable_pairs() -> None:
    for seed in range(1, 400):
        scenario = replace(draw_scenario(seed), crash=0.02, crash_all=2)
        try:
            Simulator(scenario, signer=ForgetfulSigner, lossy_disk=True).run()
        except Violation as violation:
            assert "slashable" in str(violation) or "accused" in str(violation) or "two blocks" in str(violation)
            return
    pytest.fail("a core without its logs survived")


@pytest.mark.parametrize("quorum", [lambda total: 2 * ((total - 1) // 3), lambda total: total // 2 + 1])
def test_a_smaller_quorum_forks(quorum: Callable[[int], int]) -> None:
    for seed in range(1, 1_500):
        scenario = replace(draw_scenario(seed), n=5, weights=None, sin="split", byzantine=1, crash=0, crash_all=0)
        try:
            Simulator(scenario, quorum=quorum).run()
        except Violation as violation:
            assert "two blocks" in str(violation)
            return
    pytest.fail("a smaller quorum survived")
