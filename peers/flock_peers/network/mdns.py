"""Peers of a local network find each other by multicast DNS, in the record format of libp2p's specification.

Whatever is heard is a dial hint that anybody on the wire may have made up: it is bounded, may only name a machine of
the same local network, and the peer behind it still has to prove its key and its network. Connects to nobody.
"""

import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain, repeat
from secrets import token_hex
from typing import Any

import trio
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, RecordUpdateListener, ServiceInfo, Zeroconf
from zeroconf._dns import DNSQuestion
from zeroconf._protocol.outgoing import DNSOutgoing

from flock_chain.errors import InvalidEncoding
from flock_peers.network.heard import Heard
from flock_peers.network.identity import Address, parse_address
from flock_peers.network.lan import Interface, is_neighbour, list_interfaces
from flock_peers.network.limits import TokenBucket

log = logging.getLogger(__name__)

SERVICE = "_flock-p2p._udp.local."
MAX_TEXT_BYTES = 1_024  # four addresses and a hash take 450
MAX_ADDRESSES = 4
_RATE, _BURST = 16.0, 64.0  # records a second, looked at; a household has ten peers, a spoofer as many as it likes
_ASK_AFTER = (0.0, 1.0, 3.0, 9.0, 27.0)  # seconds; a peer that starts is heard by its own announcement
_ASK_SECONDS = 60.0
_LOOK_SECONDS = 10.0  # how soon another network (a cable, a hotel) is noticed
_QUERY, _POINTER, _INTERNET = 0x0000, 12, 1
_NAME = re.compile(r"^[0-9a-f]{16}-[0-9a-f]{16}(-\d{1,3})?\.", re.ASCII)


Complain = Callable[[str, object, str], None]  # source, what, and of which kind


@dataclass(frozen=True)
class Sighting:
    genesis_hash: bytes
    addresses: tuple[Address, ...]


def encode_text(genesis_hash: bytes, addresses: Sequence[str]) -> dict[str | bytes, str | bytes | None]:
    """The TXT properties: `dnsaddr`, `dnsaddr2` and so on, as the specification has them, and the genesis hash."""
    values: dict[str | bytes, str | bytes | None] = {"genesis": genesis_hash.hex()}
    for number, address in enumerate(addresses[:MAX_ADDRESSES], 1):
        values["dnsaddr" if number == 1 else f"dnsaddr{number}"] = address
    return values


def decode_text(text: bytes) -> Sighting:
    """Raises InvalidEncoding for anything that no peer of ours would say."""
    if len(text) > MAX_TEXT_BYTES:
        raise InvalidEncoding(f"mdns: a record of {len(text)} bytes, at most {MAX_TEXT_BYTES}")
    genesis, at = b"", 0
    addresses: list[Address] = []
    while at < len(text):
        size = text[at]
        item, at = text[at + 1 : at + 1 + size], at + 1 + size
        key, _, value = item.partition(b"=")
        if key == b"genesis":
            genesis = _parse_hash(value)
        elif key.startswith(b"dnsaddr") and len(addresses) < MAX_ADDRESSES:
            addresses.append(parse_address(value.decode("ascii", "replace")))
    if not genesis or not addresses or len({address.account for address in addresses}) != 1:
        raise InvalidEncoding("mdns: a record without a genesis hash, or not of one peer")
    return Sighting(genesis, tuple(addresses))


def _parse_hash(value: bytes) -> bytes:
    try:
        digest = bytes.fromhex(value.decode("ascii"))
    except ValueError as error:
        raise InvalidEncoding("mdns: a genesis hash that is none") from error
    if len(digest) != 32:
        raise InvalidEncoding("mdns: a genesis hash of another length")
    return digest


