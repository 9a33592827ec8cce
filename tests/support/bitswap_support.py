"""What is asked of a bitswap gateway, and streams to it that are none."""

from libp2p.bitswap.pb.bitswap_pb2 import Message
from network_support import key

from flock_chain.content import CID_PREFIX
from flock_chain.errors import Unavailable
from flock_peers.network.bitswap import BITSWAP_PROTOCOLS, encode_varint

PROTOCOL = BITSWAP_PROTOCOLS[0]


def wants(*digests: bytes, **options: object) -> bytes:
    message = Message()
    for digest in digests:
        message.wantlist.entries.add(block=CID_PREFIX + digest, **options)
    data = message.SerializeToString()
    return encode_varint(len(data)) + data


class FakeLink:
    def __init__(self) -> None:
        self.opened = 0

    async def open(self, _protocol: str) -> "FakeStream":
        self.opened += 1
        return FakeStream(self, b"")


class FakeStream:
    account = key(2).account
    remote_host = "127.0.0.1"

    def __init__(self, link: FakeLink, data: bytes) -> None:
        self.link, self._data = link, data

    async def is_at_end(self) -> bool:
        return not self._data

    async def read_exactly(self, count: int) -> bytes:
        if len(self._data) < count:
            raise Unavailable("stream ended")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...
    async def reset(self) -> None: ...
