"""Finds votes of this account that this process never made: a copy of the home signs, or its memory is old.

Knows what is signed here and what stands in certificates; what follows from it is the driver's to decide.
"""

from collections import deque

from flock_chain.consensus.certificates import SignatureChecker, votes_of
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import Signer, SignRecord
from flock_chain.consensus.types import Certificate, Message, Proposal, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote

MAX_REMEMBERED = 1_024  # own votes: some hundred heights; those of the running one are the signer's to remember


class OwnVotes:
    def __init__(self, domain: ChainDomain, me: Account, signer: Signer | None) -> None:
        self._checker, self._me = SignatureChecker(domain), me
        self.use_signer(signer)

    def use_signer(self, signer: Signer | None) -> None:
        """With what it remembers now; what others may have signed with its key before is unknown from here on."""
        self._signer = signer
        self._first_height = signer.mark if signer else 0  # lower ones were closed before this process began
        known = [record for record in signer.records() if isinstance(record, SignRecord)] if signer else []
        self._known = deque(known, maxlen=MAX_REMEMBERED)

    def note(self, record: SignRecord) -> None:
        """This process signs it."""
        self._known.append(record)

    def find_unknown(self, message: Message, validators: ValidatorSet) -> Vote | None:
        """A vote that this account signed and this process did not, with its signature verified."""
        if self._signer is None or self._me not in validators or message.height < self._first_height:
            return None
        certificates = message.certificates if isinstance(message, Proposal) else (message,)
        for certificate in certificates:
            if isinstance(certificate, Certificate):
                vote = self._find(certificate, validators)
                if vote is not None:
                    return vote
        return None

    def _find(self, certificate: Certificate, validators: ValidatorSet) -> Vote | None:
        position = validators.accounts.index(self._me)
        if position // 8 >= len(certificate.bitmap) or not certificate.bitmap[position // 8] >> position % 8 & 1:
            return None
        c = certificate
        record = SignRecord(c.kind, c.height, c.view, c.block_id, 0)
        if record in self._known or (self._signer is not None and self._signer.remembers(record)):
            return None
        try:
            vote = next(vote for vote in votes_of(certificate, validators) if vote.signer == self._me)
            self._checker.check(vote)
        except InvalidRemote:
            return None  # whoever made it up is named where the certificate is checked
        return vote
