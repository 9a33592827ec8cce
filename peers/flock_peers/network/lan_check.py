"""Whether this machine hears its own multicast question: where it does not, a firewall is in the way."""

import socket
import time
from ipaddress import IPv4Interface
from secrets import token_hex

from zeroconf._dns import DNSQuestion
from zeroconf._protocol.outgoing import DNSOutgoing

from flock_peers.network.lan import list_interfaces
from flock_peers.network.mdns import SERVICE

GROUP, PORT = "224.0.0.251", 5353
HEAR_SECONDS = 1.5
_QUERY, _TEXT, _INTERNET = 0x0000, 16, 1
_MAX_PACKET = 9_000  # RFC 6762


def find_deaf_interfaces() -> tuple[list[str], list[str]]:
    """Addresses of this machine on which it hears itself, and on which it does not. Takes seconds; blocks."""
    heard: list[str] = []
    deaf: list[str] = []
    for interface in list_interfaces():
        (heard if _hears_itself(interface) else deaf).append(str(interface.ip))
    return heard, deaf


def _hears_itself(interface: IPv4Interface) -> bool:
    token, own = token_hex(8).encode(), interface.ip.packed
    question = DNSOutgoing(_QUERY)
    question.add_question(DNSQuestion(f"doctor-{token.decode()}.{SERVICE}", _TEXT, _INTERNET))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("", PORT))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + own)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            for packet in question.packets():
                sock.sendto(packet, (GROUP, PORT))
            return _hears(sock, token)
    except OSError:
        return False


def _hears(sock: socket.socket, token: bytes) -> bool:
    deadline = time.monotonic() + HEAR_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            if token in sock.recv(_MAX_PACKET):
                return True
        except TimeoutError:
            return False
    return False
