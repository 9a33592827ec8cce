"""Messages, requests and streams by account, over whatever links a peer has. Makes no connection."""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import trio

from flock_chain.crypto import Account
from flock_chain.errors import FlockError, InvalidRemote, Misuse, Unavailable
from flock_peers.network import requests
from flock_peers.network.answer_room import AnswerRoom
from flock_peers.network.conduct import Conduct, Counters
from flock_peers.network.frame_room import FrameRoom
from flock_peers.network.guarded import tell_failure
from flock_peers.network.limits import Limits
from flock_peers.network.link import Stream
from flock_peers.network.messages import Outbox, receive
from flock_peers.network.peer_table import PeerTable
from flock_peers.network.stack import StreamHandler

MessageHandler = Callable[[Account, bytes], Awaitable[None]]
RequestHandler = Callable[[Account, bytes], Awaitable[bytes]]


class Messenger:
    """`start` runs a contained task for as long as the host lives."""

    def __init__(
        self, table: PeerTable, limits: Limits, counters: Counters, conduct: Conduct, room: FrameRoom,
        answers: AnswerRoom, start: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:  # fmt: skip
        self._table, self._limits, self._counters, self._conduct = table, limits, counters, conduct
        self._room, self._answers, self._start = room, answers, start

    def serve_messages(self, protocol: str, handler: MessageHandler) -> StreamHandler:
        async def serve(stream: Stream) -> None:
            async def hand_over(payload: bytes) -> None:
                self._counters.messages_received += 1
                try:
                    await handler(stream.account, payload)
                except InvalidRemote:
                    raise
                except Exception:  # noqa: BLE001 - told with its traceback
                    tell_failure(f"the handler of {protocol} failed on a message of 0x{stream.account.hex()}")

            async with self._conduct.blamed(stream.account, protocol):
                await receive(stream, self._limits, self._room, partial(self._charge, stream.account), hand_over)

        return serve

    def _charge(self, account: Account, size: int) -> float:
        wait = self._table.buckets_of(account).charge_message(size)
        if wait > 0:
            x = self._limits
            most = f"{x.message_rate:g} messages or {x.message_byte_rate / (1 << 20):g} MiB"
            self._conduct.complain(account, f"sends more than {most} a second: read more slowly", "messages")
        return wait

    def send(self, account: Account, protocol: str, payload: bytes) -> bool:
        """Queue a message; False (and counted) when the peer is not connected."""
        if len(payload) > self._limits.frame_bytes:
            raise Misuse(f"message of {len(payload)} bytes, at most {self._limits.frame_bytes}")
        peer = self._table.get(account)
        if peer is None:
            self._counters.messages_dropped += 1
            return False
        outbox = peer.outboxes.get(protocol)
        if outbox is None:
            outbox = Outbox(protocol, self._limits, peer.newest_link, self._counters.count_dropped)
            peer.outboxes[protocol] = outbox
            self._start(outbox.run)
        outbox.put(payload)
        self._counters.messages_sent += 1
        return True

    def broadcast(self, protocol: str, payload: bytes, accounts: Iterable[Account]) -> int:
        """Returns to how many it was sent."""
        return sum(self.send(account, protocol, payload) for account in accounts)

    def serve_requests(self, protocol: str, handler: RequestHandler, most: int | None = None) -> StreamHandler:
        async def serve(stream: Stream) -> None:
            with self._room.claim(stream.account, stream.remote_host) as claim:
                async with self._conduct.blamed(stream.account, protocol):
                    payload = await requests.read_request(stream, self._limits, claim, most)
                await self._answer(stream, protocol, handler, payload)

        return serve

    async def _answer(self, stream: Stream, protocol: str, handler: RequestHandler, payload: bytes) -> None:
        wait = self._table.buckets_of(stream.account).requests.debit()
        if wait > 0:
            most = f"{self._limits.request_rate:g}"
            what = f"asks more than {most} times a second: answered more slowly"
            self._conduct.complain(stream.account, what, "questions")
            await trio.sleep(wait)
        try:
            answer = await requests.while_asked(stream, lambda: handler(stream.account, payload))
        except FlockError as error:
            await requests.decline(stream, error)
            if isinstance(error, InvalidRemote):
                self._conduct.blame(stream.account, protocol, error)
            return
        with self._answers.hold(stream.account, len(answer)):
            await requests.answer(stream, self._limits, answer)

    async def request(
        self, account: Account, protocol: str, payload: bytes, timeout: float, most: int | None = None
    ) -> bytes:  # fmt: skip
        """Raises Unavailable when the peer is not connected, declines, or does not answer in time."""
        peer = self._table.get(account)
        link = peer.newest_link() if peer else None
        if peer is None or link is None:
            raise Unavailable(f"request {protocol}: 0x{account.hex()} is not connected")
        deadline = trio.current_time() + timeout
        with trio.move_on_at(deadline):
            await peer.requests.acquire_on_behalf_of(token := object())
            try:
                left = max(0.001, deadline - trio.current_time())
                return await requests.ask(link, protocol, payload, left, most)
            finally:
                peer.requests.release_on_behalf_of(token)
        raise Unavailable(f"request {protocol}: 0x{account.hex()} did not answer within {timeout} s")

    async def open_stream(self, account: Account, protocol: str) -> Stream:
        link = self._table.newest_link(account)
        if link is None:
            raise Unavailable(f"stream {protocol}: 0x{account.hex()} is not connected")
        return await link.open(protocol)
