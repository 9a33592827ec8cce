"""Where passphrases come from: the terminal, or a file descriptor; never an argument or the environment, which other
programs of this machine can read."""

import os
import sys
from getpass import getpass

from flock_chain.errors import Misuse, Refused
from flock_peers.keystore import MIN_PASSPHRASE, check_passphrase

MAX_PASSPHRASE_BYTES = 1_024


def check_none_for_new_key(descriptor: int | None) -> None:
    """Who gives a passphrase for a new key would take it for locked. Raises Misuse."""
    if descriptor is not None:
        raise Misuse("--passphrase-fd: a new key is under no passphrase; `keys lock` puts it under one")


class Passphrases:
    """Asked in the order in which they are needed; of a descriptor, a line each."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def ask(self) -> bytes:
        """Of a key that is locked."""
        return self._read("Passphrase of the key: ")

    def ask_new(self) -> bytes:
        """Typed twice at a terminal: a typing error would lose the key."""
        first = self._read(f"New passphrase, {MIN_PASSPHRASE} characters at least: ")
        check_passphrase(first)  # before it is typed once more for nothing
        if self._descriptor is None and self._read("Again: ") != first:
            raise Misuse("the two passphrases differ; nothing was changed")
        return first

    def _read(self, prompt: str) -> bytes:
        if self._descriptor is not None:
            return self._read_line(self._descriptor)
        if not sys.stdin.isatty():
            raise Refused("a passphrase is needed, and there is no terminal: give it with --passphrase-fd N")
        try:
            return getpass(prompt).encode()
        except (EOFError, UnicodeError) as error:  # Ctrl-D; bytes that are none of this terminal's letters
            raise Misuse("no passphrase could be read from the terminal; nothing was changed") from error

    def _read_line(self, descriptor: int) -> bytes:
        """Byte by byte: what comes after the line is somebody else's."""
        line = bytearray()
        try:
            while (byte := os.read(descriptor, 1)) not in (b"", b"\n") and len(line) <= MAX_PASSPHRASE_BYTES:
                line += byte
        except OSError as error:
            raise Misuse(f"--passphrase-fd {descriptor}: {error.strerror}") from error
        if len(line) > MAX_PASSPHRASE_BYTES:  # half of one would lock a key for good
            raise Misuse(f"--passphrase-fd {descriptor}: a passphrase has at most {MAX_PASSPHRASE_BYTES} bytes")
        if not line:
            raise Misuse(f"--passphrase-fd {descriptor}: there is no passphrase in it")
        return bytes(line)
