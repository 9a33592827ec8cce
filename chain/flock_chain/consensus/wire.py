"""The bytes of consensus messages: bounded, canonical, strict. Parses; checks no signature.

A vote and a proposal carry no signer: it is whoever the transport says sent them. Every message begins with a version.
"""

from collections.abc import Callable
from typing import Any

from flock_chain.codec import MAX_DECODED_BYTES, decode, encode
from flock_chain.consensus.types import (
    MAX_HEIGHT,
    MAX_PROPOSAL_CERTIFICATES,
    MAX_VALIDATORS,
    MAX_VIEW,
    Certificate,
    Kind,
    Message,
    Proposal,
    Status,
    Vote,
)
from flock_chain.crypto import SIGNATURE_BYTES, Account
from flock_chain.errors import InvalidEncoding

MAX_CERTIFICATE_BYTES = 128 + MAX_VALIDATORS * SIGNATURE_BYTES
MESSAGE_OVERHEAD_BYTES = 160  # the fields of a vote, a proposal or a certificate beside its signatures
MESSAGE_VERSION = 1
_VOTE, _PROPOSAL, _CERTIFICATE, _STATUS = 1, 2, 3, 4


def _rows(value: Any, length: int, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise InvalidEncoding(f"{what}: not a list of {length} fields")
    return value


def _number(value: Any, low: int, high: int, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value < high:
        raise InvalidEncoding(f"{what}: no integer of at least {low} and below {high}")
    return value


def _bytes(value: Any, length: int, what: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise InvalidEncoding(f"{what}: not {length} bytes")
    return value


def _kind(value: Any) -> Kind:
    return Kind(_number(value, Kind.NOTARIZE, Kind.PROPOSE, "kind"))


def certificate_fields(certificate: Certificate) -> list[Any]:
    c = certificate
    return [int(c.kind), c.height, c.view, c.block_id, c.bitmap, b"".join(c.signatures)]


def parse_certificate(value: Any) -> Certificate:
    """Also what has no quorum: a group of votes for one statement."""
    kind, height, view, block_id, bitmap, joined = _rows(value, 6, "certificate")
    if not isinstance(bitmap, bytes) or not 0 < len(bitmap) <= (MAX_VALIDATORS + 7) // 8:
        raise InvalidEncoding("certificate: no bitmap of validators")
    if not isinstance(joined, bytes) or len(joined) % SIGNATURE_BYTES or len(joined) > MAX_VALIDATORS * SIGNATURE_BYTES:
        raise InvalidEncoding("certificate: not a row of signatures")
    signatures = tuple(joined[at : at + SIGNATURE_BYTES] for at in range(0, len(joined), SIGNATURE_BYTES))
    return Certificate(
        _kind(kind),
        _number(height, 1, MAX_HEIGHT, "height"),
        _number(view, 1, MAX_VIEW, "view"),
        _bytes(block_id, 32, "block id"),
        bitmap,
        signatures,
    )


def encode_certificate(certificate: Certificate) -> bytes:
    return encode(certificate_fields(certificate))


def decode_certificate(data: bytes) -> Certificate:
    """Raises InvalidEncoding; the signatures are still to be verified."""
    return parse_certificate(decode(data, limit=MAX_CERTIFICATE_BYTES))


def encode_message(message: Message, body: bytes = b"") -> bytes:
    """`body`: the block's bytes beside a proposal; empty elsewhere, or where the receiver is to ask for them."""
    match message:
        case Vote():
            v = message
            return encode([MESSAGE_VERSION, _VOTE, int(v.kind), v.height, v.view, v.block_id, v.signature])
        case Proposal():
            v = message.vote
            certificates = [certificate_fields(certificate) for certificate in message.certificates]
            fields = [v.height, v.view, v.parent_view, v.block_id, v.signature, certificates, body]
            return encode([MESSAGE_VERSION, _PROPOSAL, *fields])
        case Certificate():
            return encode([MESSAGE_VERSION, _CERTIFICATE, certificate_fields(message)])
        case _:
            return encode([MESSAGE_VERSION, _STATUS, message.height, message.view])


def message_bytes(message: Message) -> int:
    """At least what it takes on the wire and at most a little more, without encoding it."""
    match message:
        case Certificate():
            return MESSAGE_OVERHEAD_BYTES + len(message.signatures) * SIGNATURE_BYTES
        case Proposal():
            return MESSAGE_OVERHEAD_BYTES + sum(map(message_bytes, message.certificates))
        case _:
            return MESSAGE_OVERHEAD_BYTES


def _parse_vote(fields: list[Any], sender: Account) -> Vote:
    kind, height, view, block_id, signature = _rows(fields, 5, "vote")
    return Vote(
        _kind(kind),
        _number(height, 1, MAX_HEIGHT, "height"),
        _number(view, 1, MAX_VIEW, "view"),
        _bytes(block_id, 32, "block id"),
        0,
        sender,
        _bytes(signature, SIGNATURE_BYTES, "signature"),
    )


def _parse_proposal(fields: list[Any], sender: Account) -> tuple[Proposal, bytes]:
    height, view, parent_view, block_id, signature, certificates, body = _rows(fields, 7, "proposal")
    if not isinstance(certificates, list) or len(certificates) > MAX_PROPOSAL_CERTIFICATES:
        raise InvalidEncoding(f"proposal: more than {MAX_PROPOSAL_CERTIFICATES} certificates")
    if not isinstance(body, bytes):
        raise InvalidEncoding("proposal: the body is not bytes")
    view = _number(view, 1, MAX_VIEW, "view")
    vote = Vote(
        Kind.PROPOSE,
        _number(height, 1, MAX_HEIGHT, "height"),
        view,
        _bytes(block_id, 32, "block id"),
        _number(parent_view, 0, view, "parent view"),
        sender,
        _bytes(signature, SIGNATURE_BYTES, "signature"),
    )
    return Proposal(vote, tuple(parse_certificate(row) for row in certificates)), body


def _parse_status(fields: list[Any]) -> Status:
    height, view = _rows(fields, 2, "status")
    return Status(_number(height, 1, MAX_HEIGHT, "height"), _number(view, 1, MAX_VIEW, "view"))


def decode_message(data: bytes, sender: Account, *, limit: int = MAX_DECODED_BYTES) -> tuple[Message, bytes]:
    """The message and the body beside it (empty if none); raises InvalidEncoding for anything else."""
    value = decode(data, limit=limit)
    if not isinstance(value, list) or len(value) < 2 or type(value[0]) is not int or type(value[1]) is not int:
        raise InvalidEncoding("consensus message: not a list that starts with its version and its type")
    if value[0] != MESSAGE_VERSION:
        raise InvalidEncoding(f"consensus message: version {value[0]}, this peer speaks {MESSAGE_VERSION}")
    parsers: dict[int, Callable[[list[Any]], tuple[Message, bytes]]] = {
        _VOTE: lambda fields: (_parse_vote(fields, sender), b""),
        _PROPOSAL: lambda fields: _parse_proposal(fields, sender),
        _CERTIFICATE: lambda fields: (parse_certificate(_rows(fields, 1, "certificate message")[0]), b""),
        _STATUS: lambda fields: (_parse_status(fields), b""),
    }
    parse = parsers.get(value[1])
    if parse is None:
        raise InvalidEncoding(f"consensus message: unknown type {value[1]}")
    return parse(value[2:])