class _Listener(RecordUpdateListener):
    """Called in zeroconf's thread: takes out what may be ours. In trio `run` looks at it, within a rate."""

    def __init__(
        self, interfaces: Sequence[Interface], on_sighting: Callable[[Sighting], None], complain: Complain
    ) -> None:
        self._interfaces, self._on_sighting, self._complain = interfaces, on_sighting, complain
        self._heard = Heard()
        self._token = trio.lowlevel.current_trio_token()
        self._is_waiting = trio.Event()
        self._is_blind = False

    def async_update_records(self, zc: Zeroconf, now: float, records: list[Any]) -> None:
        texts = [text for update in records if (text := _find_text(update.new)) is not None]
        if texts:
            self.hear(self._find_source(zc, now), texts)

    def _find_source(self, zc: Zeroconf, now: float) -> str:
        """Without it all have one share, and are still heard; an exception in this thread would end discovery."""
        try:
            return _find_source(zc, now)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            if not self._is_blind:
                self._is_blind = True
                log.warning("mDNS: this version of zeroconf does not tell who sent what: %r", error)
            return ""

    def hear(self, source: str, texts: Sequence[bytes]) -> None:
        if source and not any(ip_address(source) in interface.network for interface in self._interfaces):
            return  # RFC 6762, 11: from elsewhere
        for text in texts:
            self._heard.put(source, text)
        try:
            self._token.run_sync_soon(self._wake, idempotent=True)
        except trio.RunFinishedError:
            pass

    def _wake(self) -> None:
        self._is_waiting.set()

    async def run(self) -> None:
        bucket = TokenBucket(_RATE, _BURST, trio.current_time)
        while True:
            await trio.sleep(bucket.debit())
            while (row := self._heard.take()) is None:
                self._is_waiting = trio.Event()
                await self._is_waiting.wait()
            self._look_at(*row)
            for source, count in self._heard.take_dropped().items():
                what = f"says too much by multicast DNS: {count} records were not looked at"
                self._complain(source, what, "rate")

    def _look_at(self, source: str, text: bytes) -> None:
        try:
            self._on_sighting(decode_text(text))
        except InvalidEncoding as error:
            self._complain(source, error, "nonsense")


def _find_text(record: Any) -> bytes | None:
    text: bytes | None = getattr(record, "text", None)
    if text is None or len(text) > MAX_TEXT_BYTES:
        return None
    return text if record.name.endswith("." + SERVICE) and _NAME.match(record.name) else None


def _find_source(zc: Zeroconf, now: float) -> str:
    """Zeroconf's listeners are not told who sent it; its sockets remember their last packet, and when that came. Where
    it is not among them, empty: all such have one share. None of this is zeroconf's promise."""
    for socket in zc.engine.protocols:
        packet = socket.last_message
        if packet is not None and packet.now == now and packet.source:
            return str(ip_address(packet.source[0]))
    return ""


@dataclass
class Wire:
    """An open multicast socket on given interfaces."""

    _zeroconf: Zeroconf
    interfaces: Sequence[Interface]

    def ask(self) -> None:
        """Everybody who hears it answers."""
        question = DNSOutgoing(_QUERY)
        question.add_question(DNSQuestion(SERVICE, _POINTER, _INTERNET))
        self._zeroconf.send(question)

    async def announce(self, genesis_hash: bytes, addresses: Sequence[str], port: int) -> None:
        """Until the wire is closed. The name is of this run: nobody can take it beforehand."""
        name = f"{genesis_hash[:8].hex()}-{token_hex(8)}"
        info = ServiceInfo(
            SERVICE, f"{name}.{SERVICE}", port=port, properties=encode_text(genesis_hash, addresses),
            server=f"{name}.local.", parsed_addresses=[str(interface.ip) for interface in self.interfaces],
        )  # fmt: skip
        await trio.to_thread.run_sync(lambda: self._zeroconf.register_service(info, allow_name_change=True))


