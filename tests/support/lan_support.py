"""Machines of a made local network: a namespace each, with a TAP device, and a switch in user space between them.

The switch drops and delays single Ethernet frames, so that the kernels' TCP sees what a bad network does to it.
"""

import fcntl
import heapq
import json
import os
import queue
import random
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_TUNSETIFF, _IFF_TAP_WITHOUT_HEADER = 0x400454CA, 0x0002 | 0x1000
_FRAME = 2_048  # an Ethernet frame of 1,500 bytes and its header
_PEER = Path(__file__).with_name("lan_peer.py")
_SPOOFER = Path(__file__).with_name("lan_spoofer.py")


def why_not() -> str:
    """Why namespaces cannot be made here; empty where they can."""
    if shutil.which("ip") is None:
        return "no `ip` command (iproute2)"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "no /dev/net/tun"
    done = subprocess.run(["ip", "netns", "add", name := f"flock-try-{os.getpid()}"], capture_output=True, text=True)
    if done.returncode:
        return f"network namespaces are not permitted: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Switch:
    """Forwards frames between TAP devices in a thread of its own; loses some of them, and all of an unplugged one."""

    def __init__(self, taps: Sequence[int], *, loss: float, delay: float, seed: int) -> None:
        self._taps, self._loss, self._delay = taps, loss, delay
        self._chance = random.Random(seed)
        self._port_of: dict[bytes, int] = {}
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self.unplugged: set[int] = set()
        self.seen = self.lost = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over:
            wait = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else 0.1
            ready, _, _ = select.select(self._taps, [], [], min(wait, 0.1))
            for tap in ready:
                self._take(self._taps.index(tap), os.read(tap, _FRAME))
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, _, target, frame = heapq.heappop(self._waiting)
                if target not in self.unplugged:
                    os.write(self._taps[target], frame)

    def _take(self, source: int, frame: bytes) -> None:
        destination, self._port_of[frame[6:12]] = frame[:6], source
        known = self._port_of.get(destination)
        targets = [known] if known is not None else [n for n in range(len(self._taps)) if n != source]
        for target in targets:
            self.seen += 1
            if source in self.unplugged or self._chance.random() < self._loss:
                self.lost += 1
            else:
                heapq.heappush(self._waiting, (time.monotonic() + self._delay, self.seen, target, frame))

    def close(self) -> None:
        self._is_over = True
        self._thread.join()


class Machine:
    """A namespace with one address, in which commands run."""

    def __init__(self, namespace: str, device: str, address: str) -> None:
        self.namespace, self._device, self.address = namespace, device, address

    def command(self, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *arguments]

    def move_to(self, address: str) -> None:
        _ip("-n", self.namespace, "addr", "flush", "dev", self._device)
        _ip("-n", self.namespace, "addr", "add", f"{address}/24", "brd", "+", "dev", self._device)
        self.address = address


@contextmanager
def open_lan(
    count: int, *, loss: float = 0.0, delay: float = 0.0, seed: int = 1
) -> Iterator[tuple[list[Machine], Switch]]:  # fmt: skip
    """Machines 10.77.0.1 and so on. Skips the test, saying why, where that is not permitted."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    machines, taps = [], []
    switch: Switch | None = None
    try:
        for number in range(count):
            namespace, device = f"flock-{os.getpid()}-{number}", f"fl{os.getpid() % 100_000}-{number}"
            _ip("netns", "add", namespace)
            machine = Machine(namespace, device, "")
            machines.append(machine)
            tap = os.open("/dev/net/tun", os.O_RDWR)
            taps.append(tap)
            fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TAP_WITHOUT_HEADER))
            _ip("link", "set", device, "netns", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "link", "set", device, "up")
            machine.move_to(f"10.77.0.{number + 1}")
        switch = Switch(taps, loss=loss, delay=delay, seed=seed)
        yield machines, switch
    finally:
        if switch is not None:
            switch.close()
        for tap in taps:
            os.close(tap)
        for machine in machines:
            subprocess.run(["ip", "netns", "del", machine.namespace], check=False, capture_output=True)


class LanPeer:
    """A host in a machine, as a process that is told what to do and says what happens, a JSON object a line."""

    def __init__(self, machine: Machine, number: int, folder: Path, **options: Any) -> None:
        options = {"number": number, "book": str(folder / f"peers-{number}.json"), **options}
        self._process = subprocess.Popen(
            machine.command(sys.executable, str(_PEER), json.dumps(options)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.log: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def wait_for(self, key: str, value: Any = None, seconds: float = 90.0) -> Any:
        """The next report with this key (and value); what came before it is dropped."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                report = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {key} {value} within {seconds} s; heard {self.log}") from None
            self.log.append(report)
            if key in report and value in (None, report[key]):
                return report[key]

    def tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@contextmanager
def spoofing(machine: Machine) -> Iterator["subprocess.Popen[str]"]:
    """Somebody who lies by multicast DNS from there; with a line on its standard input as fast as it can."""
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(machine.command(sys.executable, str(_SPOOFER), machine.address), **pipes)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "{}\n"
        yield process
        assert process.poll() is None, "the spoofer died"
    finally:
        process.kill()
        process.wait()


@contextmanager
def running(*peers: LanPeer) -> Iterator[None]:
    try:
        yield
    finally:
        for peer in peers:
            peer.stop()
