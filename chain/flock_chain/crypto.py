"""Hashes, secp256k1 keys and recoverable signatures. Pure: keys come from outside, signing is RFC 6979.

One key per peer is its account (the last 20 bytes of keccak of the public key, as in Ethereum), its validator key
and its libp2p identity.
"""

from typing import NewType

import sha3
from coincurve import PrivateKey, PublicKey

from flock_chain.errors import InvalidSignature, Misuse

Account = NewType("Account", bytes)  # 20 bytes
Digest = NewType("Digest", bytes)  # 32 bytes

SIGNATURE_BYTES = 65  # r (32) | s (32) | y parity (1)
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def keccak256(*parts: bytes) -> Digest:
    hasher = sha3.keccak_256()
    for part in parts:
        hasher.update(part)
    return Digest(hasher.digest())


def account_of_public_key(public_key: bytes) -> Account:
    """`public_key`: SEC1, compressed (33 bytes) or not (65); raises InvalidSignature where it is no curve point."""
    try:
        point = PublicKey(public_key).format(compressed=False)
    except ValueError as error:
        raise InvalidSignature("public key: not a secp256k1 point") from error
    return Account(keccak256(point[1:])[12:])


class Key:
    """A secp256k1 private key. Never prints its secret."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < _ORDER:
            raise Misuse("key: a secret is 32 bytes, between 1 and the curve's order")
        self._private = PrivateKey(secret)
        self.public_key: bytes = self._private.public_key.format(compressed=True)
        self.account = account_of_public_key(self.public_key)

    @property
    def secret(self) -> bytes:
        return bytes(self._private.secret)

    def sign(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest: r | s | y parity, s in the lower half of the order."""
        if len(digest) != 32:
            raise Misuse("sign: a digest is 32 bytes")
        return bytes(self._private.sign_recoverable(digest, hasher=None))

    def __repr__(self) -> str:
        return f"Key(0x{self.account.hex()})"


def recover(digest: bytes, signature: bytes) -> Account:
    """Who signed; raises InvalidSignature for a wrong length, a high s, a parity above 1 or no such point."""
    if len(signature) != SIGNATURE_BYTES or signature[64] > 1:
        raise InvalidSignature("signature: not r | s | parity")
    if int.from_bytes(signature[32:64], "big") > _ORDER // 2:
        raise InvalidSignature("signature: s in the upper half (malleable)")
    try:
        public = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception as error:  # coincurve raises a bare Exception for no such point
        raise InvalidSignature("signature: no such point") from error
    return Account(keccak256(public.format(compressed=False)[1:])[12:])
