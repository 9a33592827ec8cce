"""Bitswap for IPFS tools: hands out small objects by CID. Asks nobody for anything, and takes no block.

The answer goes on a stream that we open, as kubo and helia expect; the stock one answers on the asker's. Nothing is
remembered between messages: who wants what is not here yet asks again.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio
from google.protobuf.message import DecodeError
from libp2p.bitswap.pb.bitswap_pb2 import Message

from flock_chain.content import CID_PREFIX, MAX_OBJECT_BYTES
from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote
from flock_peers.network.limits import MIB, Limits, TokenBucket
from flock_peers.network.link import Stream
from flock_peers.network.slots import group_of
from flock_peers.network.turns import OnLost, Turns, tell_untaken

if TYPE_CHECKING:
    from flock_peers.network.host import Host
    from flock_peers.store.blob_store import BlobStore

BITSWAP_PROTOCOLS = ("/ipfs/bitswap/1.2.0", "/ipfs/bitswap/1.1.0")
MAX_WANTS = 64  # of one message, those taken back too; helia sends one to a few
MAX_REQUEST_BYTES = 16 << 10  # a want takes some 50 bytes; blocks for us are not wanted
MAX_CID_BYTES = 128
_REQUEST_SECONDS = 10.0
_ANSWERS = 8  # in memory at once, of all askers; one of each
_TAKE_SECONDS = 30.0  # for one block, then it is given up
_SURE_SECONDS = 10.0  # of them, where others wait: a MiB at 100 KB/s
_PEER_RATE, _PEER_BURST = 1.0 * MIB, 4.0 * MIB  # bytes of one asker
_ALL_RATE, _ALL_BURST = 4.0 * MIB, 8.0 * MIB  # of all askers together: adapters travel on a protocol of their own
# What each network has in any case, however much the others ask for: an object, and then its part of the whole.
_SHARE_RATE, _SHARE_BURST = _ALL_RATE / Limits.max_inbound, 2.0 * MIB
_WANT_COST = 4 << 10  # of a want that is not answered with a block: it costs a look on the disk
_LONGEST_WAIT = 20.0  # seconds; who wants more than that is not answered at all
# Seconds of the whole rate that shares may take ahead of it: with no bound, as much as somebody has networks.
_DEEPEST_DEBT = 60.0
_TRACKED = 256

GetObject = Callable[[bytes], Awaitable[bytes | None]]


def _nobody(_account: Account) -> bool:
    return False


@dataclass
class _Asker:
    account: Account
    host: str
    rate: TokenBucket
    using: int = 0  # streams that are answered now: it is not forgotten meanwhile


class BitswapGateway:
    """`get_public(digest)`: an object that may be shown to everybody, or None. `is_favoured`: who is no stranger.
    `on_lost`: of `Turns`."""

    def __init__(
        self, get_public: GetObject, clock: Callable[[], float], is_favoured: Callable[[Account], bool] = _nobody,
        on_lost: OnLost = lambda _account, _seconds: None,
    ) -> None:  # fmt: skip
        self._get_public, self._clock = get_public, clock
        self._all = TokenBucket(_ALL_RATE, _ALL_BURST, clock)
        self._shares: dict[str, TokenBucket] = {}  # by network
        self._askers: dict[Account, _Asker] = {}
        self._turns = Turns(_ANSWERS, _SURE_SECONDS, _TAKE_SECONDS, is_favoured, on_lost=on_lost)

    def handler(self, protocol: str) -> Callable[[Stream], Awaitable[None]]:
        return partial(self.serve, protocol)

    async def serve(self, protocol: str, stream: Stream) -> None:
        while not await stream.is_at_end():
            await self._serve_one(protocol, stream)

    async def _serve_one(self, protocol: str, stream: Stream) -> None:
        """A function of its own: a stream that waits for its next message must not keep the last one."""
        with trio.fail_after(_REQUEST_SECONDS):
            message = decode_message(await stream.read_exactly(await read_varint(stream, MAX_REQUEST_BYTES)))
        if len(message.wantlist.entries) > MAX_WANTS:
            raise InvalidRemote(f"bitswap: {len(message.wantlist.entries)} wants in a message, at most {MAX_WANTS}")
        entries = [entry for entry in message.wantlist.entries if not entry.cancel]
        if entries:
            await self._answer(protocol, stream, entries)

    async def _answer(self, protocol: str, stream: Stream, entries: Iterable[Message.Wantlist.Entry]) -> None:
        answers = await stream.link.open(protocol)
        try:
            with self._asker(stream) as asker:
                for entry in entries:
                    if len(entry.block) > MAX_CID_BYTES:
                        raise InvalidRemote(f"bitswap: a content id of {len(entry.block)} bytes")
                    await self._answer_one(asker, entry, answers)
        except BaseException:
            await answers.reset()
            raise
        await answers.close()

    async def _answer_one(self, asker: _Asker, entry: Message.Wantlist.Entry, answers: Stream) -> None:
        """Looked up twice: who waits for its turn, or for its rate, holds nothing but its question."""
        async with self._turns.take(asker.account, asker.host):
            size = (await self._look_up(entry)).ByteSize()
        await self._charge(asker, max(size, _WANT_COST))
        if size:
            async with self._turns.take(asker.account, asker.host) as turn:
                data = (await self._look_up(entry)).SerializeToString()
                with turn.at_others_pace():
                    await answers.write(encode_varint(len(data)))
                    await answers.write(data)

    async def _look_up(self, entry: Message.Wantlist.Entry) -> Message:
        """The block, that it is here, that it is not here, or nothing: as the asker wants it."""
        answer, data = Message(), None
        if entry.block.startswith(CID_PREFIX) and len(entry.block) == len(CID_PREFIX) + 32:
            data = await self._get_public(entry.block[len(CID_PREFIX) :])
        if data is not None and len(data) <= MAX_OBJECT_BYTES and entry.wantType == Message.Wantlist.Block:
            answer.payload.add(prefix=CID_PREFIX, data=data)
        elif data is not None:
            answer.blockPresences.add(cid=entry.block, type=Message.Have)
        elif entry.sendDontHave:
            answer.blockPresences.add(cid=entry.block, type=Message.DontHave)
        return answer

    @contextmanager
    def _asker(self, stream: Stream) -> Iterator[_Asker]:
        account = stream.account
        asker = self._askers.get(account)
        if asker is None:
            idle = next((who for who, row in self._askers.items() if not row.using), None)
            if len(self._askers) >= _TRACKED and idle is not None:
                del self._askers[idle]
            asker = self._askers[account] = _Asker(account, "", TokenBucket(_PEER_RATE, _PEER_BURST, self._clock))
        asker.host = stream.remote_host
        asker.using += 1
        try:
            yield asker
        finally:
            asker.using -= 1

    async def _charge(self, asker: _Asker, size: int) -> None:
        """Nothing is taken for who is refused: its questions must not be others' debts."""
        own, all_others = asker.rate.find_wait(size), self._all.find_wait(size)
        is_in_debt = all_others > _DEEPEST_DEBT  # of fresh networks somebody may have any number
        if own <= _LONGEST_WAIT and not is_in_debt and self._share_of(asker.host).take(size):
            all_others = 0.0
        elif max(own, all_others) > _LONGEST_WAIT:
            raise InvalidRemote(f"bitswap: {size} bytes more than its share")
        self._all.debit(size)
        asker.rate.debit(size)
        await trio.sleep(max(own, all_others))

    def _share_of(self, host: str) -> TokenBucket:
        group = group_of(host)
        share = self._shares.pop(group, None) or TokenBucket(_SHARE_RATE, _SHARE_BURST, self._clock)
        self._shares[group] = share
        if len(self._shares) > _TRACKED:
            del self._shares[next(iter(self._shares))]
        return share


def serve_bitswap(host: "Host", store: "BlobStore") -> None:
    """What this peer keeps, because the chain names it; not what it happened to fetch. The digest of a proposal that is
    not revealed yet is nobody's to ask for."""

    async def get_public(digest: bytes) -> bytes | None:
        return await trio.to_thread.run_sync(store.get_object, digest) if store.is_kept(digest) else None

    gateway = BitswapGateway(
        get_public, trio.current_time, lambda account: account in host.book.favoured, tell_untaken(host.tally)
    )
    for protocol in BITSWAP_PROTOCOLS:
        host.on_stream(protocol, gateway.handler(protocol))


def decode_message(data: bytes) -> Message:
    """Raises InvalidRemote for what is no bitswap message."""
    try:
        return Message.FromString(data)
    except DecodeError as error:
        raise InvalidRemote("bitswap: no message") from error


def encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


async def read_varint(stream: Stream, most: int) -> int:
    value = 0
    for shift in range(0, 28, 7):
        (byte,) = await stream.read_exactly(1)
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            if value > most:
                break
            return value
    raise InvalidRemote(f"bitswap: a message above {most} bytes")
