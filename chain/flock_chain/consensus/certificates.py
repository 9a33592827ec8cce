"""Building and verifying certificates: a quorum of weight behind one statement, each signature checked once."""

from collections.abc import Callable, Mapping

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.types import NO_BLOCK, Certificate, Kind, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account, recover
from flock_chain.errors import InvalidBlock, InvalidSignature

Recover = Callable[[bytes, bytes], Account]
MAX_CHECKED_SIGNATURES = 1 << 14  # a height of 150 validators in 30 views; then the memory starts anew


class SignatureChecker:
    """Recovers the signer of a vote, and remembers what it has checked: certificates repeat the votes before them."""

    def __init__(self, domain: ChainDomain, recover_signer: Recover = recover) -> None:
        self._domain = domain
        self._recover = recover_signer
        self._checked: set[tuple[bytes, bytes, Account]] = set()

    def forget(self) -> None:
        self._checked.clear()

    def check(self, vote: Vote) -> None:
        """Raises InvalidSignature unless `vote.signer` signed exactly this statement."""
        digest = self._domain.digest(vote.kind, vote.height, vote.view, vote.block_id, vote.parent_view)
        key = (digest, vote.signature, vote.signer)
        if key in self._checked:
            return
        if self._recover(digest, vote.signature) != vote.signer:
            raise InvalidSignature(f"{vote.kind.name} vote of height {vote.height}: signed by another account")
        if len(self._checked) >= MAX_CHECKED_SIGNATURES:
            self._checked.clear()
        self._checked.add(key)

    def check_certificate(self, certificate: Certificate, validators: ValidatorSet) -> tuple[Vote, ...]:
        """The votes inside; raises InvalidBlock or InvalidSignature unless a quorum of weight signed."""
        votes = votes_of(certificate, validators)
        weight = sum(validators.weight(vote.signer) for vote in votes)
        if weight < validators.quorum:
            raise InvalidBlock(f"certificate: weight {weight} is below the quorum of {validators.quorum}")
        for vote in votes:
            self.check(vote)
        return votes


def make_certificate(
    kind: Kind, height: int, view: int, block_id: bytes, signatures: Mapping[Account, bytes], validators: ValidatorSet
) -> Certificate:
    bitmap = bytearray((len(validators) + 7) // 8)
    ordered = []
    for position, account in enumerate(validators.accounts):
        if account in signatures:
            bitmap[position // 8] |= 1 << position % 8
            ordered.append(signatures[account])
    return Certificate(kind, height, view, block_id, bytes(bitmap), tuple(ordered))


def votes_of(certificate: Certificate, validators: ValidatorSet) -> tuple[Vote, ...]:
    """Unpack the votes, signatures unchecked; raises InvalidBlock for a shape that fits no set of this size."""
    bits = int.from_bytes(certificate.bitmap, "little")
    if len(certificate.bitmap) != (len(validators) + 7) // 8 or bits >> len(validators):
        raise InvalidBlock("certificate: the bitmap does not fit the validator set")
    if bits.bit_count() != len(certificate.signatures):
        raise InvalidBlock("certificate: bits and signatures differ in number")
    if certificate.kind == Kind.PROPOSE or (certificate.kind == Kind.NULLIFY) != (certificate.block_id == NO_BLOCK):
        raise InvalidBlock("certificate: not a notarization, nullification or finalization")
    signers = [account for position, account in enumerate(validators.accounts) if bits >> position & 1]
    c = certificate
    return tuple(
        Vote(c.kind, c.height, c.view, c.block_id, 0, signer, signature)
        for signer, signature in zip(signers, c.signatures, strict=True)
    )


def verify_certificate(
    certificate: Certificate, validators: ValidatorSet, domain: ChainDomain, recover_signer: Recover = recover
) -> None:
    """For whoever holds no core: catch-up, light readers. About 60 us for every signature."""
    SignatureChecker(domain, recover_signer).check_certificate(certificate, validators)


def verify_finality(
    certificate: Certificate,
    *,
    height: int,
    block_id: bytes,
    validators: ValidatorSet,
    domain: ChainDomain,
    recover_signer: Recover = recover,
) -> None:
    """Raises InvalidBlock or InvalidSignature unless the certificate finalizes exactly this block at this height."""
    if certificate.kind != Kind.FINALIZE or certificate.height != height or certificate.block_id != block_id:
        raise InvalidBlock(f"certificate: does not finalize this block at height {height}")
    verify_certificate(certificate, validators, domain, recover_signer)
