"""The rules of Simplex for one height: vote, propose, notarize, certify. The base of the core, which feeds it.

Rules (Chan and Pass, "Simplex Consensus", TCC 2023, one instance a height). In view v a validator signs at most one
NOTARIZE, for the leader's proposal, and then either FINALIZE (v was notarized before it complained) or NULLIFY (it
complained), never both. A quorum of NOTARIZE or NULLIFY leads to view v + 1; a quorum of FINALIZE decides. A proposal
of view v re-proposes the last notarized block of this height, and every view passed over must be nullified.

Deviations from the paper, and choices:
- the block of a height is one block: a proposal with a parent in this height carries its parent's block;
- on demand: the timers of view 1 run only once there is WORK, a proposal, or more than maxByz nullify votes;
- certificates are relayed only where the happy path was left (view above 1, or this validator complained): otherwise
  everybody forms them from the same votes. Whoever lacks one says so by STATUS or by a NULLIFY and is sent it;
- a leader waits a quarter of a view for the finalization of a notarized block before it proposes that block again;
- more than maxByz nullify votes of the current view are joined: at least one honest timer fired.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.events import (
    BlockBuilt,
    BlockChecked,
    Broadcast,
    BuildBlock,
    CheckBlock,
    Decide,
    Effect,
    Evidence,
    Persist,
    PersistBody,
    PersistSigned,
    SetTimer,
    SignerRefused,
    Sync,
    Timer,
)
from flock_chain.consensus.height import HeightState
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import (
    MAX_PROPOSAL_CERTIFICATES,
    NO_BLOCK,
    Certificate,
    Kind,
    Proposal,
    Status,
    Vote,
)
from flock_chain.crypto import Account, keccak256
from flock_chain.errors import Misuse, Refused

RETRY_GROWTH_CAP = 5  # a retry waits at most this many retry intervals, so a healed partition is noticed soon


@dataclass(frozen=True)
class CoreConfig:
    """Milliseconds."""

    view_timeout_ms: int = 2_000
    view_timeout_cap_ms: int = 30_000
    retry_interval_ms: int = 1_000
    status_interval_ms: int = 10_000  # what an idle validator sends: one STATUS this often


class Rules:
    """One validator's (or, without a signer, one listener's) view of the running height."""

    def __init__(self, config: CoreConfig, me: Account, signer: Signer | None) -> None:
        self._config = config
        self._me = me
        self._signer = signer
        self._out: list[Effect] = []
        self._state: HeightState | None = None
        self._refused = False

    @property
    def _s(self) -> HeightState:
        if self._state is None:
            raise Misuse("consensus core: the first input is StartHeight")
        return self._state

    # ---------------------------------------------------------------- what others may read

    @property
    def height(self) -> int:
        return self._state.height if self._state else 0

    @property
    def view(self) -> int:
        return self._state.view if self._state else 0

    @property
    def is_voting(self) -> bool:
        """Whether this core signs at the running height."""
        return (
            self._state is not None
            and self._signer is not None
            and not self._refused
            and self._me in self._state.validators
            and self._signer.may_sign(self.height)
        )

    def use_signer(self, signer: Signer | None) -> None:
        """For a listener that has become a validator; in the middle of a height what it signed before binds it too."""
        self._signer = signer

    @property
    def is_idle(self) -> bool:
        """Nothing is wanted at the running height: no timer of a view runs, and only statuses are sent."""
        return self._state is not None and not self._state.active

    def status(self) -> Status:
        return Status(self._s.height, self._s.first_open_view())

    # ---------------------------------------------------------------- VOTE

    def _sign(self, kind: Kind, view: int, block_id: bytes = NO_BLOCK, parent_view: int = 0) -> Vote | None:
        if not self.is_voting or self._signer is None:
            return None
        try:
            vote, record = self._signer.sign(kind, self._s.height, view, block_id, parent_view)
        except Refused as error:
            self._refused = True
            self._out.append(SignerRefused(str(error)))
            return None
        if record:
            self._out.append(PersistSigned(record))
        self._out.append(Sync())
        self._s.mine[(kind, view)] = vote
        self._s.has_signed = True
        return vote

    def _vote(self, kind: Kind, view: int, block_id: bytes = NO_BLOCK) -> None:
        vote = self._sign(kind, view, block_id)
        if vote:
            self._out.append(Broadcast(vote))
            self._count(vote)

    def _nullify(self, view: int) -> None:
        s = self._s
        if (Kind.NULLIFY, view) not in s.mine and self._may_nullify(view):
            self._vote(Kind.NULLIFY, view)

    def _may_nullify(self, view: int) -> bool:
        return (Kind.FINALIZE, view) not in self._s.mine

    # ---------------------------------------------------------------- ENTER(v)

    def _enter(self, view: int, *, first: bool = False) -> None:
        s = self._s
        if s.decided or (view <= s.view and not first):
            return
        s.view, s.attempt = view, 0
        s.active = s.active or view > 1
        self._arm()
        self._propose()
        self._try_notarize()

    def _arm(self) -> None:
        s = self._s
        if s.active:
            self._set_timer(Timer.VIEW, self._view_timeout(s.view))
            self._set_timer(Timer.RETRY, self._retry_delay())
        else:
            self._set_timer(Timer.RETRY, self._config.status_interval_ms)

    def _activate(self) -> None:
        if not self._s.active:
            self._s.active = True
            self._arm()

    def _set_timer(self, timer: Timer, delay_ms: int) -> None:
        self._out.append(SetTimer(timer, self._s.height, self._s.view, delay_ms))

    def _view_timeout(self, view: int) -> int:
        timeout, cap = self._config.view_timeout_ms, self._config.view_timeout_cap_ms
        for _ in range(view - 1):
            if timeout >= cap:
                break
            timeout = timeout * 3 // 2
        return min(timeout, cap)

    def _retry_delay(self) -> int:
        """Back-off by 1.5 up to a cap, and up to a quarter more: a jitter that is the same in every run."""
        s, interval = self._s, self._config.retry_interval_ms
        delay = interval
        for _ in range(min(s.attempt, 8)):
            delay = min(delay * 3 // 2, interval * RETRY_GROWTH_CAP)
        seed = b"".join(number.to_bytes(8, "big") for number in (s.height, s.view, s.attempt))
        return delay + delay * keccak256(self._me, seed)[0] // 1024

    # ---------------------------------------------------------------- PROPOSE

    def _propose(self) -> None:
        s = self._s
        if not self._may_propose():
            return
        parent = self._find_parent(s.view)
        if parent is None:
            self._ask_for_certificates()
        elif parent[0]:
            if self._grace_is_over(parent[0]):
                self._send_proposal(*parent)
        elif s.view not in s.building:
            s.building.add(s.view)
            self._out.append(BuildBlock(s.height, s.view))

    def _grace_is_over(self, parent_view: int) -> bool:
        """A notarized block is most likely decided a moment later: proposing it again at once would be for nothing."""
        s = self._s
        if s.grace_view == s.view or (Kind.NULLIFY, parent_view) in s.mine:
            return True
        self._set_timer(Timer.PROPOSE, self._config.view_timeout_ms // 4)
        return False

    def _may_propose(self) -> bool:
        s = self._s
        return (
            not s.decided
            and self.is_voting
            and (s.view > 1 or s.work)
            and s.validators.leader(s.height, s.view) == self._me
            and (Kind.PROPOSE, s.view) not in s.mine
            and (Kind.NULLIFY, s.view) not in s.mine
        )

    def _find_parent(self, view: int) -> tuple[int, bytes] | None:
        """The view and block to propose again; (0, ..) for a fresh block; None while a certificate is missing."""
        s = self._s
        for earlier in range(view - 1, 0, -1):
            if earlier in s.notarized:
                return earlier, s.notarized[earlier].block_id
            if earlier not in s.nullified:
                return None
        return 0, NO_BLOCK

    def _ask_for_certificates(self) -> None:
        s = self._s
        if s.asked_view < s.view:
            s.asked_view = s.view
            self._out.append(Broadcast(self.status()))

    def _on_block_built(self, event: BlockBuilt) -> None:
        s = self._s
        if (event.height, event.view) != (s.height, s.view) or not self._may_propose():
            return
        s.valid[event.block_id] = True
        parent = self._find_parent(s.view)
        if parent is not None:
            self._send_proposal(*(parent if parent[0] else (0, event.block_id)))

    def _send_proposal(self, parent_view: int, block_id: bytes) -> None:
        s = self._s
        vote = self._sign(Kind.PROPOSE, s.view, block_id, parent_view)
        if vote is None:
            return
        self._keep_body(block_id)
        proposal = Proposal(vote, self._permits(parent_view, s.view))
        self._out.append(Broadcast(proposal))
        s.proposals.setdefault(s.view, proposal)
        self._count(vote)
        self._try_notarize()

    def _permits(self, parent_view: int, view: int) -> tuple[Certificate, ...]:
        """NC[u] and UC[u+1 .. v-1], as far as they are here and fit."""
        s = self._s
        found = [s.notarized[parent_view]] if parent_view in s.notarized else []
        found += [s.nullified[between] for between in range(parent_view + 1, view) if between in s.nullified]
        return tuple(found[:MAX_PROPOSAL_CERTIFICATES])

    def _keep_body(self, block_id: bytes) -> None:
        if block_id not in self._s.kept_bodies:
            self._s.kept_bodies.add(block_id)
            self._out.append(PersistBody(self._s.height, block_id))

    # ---------------------------------------------------------------- TRY_NOTARIZE

    def _try_notarize(self) -> None:
        s = self._s
        proposal = s.proposals.get(s.view)
        if proposal is None or s.decided or not self.is_voting or not self._may_notarize(s.view):
            return
        if not self._gap_is_nullified(proposal):
            return
        if proposal.parent_view:
            if not self._parent_is_notarized(proposal):
                return
        elif not self._is_checked(proposal):
            return
        self._keep_body(proposal.block_id)
        self._vote(Kind.NOTARIZE, s.view, proposal.block_id)

    def _may_notarize(self, view: int) -> bool:
        return (Kind.NOTARIZE, view) not in self._s.mine and (Kind.NULLIFY, view) not in self._s.mine

    def _gap_is_nullified(self, proposal: Proposal) -> bool:
        return all(view in self._s.nullified for view in range(proposal.parent_view + 1, proposal.view))

    def _parent_is_notarized(self, proposal: Proposal) -> bool:
        parent = self._s.notarized.get(proposal.parent_view)
        return parent is not None and parent.block_id == proposal.block_id

    def _is_checked(self, proposal: Proposal) -> bool:
        """Known to be valid. Asks for the check once; a provably invalid block is complained about at once."""
        s = self._s
        verdict = s.valid.get(proposal.block_id)
        if verdict is False:
            self._nullify(proposal.view)
        elif verdict is None and proposal.block_id not in s.checking:
            s.checking.add(proposal.block_id)
            self._out.append(CheckBlock(s.height, proposal.block_id, proposal.vote.signer))
        return verdict is True

    def _on_block_checked(self, event: BlockChecked) -> None:
        if event.height == self._s.height:
            self._s.checking.discard(event.block_id)
            self._s.valid[event.block_id] = event.valid
            self._try_notarize()

    # ---------------------------------------------------------------- counting

    def _note(self, vote: Vote) -> bool:
        counted, pairs = self._s.tally.add(vote)
        self._out += [Evidence(*pair) for pair in pairs]
        return counted

    def _count(self, vote: Vote) -> None:
        s = self._s
        self._note(vote)
        if s.decided or vote.kind == Kind.PROPOSE:
            return
        weight = s.tally.weight(vote.kind, vote.view, vote.block_id)
        if weight >= s.validators.quorum:
            if not s.has_statement(vote.kind, vote.view):
                signatures = s.tally.signatures(vote.kind, vote.view, vote.block_id)
                self._certified(
                    make_certificate(vote.kind, s.height, vote.view, vote.block_id, signatures, s.validators)
                )
        elif vote.kind == Kind.NULLIFY and vote.view == s.view and weight > s.validators.max_byzantine:
            self._activate()
            self._nullify(vote.view)

    # ---------------------------------------------------------------- CERT

    def _certified(self, certificate: Certificate) -> None:
        actions: dict[Kind, Callable[[Certificate], None]] = {
            Kind.NOTARIZE: self._on_notarized,
            Kind.NULLIFY: self._on_nullified,
            Kind.FINALIZE: self._on_finalized,
        }
        actions[certificate.kind](certificate)

    def _on_notarized(self, certificate: Certificate) -> None:
        s, view = self._s, certificate.view
        if not s.keep(certificate):
            return
        self._out.append(Persist(certificate))
        self._relay(certificate)
        if view < s.view:
            self._propose()  # what was missing may be here now
            self._try_notarize()
            return
        if self._may_finalize(view):
            self._vote(Kind.FINALIZE, view, certificate.block_id)
        self._enter(view + 1)

    def _may_finalize(self, view: int) -> bool:
        return (Kind.NULLIFY, view) not in self._s.mine and (Kind.FINALIZE, view) not in self._s.mine

    def _on_nullified(self, certificate: Certificate) -> None:
        s = self._s
        if not s.keep(certificate):
            return
        self._out.append(Persist(certificate))
        self._relay(certificate)
        if certificate.view < s.view:
            self._propose()
            self._try_notarize()
        else:
            self._enter(certificate.view + 1)

    def _on_finalized(self, certificate: Certificate) -> None:
        self._s.decided = True
        self._out.append(Decide(self._s.height, certificate.block_id, certificate))

    def _relay(self, certificate: Certificate) -> None:
        s = self._s
        if s.view > 1 or (Kind.NULLIFY, certificate.view) in s.mine:
            self._out.append(Broadcast(certificate))
