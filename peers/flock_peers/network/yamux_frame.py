"""The header of a yamux frame: version 0, type, flags, stream, length. Knows no streams and no connections."""

import struct

HEADER = struct.Struct(">BBHII")
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
WINDOW_BYTES = 256 << 10  # of a new stream, by the specification


def pack_header(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    return HEADER.pack(0, kind, flags, stream_id, length)
