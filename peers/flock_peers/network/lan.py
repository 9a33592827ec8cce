"""Which addresses this machine has on its local networks, and who of them may be dialed on a neighbour's word."""

import ipaddress
from collections.abc import Sequence

import ifaddr

from flock_peers.network.identity import Address

Interface = ipaddress.IPv4Interface


def list_interfaces() -> list[Interface]:
    """IPv4 addresses with their networks, without loopback, in the system's order."""
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if ip.is_IPv4:
                interface = ipaddress.IPv4Interface(f"{ip.ip}/{ip.network_prefix}")
                if not interface.ip.is_loopback and not interface.ip.is_unspecified:
                    found.append(interface)
    return found


def list_own_hosts(listen_host: str) -> list[str]:
    """The IP addresses at which a listener on `listen_host` is reached from outside."""
    if listen_host not in ("0.0.0.0", "::"):
        return [] if ipaddress.ip_address(listen_host).is_loopback else [listen_host]
    return [str(interface.ip) for interface in list_interfaces()]


def is_neighbour(address: Address, interfaces: Sequence[Interface]) -> bool:
    """Nobody on a local network can make us dial a machine outside of it."""
    if address.kind != "ip4":
        return False
    ip = ipaddress.IPv4Address(address.host)
    return any(ip in interface.network and ip != interface.network.broadcast_address for interface in interfaces)
