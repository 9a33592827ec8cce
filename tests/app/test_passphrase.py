"""What is typed where a passphrase is asked for, at a terminal that is one."""

import os
import select
import subprocess
import sys

import pytest

ASK = """
from flock_chain.errors import Misuse
from flock_p2p.passphrase import Passphrases
try:
    print("typed", Passphrases(None).ask_new())
except Misuse as error:
    print("said", error)
"""


def wait_for_question(said: int) -> None:
    text = b""
    while not text.endswith(b": "):
        more = os.read(said, 64) if select.select([said], [], [], 60)[0] else b""
        assert more, text
        text += more


def type_at_a_terminal(*lines: bytes) -> str:
    """What is said in the end. Not at the terminal of whoever runs the tests: a session of its own has none."""
    master, slave = os.openpty()
    with os.fdopen(master, "wb", buffering=0) as keyboard, os.fdopen(slave, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-c", ASK], stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert process.stderr is not None
        for line in lines:
            wait_for_question(process.stderr.fileno())
            keyboard.write(line)
        said, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        return said.decode()


def test_the_same_one_twice_is_taken() -> None:
    assert type_at_a_terminal(b"nine odd words\n", b"nine odd words\n") == "typed b'nine odd words'\n"


@pytest.mark.parametrize("typed", [b"\x04", b"\xff\xfe and more\n"], ids=["end of file", "no letters"])
def test_what_is_no_text_is_refused_in_words(typed: bytes) -> None:
    said = type_at_a_terminal(typed)
    assert said == "said no passphrase could be read from the terminal; nothing was changed\n"


def test_one_that_is_too_short_is_refused_before_it_is_asked_for_again() -> None:
    assert type_at_a_terminal(b"sh0rt\n") == "said a passphrase has 8 characters at least; nothing was changed\n"
