"""The verifiable random function: the RFC's vectors, and what a forger may try."""

import pytest
from nacl import bindings

from flock_chain import ecvrf
from flock_chain.crypto import Key, keccak256

# RFC 9381, appendix B.3 (ECVRF-EDWARDS25519-SHA512-TAI), examples 16 to 18: secret, public, alpha, pi, beta
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f"
        "26f8a57ccaed74ee1b190bed1f479d9727d2d0f9b005a6e456a35d4fb0daab12"
        "68a1b0db10836d9826a528ca76567805",
        "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff"
        "66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed593"
        "3bf0864a62558b3ed7f2fea45c92a465301b3bbf5e3e54ddf2d935be3b67926d"
        "a3ef39226bbc355bdc9850112c8f4b02",
        "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb"
        "5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf80"
        "96bb474e53895c362d8628ee9f9ea3c0e52c7a5c691b6c18c9979866568add7a"
        "2d41b00b05081ed0f58ee5e31b3a970e",
        "645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c45"
        "2118fec1219202a0edcf038bb6373241578be7217ba85a2687f7a0310b2df19f",
    ),
]


@pytest.mark.parametrize(("secret", "public", "alpha", "proof", "output"), VECTORS)
def test_the_vectors_of_the_rfc_come_out(secret: str, public: str, alpha: str, proof: str, output: str) -> None:
    seed, data = bytes.fromhex(secret), bytes.fromhex(alpha)
    assert ecvrf.public_key(seed).hex() == public
    assert ecvrf.prove(seed, data).hex() == proof
    verified = ecvrf.verify(bytes.fromhex(public), data, bytes.fromhex(proof))
    assert verified is not None and verified.hex() == output


def test_a_proof_changed_in_any_byte_is_refused() -> None:
    seed = keccak256(b"seed")
    proof, public = ecvrf.prove(seed, b"alpha"), ecvrf.public_key(seed)
    for index in range(len(proof)):
        changed = bytearray(proof)
        changed[index] ^= 1
        assert ecvrf.verify(public, b"alpha", bytes(changed)) is None, index


def test_a_proof_is_refused_for_another_input_key_or_length() -> None:
    seed = keccak256(b"seed")
    proof, public = ecvrf.prove(seed, b"alpha"), ecvrf.public_key(seed)
    assert ecvrf.verify(public, b"beta", proof) is None
    assert ecvrf.verify(ecvrf.public_key(keccak256(b"other")), b"alpha", proof) is None
    assert ecvrf.verify(public, b"alpha", proof[:-1]) is None
    assert ecvrf.verify(public, b"alpha", proof + b"\0") is None
    assert ecvrf.verify(public[:-1], b"alpha", proof) is None


def test_a_response_above_the_order_is_refused_so_a_proof_has_one_form() -> None:
    seed = keccak256(b"seed")
    proof, public = ecvrf.prove(seed, b"alpha"), ecvrf.public_key(seed)
    order = 2**252 + 27742317777372353535851937790883648493
    second = int.from_bytes(proof[48:], "little") + order
    assert ecvrf.verify(public, b"alpha", proof[:48] + second.to_bytes(32, "little")) is None


def test_keys_of_small_order_and_bytes_that_are_no_point_are_refused() -> None:
    proof = ecvrf.prove(keccak256(b"seed"), b"alpha")
    identity = (1).to_bytes(32, "little")
    negative_zero = bytes([1] + [0] * 30 + [0x80])
    not_reduced = (2**255 - 19 + 1).to_bytes(32, "little")
    for key in (identity, negative_zero, not_reduced, bytes(32), b"\xff" * 32, (2).to_bytes(32, "little")):
        assert ecvrf.verify(key, b"alpha", proof) is None
        assert ecvrf.verify(ecvrf.public_key(keccak256(b"seed")), b"alpha", key + proof[32:]) is None
        assert not ecvrf.is_public_key(key)


def test_a_key_is_one_of_the_right_length_and_in_the_group_in_which_proofs_are() -> None:
    public = ecvrf.public_key(keccak256(b"seed"))
    of_order_two = ((1 << 255) - 20).to_bytes(32, "little")
    mixed = bytes(bindings.crypto_core_ed25519_add(public, of_order_two))
    assert ecvrf.is_public_key(public)
    assert not any(ecvrf.is_public_key(key) for key in (public[:31], public + b"\0", of_order_two, mixed))


def test_the_seed_of_a_peer_follows_from_its_key_alone() -> None:
    key = Key(keccak256(b"peer"))
    assert ecvrf.derive_seed(key) == ecvrf.derive_seed(Key(keccak256(b"peer")))
    assert ecvrf.derive_seed(key) != ecvrf.derive_seed(Key(keccak256(b"another")))
