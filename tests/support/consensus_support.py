"""Keys, sets and votes for consensus tests: a cheap stand-in for secp256k1 that only a key's holder can use."""

from collections.abc import Iterable

from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import NO_BLOCK, Certificate, Kind, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account, Key, keccak256
from flock_chain.errors import InvalidSignature

DOMAIN = ChainDomain(7, bytes(range(32)))


class CheapKey:
    """Signs without a curve: account | digest | zeros. A signature for an account needs its CheapKey."""

    def __init__(self, index: int) -> None:
        self.account = Account(keccak256(b"cheap", bytes([index]))[:20])

    def sign(self, digest: bytes) -> bytes:
        return self.account + digest + bytes(13)


def cheap_recover(digest: bytes, signature: bytes) -> Account:
    if len(signature) != 65 or signature[20:52] != digest:
        raise InvalidSignature("signature: not of this digest")
    return Account(signature[:20])


def real_key(index: int) -> Key:
    return Key(keccak256(b"test key", bytes([index])))


def cheap_set(count: int, weights: Iterable[int] | None = None) -> tuple[list[CheapKey], ValidatorSet]:
    keys = [CheapKey(index) for index in range(count)]
    rows = zip(keys, weights or [1] * count, strict=True)
    return keys, ValidatorSet(tuple((key.account, weight) for key, weight in rows))


def block_id(name: object) -> bytes:
    return keccak256(b"block", repr(name).encode())


def sign_vote(
    key: CheapKey | Key, kind: Kind, height: int, view: int, block: bytes = NO_BLOCK, parent_view: int = 0
) -> Vote:
    """A vote by a fresh, forgetful signer: anything can be signed, as a misbehaving validator would."""
    return Signer(key, DOMAIN).sign(kind, height, view, block, parent_view)[0]


def certify(
    keys: Iterable[CheapKey | Key],
    validators: ValidatorSet,
    kind: Kind,
    height: int,
    view: int,
    block: bytes = NO_BLOCK,
) -> Certificate:
    votes = [sign_vote(key, kind, height, view, block) for key in keys]
    return make_certificate(kind, height, view, block, {vote.signer: vote.signature for vote in votes}, validators)
