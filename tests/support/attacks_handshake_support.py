"""Attacks before, in and after the handshake. Scale 1 takes about a second each."""

import os
from collections.abc import Callable
from contextlib import suppress

import trio
from attack_support import (
    MULTISTREAM,
    Attack,
    Victim,
    attacker,
    connect_raw,
    dial,
    open_stack,
    send_or_lose,
    table,
    until_closed,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from libp2p.crypto.ed25519 import create_new_key_pair as create_ed25519
from libp2p.crypto.pb import crypto_pb2
from libp2p.network.exceptions import SwarmException
from libp2p.security.noise.pb import noise_pb2
from network_support import PATIENCE, key
from noise.connection import Keypair, NoiseConnection

from flock_chain.codec import encode
from flock_chain.errors import FlockError
from flock_peers.network.hello import HELLO, MAX_HELLO_BYTES, VERSION, Hello
from flock_peers.network.identity import key_pair_of
from flock_peers.network.link import Link
from flock_peers.ports import SYNC_PROTOCOL

INVALID_UTF8 = b"\x04\xff\xfe\xfd\n"
NOISE_LINE = b"\x07/noise\n"
STRANGERS = {
    "random": os.urandom(20_000),
    "all bytes": bytes(range(256)) * 80,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500,
    "tls": bytes.fromhex("16030100f8010000f40303") + os.urandom(300),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "utf8": MULTISTREAM + INVALID_UTF8,
    "length": MULTISTREAM + b"\x80\x80\x80\x80\x80\x80\x01" + b"x" * 100_000,
    "endless length": b"\x80" * 100_000,
    "length zero": b"\x00" * 100_000,
    "plaintext": MULTISTREAM + b"\x11/plaintext/2.0.0\n" + b"\x00\x00\x00\x10" + bytes(16),
    "secio": MULTISTREAM + b"\x0d/secio/1.0.0\n" + b"\x00\x00\x01\x00" + os.urandom(256),
    "tls name": MULTISTREAM + b"\x0b/tls/1.0.0\n" + os.urandom(300),
    "noise zeros": MULTISTREAM + NOISE_LINE + b"\xff\xff" + bytes(65_535),
    "noise short": MULTISTREAM + NOISE_LINE + b"\x00\x04abcd" * 100,
    "noise low order": MULTISTREAM + NOISE_LINE + b"\x00\x20" + bytes(32) + b"\x00\x40" + bytes(64),
    "noise empty": MULTISTREAM + NOISE_LINE + b"\x00\x00" * 1_000,
    "many names": MULTISTREAM + b"\x05/abc\n" * 20_000,
    "ls": MULTISTREAM + b"\x03ls\n" * 30_000,
}


async def garbage(victim: Victim, scale: int) -> None:
    for _ in range(scale):
        for said in STRANGERS.values():
            stream = await connect_raw(victim)
            await send_or_lose(stream, said)
            try:
                await stream.send_eof()
            except (trio.BrokenResourceError, OSError):
                pass
            await until_closed(stream)
            await stream.aclose()


_STATIC = b"\x06" * 32


def _sign(payload_key: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    static = X25519PrivateKey.from_private_bytes(_STATIC).public_key().public_bytes_raw()
    signature = sign(b"noise-libp2p-static-key:" + static)
    message = noise_pb2.NoiseHandshakePayload(identity_key=payload_key, identity_sig=signature)
    return bytes(message.SerializeToString())


def identities(number: int) -> list[bytes]:
    """What a peer may say that it is, in the last message of an otherwise good Noise handshake."""
    good, ed = key_pair_of(key(number)), create_ed25519(b"\x04" * 32)
    junk = crypto_pb2.PublicKey(key_type=crypto_pb2.KeyType.Secp256k1, data=b"\x02" + b"\xff" * 32).SerializeToString()
    rsa = crypto_pb2.PublicKey(key_type=crypto_pb2.KeyType.RSA, data=os.urandom(200)).SerializeToString()
    unknown = b"\x08\x63\x12\x03abc"
    return [
        b"", b"\xff" * 300, os.urandom(200), bytes(60_000),
        _sign(good.public_key.serialize(), lambda _data: os.urandom(70)),
        _sign(good.public_key.serialize(), lambda _data: b""),
        _sign(ed.public_key.serialize(), ed.private_key.sign),  # a good signature, but of no key of this network
        _sign(junk, good.private_key.sign), _sign(rsa, good.private_key.sign), _sign(unknown, good.private_key.sign),
        _sign(b"", good.private_key.sign),
    ]  # fmt: skip


async def _receive(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await stream.receive_some(count - len(data))
        if not part:
            raise trio.BrokenResourceError
        data += part
    return data


async def shake_hands(stream: trio.SocketStream, payload: bytes) -> bytes:
    """Noise by hand, with any payload; returns what was sent."""
    state = NoiseConnection.from_name(b"Noise_XX_25519_ChaChaPoly_SHA256")
    state.set_keypair_from_private_bytes(Keypair.STATIC, _STATIC)
    state.set_as_initiator()
    state.start_handshake()
    first = bytes(state.write_message(b""))
    sent = MULTISTREAM + NOISE_LINE + len(first).to_bytes(2, "big") + first
    await stream.send_all(sent)
    await _receive(stream, len(MULTISTREAM + NOISE_LINE))
    length = int.from_bytes(await _receive(stream, 2), "big")
    state.read_message(await _receive(stream, length))
    last = bytes(state.write_message(payload))
    last = len(last).to_bytes(2, "big") + last
    await send_or_lose(stream, last)
    return sent + last


async def junk_identities(victim: Victim, scale: int) -> None:
    for _ in range(scale):
        for payload in identities(victim.number):
            stream = await connect_raw(victim)
            await shake_hands(stream, payload)
            await until_closed(stream)
            await stream.aclose()


async def replayed_handshake(victim: Victim, scale: int) -> None:
    """What an honest peer sent, said again: the victim's own part is new each time, so it proves nothing."""
    pair = key_pair_of(key(victim.number))
    payload = _sign(pair.public_key.serialize(), pair.private_key.sign)
    async with await connect_raw(victim, "127.0.0.67") as honest:
        recorded = await shake_hands(honest, payload)
    for _ in range(5 * scale):
        stream = await connect_raw(victim)
        await send_or_lose(stream, recorded)
        await until_closed(stream)
        await stream.aclose()


async def silent(victim: Victim, scale: int) -> None:
    """More than there are places for handshakes; all are closed in time, and places come back."""
    async with trio.open_nursery() as nursery:
        for _ in range(40 * scale):
            stream = await connect_raw(victim)
            nursery.start_soon(until_closed, stream)


async def slow_handshakes(victim: Victim, scale: int) -> None:
    """A byte now and then, so that something always comes."""

    async def drip() -> None:
        stream = await connect_raw(victim)
        try:
            for byte in MULTISTREAM + NOISE_LINE + b"\x00\x20" + bytes(32):
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.4)
        except trio.BrokenResourceError:
            return
        finally:
            await stream.aclose()
        raise AssertionError("a handshake may take as long as it likes")

    async with trio.open_nursery() as nursery:
        for _ in range(12 * scale):
            nursery.start_soon(drip)


async def opened_and_closed(victim: Victim, scale: int) -> None:
    """200 at scale 1: half say nothing, half begin a handshake; a third from many addresses."""
    for number in range(200 * scale):
        try:
            stream = await connect_raw(victim, f"127.0.1.{number % 250 + 1}" if number % 3 == 0 else "")
            if number % 2:
                await send_or_lose(stream, MULTISTREAM + NOISE_LINE)
            stream.socket.close()
        except OSError:
            await trio.sleep(0.01)


async def hellos(victim: Victim, scale: int) -> None:
    """After a good handshake: hellos of another network, of another version, and none."""
    genesis_hash = bytes(victim.genesis.hash)
    said = [
        b"", b"\xc1", b"\x80", bytes(MAX_HELLO_BYTES), encode({"version": 99}), encode({"version": -1}),
        Hello(VERSION, b"o" * 32, bytes(32), ()).encode(), b"\x91" * 100,
        encode({"genesis": genesis_hash, "listen": ["x"] * 5, "upgrades": bytes(32), "version": VERSION}),
        encode({"genesis": genesis_hash, "listen": [], "upgrades": b"", "version": VERSION}),
    ]  # fmt: skip
    for _ in range(scale):
        for data in said:
            async with attacker(victim, hello=False) as link:
                stream = await link.open(HELLO)
                await stream.write_frame(data)
                await _is_not_served(link)


async def _is_not_served(link: Link) -> None:
    with trio.move_on_after(0.3):
        try:
            stream = await link.open(SYNC_PROTOCOL)
            await stream.write_frame(encode(["head"]))
            assert await stream.read_frame(1_024, 1) is None, "somebody who was not admitted is served"
        except FlockError:
            pass


async def never_hello(victim: Victim, scale: int) -> None:
    """Authenticated connections that say nothing more lose their places; whom there is no place for gets none."""
    ended = 0
    async with trio.open_nursery() as nursery:

        async def wait(number: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            nonlocal ended
            async with open_stack(number) as stack:
                with suppress(SwarmException):
                    link = await dial(stack, victim)
                    task_status.started()
                    with trio.fail_after(PATIENCE):
                        await link.closed.wait()
                    ended += 1

        await nursery.start(wait, victim.number)  # who is to be named has a place
        for number in range(victim.number + 1, victim.number + 4 * scale):
            nursery.start_soon(wait, number)
    assert ended >= 4


ATTACKS = table(
    Attack("garbage", garbage, "address"),
    Attack("junk_identities", junk_identities, "address"),
    Attack("replayed_handshake", replayed_handshake, "address"),
    Attack("silent", silent, "address", full=4, in_tests=False),
    Attack("slow_handshakes", slow_handshakes, "address", full=4, in_tests=False),
    Attack("opened_and_closed", opened_and_closed, "address", full=50),
    Attack("hellos", hellos, "account"),
    Attack("never_hello", never_hello, "account", full=4, in_tests=False),
)
