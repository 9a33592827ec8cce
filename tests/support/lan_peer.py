"""One host by itself, run in a namespace: takes orders from standard input, reports on standard output, JSON a line."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import trio
from network_support import GENESIS_HASH, key

from flock_peers.network.host import Host, open_host
from flock_peers.network.limits import Limits

PROTOCOL = "/test/lan/1"


def report(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def obey(host: Host) -> None:
    buffer = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        while data := await stdin.receive_some(4_096):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                for number in range(order["count"]):
                    host.send(bytes.fromhex(order["to"]), PROTOCOL, number.to_bytes(4, "big") * (order["bytes"] // 4))


async def run(options: dict[str, Any]) -> None:
    received: list[int] = []

    async def on_message(_account: bytes, payload: bytes) -> None:
        received.append(int.from_bytes(payload[:4], "big"))
        if received == list(range(len(received))) and len(received) % 50 == 0:
            report(received=len(received))

    async def on_connected(account: bytes) -> None:
        report(connected=account.hex())

    async def on_disconnected(account: bytes) -> None:
        report(disconnected=account.hex())

    async with open_host(
        key(options["number"]), ("0.0.0.0", 0), GENESIS_HASH, Limits(**options.get("limits", {})),
        bootstrap=options.get("bootstrap", ()), known_peers=Path(options["book"]), mdns=options.get("mdns", True),
    ) as host:  # fmt: skip
        host.on_connected(on_connected)
        host.on_disconnected(on_disconnected)
        host.on_message(PROTOCOL, on_message)
        for account in host.connected():
            report(connected=account.hex())
        report(address=host.address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey, host)
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    nursery.cancel_scope.cancel()


trio.run(run, json.loads(sys.argv[1]))
