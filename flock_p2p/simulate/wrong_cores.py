"""Cores that break one rule each, by overriding one small method. The table of mutants says what brings it out."""

from dataclasses import replace

from flock_chain.consensus.certificates import SignatureChecker, votes_of
from flock_chain.consensus.core import Core
from flock_chain.consensus.events import Broadcast, Effect, Evidence, PersistBody, Send, StartHeight, Sync, TimerFired
from flock_chain.consensus.evidence import Tally
from flock_chain.consensus.types import NO_BLOCK, Certificate, Kind, Message, Proposal, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account

# ---------------------------------------------------------------- votes


class SecondNotarize(Core):
    def _on_proposal(self, sender: Account, proposal: Proposal) -> None:
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
    """Joins the complaints of others whatever it voted itself."""

    def _count(self, vote: Vote) -> None:
        super()._count(vote)
        s = self._s
        joins = vote.kind == Kind.NULLIFY and not s.decided and (Kind.NULLIFY, vote.view) not in s.mine
        if joins and s.tally.weight(Kind.NULLIFY, vote.view, NO_BLOCK) > s.validators.max_byzantine:
            self._vote(Kind.NULLIFY, vote.view)


class NullifyOfAnOldView(Core):
    """At a retry, complains about the view before this one, whatever was voted there."""

    def _on_retry(self) -> None:
        super()._on_retry()
        view = self._s.view - 1
        if view and (Kind.NULLIFY, view) not in self._s.mine:
            self._vote(Kind.NULLIFY, view)


class DecidesWhatIsNotarized(Core):
    def _on_notarized(self, certificate: Certificate) -> None:
        super()._on_notarized(certificate)
        self._on_finalized(certificate)


class ReproposalUnchecked(Core):
    """Votes for a re-proposal without its notarization."""

    def _parent_is_notarized(self, _proposal: Proposal) -> bool:
        return True


class GapUnchecked(Core):
    """Votes for a proposal that passes over views which are not nullified."""

    def _gap_is_nullified(self, _proposal: Proposal) -> bool:
        return True


class BlocksUnchecked(Core):
    """Votes for a fresh block without executing it."""

    def _is_checked(self, _proposal: Proposal) -> bool:
        return True


class LeaderIgnoresParent(Core):
    def _find_parent(self, _view: int) -> tuple[int, bytes] | None:
        return 0, NO_BLOCK


# ---------------------------------------------------------------- counting and verifying


class _DoubleTally(Tally):
    def add(self, vote: Vote) -> tuple[bool, list[tuple[Vote, Vote]]]:
        counted, pairs = super().add(vote)
        statement = (vote.kind, vote.view, vote.block_id)
        if not counted and vote.signer in self._signatures.get(statement, {}):
            self._weights[statement] += self._validators.weight(vote.signer)
        return counted, pairs


class CountsTwice(Core):
    """A vote that arrives again counts again; certificates of what it counted are believed."""

    def _on_start_height(self, event: StartHeight) -> None:
        before = self._state
        super()._on_start_height(event)
        if self._state is not None and self._state is not before:
            self._state.tally = _DoubleTally(event.validators)

    def _checked_permit(self, _proposal: Proposal, certificate: Certificate) -> tuple[Vote, ...]:
        return votes_of(certificate, self._s.validators)

    def _on_certificate(self, certificate: Certificate) -> None:
        if not self._s.has(certificate):
            self._adopt(certificate, votes_of(certificate, self._s.validators))


class _TrustingChecker(SignatureChecker):
    def check(self, vote: Vote) -> None:
        """Believes every signature."""


class SignaturesUnchecked(Core):
    def _on_start_height(self, event: StartHeight) -> None:
        self._checker = _TrustingChecker(self._checker._domain)
        super()._on_start_height(event)


class CertificateWeightUnchecked(Core):
    def _on_certificate(self, certificate: Certificate) -> None:
        if not self._s.has(certificate):
            votes = votes_of(certificate, self._s.validators)
            for vote in votes:
                self._checker.check(vote)
            self._adopt(certificate, votes)


class AccusesTheInnocent(Core):
    """Takes NOTARIZE of one block and FINALIZE of another for an offence."""

    def _note(self, vote: Vote) -> bool:
        counted = super()._note(vote)
        other = self._s.tally._first.get((Kind.NOTARIZE, vote.view, vote.signer))
        if vote.kind == Kind.FINALIZE and other and other.block_id != vote.block_id:
            self._out.append(Evidence(other, vote))
        return counted


# ---------------------------------------------------------------- logs and restarts


class ReplayForgetsNullify(Core):
    def _own_votes(self) -> list[Vote]:
        return [vote for vote in super()._own_votes() if vote.kind != Kind.NULLIFY]


class ReplayForgetsProposals(Core):
    def _own_votes(self) -> list[Vote]:
        return [vote for vote in super()._own_votes() if vote.kind != Kind.PROPOSE]


class OwnVotesNotCountedAgain(Core):
    """After a restart it repeats its votes to others, and does not count them itself."""

    _is_resuming = False

    def _resume(self) -> None:
        self._is_resuming = True
        super()._resume()
        self._is_resuming = False

    def _count(self, vote: Vote) -> None:
        if not self._is_resuming:
            super()._count(vote)


class CertificatesNotLogged(Core):
    def _restore(self, _certificates: tuple[Certificate, ...]) -> None:
        super()._restore(())


class BodiesNotLogged(Core):
    @staticmethod
    def _ordered(effects: list[Effect]) -> list[Effect]:
        return [effect for effect in Core._ordered(effects) if not isinstance(effect, PersistBody)]


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


# ---------------------------------------------------------------- going on


class NeverRetries(Core):
    def _on_retry(self) -> None:
        """Nothing is said twice."""


class NoViewTimer(Core):
    """Waits for its leader for ever."""

    def _on_timer(self, event: TimerFired) -> None:
        if event.timer.value != "view":
            super()._on_timer(event)


class TimersWithoutWork(Core):
    """Runs the timers of view 1 although nobody wants a block."""

    def _enter(self, view: int, *, first: bool = False) -> None:
        self._s.active = True
        super()._enter(view, first=first)


class KeepsItsFirstSet(Core):
    """Goes on with the validators that it started with."""

    _members: ValidatorSet | None = None

    def _on_start_height(self, event: StartHeight) -> None:
        self._members = self._members or event.validators
        super()._on_start_height(replace(event, validators=self._members))


class NeverTellsWhoIsBehind(Core):
    def _behind(self, _account: Account, _height: int) -> None:
        """Nothing."""

    def _buffer(self, _sender: Account, _message: Message) -> None:
        """Nothing."""


# ---------------------------------------------------------------- memory


class BuffersEverything(Core):
    def _buffer(self, sender: Account, message: Message) -> None:
        self._future.setdefault(sender, []).append(message)


class TakesEveryView(Core):
    """Counts votes however far ahead their view is."""

    def _on_vote(self, _sender: Account, vote: Vote) -> None:
        self._checker.check(vote)
        self._count(vote)