@asynccontextmanager
async def open_wire(
    interfaces: Sequence[Interface], on_sighting: Callable[[Sighting], None], complain: Complain
) -> AsyncIterator[Wire]:  # fmt: skip
    """Raises OSError where multicast is not to be had. Zeroconf has a thread of its own; closing it says goodbye."""
    hosts = [str(interface.ip) for interface in interfaces]
    zeroconf = await trio.to_thread.run_sync(lambda: Zeroconf(interfaces=hosts, ip_version=IPVersion.V4Only))
    failure: Exception | None = None
    try:
        listener = _Listener(interfaces, on_sighting, complain)
        zeroconf.add_listener(listener, None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.run)
            try:
                yield Wire(zeroconf, interfaces)
            except (OSError, ZeroconfError) as error:  # raised again below, outside the nursery's group
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)
    if failure is not None:
        raise failure


class LanDiscovery:
    """Announces this peer and hands over hints while `run` runs; follows the machine from network to network."""

    def __init__(
        self, genesis_hash: bytes, own_addresses: Callable[[], Sequence[Address]],
        on_hints: Callable[[Sequence[Address]], None], complain: Complain,
    ) -> None:  # fmt: skip
        """`complain` hears of who says too much, or nonsense: by the address that its packets give."""
        self._genesis_hash, self._own = genesis_hash, own_addresses
        self._on_hints, self._complain = on_hints, complain
        self._interfaces: list[Interface] = []

    def _on_sighting(self, sighting: Sighting) -> None:
        if sighting.genesis_hash == self._genesis_hash:
            self._on_hints([a for a in sighting.addresses if is_neighbour(a, self._interfaces)])

    async def run(self) -> None:
        is_told = False
        while True:
            self._interfaces = list_interfaces()
            try:
                if self._interfaces:
                    await self._run_on(self._interfaces)
            except (OSError, ZeroconfError) as error:
                log.log(logging.DEBUG if is_told else logging.WARNING, "no discovery on the local network: %s", error)
                is_told = True
            await trio.sleep(_LOOK_SECONDS)

    async def _run_on(self, interfaces: list[Interface]) -> None:
        """Until the machine's addresses change."""
        async with open_wire(interfaces, self._on_sighting, self._complain) as wire:
            own = self._own()
            await wire.announce(self._genesis_hash, [str(address) for address in own], own[0].port)
            for pause in chain(_ASK_AFTER, repeat(_ASK_SECONDS)):
                until = trio.current_time() + pause
                while (left := until - trio.current_time()) > 0:
                    await trio.sleep(min(left, _LOOK_SECONDS))
                    if list_interfaces() != interfaces:
                        return
                wire.ask()


MAX_NETWORKS, MAX_PEERS = 16, 8


async def find_networks(seconds: float, *, wanted: bytes | None = None) -> dict[bytes, list[Address]]:
    """Who is on the local network, by genesis hash. Ends early, with what is `wanted` alone, once that was heard.

    Raises OSError where multicast is not to be had.
    """
    found: dict[bytes, list[Address]] = {}
    interfaces, is_found = list_interfaces(), trio.Event()

    def note(sighting: Sighting) -> None:
        if wanted not in (None, sighting.genesis_hash):
            return
        if sighting.genesis_hash not in found and len(found) >= MAX_NETWORKS:
            return
        known = found.setdefault(sighting.genesis_hash, [])
        hints = [a for a in sighting.addresses if is_neighbour(a, interfaces) and a not in known]
        known += hints[: MAX_PEERS - len(known)]
        if wanted is not None and known:
            is_found.set()

    if not interfaces:
        return {}
    async with open_wire(interfaces, note, lambda source, what, _kind: log.debug("%s: %s", source, what)) as wire:
        with trio.move_on_after(seconds):
            for pause in _ASK_AFTER:
                with trio.move_on_after(pause):
                    await is_found.wait()
                if is_found.is_set():
                    break
                wire.ask()
            await is_found.wait()
    return {genesis_hash: known for genesis_hash, known in found.items() if known}
