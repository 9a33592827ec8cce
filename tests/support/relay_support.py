"""A relay in a test: hosts that know of nobody but it, what they ask of it, and links from wherever a test says."""

from types import SimpleNamespace
from typing import Any

from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID
from libp2p.relay.circuit_v2.utils import read_delimited_msg, write_delimited_msg
from network_support import QUICK, key

from flock_peers.network.host import Host
from flock_peers.network.identity import peer_id_of
from flock_peers.network.link import Link

HOP = str(PROTOCOL_ID)
LONELY = type(QUICK)(**{**vars(QUICK), "exchanged_addresses": 0})


def circuit(relay: Host, target: int) -> str:
    return f"{relay.address}/p2p-circuit/p2p/{peer_id_of(key(target))}"


def library_of(host: Host) -> Any:
    assert host._relays.circuits is not None
    return host._relays.circuits._circuit


async def ask(stream: Any, message: HopMessage) -> int:
    await write_delimited_msg(stream, message)
    return int((await read_delimited_msg(stream, HopMessage)).status)


def link_from(host: str, number: int) -> Link:
    return SimpleNamespace(remote_host=host, account=key(number).account)  # type: ignore[return-value]
