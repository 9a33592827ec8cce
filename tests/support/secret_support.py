"""Where secrets turn up: every file of a folder is read for every form that a key or a passphrase may have."""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path

from flock_chain import ecvrf
from flock_chain.crypto import Key, keccak256


def forms(secret: bytes) -> set[bytes]:
    """As they are written: raw, in hex, as a number, in base64, as Python shows bytes."""
    number = str(int.from_bytes(secret, "big")).encode()
    shown = repr(secret)[2:-1].encode()
    text = {secret.hex().encode(), secret.hex().upper().encode(), number, shown}
    return {secret, *text, b64encode(secret).rstrip(b"="), urlsafe_b64encode(secret).rstrip(b"=")}


def secrets_of(key: Key) -> list[bytes]:
    """The key, and what is derived from it and as good."""
    return [key.secret, ecvrf.derive_seed(key), bytes(keccak256(b"flock-local-seed", key.secret))]


def find_secrets(folder: Path, secrets: Iterable[bytes], *, apart_from: Iterable[str] = ()) -> list[str]:
    """`apart_from`: names of the files that are there to hold them."""
    wanted = [(secret, forms(secret)) for secret in secrets]
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink() or path.name in apart_from:
            continue
        data = path.read_bytes()
        found += [str(path) for _, written in wanted if any(form in data for form in written)]
    return found
