"""A whole peer in this process, the only validator of a chain of its own, with its HTTP server; and plain clients."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import trio
from small_genesis import BALANCE as BALANCE
from small_genesis import COIN as COIN
from small_genesis import make_genesis

from flock_chain.crypto import Account, Key
from flock_chain.execution.transactions import sign_call
from flock_chain.genesis import Genesis
from flock_contracts.addresses import FAUCET
from flock_contracts.loader import load
from flock_p2p.web.site import Site
from flock_peers.home import Home, write_private
from flock_peers.peer import Peer
from flock_peers.peer_opening import open_peer
from flock_peers.settings import PeerSettings

CHAIN_ID = 771_400
VALIDATOR, USER, OTHER = Key(b"\x31" * 32), Key(b"\x32" * 32), Key(b"\x33" * 32)


class _Funded:
    """The faucet, as somebody with coins in the genesis."""

    account = Account(FAUCET)


def make_rpc_genesis() -> Genesis:
    others = [USER, OTHER, _Funded()]
    return make_genesis("rpc-test", CHAIN_ID, [VALIDATOR], others, timestamp=int(time.time()))  # type: ignore[arg-type]


@dataclass
class Served:
    peer: Peer
    site: Site
    ids: int = 0

    @property
    def port(self) -> int:
        return self.site.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/rpc"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/rpc"

    async def rpc(self, method: str, *params: Any) -> Any:
        """The result; an error as its object."""
        self.ids += 1
        row = {"jsonrpc": "2.0", "id": self.ids, "method": method, "params": list(params)}
        answer = json.loads((await self.post(json.dumps(row).encode())).body)
        assert answer["id"] == self.ids and answer["jsonrpc"] == "2.0"
        return answer["result"] if "result" in answer else answer["error"]

    async def post(self, body: bytes, **headers: str) -> "Reply":
        return await self.request("POST", "/rpc", body, **{"content_type": "application/json", **headers})

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> "Reply":
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await exchange(stream, method, path, body, {"host": f"127.0.0.1:{self.port}", **named})

    async def send(self, key: Key, to: bytes, data: bytes = b"", *, value: int = 0, gas: int = 1_000_000) -> Any:
        nonce = int(await self.rpc("eth_getTransactionCount", "0x" + key.account.hex(), "pending"), 16)
        raw = sign_call(key, chain_id=CHAIN_ID, nonce=nonce, to=to, data=data, value=value, gas=gas, fee=10)
        return await self.rpc("eth_sendRawTransaction", "0x" + raw.hex())

    async def receipt(self, digest: str) -> dict[str, Any]:
        while (found := await self.rpc("eth_getTransactionReceipt", digest)) is None:
            await trio.sleep(0.02)
        return dict(found)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


async def exchange(stream: trio.SocketStream, method: str, path: str, body: bytes, headers: dict[str, str]) -> Reply:
    """One request and its answer, by a client that is not ours."""
    client = h11.Connection(h11.CLIENT)
    sized = {**headers, "content-length": str(len(body))} if body else headers
    head = h11.Request(method=method, target=path, headers=[(k.encode(), v.encode()) for k, v in sized.items()])
    message = [client.send(head) or b"", client.send(h11.Data(data=body)) or b"" if body else b""]
    await stream.send_all(b"".join([*message, client.send(h11.EndOfMessage()) or b""]))
    answer, received = None, bytearray()
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(await stream.receive_some(65_536))
        elif isinstance(event, h11.Response):
            answer = event
        elif isinstance(event, h11.Data):
            received += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert answer is not None
            return Reply(answer.status_code, {k.decode(): v.decode() for k, v in answer.headers}, bytes(received))
        elif isinstance(event, h11.ConnectionClosed):
            raise trio.BrokenResourceError("closed without an answer")


@asynccontextmanager
async def serving(folder: Path, *, rpc: bool = True, origins: tuple[str, ...] = ()) -> AsyncIterator[Served]:
    home = Home(folder)
    write_private(home.genesis_path, make_rpc_genesis().encode())
    write_private(home.key_path, VALIDATOR.secret.hex().encode() + b"\n")
    settings = PeerSettings(home=home.path, listen_port=0, participate=False)
    async with open_peer(settings) as peer, trio.open_nursery() as nursery:
        site = Site(0, rpc=rpc, origins=origins)
        await nursery.start(site.run, peer)
        yield Served(peer, site)
        nursery.cancel_scope.cancel()


def faucet_deposit(peer: Peer) -> int:
    return peer.genesis.parameters.faucet_deposit


def drip(newcomer: bytes) -> bytes:
    return load("Faucet").encode("drip", newcomer)
