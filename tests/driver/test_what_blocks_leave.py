"""What a peer holds does not grow with its chain: counted in objects, block after block.

Left out is what has a bound of its own: rings of the last few, the cache of the state's nodes, decoded transactions.
"""

import gc
from collections import deque
from pathlib import Path

import trio
import trio.testing
from driver_support import Cluster, on_mock_clock
from execution_support import CHAIN_ID, GENESIS_TIME, USERS, VALIDATORS, make_genesis

from flock_chain.execution.state_cache import Rows
from flock_chain.execution.state_trie import Branch, Extension, Leaf
from flock_chain.execution.transactions import sign_call
from flock_peers.ledger import Ledger, open_ledger
from flock_peers.ledger.ledger import decode_once

CONTAINERS = (dict, list, set, deque, tuple)
OURS = ("flock_", "eth")
NODES = (Branch, Extension, Leaf)
WARM, MORE = 10, 40


def count_held() -> int:
    """Objects of our classes and py-evm's, and what their containers hold. What others keep is theirs: trio the
    deadlines of a thousand sleeps that are over, a test's runner what it has seen."""
    gc.collect()
    found = gc.get_objects()
    seen = {id(each) for each in found if isinstance(each, (*NODES, Rows))}
    seen |= {id(each.children) for each in found if isinstance(each, Branch)}
    seen |= {id(each._rows) for each in found if isinstance(each, Rows)}
    rings = [each for each in found if isinstance(each, deque) and each.maxlen is not None]
    seen |= {id(each) for ring in rings for each in (ring, *ring)}
    waiting = [each for each in found if id(each) not in seen and str(type(each).__module__).startswith(OURS)]
    total = len(waiting)
    while waiting:
        for each in gc.get_referents(waiting.pop()):
            if isinstance(each, CONTAINERS) and id(each) not in seen:
                seen.add(id(each))
                total += len(each)
                waiting.append(each)
    return total


def test_blocks_with_transactions_leave_nothing_in_a_ledger(tmp_path: Path) -> None:
    now, clock = [GENESIS_TIME + 10.0], trio.testing.MockClock()

    async def count_after(ledger: Ledger, blocks: int) -> int:
        for height in range(ledger.height(), ledger.height() + blocks):
            raw = sign_call(USERS[0], chain_id=CHAIN_ID, nonce=height, to=USERS[1].account, value=1, gas=21_000, fee=10)
            await ledger.submit(raw)
            now[0] += 1
            clock.jump(1)
            await ledger.adopt(await ledger.build(height + 1, 1), b"certificate")
        await ledger.flush()
        return count_held() - decode_once.cache_info().currsize

    async def main() -> None:
        async with open_ledger(make_genesis(), tmp_path, key=VALIDATORS[0], clock=lambda: now[0]) as ledger:
            before = await count_after(ledger, WARM)
            assert await count_after(ledger, MORE) - before < MORE // 2

    trio.run(main, clock=clock)


@on_mock_clock
async def test_heights_leave_nothing_in_the_driver_of_a_validator_and_of_who_only_follows(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 1, listeners=1, heartbeat=0.2)
        cluster.start()

        async def count_at(height: int) -> int:
            await cluster.until(lambda: min(cluster.heights()) >= height, 1_000)
            return count_held()

        before = await count_at(WARM)
        assert await count_at(WARM + MORE) - before < MORE // 2
        nursery.cancel_scope.cancel()
