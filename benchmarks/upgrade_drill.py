"""An upgrade of the rules on real processes: who installed it goes on, who did not ends in words, so do unknown rules.

    python benchmarks/upgrade_drill.py [--json]

Four validators, epochs of four blocks. A schedule lowers the gas limit from epoch 1 and asks for rules that no release
contains from epoch 4. Three install it. The fourth must end when a block under the new number is final, and must catch
up once it has installed the schedule; then all four must end after the last block of epoch 3, with one head.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from crash_network import POLL_SECONDS, CrashNetwork

from flock_chain.errors import Unavailable
from flock_chain.execution import records
from flock_chain.upgrades import KNOWN_RULES, Schedule, Step
from flock_p2p.cli import EXIT_REFUSED
from flock_p2p.commands.upgrade import read_schedule
from flock_peers.home import Home
from flock_peers.store.chain_store import ChainStore

WAIT_SECONDS = 120.0
EPOCH_BLOCKS = 4
OLD_GAS, NEW_GAS = 30_000_000, 20_000_000


def run(folder: Path) -> dict[str, Any]:
    network = CrashNetwork(
        folder, 5, 4, 1, taped=False, epoch_blocks=EPOCH_BLOCKS, epoch_seconds=0, block_interval=500, heartbeat=1
    )
    steps = (Step(1, 1, (("block_gas_limit", NEW_GAS),)), Step(4, max(KNOWN_RULES) + 1))
    schedule = Schedule(network.genesis.hash, steps)
    late = network.peers[3]
    result: dict[str, Any] = {}
    try:
        for peer in network.peers:
            if peer is not late:
                Home(peer.home).store_upgrades(schedule)
            network.start(peer)
        result["without_the_schedule"] = {"code": network.wait_end(late, WAIT_SECONDS), "said": say(network, late)}
        document = folder / "schedule.json"
        document.write_bytes(schedule.encode())
        Home(late.home).store_upgrades(read_schedule(document, network.genesis))
        network.start(late)
        network.wait_answer(late)
        codes = [network.wait_end(peer, WAIT_SECONDS) for peer in network.peers]
        result["unknown_rules"] = {"codes": codes, "said": say(network, late)}
    finally:
        network.stop_all()
    heads, limits = zip(*(read_chain(peer.home) for peer in network.peers), strict=True)
    result["heads"] = heads
    result["gas_limits"] = limits[0]
    expected = [OLD_GAS] * EPOCH_BLOCKS + [NEW_GAS] * 3 * EPOCH_BLOCKS
    result["ok"] = (
        len(set(heads)) == 1
        and all(row == expected for row in limits)
        and {result["without_the_schedule"]["code"], *codes} == {EXIT_REFUSED}
    )
    return result


def say(network: CrashNetwork, peer: Any) -> str:
    time.sleep(POLL_SECONDS)
    return network.last_words(peer).split("flock-p2p join: ")[-1]


def read_chain(home: Path) -> tuple[str, list[int]]:
    with ChainStore(home / "chain", read_only=True) as store:
        head = records.read_head(store)
        assert head is not None
        limits = [records.read_block(store, height).header.gas_limit for height in range(1, head.height + 1)]
        return f"{head.height} {head.id.hex()}", limits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flock-upgrade-") as folder:
        try:
            result = run(Path(folder))
        except Unavailable as error:
            result = {"ok": False, "failure": str(error)}
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name.replace('_', ' '):<24}{value}")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
