"""The EVM's thread: a stack deep enough for 1,024 calls, order, errors, and limits."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from flock_chain.errors import Unavailable
from flock_peers.ledger.evm_thread import MAX_WAITING_VIEWS, EvmThread, Priority

DEEPEST = """
import resource, sys, threading
import trio
import flock_chain.execution
from eth.constants import BLANK_ROOT_HASH
from eth.vm.forks.cancun.state import CancunState
from eth.vm.message import Message
from flock_chain.execution.machine import SYSTEM, Context, MemoryStore, Overlay, State, make_context
from flock_peers.ledger.evm_thread import EvmThread

def recurse(kind):
    # PUSH1 0 (five times), ADDRESS, GAS, CALL: calls itself until the EVM's own limit of 1,024
    code, contract = bytes.fromhex("60006000600060006000305af100"), b"\\xc0" * 20
    block = make_context(Context(1, 1, bytes(20), bytes(32), 1, 1, 1), ())
    state = kind(Overlay(MemoryStore()), block, BLANK_ROOT_HASH)
    state.set_code(contract, code)
    message = Message(gas=10**15, to=contract, sender=SYSTEM, value=0, data=b"", code=code)
    context = state.get_transaction_context_class()(gas_price=0, origin=SYSTEM)
    return state.computation_class.apply_message(state, message, context).is_success

async def ours():
    evm = EvmThread()
    print(await evm.run(lambda: recurse(State)))
    evm.close()

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the crash is meant: nobody needs its core file
if sys.argv[1] == "stock":
    threading.stack_size(256 << 10)  # the default of some platforms
    thread = threading.Thread(target=recurse, args=(CancunState,))
    thread.start()
    thread.join()
else:
    trio.run(ours)
"""


def test_the_deepest_recursion_fits_where_stock_crashes_the_process(tmp_path: Path) -> None:
    script = tmp_path / "deepest.py"
    script.write_text(DEEPEST)
    stock = subprocess.run([sys.executable, script, "stock"], capture_output=True, timeout=180)
    assert stock.returncode == -11  # a segmentation fault: no exception to catch
    ours = subprocess.run([sys.executable, script, "ours"], capture_output=True, text=True, timeout=180)
    assert ours.stdout.strip() == "True", ours.stderr


def test_consensus_goes_before_views_that_wait() -> None:
    order: list[str] = []

    async def main() -> None:
        evm, gate = EvmThread(), threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(evm.run, gate.wait)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(evm.run, lambda: order.append("view"), Priority.VIEW)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(evm.run, lambda: order.append("consensus"))
            await trio.testing.wait_all_tasks_blocked()
            gate.set()
        evm.close()

    trio.run(main)
    assert order == ["consensus", "view"]


def test_an_error_comes_back_to_who_asked_and_the_thread_goes_on() -> None:
    async def main() -> None:
        evm = EvmThread()
        with pytest.raises(ZeroDivisionError):
            await evm.run(lambda: 1 // 0)
        assert await evm.run(lambda: 7) == 7
        evm.close()
        evm.close()

    trio.run(main)


def test_too_many_views_are_refused_but_consensus_never() -> None:
    async def main() -> None:
        evm, gate = EvmThread(), threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(evm.run, gate.wait)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(MAX_WAITING_VIEWS):
                nursery.start_soon(evm.run, lambda: None, Priority.VIEW)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Unavailable, match="views wait"):
                await evm.run(lambda: None, Priority.VIEW)
            nursery.start_soon(evm.run, lambda: None)
            gate.set()
        assert await evm.run(lambda: 1, Priority.VIEW) == 1
        evm.close()

    trio.run(main)


def test_who_is_cancelled_leaves_only_after_the_work_is_done() -> None:
    done: list[int] = []

    async def main() -> None:
        evm, gate = EvmThread(), threading.Event()

        def work() -> None:
            gate.wait()
            done.append(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(evm.run, work)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            gate.set()
        assert done == [1]
        evm.close()

    trio.run(main)
