"""A network namespace of this process and its children with nothing but loopback: what crosses it is counted by the
kernel, of whatever program, and no program reaches anything else. Knows no program. Linux only."""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
_COUNTER = Path("/proc/self/net/dev")


def enter_private_network() -> bool:
    """Whether the kernel let us; without it the counter is of everything on this machine. Once, before any thread.

    Tried in a child first: some kernels give a user the namespace and no right to do anything in it, and there is no
    way out of one."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _enter()
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        return False
    _enter()
    return True


def _enter() -> None:
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        name, flags = struct.unpack("16sh", fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sh", b"lo", 0)))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", name, flags | IFF_UP))


def count_bytes() -> int:
    """Sent over loopback so far, with the headers of TCP and IP; what is sent there is received there."""
    for line in _COUNTER.read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[8])
    raise OSError("no loopback device here")
