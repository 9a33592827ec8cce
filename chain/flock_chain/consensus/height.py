"""What one validator knows of one height. Bookkeeping only: the rules are the core's."""

from flock_chain.consensus.evidence import Tally
from flock_chain.consensus.types import Certificate, Kind, Proposal, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account


class HeightState:
    def __init__(self, height: int, validators: ValidatorSet) -> None:
        self.height = height
        self.validators = validators
        self.view = 1
        self.active = False  # the timers of view 1 run
        self.work = False
        self.decided = False
        self.has_signed = False  # in this process, at this height
        self.attempt = 0  # retries in this view
        self.grace_view = 0  # the last view in which waiting for a finalization was enough
        self.asked_view = 0  # the last view in which certificates were asked for
        self.tally = Tally(validators)
        self.mine: dict[tuple[Kind, int], Vote] = {}
        self.notarized: dict[int, Certificate] = {}
        self.nullified: dict[int, Certificate] = {}
        self.proposals: dict[int, Proposal] = {}  # the first of each view's leader
        self.valid: dict[bytes, bool] = {}  # fresh blocks that were checked
        self.checking: set[bytes] = set()
        self.building: set[int] = set()  # views for which a block was asked for
        self.kept_bodies: set[bytes] = set()
        self.answered: set[tuple[Account, int]] = set()  # who was helped since the last retry, in which view
        self.strangers: set[Account] = set()  # of other heights' sets, told where we are since the last retry

    def keep(self, certificate: Certificate) -> bool:
        """Store the first notarization or nullification of a view; False where there is one."""
        table = self.notarized if certificate.kind == Kind.NOTARIZE else self.nullified
        if certificate.view in table:
            return False
        table[certificate.view] = certificate
        return True

    def has_statement(self, kind: Kind, view: int) -> bool:
        if kind == Kind.NOTARIZE:
            return view in self.notarized
        return kind == Kind.NULLIFY and view in self.nullified

    def has(self, certificate: Certificate) -> bool:
        return certificate.height == self.height and self.has_statement(certificate.kind, certificate.view)

    def certificates(self, view: int) -> list[Certificate]:
        return [table[view] for table in (self.notarized, self.nullified) if view in table]

    def first_open_view(self) -> int:
        """The lowest view without any certificate; never above the running view."""
        view = 1
        while view < self.view and (view in self.notarized or view in self.nullified):
            view += 1
        return view
