"""Defects of other libraries, each reproduced on the unmodified library; None where the defect is gone. What py-evm's
executor does wrong is reproduced by tests/execution/test_stock_gaps.py and test_evm_thread.py."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np


async def recursion_limit() -> str | None:
    """Importing py-evm lets every parser of the process recurse until the stack ends."""
    probe = "import sys; a = sys.getrecursionlimit(); import eth; print(a, sys.getrecursionlimit())"
    before, after = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout.split()[-2:]
    crash = "import eth, json, threading\nthreading.stack_size(1 << 20)\n"
    crash += "t = threading.Thread(target=lambda: json.loads('[' * 90_000)); t.start(); t.join()"
    code = subprocess.run([sys.executable, "-c", crash], capture_output=True).returncode
    if int(after) <= int(before):
        return None
    return f"the limit goes from {before} to {after}; 90,000 brackets in a thread end the process with status {code}"


async def transposed_tensor() -> str | None:
    """safetensors.numpy.save writes the memory of a transposed array, not its values."""
    from safetensors.numpy import load, save

    array = np.arange(6, dtype=np.int8).reshape(2, 3).T
    back = load(save({"x": array}))["x"]
    return None if np.array_equal(back, array) else f"{array.tolist()} is read back as {back.tolist()}"


async def many_files_for_one_tensor() -> str | None:
    """The reader of safetensors accepts several files for the same tensors: a hash does not name them."""
    from safetensors.numpy import load, save

    first = save({"a": np.zeros(4, np.int8), "b": np.ones(4, np.int8)})
    (length,) = np.frombuffer(first[:8], "<u8")
    header = first[8 : 8 + int(length)].rstrip(b" ")
    padded = header.replace(b'":', b'" :') + b" " * 7
    second = len(padded).to_bytes(8, "little") + padded + first[8 + int(length) :]
    same = all(np.array_equal(load(first)[name], load(second)[name]) for name in "ab")
    return "two different files are the same tensors" if same and first != second else None


async def short_bytes32() -> str | None:
    """eth_abi pads a bytes32 that is too short on the right, in silence."""
    from eth_abi import encode

    encoded = encode(["bytes32"], [b"\x01" * 20])
    return f"20 bytes become {encoded.hex()}" if encoded == b"\x01" * 20 + bytes(12) else None


async def lazy_multiaddr() -> str | None:
    """A multiaddr takes any bytes, and fails when it is printed."""
    from multiaddr import Multiaddr

    address = Multiaddr(b"D\xc0\x00\x02\x07\x06\x00")
    try:
        str(address)
    except Exception as error:  # noqa: BLE001 - the finding
        return f"made without an error, printed with {type(error).__name__}"
    return None


CASES: dict[str, Callable[[], object]] = {
    case.__name__: case
    for case in (recursion_limit, transposed_tensor, many_files_for_one_tensor, short_bytes32, lazy_multiaddr)
}
