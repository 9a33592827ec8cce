"""Nesting is bounded before the parser recurses: with py-evm loaded a deep document would end the process."""

import subprocess
import sys

import pytest

from flock_chain.bounded_json import loads


def test_values_come_through_as_json_says():
    assert loads(b'{"a": [1, {"b": "x]]]["}], "c": null}', depth=3) == {"a": [1, {"b": "x]]]["}], "c": None}


@pytest.mark.parametrize("data", [b"[" * 4, b'{"a":' * 4, b"[[[[]]]]", b"[[]," * 9, b'"', b"\xff", b"]", b"", b"NaN,"])
def test_what_is_too_deep_or_no_json_is_a_value_error(data):
    with pytest.raises(ValueError):
        loads(data, depth=3)


def test_brackets_inside_strings_do_not_count():
    assert loads(b'["[[[[[[[[", "\\"[[[["]', depth=1) == ["[" * 8, '"[[[[']


def test_a_million_brackets_or_open_strings_neither_end_nor_hold_up_a_process_in_which_the_evm_is_loaded():
    code = (
        "import flock_chain.execution.executor\n"
        "from flock_chain.bounded_json import loads\n"
        "from flock_chain.genesis import decode_genesis\n"
        "from flock_chain.errors import InvalidEncoding\n"
        "for data in (b'[' * 1_000_000, b'{\"a\":' * 200_000, b'\"' + b'\\\\\"' * 500_000, b'[\"' * 300_000):\n"
        "    try:\n        loads(data, depth=3)\n    except ValueError:\n        pass\n"
        "    try:\n        decode_genesis(data[:400_000])\n    except InvalidEncoding:\n        print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n" * 4), done.stderr
