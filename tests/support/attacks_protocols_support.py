"""Attacks by an admitted peer: floods on every protocol, messages above the limit, bombs, replays, other networks."""

import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

import trio
from attack_support import MIB, VICTIM, Attack, Victim, attacker, table
from attacks_muxer_support import CONSENSUS, cut_off, until_cut_off
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from network_support import key

from flock_chain.codec import decode, encode
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import Certificate, Kind, Proposal, Status
from flock_chain.consensus.wire import encode_message
from flock_chain.execution.transactions import sign_call
from flock_peers.courier import TRANSACTIONS_PROTOCOL, encode_transaction_message, gossip_topic
from flock_peers.home import Home
from flock_peers.network.blob_wire import BLOBS, CHUNKS, OBJECT, REQUEST
from flock_peers.network.hello import GENESIS, HELLO, PEERS, VERSION, Hello
from flock_peers.network.identity import key_pair_of, make_address, peer_id_of
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link
from flock_peers.ports import SYNC_PROTOCOL
from flock_peers.roles.faucet import FAUCET_PROTOCOL
from flock_peers.snapshots import SNAPSHOT_PROTOCOL

REQUESTS = (SYNC_PROTOCOL, SNAPSHOT_PROTOCOL, PEERS, FAUCET_PROTOCOL)
READ_SECONDS = 10.0
MESSAGES = (CONSENSUS, TRANSACTIONS_PROTOCOL)
BOMBS = [  # what is small on the wire and would be large or deep in memory; nothing here is ever decompressed
    b"\x91" * 500_000,  # msgpack: lists in lists
    b"\xdd\xff\xff\xff\xff",  # a list of 4 billion, announced
    b"\xdf\xff\xff\xff\xff",  # a map of 4 billion
    b"\xc6\xff\xff\xff\xff",  # bytes of 4 GB
    b"\xdd\x00\x0f\xff\xf0" + b"\xc0" * 0xFFFF0,  # a million nothings
    b"\xdc\xff\xff" + b"\x90" * 65_535,
    b"\xc1" * 1_000,
    b"\xc7\xff\x05" + bytes(255),  # an extension type
    encode([1, 2, 1, 1, 0, bytes(32), bytes(65), [[1, 1, 1, bytes(32), b"\xff" * 18, b""]] * 200, b""]),
]


async def _send_messages(link: Link, protocol: str, payloads: Iterable[bytes]) -> None:
    with cut_off():
        stream = await link.open(protocol)
        for payload in payloads:
            await stream.write_frame(payload)
        await stream._net.close()
        with trio.move_on_after(READ_SECONDS):  # what is not read when the connection ends is lost
            await stream.wait_gone()
        await stream.close()


async def _ask(link: Link, protocol: str, payload: bytes) -> bytes | None:
    with cut_off():
        stream = await link.open(protocol)
        await stream.write_frame(payload)
        return await stream.read_frame(2 * MIB, 20)
    return None


async def over_the_limit(victim: Victim, scale: int) -> None:
    """A frame above 1 MiB costs the connection, before it is read."""
    for protocol in (*MESSAGES, *REQUESTS) * scale:
        async with attacker(victim) as link:
            with cut_off():
                stream = await link.open(protocol)
                await stream.write((64 * MIB).to_bytes(4, "big") + bytes(100_000))
            await until_cut_off(link)


async def bombs(victim: Victim, scale: int) -> None:
    pause = 0.02 if scale < 5 else 1 / Limits().accept_rate  # an address has 200 connections at once
    for bomb in BOMBS * scale:
        for protocol in MESSAGES:
            async with attacker(victim) as link:
                await _send_messages(link, protocol, [bomb])
                await trio.sleep(pause)
        async with attacker(victim) as link:
            for protocol in (SYNC_PROTOCOL, SNAPSHOT_PROTOCOL):
                await _ask(link, protocol, bomb[:1_000])


def _votes(number: int, domain: ChainDomain, count: int) -> list[bytes]:
    signer = Signer(key(number), domain)
    return [encode_message(signer.sign(Kind.NOTARIZE, 1 + n, 1, os.urandom(32))[0]) for n in range(count)]


async def votes(victim: Victim, scale: int) -> None:
    """Well-formed votes of somebody who is no validator, as fast as they go."""
    rows = _votes(victim.number, ChainDomain(victim.genesis.chain_id, victim.genesis.hash), 100)
    async with attacker(victim) as link:
        await _send_messages(link, CONSENSUS, rows * (10 * scale))


