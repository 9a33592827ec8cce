"""Keys, sets and votes for consensus tests, on the simulator's stand-in for secp256k1."""

from collections.abc import Iterable

from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import NO_BLOCK, Certificate, Kind, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Key, keccak256
from flock_p2p.simulate.cheap_keys import DOMAIN, CheapKey, block_id, cheap_recover, cheap_set

__all__ = ["DOMAIN", "CheapKey", "block_id", "certify", "cheap_recover", "cheap_set", "real_key", "sign_vote"]


def real_key(index: int) -> Key:
    return Key(keccak256(b"test key", bytes([index])))


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
