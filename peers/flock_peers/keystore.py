"""A key under a passphrase: Ethereum's keystore, version 3, scrypt and AES-128-CTR, as geth and eth_account read it.

Knows bytes and documents; where they lie, and who types the passphrase, is others' business.
"""

import hmac
import json
import re
from hashlib import scrypt
from secrets import token_bytes
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR

from flock_chain.bounded_json import loads
from flock_chain.crypto import Key, keccak256
from flock_chain.errors import Misuse, Refused

MAX_KEYSTORE_BYTES = 16 << 10  # about 500 in practice
SCRYPT_N = 1 << 18  # as geth: 256 MiB and a second for each guess
SCRYPT_R, SCRYPT_P = 8, 1
MAX_SCRYPT_BYTES = 1 << 30  # of a document from elsewhere: it must not take this machine's memory
MAX_SCRYPT_P = 16
MIN_PASSPHRASE = 8  # characters: fewer are guessed in days, whatever scrypt costs
_CIPHER = "aes-128-ctr"
_ADDRESS = re.compile(r"[0-9a-f]{40}\Z")


def is_keystore(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{"


def check_passphrase(passphrase: bytes) -> None:
    """Of a new keystore. Raises Misuse."""
    if len(passphrase.decode(errors="replace")) < MIN_PASSPHRASE:
        raise Misuse(f"a passphrase has {MIN_PASSPHRASE} characters at least; nothing was changed")


def encode_keystore(key: Key, passphrase: bytes, *, n: int = SCRYPT_N) -> bytes:
    """Raises Misuse for a passphrase that is too short. `n`: less is for tests alone."""
    check_passphrase(passphrase)
    salt, iv = token_bytes(32), token_bytes(16)
    derived = _derive(passphrase, salt, n, SCRYPT_R, SCRYPT_P)
    sealed = _crypt(derived[:16], iv, key.secret)
    parameters = {"dklen": 32, "n": n, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex()}
    crypto = {
        "cipher": _CIPHER,
        "cipherparams": {"iv": iv.hex()},
        "ciphertext": sealed.hex(),
        "kdf": "scrypt",
        "kdfparams": parameters,
        "mac": keccak256(derived[16:32], sealed).hex(),
    }
    row = {
        "address": key.account.hex(),
        "crypto": crypto,
        "id": str(UUID(bytes=token_bytes(16), version=4)),
        "version": 3,
    }
    return json.dumps(row, indent=2).encode() + b"\n"


def decode_keystore(data: bytes, passphrase: bytes) -> Key:
    """Raises Refused: for a wrong passphrase, or for what is no scrypt keystore of version 3."""
    crypto, parameters = _parse(data)
    try:
        salt, iv = bytes.fromhex(parameters["salt"]), bytes.fromhex(crypto["cipherparams"]["iv"])
        sealed, mac = bytes.fromhex(crypto["ciphertext"]), bytes.fromhex(crypto["mac"])
        n, r, p = (int(parameters[name]) for name in ("n", "r", "p"))
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise Refused(f"keystore: a field is missing or damaged ({error!r}); restore it from your back-up") from error
    if n < 2 or n & (n - 1) or r < 1 or not 1 <= p <= MAX_SCRYPT_P or _scrypt_bytes(n, r, p) > MAX_SCRYPT_BYTES:
        raise Refused(f"keystore: scrypt with n {n}, r {r}, p {p} is not what this machine should be asked for")
    if len(iv) != 16 or len(sealed) != 32:
        raise Refused("keystore: not a key of 32 bytes with an initial value of 16")
    derived = _derive(passphrase, salt, n, r, p)
    if not hmac.compare_digest(keccak256(derived[16:32], sealed), mac):
        raise Refused("keystore: the passphrase is not the one that this key was locked with")
    key = Key(_crypt(derived[:16], iv, sealed))
    if (address := read_address(data)) and address != key.account.hex():
        raise Refused(f"keystore: it says that it is of 0x{address}, and holds the key of 0x{key.account.hex()}")
    return key


def read_address(data: bytes) -> str:
    """What the document says of itself, unproved; empty where it says nothing. Raises Refused for no address."""
    address = _load(data).get("address") or ""
    text = address.lower().removeprefix("0x") if isinstance(address, str) else "?"
    if text and not _ADDRESS.match(text):
        raise Refused("keystore: its address is none")
    return text


def _load(data: bytes) -> dict[str, Any]:
    try:
        row = loads(data, depth=8) if len(data) <= MAX_KEYSTORE_BYTES else None
    except ValueError:
        row = None
    if not isinstance(row, dict) or row.get("version") != 3:
        raise Refused("keystore: no JSON document of version 3")
    return row


def _parse(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    row = _load(data)
    crypto = row.get("crypto", row.get("Crypto"))
    parameters = crypto.get("kdfparams") if isinstance(crypto, dict) else None
    if not isinstance(crypto, dict) or not isinstance(parameters, dict):
        raise Refused("keystore: without crypto and kdfparams")
    if crypto.get("kdf") != "scrypt" or crypto.get("cipher") != _CIPHER or parameters.get("dklen") != 32:
        raise Refused(f"keystore: only scrypt with 32 bytes and {_CIPHER} are read here")
    return crypto, parameters


def _derive(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return scrypt(passphrase, salt=salt, n=n, r=r, p=p, dklen=32, maxmem=_scrypt_bytes(n, r, p) + (1 << 20))


def _scrypt_bytes(n: int, r: int, p: int) -> int:
    """The table, and a block for each lane: with few rows and wide ones the lanes are what takes the memory."""
    return 128 * r * (n + p + 2)


def _crypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Both ways."""
    encryptor = Cipher(AES128(key), CTR(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()
