"""What the trainer's process may use of the machine: memory, files, no network. Irrevocable; knows no training.

The network is closed by a seccomp filter on Linux (x86-64, aarch64), installed without privileges: `socket` fails for
everything, whoever calls it, and so does what would take another process' sockets or memory. Elsewhere only Python's
own sockets are closed, which stops mistakes and no attack.
"""

import ctypes
import errno
import platform
import resource
import struct
import sys
from pathlib import Path

MAX_OPEN_FILES = 1_024  # 160 files of weights, each mapped once, and what libraries hold
LEAST_FILE_BYTES = 64 << 20  # of a written file: the log, an export's small files
WRITTEN_ADAPTERS = 2  # an export holds float32 where a global adapter holds integers of up to 8 bytes: half would do
SPARE_BYTES = 1 << 30  # beyond twice the plan: libraries map more than they touch

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
# Audit architecture, number of `socket`, numbers of `ptrace` and `process_vm_writev`: the peer's process is of the same
# user, and has sockets.
_MACHINES = {"x86_64": (0xC000003E, 41, (101, 311)), "aarch64": (0xC00000B7, 198, (117, 271))}
_FORBIDDEN = (425, 438)  # io_uring_setup, which opens sockets without `socket`; pidfd_getfd. The same everywhere
_AF_UNIX = 1
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | errno.EACCES
_FIRST_X32 = 0x40000000  # numbers of the second ABI of x86-64, under which `socket` has another number


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def limit_files(adapter_bytes: int) -> None:
    """Descriptors, core dumps, and how long a written file may become."""
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, max(LEAST_FILE_BYTES, WRITTEN_ADAPTERS * adapter_bytes))


def limit_memory(planned_bytes: int) -> int:
    """Private writable memory, mapped or not; the limit. An allocation beyond it fails, and the process ends.

    Not RLIMIT_AS: torch and CUDA reserve far more addresses than they use.
    """
    limit = 2 * planned_bytes + SPARE_BYTES
    _lower(resource.RLIMIT_DATA, limit)
    return limit


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def close_network() -> bool:
    """Before any thread starts. Returns whether the kernel enforces it."""
    sys.addaudithook(_refuse_sockets)
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        return False
    architecture, socket, intrusive = machine
    cuda = Path("/dev/nvidiactl").exists()  # it speaks with its own daemons
    program = _make_filter(architecture, socket, (*_FORBIDDEN, *intrusive), allows_unix=cuda)
    buffer = ctypes.create_string_buffer(program, len(program))
    described = _Program(len(program) // 8, ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    words = [ctypes.c_ulong(0)] * 3
    if prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), *words) != 0:
        return False
    filtered = prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(described), *words[:2])
    return bool(filtered == 0)


def _make_filter(architecture: int, socket: int, forbidden: tuple[int, ...], *, allows_unix: bool) -> bytes:
    """Classic BPF over {number, architecture, ...}: jumps are counted from the next instruction."""
    count = len(forbidden)
    rows = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _DENY),  # a call by another ABI
        (_LOAD, 0, 0, 0),
        (_JUMP_GREATER_EQUAL, count + 3, 0, _FIRST_X32),
        *[(_JUMP_EQUAL, count + 2 - place, 0, number) for place, number in enumerate(forbidden)],
        (_JUMP_EQUAL, 0, 3, socket),
        (_LOAD, 0, 0, 16),  # the address family
        (_JUMP_EQUAL, 1, 0, _AF_UNIX if allows_unix else 0xFFFF),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def _refuse_sockets(event: str, arguments: tuple[object, ...]) -> None:  # noqa: ARG001 - an audit hook's signature
    if event in ("socket.__new__", "socket.connect", "socket.bind"):
        raise PermissionError(errno.EACCES, "the trainer's process has no network")
