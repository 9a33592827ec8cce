"""A stand-in for secp256k1 that only a key's holder can use, hundreds of times cheaper. For simulations and tests."""

from collections.abc import Iterable

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account, Digest, keccak256
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


def cheap_set(count: int, weights: Iterable[int] | None = None) -> tuple[list[CheapKey], ValidatorSet]:
    keys = [CheapKey(index) for index in range(count)]
    rows = zip(keys, weights or [1] * count, strict=True)
    return keys, ValidatorSet(tuple((key.account, weight) for key, weight in rows))


def block_id(name: object) -> Digest:
    return keccak256(b"block", repr(name).encode())
