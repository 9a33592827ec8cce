"""The consensus core: one single-shot Simplex instance per height. Pure: `handle(input)` returns effects, in order.

`rules` says what is voted for; here is what feeds it: heights, messages, timers, and help for who lags behind.

Whatever is signed depends only on what the logs hold: every effect that persists comes before the one Sync of a call,
and every effect that sends comes after it. A message is verified before it changes anything; `handle` raises
InvalidRemote for a bad one and is as it was.
"""

from flock_chain.consensus.certificates import Recover, SignatureChecker
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.events import (
    BlockBuilt,
    Broadcast,
    CatchUp,
    Dropped,
    Effect,
    Input,
    Persist,
    PersistBody,
    PersistSigned,
    Received,
    Send,
    StartHeight,
    Sync,
    Timer,
    TimerFired,
    Work,
)
from flock_chain.consensus.height import HeightState
from flock_chain.consensus.rules import CoreConfig, Rules
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import (
    NO_BLOCK,
    VIEW_WINDOW,
    Certificate,
    Kind,
    Message,
    Proposal,
    Status,
    Vote,
)
from flock_chain.consensus.wire import message_bytes
from flock_chain.crypto import Account, recover
from flock_chain.errors import InvalidBlock, InvalidRemote

MAX_BUFFERED_PER_SENDER = 16  # messages of the next height; an honest validator sends four before it hears from us
MAX_BUFFERED_BYTES_PER_SENDER = 64 << 10  # six certificates of the largest set; what is left out is said again
MAX_ANSWERED_CERTIFICATES = 64  # certificates in answer to one STATUS; the next retry asks for the rest
MAX_ANSWERED_STRANGERS = 64  # between two retries; a set changes by a few validators at a time
MAX_RETRIED_CERTIFICATES = 64  # newest views first; older ones are asked for by STATUS


