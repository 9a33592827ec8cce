"""Modules of libraries that nothing calls are loaded once something does, and give what they would have given."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flock_chain.deferred import defer


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that says when it is loaded."""
    (tmp_path / "seldom_needed.py").write_text("import sys\nsys.seldom_loads += 1\ndef add(a, b=1): return a + b\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "seldom_loads", 0, raising=False)
    monkeypatch.delitem(sys.modules, "seldom_needed", raising=False)
    yield "seldom_needed"
    sys.modules.pop("seldom_needed", None)


def test_a_deferred_module_is_loaded_once_and_when_it_is_called(library: str) -> None:
    defer(library, "add")
    from seldom_needed import add

    assert sys.seldom_loads == 0
    assert (add(2), add(2, b=3)) == (3, 5)
    assert sys.seldom_loads == 1
    import seldom_needed

    assert seldom_needed.add is not add and seldom_needed.add(1) == 2


def test_what_is_loaded_already_stays(library: str) -> None:
    import seldom_needed

    defer(library, "add")
    assert sys.modules[library] is seldom_needed


def test_a_peer_loads_no_curve_of_later_rules_and_no_client_of_the_web() -> None:
    """And no precompile of this chain's rules is one of those that were put off."""
    code = """
import sys
import flock_peers.network.host
from flock_chain.execution.machine import Computation
from eth.precompiles import bls12_g1_add
heavy = ["py_ecc.bls", "py_ecc.optimized_bls12_381", "httpx", "requests", "miniupnpc"]
print([name for name in heavy if name in sys.modules])
print(sorted(int.from_bytes(address, "big") for address in Computation._precompiles))
from eth.exceptions import VMError
class Call:
    class msg: data = b""
try:
    bls12_g1_add(Call())
except VMError as error:
    print(error, "py_ecc.optimized_bls12_381" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [
        "[]",
        "[1, 2, 3, 4]",
        "Length of data must be 256 bytes for BLS12_G1ADD True",
    ]
