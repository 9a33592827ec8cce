"""How fast a newcomer follows a chain over real sockets on loopback, and how fast a state snapshot is imported.

    python benchmarks/sync.py [--blocks 300] [--transactions 10] [--repeats 3] [--entries 50000] [--near] [--json]

Providers are processes of their own that serve the real sync protocol; the newcomer verifies every certificate
(3 signatures of 4 validators), executes every block and stores it on disk. Blocks per second from the first request to
the last block on disk, for empty blocks and for blocks with transfers, from one provider and from three; `far`: each
answer takes half a second, as over a slow line. The snapshot: accounts and slots, a tenth of the entries accounts, from
a file into a fresh store on disk with the root checked, per second of CPU; the alternative inserts them into a trie
one by one. CPU is that of the newcomer's process: on a busy machine it says more than the clock. Medians; ratios
within the run.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import trio
from small_genesis import COIN, make_genesis

from flock_chain import ecvrf
from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.digest import make_domain
from flock_chain.consensus.types import Kind
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_certificate
from flock_chain.crypto import Account, Key, keccak256
from flock_chain.execution import records
from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.blocks import Block, make_header
from flock_chain.execution.executor import Executor
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.ordered_trie import EMPTY_ROOT
from flock_chain.execution.snapshot import write_snapshot
from flock_chain.execution.sorted_trie import SortedTrie
from flock_chain.execution.state_cache import StateCache
from flock_chain.execution.state_trie import StateTrie
from flock_chain.execution.transactions import decode_transaction, sign_call
from flock_chain.genesis import Genesis, decode_genesis
from flock_peers.driver.opening import open_driver
from flock_peers.ledger import open_ledger
from flock_peers.network.host import open_host
from flock_peers.ports import SYNC_PROTOCOL, HostConsensus
from flock_peers.staging import Staging
from flock_peers.store.chain_store import ChainStore

CHAIN_ID = 424_242
VALIDATORS = [Key(keccak256(b"sync benchmark validator", bytes([n]))) for n in range(4)]
USERS = [Key(keccak256(b"sync benchmark user", bytes([n]))) for n in range(8)]
PEERS = [Key(keccak256(b"sync benchmark peer", bytes([n]))) for n in range(8)]
FAR_SECONDS = 0.5


def make_sync_genesis() -> Genesis:
    return make_genesis("sync-benchmark", CHAIN_ID, VALIDATORS, USERS)


# ---- the chain that is served


def build_chain(folder: Path, blocks: int, transactions: int) -> None:
    """A stored chain as a peer has it, every block certified by three of the four validators."""
    genesis = make_sync_genesis()
    domain = make_domain(genesis)
    validators = ValidatorSet(tuple((row.account, row.stake) for row in genesis.validators))
    with ChainStore(folder) as store:
        executor = Executor(genesis, store)
        store.commit(executor.genesis_writes())
        for height in range(1, blocks + 1):
            proposer = VALIDATORS[height % 4]
            head = executor.head
            candidate = executor.execute(
                head,
                [_transfer(height, transactions, number) for number in range(transactions)],
                timestamp=head.timestamp + 1,
                proposer=proposer.account,
                vrf_proof=ecvrf.prove(ecvrf.derive_seed(proposer), executor.vrf_alpha(head)),
                strict=True,
            )
            digest = domain.digest(Kind.FINALIZE, height, 1, candidate.block.id, 0)
            signatures = {key.account: key.sign(digest) for key in VALIDATORS[:3]}
            certificate = make_certificate(Kind.FINALIZE, height, 1, candidate.block.id, signatures, validators)
            store.commit({**candidate.writes, records.certificate_key(height): encode_certificate(certificate)})
            executor.advance(candidate)


def _transfer(height: int, transactions: int, number: int) -> Any:
    """Senders in turn, each to an account of its own."""
    sent = (height - 1) * transactions + number
    key, nonce = USERS[sent % len(USERS)], sent // len(USERS)
    to = keccak256(b"to", sent.to_bytes(8, "big"))[:20]
    return decode_transaction(
        sign_call(key, chain_id=CHAIN_ID, nonce=nonce, to=to, value=1, gas=21_000, fee=10), CHAIN_ID
    )


# ---- one provider, a process


async def serve(folder: Path, number: int, delay: float) -> None:
    genesis = decode_genesis((folder / "genesis").read_bytes())
    key = PEERS[number]
    async with (
        open_ledger(genesis, folder / f"provider{number}") as ledger,
        open_host(key, ("127.0.0.1", 0), genesis.hash) as host,
    ):
        port = HostConsensus(host)
        async with open_driver(genesis, key, ledger, port, port, folder / f"logs{number}") as driver:

            async def answer(account: Account, payload: bytes) -> bytes:
                await trio.sleep(delay)
                return await driver.answer_sync(account, payload)

            host.on_request(SYNC_PROTOCOL, answer)
            print(host.address, flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)


def start_providers(folder: Path, chain: Path, count: int, delay: float) -> tuple[list[Any], list[str]]:
    processes, addresses = [], []
    for number in range(count):
        shutil.copytree(chain, folder / f"provider{number}")
        command = [sys.executable, __file__, "serve", str(folder), str(number), str(delay)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in processes:
        assert process.stdout is not None
        addresses.append(process.stdout.readline().strip())
    return processes, addresses


# ---- the newcomer


class Sample(NamedTuple):
    blocks_per_second: float
    cpu_ms_per_block: float  # of the newcomer's process: what it takes where nothing else runs


async def follow(folder: Path, addresses: Sequence[str], blocks: int) -> Sample:
    """From the first request to the last block on disk."""
    genesis, key = decode_genesis((folder / "genesis").read_bytes()), PEERS[-1]
    async with (
        open_ledger(genesis, folder / "newcomer") as ledger,
        open_host(key, ("127.0.0.1", 0), genesis.hash) as host,
    ):
        for address in addresses:
            await host.connect(address)
        port = HostConsensus(host)
        began, cpu = time.perf_counter(), time.process_time()
        async with open_driver(genesis, key, ledger, port, port, folder / "logs"):
            with trio.fail_after(600):
                await ledger.wait_for_height(blocks)
                await ledger.flush()
            seconds, busy = time.perf_counter() - began, time.process_time() - cpu
            return Sample(blocks / seconds, 1_000 * busy / blocks)


def measure_sync(chain: Path, blocks: int, providers: int, delay: float) -> Sample:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "genesis").write_bytes(make_sync_genesis().encode())
        processes, addresses = start_providers(folder, chain, providers, delay)
        try:
            return trio.run(follow, folder, addresses, blocks)
        finally:
            for process in processes:
                process.communicate("")


def run_sync(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for transactions in (0, options.transactions):
            chain = Path(name) / str(transactions)
            build_chain(chain, options.blocks, transactions)
            for distance, delay in (("near", 0.0), ("far", FAR_SECONDS))[: 1 if options.near else 2]:
                found: dict[int, list[Sample]] = {1: [], 3: []}
                for _ in range(options.repeats):
                    for providers, samples in found.items():  # in turn: what else the machine does hits both alike
                        samples.append(measure_sync(chain, options.blocks, providers, delay))
                one, three = (statistics.median(row.blocks_per_second for row in found[count]) for count in (1, 3))
                cpu = statistics.median(row.cpu_ms_per_block for row in found[3])
                rows.append({
                    "transactions_per_block": transactions, "providers_are": distance,
                    "blocks_per_second_from_1": round(one, 1), "blocks_per_second_from_3": round(three, 1),
                    "ratio_to_one_provider": round(three / one, 2),
                    "cpu_ms_per_block": round(cpu, 2), "blocks_per_second_of_one_core": round(1_000 / cpu, 1),
                })  # fmt: skip
                print(_format_row(rows[-1]), file=sys.stderr, flush=True)
    return rows


# ---- the snapshot


def make_state(entries: int) -> tuple[dict[bytes, list[tuple[bytes, bytes]]], Callable[[bytes], bytes]]:
    """Slots by account, all by their hashed keys: the more accounts, the fewer slots has each."""
    chance = random.Random(7)
    accounts = max(1, entries // 10)
    slots: dict[bytes, list[tuple[bytes, bytes]]] = {chance.randbytes(32): [] for _ in range(accounts)}
    keys = list(slots)
    for _ in range(entries - accounts):
        slots[keys[chance.randrange(accounts)]].append((chance.randbytes(32), rlp.encode(chance.randbytes(20))))
    return slots, lambda root: rlp.encode([1, COIN, root, keccak256(b"")])


def build_state(entries: int) -> tuple[MemoryStore, Block]:
    slots, encode_account = make_state(entries)
    store = MemoryStore()
    accounts = SortedTrie(store.rows.__setitem__)
    for key in sorted(slots):
        storage = SortedTrie(store.rows.__setitem__)
        for slot, value in sorted(slots[key]):
            storage.add(slot, value)
        accounts.add(key, encode_account(storage.finish()))
    header = make_header(
        parent_hash=bytes(32), coinbase=bytes(20), height=0, timestamp=1, mix_hash=bytes(32), gas_limit=1, base_fee=1,
        state_root=accounts.finish(),
    )  # fmt: skip
    block = Block(header, ())
    store.commit(records.make_rows(block, ()))
    return store, block


def insert_state(entries: int, folder: Path) -> bytes:
    """The alternative: the same entries, as they come out of the file, into tries one by one, then to disk."""
    slots, encode_account = make_state(entries)
    cache = StateCache()
    nodes: dict[bytes, bytes] = {}

    def new_trie() -> StateTrie:
        return StateTrie(EMPTY_ROOT, nodes.__getitem__, cache.nodes)

    accounts = new_trie()
    for key in sorted(slots):
        storage = new_trie()
        for slot, value in sorted(slots[key]):
            storage.set(slot, value)
        accounts.set(key, encode_account(storage.commit(nodes)))
    root = accounts.commit(nodes)
    with ChainStore(folder) as store:
        store.commit(dict(nodes))
    return root


def run_snapshot(options: argparse.Namespace) -> dict[str, Any]:
    store, block = build_state(options.entries)
    exports, imports, inserts, size = [], [], [], 0
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "snapshot"
            began = time.process_time()
            with file.open("wb") as target:
                target.writelines(write_snapshot(store, 0))
            exports.append(options.entries / (time.process_time() - began))
            size = file.stat().st_size
            began = time.process_time()
            Staging(Path(name), make_sync_genesis()).import_state(file, block)
            imports.append(options.entries / (time.process_time() - began))
            began = time.process_time()
            assert insert_state(options.entries, Path(name) / "inserted") == block.state_root
            inserts.append(options.entries / (time.process_time() - began))
    return {
        "entries": options.entries, "bytes": size,
        "export_entries_per_cpu_second": round(statistics.median(exports)),
        "import_entries_per_cpu_second": round(statistics.median(imports)),
        "insert_entries_per_cpu_second": round(statistics.median(inserts)),
        "ratio_to_inserting": round(statistics.median(imports) / statistics.median(inserts), 2),
    }  # fmt: skip


def _format_row(row: dict[str, Any]) -> str:
    return (
        "{transactions_per_block:>3} transactions a block, providers {providers_are:<5} "
        "{blocks_per_second_from_1:6.1f} blocks/s from 1, {blocks_per_second_from_3:6.1f} from 3, "
        "ratio {ratio_to_one_provider:.2f}, CPU {cpu_ms_per_block:.2f} ms a block: "
        "{blocks_per_second_of_one_core:.0f}/s of one core".format(**row)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=300)
    parser.add_argument("--transactions", type=int, default=10, help="a block, in the second chain")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--entries", type=int, default=50_000, help="of the snapshot")
    parser.add_argument("--near", action="store_true", help="leave the slow lines out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    snapshot = run_snapshot(options)
    print(
        "snapshot of {entries} entries, {bytes} bytes, per second of CPU: export {export_entries_per_cpu_second}, "
        "import {import_entries_per_cpu_second}, inserting {insert_entries_per_cpu_second}, "
        "ratio {ratio_to_inserting}".format(**snapshot),
        file=sys.stderr, flush=True,
    )  # fmt: skip
    report = {"blocks": options.blocks, "sync": run_sync(options), "snapshot": snapshot}
    print(json.dumps(report) if options.json else "\n".join(_format_row(row) for row in report["sync"]))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        trio.run(serve, Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        sys.exit(main())
