"""js-libp2p and helia dial a running host: identify, ping, gossip both ways, an object by its CID through bitswap."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio
from interop_support import FOLDER, install, run_node
from network_support import GENESIS_HASH, LOOPBACK, key

from flock_chain.content import format_cid
from flock_chain.crypto import Account, Digest
from flock_chain.proposal import Manifest
from flock_peers.network.bitswap import serve_bitswap
from flock_peers.network.host import open_host
from flock_peers.network.limits import Limits
from flock_peers.store.blob_store import BlobStore

pytestmark = pytest.mark.slow
TOPIC = "interop"
MANIFEST = Manifest(Digest(GENESIS_HASH), 1, 2, key(1).account, Digest(b"a" * 32), Digest(b"b" * 32), 3_000, 24, 9_000)


def test_the_lock_file_pins_everything_and_names_no_registry() -> None:
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    packages = {name: row for name, row in lock["packages"].items() if name}
    assert len(packages) > 100
    assert all("integrity" in row and "version" in row for row in packages.values())
    assert not [name for name, row in packages.items() if "resolved" in row]


def test_js_libp2p_and_helia_talk_to_a_running_host(tmp_path: Path) -> None:
    script = install()
    store = BlobStore(tmp_path, 1 << 30)
    manifest = MANIFEST.encode()
    public, hidden = store.put_object(manifest), store.put_object(b"fetched, but nobody kept it", keep=False)
    heard: list[tuple[Account, bytes]] = []
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        async with open_host(key(1), LOOPBACK, GENESIS_HASH, Limits(guests=2)) as host:

            async def on_gossip(account: Account, payload: bytes) -> None:
                heard.append((account, payload))
                if account != host.account:
                    host.publish(TOPIC, b"from python")

            serve_bitswap(host, store)
            host.subscribe(TOPIC, lambda _account, _payload: True, on_gossip)
            reports.extend(await run_node(script, host.address, TOPIC, format_cid(public), format_cid(hidden)))
            assert host.connected() == []  # a guest is no peer
            peer_id = host.address.rsplit("/", 1)[1]
            assert {"heard": "from python", "from": peer_id} in reports

    trio.run(main)
    said = {name: value for report in reports for name, value in report.items()}
    assert "/flock/hello/1" in said["protocols"] and "/ipfs/ping/1.0.0" in said["protocols"]
    assert said["ping"] >= 0
    assert [payload for account, payload in heard if account != key(1).account] == [b"from js"]
    # Read by an independent CID library: version 1, raw, sha2-256.
    assert (said["cid"], said["version"], said["codec"], said["hash"]) == (format_cid(public), 1, 0x55, 0x12)
    assert said["digest"] == said["sha256"] == sha256(manifest).hexdigest()
    assert said["size"] == len(manifest)
    assert said["hidden"] == "not given"