class Core(Rules):
    """`signer` None: listens, decides, signs nothing."""

    def __init__(
        self,
        config: CoreConfig,
        domain: ChainDomain,
        me: Account,
        signer: Signer | None,
        *,
        recover_signer: Recover = recover,
    ) -> None:
        super().__init__(config, me, signer)
        self._checker = SignatureChecker(domain, recover_signer)
        self._future: dict[Account, list[Message]] = {}

    # ---------------------------------------------------------------- the one entrance

    def handle(self, event: Input) -> list[Effect]:
        """Raises InvalidRemote for a bad message, unchanged; Misuse before the first StartHeight."""
        self._out = []
        match event:
            case StartHeight():
                self._on_start_height(event)
            case Received():
                self._on_received(event.sender, event.message)
            case TimerFired():
                self._on_timer(event)
            case Work():
                self._on_work(event)
            case BlockBuilt():
                self._on_block_built(event)
            case _:
                self._on_block_checked(event)
        effects, self._out = self._ordered(self._out), []
        return effects

    @staticmethod
    def _ordered(effects: list[Effect]) -> list[Effect]:
        """Persist, then one Sync, then the rest: nothing signed leaves before it is durable, at one fsync a call."""
        if not effects:
            return effects
        logged = [effect for effect in effects if isinstance(effect, Persist | PersistBody | PersistSigned)]
        others = [effect for effect in effects if not isinstance(effect, Persist | PersistBody | PersistSigned | Sync)]
        sync: list[Effect] = [Sync()] if any(isinstance(effect, Sync) for effect in effects) else []
        return [*logged, *sync, *others]

    # ---------------------------------------------------------------- START(h)

    def _on_start_height(self, event: StartHeight) -> None:
        if event.height <= self.height:
            return
        signed_before = self._state is None or not self._signer or self._state.has_signed
        following = event.height == self.height + 1
        self._state = HeightState(event.height, event.validators)
        self._checker.forget()
        self._refused = False
        self._mark(event.height, sync=not signed_before)
        self._restore(event.certificates)
        self._enter(self._s.view, first=True)
        self._resume()
        future, self._future = self._future, {}
        if following:
            self._replay_future(future)

    def _mark(self, height: int, *, sync: bool) -> None:
        """Close the lower heights in the signer. Without a vote of our own since, the mark needs its own sync."""
        record = self._signer.advance(height) if self._signer else None
        if record:
            self._out.append(PersistSigned(record))
            if sync:
                self._out.append(Sync())

    def _restore(self, certificates: tuple[Certificate, ...]) -> None:
        """Fold the logs of a height that was left in the middle; own votes are counted again by `_resume`."""
        s = self._s
        for certificate in certificates:
            if certificate.height == s.height and certificate.kind in (Kind.NOTARIZE, Kind.NULLIFY):
                s.keep(certificate)
                s.view = max(s.view, certificate.view + 1)
        for vote in self._own_votes():
            s.mine[(vote.kind, vote.view)] = vote
            s.view = max(s.view, vote.view + (vote.kind == Kind.FINALIZE))
        s.active = s.view > 1 or bool(s.mine)

    def _own_votes(self) -> list[Vote]:
        if self._signer is None or self._me not in self._s.validators:
            return []
        return self._signer.votes(self._s.height)

    def _resume(self) -> None:
        s = self._s
        own = s.mine.get((Kind.PROPOSE, s.view))
        if own and s.view not in s.proposals:
            s.proposals[s.view] = Proposal(own, self._permits(own.parent_view, s.view))
        votes = list(s.mine.values())
        for vote in votes:
            self._count(vote)
        if votes and not s.decided:
            self._try_notarize()
            self._repeat()

    def _replay_future(self, future: dict[Account, list[Message]]) -> None:
        for sender, messages in future.items():
            for message in messages:
                try:
                    self._on_received(sender, message)
                except InvalidRemote as error:
                    self._out.append(Dropped(sender, str(error)))

    # ---------------------------------------------------------------- messages

    def _on_received(self, sender: Account, message: Message) -> None:
        s = self._s
        height = message.height
        if sender not in s.validators:
            self._on_stranger(sender, message)
        elif isinstance(message, Status):
            self._on_status(sender, message)
        elif height == s.height:
            if not s.decided:
                self._on_current(sender, message)
        elif height == s.height + 1:
            self._buffer(sender, message)
        elif height > s.height:
            self._behind(sender, height)

    def _on_stranger(self, sender: Account, message: Message) -> None:
        """Sets change: who validates another height only is no offender. Whoever left the set while it was away still
        takes itself for a member, and must be told where the chain is; and this peer may be the one that was away."""
        s, is_status = self._s, isinstance(message, Status)
        if message.height == s.height and not is_status:  # its answer to a question of ours may come late
            raise InvalidBlock("consensus message: the sender is no validator of this height")
        if not is_status or sender in s.strangers or len(s.strangers) >= MAX_ANSWERED_STRANGERS:
            return
        s.strangers.add(sender)
        if message.height < s.height:
            self._out.append(Send(sender, self.status()))
        elif message.height > s.height:
            self._behind(sender, message.height)

    def _on_current(self, sender: Account, message: Vote | Proposal | Certificate) -> None:
        if isinstance(message, Vote):
            self._on_vote(sender, message)
        elif isinstance(message, Proposal):
            self._on_proposal(sender, message)
        else:
            self._on_certificate(message)

    def _buffer(self, sender: Account, message: Message) -> None:
        """Others are a height ahead: normal for a moment, a reason to ask after a while."""
        if not self._future and not self._s.decided:
            self._set_timer(Timer.BEHIND, max(1, self._config.retry_interval_ms // 4))
        messages = self._future.setdefault(sender, [])
        size = sum(map(message_bytes, messages)) + message_bytes(message)
        if len(messages) < MAX_BUFFERED_PER_SENDER and size <= MAX_BUFFERED_BYTES_PER_SENDER:
            messages.append(message)

    def _behind(self, account: Account, height: int) -> None:
        """While a decided block is being stored, others are one height ahead and nothing is missing."""
        if not (self._s.decided and height == self._s.height + 1):
            self._out.append(CatchUp(account, height))

    def _on_status(self, sender: Account, status: Status) -> None:
        s = self._s
        if status.height > s.height:
            self._behind(sender, status.height)
            return
        if (sender, 0) in s.answered:
            return
        s.answered.add((sender, 0))
        if status.height < s.height:
            self._out.append(Send(sender, self.status()))
        else:
            views = range(status.view, min(s.view, status.view + MAX_ANSWERED_CERTIFICATES))
            self._out += [Send(sender, known) for view in views for known in s.certificates(view)]

    def _on_vote(self, sender: Account, vote: Vote) -> None:
        s = self._s
        if vote.signer != sender:
            raise InvalidBlock("vote: sent by another account than its signer's")
        if vote.kind == Kind.PROPOSE or (vote.kind == Kind.NULLIFY) != (vote.block_id == NO_BLOCK):
            raise InvalidBlock("vote: not a notarize, nullify or finalize vote")
        if vote.view >= s.view + VIEW_WINDOW:
            return
        self._checker.check(vote)
        self._count(vote)
        if vote.kind == Kind.NULLIFY and vote.view < s.view and (vote.signer, vote.view) not in s.answered:
            s.answered.add((vote.signer, vote.view))  # it is stuck in a view that has ended: show it why
            self._out += [Send(vote.signer, known) for known in s.certificates(vote.view)]

    def _on_proposal(self, sender: Account, proposal: Proposal) -> None:
        s = self._s
        if s.validators.leader(s.height, proposal.view) != sender or proposal.vote.signer != sender:
            raise InvalidBlock(f"proposal: its sender does not lead view {proposal.view} of height {s.height}")
        if proposal.view >= s.view + VIEW_WINDOW:
            return
        self._checker.check(proposal.vote)
        fresh = [known for known in proposal.certificates if not s.has(known)]
        votes = [self._checked_permit(proposal, certificate) for certificate in fresh]
        for certificate, inside in zip(fresh, votes, strict=True):
            self._adopt(certificate, inside)
        if s.decided:
            return
        self._count(proposal.vote)
        s.proposals.setdefault(proposal.view, proposal)
        self._activate()
        self._try_notarize()

    def _checked_permit(self, proposal: Proposal, certificate: Certificate) -> tuple[Vote, ...]:
        is_parent = certificate.kind == Kind.NOTARIZE and certificate.view == proposal.parent_view
        is_gap = certificate.kind == Kind.NULLIFY and proposal.parent_view < certificate.view < proposal.view
        if certificate.height != proposal.height or not (is_parent or is_gap):
            raise InvalidBlock("proposal: carries a certificate that does not permit it")
        return self._checker.check_certificate(certificate, self._s.validators)

    def _on_certificate(self, certificate: Certificate) -> None:
        if not self._s.has(certificate):
            self._adopt(certificate, self._checker.check_certificate(certificate, self._s.validators))

    def _adopt(self, certificate: Certificate, votes: tuple[Vote, ...]) -> None:
        """Take a verified certificate; its votes may convict somebody."""
        if self._s.decided:
            return
        for vote in votes:
            self._note(vote)
        self._certified(certificate)

    # ---------------------------------------------------------------- timers

    def _on_work(self, event: Work) -> None:
        if event.height == self._s.height and not self._s.decided:
            self._s.work = True
            self._activate()
            self._propose()

    def _on_timer(self, event: TimerFired) -> None:
        s = self._s
        if event.height != s.height or s.decided:
            return
        if event.timer == Timer.BEHIND:
            self._out += [CatchUp(sender, s.height + 1) for sender in list(self._future)[:1]]
        elif event.view == s.view:
            if event.timer == Timer.VIEW:
                self._nullify(s.view)
            elif event.timer == Timer.PROPOSE:
                s.grace_view = s.view
                self._propose()
            else:
                self._on_retry()

    def _on_retry(self) -> None:
        s = self._s
        s.attempt += 1
        s.answered.clear()
        s.strangers.clear()
        self._repeat()
        self._set_timer(Timer.RETRY, self._retry_delay() if s.active else self._config.status_interval_ms)

    def _repeat(self) -> None:
        """Everything that somebody may lack: where we are, our votes, every certificate, our proposal."""
        s = self._s
        if self._me not in s.validators:
            return  # a listener is heard by nobody; it follows by asking
        self._out.append(Broadcast(self.status()))
        for (kind, view), vote in s.mine.items():
            if (
                kind == Kind.FINALIZE
                or (kind == Kind.NOTARIZE and view == s.view)
                or (kind == Kind.NULLIFY and view >= s.view - 1)
            ):
                self._out.append(Broadcast(vote))
        for view in range(max(1, s.view - MAX_RETRIED_CERTIFICATES), s.view):
            self._out += [Broadcast(known) for known in s.certificates(view)]
        proposal = s.proposals.get(s.view)
        if proposal and proposal.vote.signer == self._me:
            self._out.append(Broadcast(proposal))
