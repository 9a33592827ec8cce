"""A peer's place in the network: one identity, links to every other peer, messages, requests and gossip by account.

Runs the libp2p stack under a supervisor: if it dies, the host logs why and starts a new one; handlers, topics and
queues stay. Knows nothing of what the messages say.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import trio

from flock_chain.crypto import Account, Key
from flock_chain.errors import Misuse
from flock_peers.network.addresses import AddressBook
from flock_peers.network.admission import Admission
from flock_peers.network.answer_room import AnswerRoom
from flock_peers.network.bitswap import BITSWAP_PROTOCOLS
from flock_peers.network.bulk import BULK, BulkLinks
from flock_peers.network.census import PeerRow, list_peers
from flock_peers.network.complaints import Complaints, Lines, Tolerance
from flock_peers.network.conduct import Conduct, Counters
from flock_peers.network.connector import Connector
from flock_peers.network.dht import Dht
from flock_peers.network.dialer import Dialer
from flock_peers.network.frame_room import FrameRoom
from flock_peers.network.gossip import GOSSIP_PROTOCOL, Gossip, GossipHandler, Topic, Validator
from flock_peers.network.guarded import contained
from flock_peers.network.handshake import Handshake
from flock_peers.network.hello import GENESIS, HELLO, PEERS
from flock_peers.network.identity import parse_address, peer_id_of
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link, Stream
from flock_peers.network.mdns import LanDiscovery
from flock_peers.network.messenger import MessageHandler, Messenger, RequestHandler
from flock_peers.network.own_addresses import OwnAddresses, open_last_listener
from flock_peers.network.peer_exchange import PeerExchange
from flock_peers.network.peer_table import PeerTable
from flock_peers.network.relay import Circuits
from flock_peers.network.relay_client import RelayClient
from flock_peers.network.stack import Stack, StreamHandler

log = logging.getLogger(__name__)

PeerHandler = Callable[[Account], Awaitable[None]]

MDNS, DHT = b"mdns", b"dht"  # as sources of hearsay
_RESTART_SECONDS, _RESTART_SECONDS_MAX = 0.2, 10.0
_OPEN_PROTOCOLS = frozenset({HELLO, BULK, GENESIS, "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"})
_GUEST_PROTOCOLS = frozenset({GOSSIP_PROTOCOL, *BITSWAP_PROTOCOLS})


class Host:
    """Open with `open_host`. All methods are for the trio thread; those without `await` never block."""

    def __init__(
        self, key: Key, listen: tuple[str, int], genesis_hash: bytes, limits: Limits, *, announce: str | None,
        bootstrap: Sequence[str], known_peers: Path | None, genesis_document: bytes | None,
        upgrades_hash: bytes = bytes(32), mdns: bool = False, dht: bool = False,
        is_relay: bool = False, via: Sequence[str] = (),
    ) -> None:  # fmt: skip
        if len(genesis_hash) != 32:
            raise Misuse("host: a genesis hash is 32 bytes")
        self.key, self.account, self.limits = key, key.account, limits
        self.genesis_hash = genesis_hash
        self.counters = Counters()
        self._own = OwnAddresses(peer_id_of(key), listen, announce)
        self._table = PeerTable(limits, trio.current_time)
        self._complaints, self._lines = Complaints(trio.current_time), Lines(trio.current_time)
        self._conduct = Conduct(self._table, limits, self.counters, self._complaints)
        self.book = AddressBook(key.account, limits, known_peers)
        frames, answers = (partial(self.complain, kind=kind) for kind in ("frames", "answers"))
        self._room = FrameRoom(limits, lambda account: account in self.book.favoured, frames)
        self._answers = AnswerRoom(limits, answers)
        self._messenger = Messenger(
            self._table, limits, self.counters, self._conduct, self._room, self._answers,
            lambda task: self._nursery.start_soon(contained, task),
        )  # fmt: skip
        self._handshake = Handshake(
            genesis_hash, genesis_document, upgrades_hash, limits,
            lambda link: [str(address) for address in self._own.of(link)],
            lambda link, theirs: self._admission.admit(link, theirs), self._complaints,
        )  # fmt: skip
        self._bulk = BulkLinks(
            self._table, self.book, limits, self._handshake, lambda: self._stack,
            lambda task: self._nursery.start_soon(contained, task),
        )  # fmt: skip
        self._admission = Admission(
            key.account, self._table, self.book, self._bulk, limits, self._all_links, self._on_peer, self._on_guest,
            self._lines.tell,
        )  # fmt: skip
        self._handlers: dict[str, StreamHandler] = {HELLO: self._handshake.answer, BULK: self._bulk.answer}
        if genesis_document is not None:
            self._handlers[GENESIS] = self._handshake.serve_genesis
        self._topics: dict[str, Topic] = {}
        self._on_connected: list[PeerHandler] = []
        self._on_disconnected: list[PeerHandler] = []
        self._stack: Stack | None = None
        self._gossip: Gossip | None = None
        self._is_relay = is_relay
        self._relays = RelayClient(self.account, self._own, self._table, limits, [parse_address(text) for text in via])
        self._with_dht, self._dht = dht, cast(Dht | None, None)
        self._nursery: trio.Nursery
        for address in (*map(parse_address, bootstrap), *self._relays.via):
            self.book.add(address, is_bootstrap=True)
        exchange = PeerExchange(self.book, self._table, self._own, limits, self.request)
        self._dialer = Dialer(self.account, self._table, self.book, limits, self._handshake, lambda: self._stack)
        self._connector = Connector(
            self.book, limits, is_connected=self.is_connected, dial=self._dialer.dial, connected=self.connected,
            ask_peers=exchange.ask, count_outbound=self._table.count_outbound, keeps_loopback=exchange.keeps_loopback,
        )  # fmt: skip
        self._lan: LanDiscovery | None = None
        if mdns:
            self._lan = LanDiscovery(
                genesis_hash, lambda: self._own.of(None), lambda hints: self._connector.hear(hints, MDNS),
                lambda source, what, kind: self._complaints.note(
                    f"by mDNS, as from {source or 'nobody'}", what, kind=kind
                ),
            )  # fmt: skip
        self.on_request(PEERS, exchange.answer, most=0)

    # --- who we are, who is there

    @property
    def address(self) -> str:
        """What others pass to `connect`."""
        return str(self._own.of(None)[0])

    def connected(self) -> list[Account]:
        return self._table.connected()

    def list_peers(self) -> list[PeerRow]:
        return list_peers(self._table.all_links(), self._conduct.misdeeds, trio.current_time())

    def is_connected(self, account: Account) -> bool:
        return self._table.is_connected(account)

    def on_connected(self, handler: PeerHandler) -> None:
        self._on_connected.append(handler)

    def on_disconnected(self, handler: PeerHandler) -> None:
        self._on_disconnected.append(handler)

    async def wait_for_peers(self, count: int) -> None:
        while len(self.connected()) < count:
            await self._table.wait_changed()

    # --- connections

    async def connect(self, address: str) -> Account:
        """Connect now, and again whenever the connection is lost.

        Raises Unavailable when nobody answers (within ten seconds), InvalidRemote when another peer answers there or
        it is on another network, InvalidEncoding for no address.
        """
        return await self._dialer.connect(address)

    async def _on_link(self, link: Link) -> None:
        """Life of a link, from proved identity to its end."""
        try:
            if await self._handshake.wait_admitted(link):
                if self._gossip is not None and not link.is_bulk:
                    await self._gossip.on_admitted(link)
                if self._dht is not None and not link.is_bulk:
                    await self._dht.on_admitted(link, self.book.addresses_of(link.account))
            elif not self._admission.take_guest(link):
                self._complaints.note(f"0x{link.account.hex()} at {link.remote_host}", "never said hello: disconnected")
                link.abort()
                return
            await link.closed.wait()
        finally:
            self._forget(link)
            if self._gossip is not None and not link.is_bulk:
                self._gossip.on_gone(link)
            if self._dht is not None and not link.is_bulk:
                self._dht.on_gone(link)

    def _all_links(self) -> list[Link]:
        return [link for links in self._stack.links.values() for link in links] if self._stack else []

    def _on_peer(self, account: Account) -> None:
        self._nursery.start_soon(contained, self._connector.learn_from, account)
        self._tell(self._on_connected, account)

    def _on_guest(self, link: Link) -> None:
        if self._gossip is not None:
            self._nursery.start_soon(contained, self._gossip.on_admitted, link)

    def _forget(self, link: Link) -> None:
        if self._table.remove(link):
            self._lines.tell(f"disconnected from 0x{link.account.hex()} at {link.remote}")
            self.book.on_lost(link.account, trio.current_time())
            self._connector.wake()
            self._tell(self._on_disconnected, link.account)

    def _tell(self, handlers: Iterable[PeerHandler], account: Account) -> None:
        for handler in handlers:
            self._nursery.start_soon(contained, handler, account)

    def complain(self, account: Account, reason: str, kind: str = "") -> None:
        """A line in the log, at a bounded rate for each kind."""
        self._conduct.complain(account, reason, kind)

    def tally(self, account: Account, tolerance: Tolerance, reason: str, count: int = 1) -> None:
        """The same, above what is tolerated of it."""
        self._conduct.tally(account, tolerance, reason, count)

    def disconnect(self, account: Account) -> None:
        """Close every connection to a peer; it may come back."""
        self._conduct.disconnect(account)

    def ban(self, account: Account, reason: str, seconds: float | None = None) -> None:
        """Disconnect and refuse for a while."""
        self._conduct.ban(account, reason, seconds)

    # --- messages, requests and streams

    def on_message(self, protocol: str, handler: MessageHandler) -> None:
        """`handler` gets one message of a peer at a time; while it runs, that peer's next ones wait at the sender.

        A handler that raises InvalidRemote disconnects the peer, InvalidSignature also bans it.
        """
        self._add_protocol(protocol, self._messenger.serve_messages(protocol, handler))

    def send(self, account: Account, protocol: str, payload: bytes) -> bool:
        """Queue a message; False (and counted) when the peer is not connected."""
        return self._messenger.send(account, protocol, payload)

    def broadcast(self, protocol: str, payload: bytes, accounts: Iterable[Account] | None = None) -> int:
        """Send to these accounts, or to all that are connected; returns to how many."""
        targets = self.connected() if accounts is None else accounts
        return self._messenger.broadcast(protocol, payload, [row for row in targets if row != self.account])

    def on_request(self, protocol: str, handler: RequestHandler, most: int | None = None) -> None:
        """What `handler` returns is the answer; a FlockError that it raises is told to the asker in one line. `most`:
        bytes of a request, by default those of a frame; whoever sends more is disconnected."""
        self._add_protocol(protocol, self._messenger.serve_requests(protocol, handler, most))

    async def request(
        self, account: Account, protocol: str, payload: bytes, timeout: float = 10.0, most: int | None = None
    ) -> bytes:  # fmt: skip
        """Raises Unavailable when the peer is not connected, declines, or does not answer in time, InvalidRemote for an
        answer of more than `most` bytes, by default those of a frame."""
        return await self._messenger.request(account, protocol, payload, timeout, most)

    def on_stream(self, protocol: str, handler: StreamHandler) -> None:
        """Raw streams of admitted peers; the stream is closed when the handler returns, reset when it raises."""
        self._add_protocol(protocol, handler)

    async def open_stream(self, account: Account, protocol: str, *, bulk: bool = False) -> Stream:
        """`bulk`: over a second connection where there can be one, so that nothing else waits behind it."""
        link = await self._bulk.get(account) if bulk else None
        return await (link.open(protocol) if link else self._messenger.open_stream(account, protocol))

    def _add_protocol(self, protocol: str, handler: StreamHandler) -> None:
        if protocol in self._handlers:
            raise Misuse(f"protocol {protocol} has a handler already")
        self._handlers[protocol] = handler
        if self._stack is not None:
            self._stack.add_protocol(protocol, handler)

    # --- gossip

    def subscribe(self, topic: str, validator: Validator, handler: GossipHandler) -> None:
        """`validator(author, payload)` decides at once about forwarding; both are given our own messages too."""
        if topic in self._topics:
            raise Misuse(f"topic {topic} has a handler already")
        self._topics[topic] = Topic(validator, handler)
        if self._gossip is not None:
            self._gossip.add_topic(topic)

    def publish(self, topic: str, payload: bytes) -> bool:
        """False when the network is down or far behind."""
        if len(payload) > self.limits.gossip_message_bytes - 1024:
            raise Misuse(f"gossip of {len(payload)} bytes, at most {self.limits.gossip_message_bytes - 1024}")
        return self._gossip is not None and self._gossip.publish(topic, payload)

    def topic_peers(self, topic: str) -> list[Account]:
        return self._gossip.peers_of(topic) if self._gossip else []

    # --- provider records

    async def provide(self, digest: bytes) -> bool:
        """Tell the network that this content is here. False where nobody was told."""
        return self._dht is not None and await self._dht.provide(digest)

    async def find_providers(self, digest: bytes) -> list[Account]:
        """Who is said to have it, besides us. They are dialed; returns when one is connected, or none was in time."""
        hints = await self._dht.find(digest) if self._dht is not None else []
        accounts = [account for account in dict.fromkeys(hint.account for hint in hints) if account != self.account]
        self._connector.hear(hints, DHT)
        with trio.move_on_after(self.limits.dial_seconds):
            while accounts and not any(map(self.is_connected, accounts)):
                await self._table.wait_changed()
        return accounts

    # --- life

    async def _supervise(self, listener: trio.SocketListener) -> None:
        """An unforeseen exception still ends a swarm; then the peer comes back by itself."""
        wait = _RESTART_SECONDS
        while True:
            started = trio.current_time()
            try:
                await self._run_stack(listener)
            except Exception as error:
                log.exception("network: the libp2p stack failed, starting a new one: %r", error)
            self.counters.restarts += 1
            wait = _RESTART_SECONDS if trio.current_time() - started > 60 else min(2 * wait, _RESTART_SECONDS_MAX)
            await trio.sleep(wait)

    async def _run_stack(self, listener: trio.SocketListener) -> None:
        stack = Stack(
            self.key, self.limits, announce=self._own.of(None), protocols=self._handlers,
            open_protocols=_OPEN_PROTOCOLS, on_link=self._on_link, complaints=self._complaints,
            is_favoured=self._admission.is_favoured, is_stranger=self._room.is_stranger,
            guest_protocols=_GUEST_PROTOCOLS, take_guest=self._admission.take_guest, is_known=self.book.is_known,
        )  # fmt: skip
        gossip = Gossip(
            stack, self._topics, self._table.buckets_of, self._conduct.blame, self._room, self._conduct.complain
        )
        circuits = Circuits(
            stack, is_relay=self._is_relay, is_own_relay=self._relays.is_own, is_favoured=self._admission.is_favoured
        )
        stack.open_circuit = self._relays.open_circuit
        dht = Dht(stack, trio.current_time) if self._with_dht else None
        try:
            async with stack.run(listener), gossip.run(), circuits.run(), dht.run() if dht else nullcontext():
                self._stack, self._gossip, self._dht, self._relays.circuits = stack, gossip, dht, circuits
                self._table.notify()
                await trio.sleep_forever()
        finally:
            self._stack = self._gossip = self._dht = self._relays.circuits = None

    async def run(self, listener: trio.SocketListener, task_status: Any) -> None:
        self._own.port = listener.socket.getsockname()[1]
        self.book.set_own_port(self._own.port)
        self.book.save()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._supervise, listener)
            while self._stack is None:
                await self._table.wait_changed()
            self._nursery.start_soon(contained, self._connector.run)
            if self._relays.via:
                self._nursery.start_soon(contained, self._relays.reserve_often)
            if self._lan is not None:
                self._nursery.start_soon(contained, self._lan.run)
            task_status.started()


@asynccontextmanager
async def open_host(
    key: Key, listen: tuple[str, int], genesis_hash: bytes, limits: Limits | None = None, *,
    announce: str | None = None, bootstrap: Sequence[str] = (), known_peers: Path | None = None,
    genesis_document: bytes | None = None, upgrades_hash: bytes = bytes(32), mdns: bool = False, dht: bool = False,
    is_relay: bool = False, via: Sequence[str] = (),
) -> AsyncIterator[Host]:  # fmt: skip
    """A running host. `listen`: (ip, port), port 0 for the one of the last run, or any. `announce`: the ip or name that
    others dial. `mdns`: find peers of the local networks, and be found.

    Raises Unavailable when the port is taken. `bootstrap` peers are dialed in the background, for ever; `await
    host.connect(address)` to hear of errors. An exception of the body comes out as it is, not in a group.
    """
    host = Host(
        key, listen, genesis_hash, limits or Limits(), announce=announce, bootstrap=bootstrap,
        known_peers=known_peers, genesis_document=genesis_document, upgrades_hash=upgrades_hash, mdns=mdns, dht=dht,
        is_relay=is_relay, via=via,
    )  # fmt: skip
    listener = await open_last_listener(*listen, host.book.own_port)
    failure: BaseException | None = None
    async with listener, trio.open_nursery() as nursery:
        await nursery.start(host.run, listener)
        try:
            yield host
        except trio.Cancelled:
            raise
        except BaseException as error:  # raised again below, outside the nursery's group
            if isinstance(error, BaseExceptionGroup) and not isinstance(error, ExceptionGroup):
                raise  # may hold a Cancelled, which belongs to the nursery
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