async def boasts(victim: Victim, scale: int) -> None:
    """Says that the chain is far ahead, again and again; and serves nothing."""
    rows = [encode_message(Status(1 + n * 1_000, 1)) for n in range(1, 500)]
    async with attacker(victim) as link:
        await _send_messages(link, CONSENSUS, rows * (2 * scale))


async def proposals(victim: Victim, scale: int) -> None:
    """Of almost 1 MiB each, by somebody who leads nothing."""
    signer = Signer(key(victim.number), ChainDomain(victim.genesis.chain_id, victim.genesis.hash))
    row = encode_message(Proposal(signer.sign(Kind.PROPOSE, 2, 1, os.urandom(32), 0)[0], ()), os.urandom(MIB - 4_096))
    async with attacker(victim) as link:
        await _send_messages(link, CONSENSUS, [row] * (30 * scale))


async def proposals_of_many(victim: Victim, scale: int) -> None:
    """The same, of many at once: what waits for the driver is bounded for all of them together."""
    async with trio.open_nursery() as nursery:
        for more in range(12):  # an address has 16 handshakes at once

            async def flood(number: int) -> None:
                domain = ChainDomain(victim.genesis.chain_id, victim.genesis.hash)
                vote, _ = Signer(key(number), domain).sign(Kind.PROPOSE, 2, 1, os.urandom(32), 0)
                row = encode_message(Proposal(vote, ()), os.urandom(MIB - 4_096))
                async with attacker(victim, number - victim.number) as link:
                    await _send_messages(link, CONSENSUS, [row] * (3 * scale))

            nursery.start_soon(flood, victim.number + more)


async def forged_votes(victim: Victim, scale: int) -> None:
    """The validator's own votes, replayed; and certificates of signatures that nobody made."""
    domain = ChainDomain(victim.genesis.chain_id, victim.genesis.hash)
    own = [encode_message(Signer(VICTIM, domain).sign(Kind.FINALIZE, n, 1, bytes(32))[0]) for n in (1, 2, 3)]
    junk = [encode_message(Certificate(Kind.FINALIZE, n, 1, bytes(32), b"\x01", (os.urandom(65),))) for n in (1, 2, 9)]
    async with attacker(victim) as link:
        await _send_messages(link, CONSENSUS, (own + junk) * (50 * scale))


async def votes_of_another_network(victim: Victim, scale: int) -> None:
    rows = _votes(victim.number, ChainDomain(victim.genesis.chain_id, b"o" * 32), 50)
    async with attacker(victim) as link:
        await _send_messages(link, CONSENSUS, rows * (10 * scale))


def _transactions(victim: Victim, count: int, chain_id: int) -> list[bytes]:
    own = key(victim.number)
    return [sign_call(own, chain_id=chain_id, nonce=n, to=bytes(20), fee=1, gas=21_000) for n in range(count)]


async def transactions(victim: Victim, scale: int) -> None:
    """Signed by an account without coins, each new and each again."""
    rows = [encode_transaction_message(raw) for raw in _transactions(victim, 100, victim.genesis.chain_id)]
    async with attacker(victim) as link:
        await _send_messages(link, TRANSACTIONS_PROTOCOL, rows * (10 * scale))


async def transactions_of_another_network(victim: Victim, scale: int) -> None:
    for raw in _transactions(victim, 3, victim.genesis.chain_id + 1) * scale:
        async with attacker(victim) as link:
            await _send_messages(link, TRANSACTIONS_PROTOCOL, [encode_transaction_message(raw)])
            await until_cut_off(link)


async def garbage_messages(victim: Victim, scale: int) -> None:
    for _ in range(5 * scale):
        for protocol in MESSAGES:
            async with attacker(victim) as link:
                await _send_messages(link, protocol, [os.urandom(200)] * 50)
                await trio.sleep(0.02)


async def _flood(victim: Victim, protocol: str, payload: Callable[[], bytes], count: int) -> None:
    async with attacker(victim) as link, trio.open_nursery() as nursery:

        async def ask() -> None:
            for _ in range(count):
                await _ask(link, protocol, payload())

        for _ in range(12):
            nursery.start_soon(ask)


async def sync_requests(victim: Victim, scale: int) -> None:
    """Ranges, bodies that are not there, and questions that are held open."""
    await _flood(victim, SYNC_PROTOCOL, lambda: encode(["range", 1, 64, 0]), 10 * scale)
    await _flood(victim, SYNC_PROTOCOL, lambda: encode(["body", 5, os.urandom(32)]), 10 * scale)
    async with attacker(victim) as link, trio.open_nursery() as nursery:
        head = await _ask(link, SYNC_PROTOCOL, encode(["head"]))
        assert head is not None
        _, height = decode(head[1:])
        for _ in range(14):
            nursery.start_soon(_ask, link, SYNC_PROTOCOL, encode(["range", height + 1, 64, 20_000]))
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()


