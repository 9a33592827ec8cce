"""Hello on both sides of a link: compare the genesis hash, admit or refuse with a reason. Serves the genesis too."""

import logging
from collections.abc import Callable

import trio

from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network import requests
from flock_peers.network.complaints import Complaints
from flock_peers.network.hello import (
    HELLO,
    MAX_HELLO_BYTES,
    VERSION,
    Hello,
    check_hello,
    decode_hello,
    explain_upgrades,
)
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link, Stream


class Handshake:
    """`admit(link, theirs)` is called once both sides are known to be on the same chain."""

    def __init__(
        self, genesis_hash: bytes, genesis_document: bytes | None, upgrades_hash: bytes, limits: Limits,
        listen: Callable[[Link], list[str]], admit: Callable[[Link, Hello], None], complaints: Complaints,
    ) -> None:  # fmt: skip
        self._complaints = complaints
        self._genesis_hash, self._document, self._limits = genesis_hash, genesis_document, limits
        self._upgrades_hash = upgrades_hash
        self._listen, self._tell_host = listen, admit

    def _ours(self, link: Link) -> bytes:
        return Hello(VERSION, self._genesis_hash, self._upgrades_hash, tuple(self._listen(link))).encode()

    def _admit(self, link: Link, theirs: Hello) -> None:
        difference = explain_upgrades(theirs, self._upgrades_hash, link.account, link.remote)
        if difference:
            self._complaints.note(f"0x{link.account.hex()}: upgrades", difference, logging.WARNING)
        if link.admitted.is_set():
            self._complaints.note(f"0x{link.account.hex()}", "says hello again on a connection that it has")
        self._tell_host(link, theirs)

    async def say(self, link: Link, protocol: str = HELLO) -> None:
        """The dialer's side; `protocol`: what the connection is for.

        Raises InvalidRemote (another network, another version) or Unavailable.
        """
        who = f"0x{link.account.hex()} at {link.remote}"
        try:
            with trio.fail_after(self._limits.hello_seconds):
                stream = await link.open(protocol)
                await stream.write_frame(self._ours(link))
                data = await stream.read_frame(MAX_HELLO_BYTES, self._limits.hello_seconds)
                if data is None:
                    raise Unavailable(f"{who} closed the connection at hello")
                theirs = decode_hello(data)
                check_hello(theirs, self._genesis_hash, link.account, link.remote)
                await stream.close()
        except trio.TooSlowError as error:
            raise Unavailable(f"{who} did not answer hello within {self._limits.hello_seconds} s") from error
        self._admit(link, theirs)

    async def answer(self, stream: Stream) -> None:
        """The listener's side."""
        link = stream.link
        data = await stream.read_frame(MAX_HELLO_BYTES, self._limits.hello_seconds)
        theirs = decode_hello(data or b"")
        try:
            check_hello(theirs, self._genesis_hash, link.account, link.remote)
        except InvalidRemote as error:
            self._complaints.note(f"0x{link.account.hex()}", f"refused: {error}", logging.WARNING, kind="network")
            await stream.write_frame(self._ours(link))  # so that the other side can say why
            await stream.close()
            await link.close()
            return
        self._admit(link, theirs)
        await stream.write_frame(self._ours(link))

    async def serve_genesis(self, stream: Stream) -> None:
        await requests.read_request(stream, self._limits)
        await requests.answer(stream, self._limits, self._document or b"")

    async def wait_admitted(self, link: Link) -> bool:
        """A silent connection loses its slot; a joiner has time to fetch the genesis first."""
        with trio.move_on_after(2 * self._limits.hello_seconds):
            await link.admitted.wait()
        return link.admitted.is_set()
