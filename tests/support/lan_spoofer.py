"""Somebody on a local network who answers for others by multicast DNS, and sends nonsense; run in a namespace.

Sends a few lies a second, so that they are all heard; after a line on standard input as many as it can.
"""

import os
import socket
import sys
import time
from random import Random
from threading import Event, Thread

from network_support import GENESIS_HASH, key
from zeroconf import DNSText, ServiceInfo
from zeroconf._protocol.outgoing import DNSOutgoing

from flock_peers.network.identity import make_address, peer_id_of
from flock_peers.network.mdns import SERVICE, encode_text

_GROUP, _ANSWER = ("224.0.0.251", 5353), 0x8400


def lie(number: int, host: str, port: int, genesis: bytes = GENESIS_HASH) -> bytes:
    """The peer with that key is here, it says."""
    name = f"{genesis[:8].hex()}-{os.urandom(8).hex()}.{SERVICE}"
    address = str(make_address(host, port, peer_id_of(key(number))))
    return announce(name, ServiceInfo(SERVICE, name, properties=encode_text(genesis, [address])).text)


def announce(name: str, text: bytes) -> bytes:
    packet = DNSOutgoing(_ANSWER)
    packet.add_answer_at_time(DNSText(name, 16, 1, 120, text), 0)
    return bytes(packet.packets()[0])


def hang_up(listener: socket.socket) -> None:
    """Whoever was lied to comes here."""
    while True:
        listener.accept()[0].close()
        print("dialed", flush=True)


def lies(own: str, port: int, chance: Random) -> list[bytes]:
    return [
        lie(2, own, 9),  # a real peer, at an address of ours where nobody answers
        lie(2, "10.77.0.1", 22),
        lie(2, "8.8.8.8", 4200),  # outside of the local network
        lie(chance.randrange(100, 10_000), own, port),
        lie(1, own, 4200, bytes(32)),  # another network
        announce(f"{os.urandom(8).hex()}-{os.urandom(8).hex()}.{SERVICE}", chance.randbytes(chance.randrange(1, 200))),
        chance.randbytes(chance.randrange(1, 1_400)),
        lie(2, own, 9)[: chance.randrange(1, 60)],
    ]


def main(own: str) -> None:
    chance, is_flood = Random(1), Event()
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.bind((own, 5353))
    wire.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
    listener = socket.create_server((own, 0))
    Thread(target=hang_up, args=[listener], daemon=True).start()
    Thread(target=lambda: sys.stdin.readline() and is_flood.set(), daemon=True).start()
    print("{}", flush=True)
    while True:
        for packet in lies(own, listener.getsockname()[1], chance):
            wire.sendto(packet, _GROUP)
        is_flood.wait(0.0005 if is_flood.is_set() else 1.0)
        if is_flood.is_set():
            time.sleep(0.0005)


main(sys.argv[1])