async def other_requests(victim: Victim, scale: int) -> None:
    await _flood(victim, SNAPSHOT_PROTOCOL, lambda: encode(["headers", 1, 1_024]), 5 * scale)
    await _flood(victim, SNAPSHOT_PROTOCOL, lambda: encode(["list"]), 5 * scale)
    await _flood(victim, PEERS, lambda: b"", 5 * scale)
    await _flood(victim, FAUCET_PROTOCOL, lambda: b"", 2 * scale)
    await _flood(victim, GENESIS, lambda: b"", 5 * scale)
    await _flood(victim, "/nowhere/1", lambda: b"", 5 * scale)


async def garbage_requests(victim: Victim, scale: int) -> None:
    for protocol in (SYNC_PROTOCOL, SNAPSHOT_PROTOCOL) * (3 * scale):
        async with attacker(victim) as link:
            await _ask(link, protocol, os.urandom(100))
            await until_cut_off(link)


async def hello_again(victim: Victim, scale: int) -> None:
    """Admitted long ago, and says hello on and on, each time with other addresses."""
    async with attacker(victim) as link:
        identity = peer_id_of(key(victim.number))
        for number in range(50 * scale):
            listen = [str(make_address(f"10.{number % 250}.0.{n}", 4_000 + n, identity)) for n in range(4)]
            hello = Hello(VERSION, bytes(victim.genesis.hash), victim.upgrades_hash, tuple(listen))
            with cut_off():
                stream = await link.open(HELLO)
                await stream.write_frame(hello.encode())
                await stream.read_frame(4_096, 5)
                await stream.close()


async def pings(victim: Victim, scale: int) -> None:
    """libp2p's own protocols: ping without an end, and identify asked for again and again."""
    async with attacker(victim) as link:
        with cut_off():
            net_stream = await link.open_net_stream("/ipfs/ping/1.0.0")
            for _ in range(200 * scale):
                await net_stream.write(bytes(32))
                await net_stream.read(32)
        for _ in range(50 * scale):
            with cut_off():
                stream = await link.open("/ipfs/id/1.0.0")
                await stream.wait_gone()
                await stream.close()


async def blob_requests(victim: Victim, scale: int) -> None:
    """What is not there, what is nonsense, and more streams than one peer may have."""
    async with attacker(victim) as link:
        streams = []
        for number in range(12):
            with cut_off():
                stream = await link.open(BLOBS)
                streams.append(stream)
                for _ in range(100 * scale):
                    await stream.write(REQUEST.pack((OBJECT, CHUNKS)[number % 2], os.urandom(32), 0, number % 2))
        await trio.sleep(0.3)
    for kind, count in ((9, 0), (CHUNKS, 10_000), (CHUNKS, 0), (OBJECT, 5)) * scale:
        async with attacker(victim) as link:
            with cut_off():
                stream = await link.open(BLOBS)
                await stream.write(REQUEST.pack(kind, bytes(32), 0xFFFFFFFF, count))
                await stream.wait_gone()


# ---- gossip


def _rpc(**fields: Any) -> bytes:
    return bytes(encode_varint_prefixed(rpc_pb2.RPC(**fields).SerializeToString()))


def _signed(number: int, topic: str, data: bytes, seqno: int) -> rpc_pb2.Message:
    pair = key_pair_of(key(number))
    message = rpc_pb2.Message(
        data=data, topicIDs=[topic], from_id=peer_id_of(key(number)).to_bytes(), seqno=seqno.to_bytes(8, "big")
    )
    message.signature = pair.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    message.key = pair.public_key.serialize()
    return message


async def _gossip(link: Link, rows: Iterable[bytes]) -> None:
    with cut_off():
        try:
            net_stream = await link.open_net_stream(str(PROTOCOL_ID_V11))
            for row in rows:
                await net_stream.write(row)
        except Exception as error:
            if "Muxed" not in type(error).__name__ and "Stream" not in type(error).__name__:
                raise


