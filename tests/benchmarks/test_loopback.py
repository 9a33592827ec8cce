"""A benchmark's own network: there, or the process stays in the one that it is in."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

ENTER = """
import os, resource
import loopback
before = os.readlink("/proc/self/ns/net")
resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))
is_inside = loopback.enter_private_network()
print(is_inside, os.readlink("/proc/self/ns/net") != before)
"""


def enter(files: int) -> str:
    """`files`: how many it may have open; three are, and something is opened inside."""
    return subprocess.run(
        [sys.executable, "-c", ENTER.format(files=files)], capture_output=True, text=True, check=True, cwd=BENCHMARKS
    ).stdout


def test_what_fails_on_the_way_into_a_network_of_its_own_leaves_a_process_where_it_is() -> None:
    assert enter(3).split() == ["False", "False"]


def test_it_is_in_a_network_of_its_own_or_says_that_it_is_not() -> None:
    said, is_so = enter(64).split()
    assert said == is_so
