"""A verifiable random function: ECVRF-EDWARDS25519-SHA512-TAI (RFC 9381, suite 3), on libsodium's group operations.

One (public key, alpha) has one output, and a proof that anybody can check. Knows nothing of blocks or validators.
Names follow the RFC: alpha is the input, pi the 80-byte proof, beta the 64-byte output.
"""

from hashlib import sha512

from nacl import bindings
from nacl.exceptions import CryptoError

from flock_chain.crypto import Key, keccak256
from flock_chain.errors import Misuse

PROOF_BYTES = 80  # Gamma (32) | c (16) | s (32)
OUTPUT_BYTES = 64
KEY_BYTES = 32
_SUITE = b"\x03"
_PRIME = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_IDENTITY = (1).to_bytes(32, "little")
_TRIES = 256  # the counter is one byte; each try succeeds with probability 1/2


def derive_seed(key: Key) -> bytes:
    """The VRF secret of a peer, from its one key."""
    return keccak256(b"flock-vrf", key.secret)


def public_key(seed: bytes) -> bytes:
    return _encode_base(_expand(seed)[0])


def is_public_key(encoded: bytes) -> bool:
    """Whether proofs of this key can be valid: a point of the prime-order subgroup, in its one form."""
    return len(encoded) == KEY_BYTES and _is_point(encoded) and bindings.crypto_core_ed25519_is_valid_point(encoded)


def prove(seed: bytes, alpha: bytes) -> bytes:
    """The proof of this key's output for `alpha`. Deterministic."""
    secret, nonce_key = _expand(seed)
    public = _encode_base(secret)
    point = _encode_to_curve(public, alpha)
    gamma = _multiply(secret, point)
    nonce = int.from_bytes(sha512(nonce_key + point).digest(), "little") % _ORDER
    challenge = _challenge(public, point, gamma, _encode_base(nonce), _multiply(nonce, point))
    return gamma + challenge.to_bytes(16, "little") + _scalar((nonce + challenge * secret) % _ORDER)


def verify(public: bytes, alpha: bytes, proof: bytes) -> bytes | None:
    """The 64-byte output, or None where the proof is not the one valid proof form for this key and input.

    Stricter than the RFC in one point: Gamma and the key must lie in the prime-order subgroup.
    """
    if len(proof) != PROOF_BYTES or len(public) != KEY_BYTES:
        return None
    gamma, challenge, response = proof[:32], int.from_bytes(proof[32:48], "little"), proof[48:]
    if int.from_bytes(response, "little") >= _ORDER or not _is_point(gamma) or not _is_point(public):
        return None
    try:
        point = _encode_to_curve(public, alpha)
        u = _subtract(bindings.crypto_scalarmult_ed25519_base_noclamp(response), _multiply(challenge, public))
        v = _subtract(
            bindings.crypto_scalarmult_ed25519_noclamp(response, point),
            _multiply(challenge, gamma),
        )
        if _challenge(public, point, gamma, u, v) != challenge:
            return None
        return sha512(_SUITE + b"\x03" + _times_cofactor(gamma) + b"\x00").digest()
    except CryptoError:  # libsodium refuses points of small order and results that are the identity
        return None


def _expand(seed: bytes) -> tuple[int, bytes]:
    """RFC 8032: the clamped secret scalar modulo the order, and the key of the nonce."""
    if len(seed) != KEY_BYTES:
        raise Misuse("ecvrf: a seed is 32 bytes")
    digest = sha512(seed).digest()
    clamped = bytearray(digest[:32])
    clamped[0] &= 248
    clamped[31] = clamped[31] & 127 | 64
    return int.from_bytes(clamped, "little") % _ORDER, digest[32:]


def _scalar(value: int) -> bytes:
    return value.to_bytes(32, "little")


def _encode_base(scalar: int) -> bytes:
    return bytes(bindings.crypto_scalarmult_ed25519_base_noclamp(_scalar(scalar)))


def _multiply(scalar: int, point: bytes) -> bytes:
    return bytes(bindings.crypto_scalarmult_ed25519_noclamp(_scalar(scalar), point))


def _subtract(left: bytes, right: bytes) -> bytes:
    return bytes(bindings.crypto_core_ed25519_sub(left, right))


def _times_cofactor(point: bytes) -> bytes:
    for _ in range(3):
        point = bytes(bindings.crypto_core_ed25519_add(point, point))
    return point


def _is_point(encoded: bytes) -> bool:
    """RFC 8032 decoding: libsodium takes y >= p and a negative zero, which we refuse."""
    y = int.from_bytes(encoded, "little") & ((1 << 255) - 1)
    if y >= _PRIME or (encoded[31] >> 7 and y in (1, _PRIME - 1)):
        return False
    try:
        bindings.crypto_core_ed25519_add(encoded, _IDENTITY)
    except CryptoError:
        return False
    return True


def _encode_to_curve(salt: bytes, alpha: bytes) -> bytes:
    """Try and increment (RFC 9381, 5.4.1.1)."""
    for counter in range(_TRIES):
        candidate = sha512(_SUITE + b"\x01" + salt + alpha + bytes((counter, 0))).digest()[:32]
        if _is_point(candidate):
            point = _times_cofactor(candidate)
            if point != _IDENTITY:
                return point
    raise Misuse("ecvrf: no curve point in 256 tries; this does not happen")


def _challenge(*points: bytes) -> int:
    return int.from_bytes(sha512(_SUITE + b"\x02" + b"".join(points) + b"\x00").digest()[:16], "little")
