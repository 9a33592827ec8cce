"""What the ledger costs, unmodified py-evm against ours, on the same transactions in one run.

    python benchmarks/ledger.py [--transactions 100] [--repeats 5] [--json]

Per kind: a block of signed transactions from bytes to roots: decode, recover the sender, execute, receipts, the three
roots. `stock` is py-evm's Cancun machine as it comes; both must give the same state root, receipts and gas. `block` is
what a validator does with such a block: also the randomness proof, the system's calls and the rows that are stored.
Then the stall: a transaction of 300,000 gas of failing calls, in a block that has changed many contracts.
CPU time of this process, median of the repeats; transactions per second of one core.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.db.backends.memory import MemoryDB
from eth.db.chain import ChainDB
from eth.db.trie import make_trie_root_and_nodes
from eth.vm.chain_context import ChainContext
from eth.vm.forks import CancunVM
from eth.vm.forks.cancun.blocks import CancunBlockHeader
from eth.vm.forks.cancun.state import CancunState
from ledger_blocks import CHAIN_ID, VALIDATOR, Chain

from flock_chain.execution.block_run import NotNow
from flock_chain.execution.blocks import compute_bloom, encode_receipt
from flock_chain.execution.machine import (
    Context,
    MemoryStore,
    Overlay,
    State,
    make_context,
    open_state,
    run_system,
    run_transaction,
)
from flock_chain.execution.ordered_trie import EMPTY_ROOT, compute_ordered_root
from flock_chain.execution.state_cache import StateCache
from flock_chain.execution.transactions import decode_transaction

Result = tuple[bytes, bytes, bytes, int]  # state root, receipt root, transaction root, gas
CALLER, CALLEE = b"\xca" * 20, b"\xcb" * 20
STALL_GAS, STALL_CONTRACTS = 300_000, 1_000
# In a loop for as long as there is gas: CALL the callee with 5,000 gas, drop the result. The callee reverts.
CALL_LOOP = b"\x5b" + (b"\x5f" * 5 + b"\x73" + CALLEE + b"\x61\x13\x88\xf1\x50") * 20 + b"\x5f\x56"
REVERT = bytes.fromhex("5f5ffd")


def run_ours(store: MemoryStore, cache: StateCache, context: Context, root: bytes, raws: Sequence[bytes]) -> Result:
    state = open_state(Overlay(store, cache), root, context, ())
    gas, receipts = 0, []
    for raw in raws:
        transaction = decode_transaction(raw, CHAIN_ID)
        outcome = run_transaction(state, transaction)
        gas += outcome.gas_used
        receipts.append(encode_receipt(transaction.type_id, outcome, gas, compute_bloom(outcome.logs)))
    state.persist()
    return state.state_root, compute_ordered_root(receipts), compute_ordered_root(raws), gas


def run_stock(rows: dict[bytes, bytes], context: Context, root: bytes, raws: Sequence[bytes]) -> Result:
    """`CancunVM` on a copy-free view of the same rows; what it persists goes into a layer that is dropped."""
    database = AtomicDB(MemoryDB(Layer(rows)))
    header = CancunBlockHeader(
        difficulty=0,
        block_number=context.height,
        gas_limit=context.gas_limit,
        timestamp=context.timestamp,
        coinbase=context.proposer,
        state_root=root,
        mix_hash=context.mix,
        base_fee_per_gas=context.base_fee,
        parent_beacon_block_root=bytes(32),
    )
    vm = CancunVM(header, ChainDB(database), ChainContext(CHAIN_ID), MiningChain.consensus_context_class(database))
    vm._state = CancunVM.build_state(database, header, ChainContext(CHAIN_ID), ())
    builder = vm.get_transaction_builder()
    transactions = [builder.decode(raw) for raw in raws]
    final, receipts, _ = vm.apply_all_transactions(transactions, header)
    vm.state.lock_changes()
    vm.state.persist()
    receipt_root, _ = make_trie_root_and_nodes(receipts)
    transaction_root, _ = make_trie_root_and_nodes(tuple(transactions))
    return vm.state.state_root, receipt_root, transaction_root, final.gas_used


class Layer(dict[bytes, bytes]):
    """Its own rows over others that it never changes."""

    def __init__(self, below: dict[bytes, bytes]) -> None:
        super().__init__()
        self._below = below

    def __missing__(self, key: bytes) -> bytes:
        return self._below[key]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self._below


def measure_ms(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e3


def compare_kind(chain: Chain, raws: list[bytes], repeats: int) -> dict[str, Any]:
    head = chain.executor.head
    parameters = chain.genesis.parameters
    context = Context(
        head.height + 1,
        head.timestamp + 1,
        VALIDATOR.account,
        head.mix_hash,
        parameters.block_gas_limit * 4,  # one block of 100 votes, whatever the network's limit
        parameters.base_fee,
        CHAIN_ID,
    )
    rows, cache = dict(chain.store.rows), StateCache()
    ours: list[Result] = []
    stock: list[Result] = []
    ours_ms, stock_ms = [], []
    for _ in range(repeats):  # in turns: what else the machine does hits both
        ours_ms.append(measure_ms(lambda: ours.append(run_ours(chain.store, cache, context, head.state_root, raws)), 1))
        stock_ms.append(measure_ms(lambda: stock.append(run_stock(rows, context, head.state_root, raws)), 1))
    if len({*ours, *stock}) != 1:
        raise SystemExit(f"not the same block: {ours[0]} and stock's {stock[0]}")
    mine, theirs = statistics.median(ours_ms), statistics.median(stock_ms)
    return {
        "transactions": len(raws),
        "gas": ours[0][3],
        "ms": mine,
        "stock_ms": theirs,
        "per_second": len(raws) / mine * 1e3,
        "stock_per_second": len(raws) / theirs * 1e3,
        "ratio_to_stock": theirs / mine,
    }


def measure_block(chain: Chain, raws: list[bytes], repeats: int) -> dict[str, Any]:
    """As many as a block of this network holds, verified from its bytes."""
    while True:
        try:
            candidate = chain.build(raws)
            break
        except NotNow:  # the block is full
            raws = raws[: len(raws) * 3 // 4]
    data = candidate.block.encoded
    spent = measure_ms(lambda: chain.executor.verify(data), repeats)
    return {"block_transactions": len(raws), "block_ms": spent, "block_per_second": len(raws) / spent * 1e3}


def measure_stall(state_class: type[CancunState], contracts: int) -> float:
    """Milliseconds of CPU for 300,000 gas of calls that fail."""
    store = MemoryStore()
    context = make_context(Context(1, 1, bytes(20), bytes(32), 30_000_000, 1, CHAIN_ID), ())
    state = state_class(Overlay(store), context, EMPTY_ROOT)
    for address, code in ((CALLER, CALL_LOOP), (CALLEE, REVERT)):
        state.set_code(address, code)
    for index in range(contracts):
        address = index.to_bytes(20, "little")
        state.set_nonce(address, 1)
        state.set_storage(address, 1, 1)
    return measure_ms(lambda: run_system(state, CALLER, b"", gas=STALL_GAS), 1)


def run(transactions: int, repeats: int, *, has_stall: bool) -> dict[str, Any]:
    chain = Chain()
    print("playing seven tasks to their votes ...", file=sys.stderr)
    chain.play_to_the_votes()
    result: dict[str, Any] = {}
    for kind, make in (("transfer", chain.transfers), ("vote", chain.votes)):
        raws = make(transactions)
        print(f"{len(raws)} times {kind} ...", file=sys.stderr)
        result[kind] = compare_kind(chain, raws, repeats) | measure_block(chain, raws, repeats)
        chain.forget_unsent()
    if has_stall:
        print(f"{STALL_GAS} gas of calls with {STALL_CONTRACTS} contracts changed ...", file=sys.stderr)
        ours, stock = (measure_stall(kind, STALL_CONTRACTS) for kind in (State, CancunState))
        result["stall"] = {
            "contracts": STALL_CONTRACTS,
            "gas": STALL_GAS,
            "ms": ours,
            "ms_without_contracts": measure_stall(State, 0),
            "stock_ms": stock,
            "ratio_to_stock": stock / ours,
        }
    return result


def print_table(result: dict[str, Any]) -> None:
    print(f"{'':10}{'stock tx/s':>12}{'ours tx/s':>12}{'ratio':>8}{'a block, tx/s':>16}")
    for kind in ("transfer", "vote"):
        row = result[kind]
        print(
            f"{kind:10}{row['stock_per_second']:12.0f}{row['per_second']:12.0f}{row['ratio_to_stock']:8.2f}"
            f"{row['block_per_second']:16.0f}"
        )
    if "stall" in result:
        row = result["stall"]
        print(
            f"stall: {row['gas']} gas of calls, {row['contracts']} contracts changed: stock {row['stock_ms']:.0f} ms, "
            f"ours {row['ms']:.1f} ms (none changed: {row['ms_without_contracts']:.1f} ms)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--transactions", type=int, default=100, choices=range(1, 113), metavar="1-112")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-stall", action="store_true", help="leave out the stall: stock takes half a minute")
    arguments = parser.parse_args()
    result = run(arguments.transactions, arguments.repeats, has_stall=not arguments.no_stall)
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        print_table(result)


if __name__ == "__main__":
    main()
