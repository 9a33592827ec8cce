"""Every limit of the network in one frozen table, and the token bucket. Knows no socket and no libp2p."""

from collections.abc import Callable
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """One instance per host; the defaults are for an ordinary peer, tests pass smaller ones."""

    # Connections. A full mesh of 50 needs up to 49 of one direction, so the two directions are capped apart: a crowd
    # of strangers can fill the inbound side, never the outbound one.
    max_inbound: int = 48
    max_outbound: int = 48
    max_inbound_per_ip: int = 32  # peers behind one address: a laboratory, or a demo on one machine
    max_inbound_per_group: int = 16  # of one /24 or /48 of the internet, which one owner may have as a whole
    # New connections of one address, or /24 or /48, a second: each takes up to 5 ms of a core, up to 8 where it says
    # hello (benchmarks/wire_costs.py).
    accept_rate: float = 20.0
    accept_burst: float = 200.0  # a demo of forty peers on one machine, all of them dialing twice
    accept_rate_of_all: float = 60.0  # but for peers that are needed
    accept_burst_of_all: float = 600.0
    # Beside these those that are the first of their network for a while; and of them those of one range, a /16 or a
    # /32, where somebody may have any number of networks.
    accept_rate_of_first: float = 20.0
    accept_burst_of_first: float = 200.0
    accept_rate_of_range: float = 2.0
    accept_burst_of_range: float = 20.0
    guests: int = 0  # inbound connections that never say hello: IPFS tools, with a few protocols
    max_links_per_peer: int = 4  # two peers that dial each other at once have two
    # Second connections for files: one of each direction with a peer, so that votes never wait behind a file.
    max_bulk_inbound: int = 8  # of max_inbound
    max_bulk_outbound: int = 8
    bulk_idle_seconds: float = 30.0  # without a stream, then it is closed
    bulk_again_seconds: float = 60.0  # after a dial that failed: until then its files come over the ordinary connection
    max_handshakes: int = 32  # connections that have not yet shown an identity
    max_handshakes_per_ip: int = 16
    max_handshakes_per_relay: int = 8  # half of the circuits that it lends: the others are for who has proved its key
    handshake_seconds: float = 5.0
    handshake_bytes: int = 64 << 10  # what a stranger may send before it is authenticated; noise and yamux take 1 KB
    hello_seconds: float = 5.0
    dial_seconds: float = 10.0  # a user who gave a wrong address hears of it within this time
    parallel_dials: int = 4  # a handshake takes 20 ms of a core on each side

    # Streams and frames.
    streams_per_peer: int = 16
    negotiate_seconds: float = 5.0
    open_seconds: float = 5.0
    frame_bytes: int = MIB
    frame_seconds: float = 30.0  # a frame that was begun must end
    write_seconds: float = 30.0  # a peer that reads nothing for this long is dropped
    unread_bytes: int = 256 << 10  # 20,000 acks, pings and credits that a peer does not read; then it is cut off
    # What waits in the windows of streams that nobody reads just now. More than a full window of 256 KiB on each of 96
    # connections, so that who has one has never the most (window_room).
    unread_bytes_of_strangers: int = 32 * MIB
    unread_bytes_of_all: int = 64 * MIB

    # What one peer may send us: token buckets (rate per second, burst). Above the rate we read more slowly.
    message_rate: float = 400.0
    message_burst: float = 800.0
    message_byte_rate: float = 8 * MIB
    message_byte_burst: float = 16 * MIB
    request_rate: float = 100.0
    request_burst: float = 200.0
    # Messages of gossip above the rate are dropped, and count against who forwards them (gossip_scores).
    gossip_rate: float = 200.0
    gossip_burst: float = 1000.0
    gossip_byte_rate: float = 8 * MIB
    gossip_byte_burst: float = 16 * MIB
    gossip_message_bytes: int = MIB

    # Frames that are half read, or that wait for their handlers. Of what we asked for we know how much that is.
    small_frame_bytes: int = 16 << 10  # votes, questions: bounded by the number of streams, and always read
    half_read_bytes_per_peer: int = 2 * MIB  # a proposal, and something else beside it
    half_read_bytes_of_strangers: int = 16 * MIB  # 170 KiB of each connection; a transaction takes 64
    stalled_seconds: float = 10.0  # nothing of a stranger's came: it loses its room, not its connection
    half_read_bytes: int = 64 * MIB  # 16 liars of 50 validators and all strangers leave 16 proposals their room

    # Large answers that were not taken yet: six of a MiB, the most that an honest peer asks for at once, of ten peers.
    answer_bytes: int = 64 * MIB

    # What we hold for one peer and protocol while it is slow; the oldest goes first.
    queue_messages: int = 1024
    queue_bytes: int = 8 * MIB
    requests_per_peer: int = 6  # ours in flight; the other side allows 16 streams in all
    publish_queue: int = 4096

    # Who we know.
    known_peers: int = 256
    addresses_per_peer: int = 4
    exchanged_addresses: int = 64
    exchange_seconds: float = 30.0
    anchors: int = 16  # peers that answered us and that no later comer pushes out of the book
    reserved_outbound: int = 8  # of max_outbound: for bootstrap peers, anchors and validators alone
    settled_seconds: float = 10.0  # a connection that lasts less was no success; the next dial of it waits longer
    silent_seconds: float = 30.0  # a path that carries nothing for so long is gone: a restarted router, a pulled cable
    courtesy_seconds: float = 2.0  # of two peers, one dials first
    redial_seconds: float = 0.5  # first back-off, doubled up to:
    redial_seconds_max: float = 15.0
    forget_after_failures: int = 8  # a hearsay address that never answered
    ban_seconds: float = 600.0
    bans: int = 1024
    tracked_peers: int = 1024  # token buckets outlive a connection, or reconnecting would refill them


class TokenBucket:
    """Rate limit with a burst. Time comes from outside."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._at = burst, clock()

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now

    def take(self, amount: float = 1.0) -> bool:
        """Take if there is enough."""
        self._refill()
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def find_wait(self, amount: float = 1.0) -> float:
        """What `debit` would say; takes nothing."""
        self._refill()
        return max(0.0, (amount - self._tokens) / self._rate)

    def debit(self, amount: float = 1.0) -> float:
        """Take in any case; returns the seconds to wait until the debt is paid."""
        self._refill()
        self._tokens -= amount
        return max(0.0, -self._tokens / self._rate)