async def gossip_garbage(victim: Victim, scale: int) -> None:
    control = rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID="nope")])
    odd = control.SerializeToString().replace(b"nope", b"\xff\xfe\xfd\xfc")
    topic = gossip_topic(bytes(victim.genesis.hash))
    junk = rpc_pb2.Message(data=b"x", topicIDs=[topic], from_id=os.urandom(34), seqno=b"1" * 8, signature=b"z")
    junk.key = b"\xff"
    rows = [
        encode_varint_prefixed(os.urandom(300)), b"\xff" * 64, b"\xff\xff\xff\xff\x0f" + b"x" * 100,
        encode_varint_prefixed(b"\x1a" + bytes([len(odd)]) + odd),
    ]  # fmt: skip
    for row in rows * scale:
        async with attacker(victim) as link:
            await _gossip(link, [row])
            await trio.sleep(0.05)
    for more in range(min(scale, 100)):  # keys of its own; who brings a junk key is banned
        async with attacker(victim, more) as link:
            await _gossip(link, [_rpc(publish=[junk])])
            await trio.sleep(0.05)


async def gossip_topics(victim: Victim, scale: int) -> None:
    """Subscribes to topics that nobody else has, without an end."""
    async with attacker(victim) as link:
        for start in range(0, 2_000 * scale, 50):
            names = [f"topic {number} " + "x" * 200 for number in range(start, start + 50)]
            await _gossip(
                link, [_rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=name) for name in names])]
            )


async def gossip_control(victim: Victim, scale: int) -> None:
    """Ids that it has, wants, and does not want: thousands of each."""
    topic = gossip_topic(bytes(victim.genesis.hash))
    async with attacker(victim) as link:
        for _ in range(5 * scale):
            ids = [os.urandom(40) for _ in range(2_000)]
            control = rpc_pb2.ControlMessage(
                ihave=[rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids)],
                iwant=[rpc_pb2.ControlIWant(messageIDs=ids)],
                idontwant=[rpc_pb2.ControlIDontWant(messageIDs=ids)],
                graft=[rpc_pb2.ControlGraft(topicID=topic)] * 200,
                prune=[rpc_pb2.ControlPrune(topicID=topic)] * 200,
            )
            await _gossip(link, [_rpc(control=control)])


async def gossip_messages(victim: Victim, scale: int) -> None:
    """Signed rubbish, tiny ones by the thousand in one packet, and the largest that may be."""
    topic = gossip_topic(bytes(victim.genesis.hash))
    hello = _rpc(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic)])
    tiny = _signed(victim.number, topic, b"rubbish", 1)
    large = _signed(victim.number, topic, os.urandom(MIB - 4_096), 2)
    async with attacker(victim) as link:
        await _gossip(link, [hello, *[_rpc(publish=[tiny] * 3_000)] * scale, *[_rpc(publish=[large])] * (4 * scale)])
        await trio.sleep(0.5)


# ---- the socket in the home: the owner alone may open it, so this is for his own mistakes


async def control_socket(victim: Victim, scale: int) -> None:
    path = str(Home(victim.home).control_path)
    said = [
        b"\n",
        b"{}\n",
        os.urandom(1_000) + b"\n",
        b"[" * 100_000 + b"\n",
        b"x" * (2 * MIB),
        b'{"version": 1}\n',
        b"",
    ]

    def say(data: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(path)
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                client.recv(65_536)
            except OSError:
                pass

    for data in said * scale:
        await trio.to_thread.run_sync(say, data)


ATTACKS = table(
    Attack("over_the_limit", over_the_limit, "account"),
    Attack("bombs", bombs, "account", 64 * MIB),
    Attack("votes", votes, "account"),
    Attack("boasts", boasts, "account"),
    Attack("proposals", proposals, "account", memory=64 * MIB),  # a peer's burst is 16 MiB
    Attack("proposals_of_many", proposals_of_many, "account", 64 * MIB, blame_from=3, in_tests=False),
    Attack("forged_votes", forged_votes, "account"),
    Attack("votes_of_another_network", votes_of_another_network, "account"),
    Attack("transactions", transactions, "account"),
    Attack("transactions_of_another_network", transactions_of_another_network, "account"),
    Attack("garbage_messages", garbage_messages, "account"),
    Attack("sync_requests", sync_requests, "account"),
    Attack("other_requests", other_requests, "account"),
    Attack("garbage_requests", garbage_requests, "account"),
    Attack("hello_again", hello_again, "account"),
    Attack("pings", pings, "account"),
    Attack("blob_requests", blob_requests, "account"),
    Attack("gossip_garbage", gossip_garbage, "account"),
    Attack("gossip_topics", gossip_topics, "account"),
    Attack("gossip_control", gossip_control, "account"),
    Attack("gossip_messages", gossip_messages, "account", 64 * MIB),
    Attack("control_socket", control_socket, "nobody: the file system lets its owner alone open it"),
)
