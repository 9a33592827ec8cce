"""Requests: one stream, one frame there, one frame back. The answer's first byte says whether it is one."""

from collections.abc import Awaitable, Callable

import trio

from flock_chain.errors import FlockError, InvalidRemote, Misuse, Unavailable
from flock_peers.network.frame_room import Claim
from flock_peers.network.limits import Limits
from flock_peers.network.link import Link, Stream, encode_length

_ANSWER, _ERROR = b"\x00", b"\x01"
_MAX_REASON = 256


async def ask(link: Link, protocol: str, payload: bytes, timeout: float, most: int | None = None) -> bytes:
    """`most`: bytes of the answer. Raises Unavailable when there is none in time or the peer declines, InvalidRemote
    for a bad frame."""
    if len(payload) > link.limits.frame_bytes:
        raise Misuse(f"request of {len(payload)} bytes, at most {link.limits.frame_bytes}")
    who = f"0x{link.account.hex()}"
    try:
        with trio.fail_after(timeout):
            stream = await link.open(protocol)
            try:
                await stream.write_frame(payload)
                limit = link.limits.frame_bytes if most is None else max(most, _MAX_REASON)
                answer = await stream.read_frame(len(_ANSWER) + limit, timeout)
            except BaseException:
                await stream.reset()
                raise
            await stream.close()
    except trio.TooSlowError as error:
        raise Unavailable(f"request {protocol}: {who} did not answer within {timeout} s") from error
    if not answer:
        raise Unavailable(f"request {protocol}: {who} gave no answer")
    if answer[:1] == _ANSWER:
        return answer[1:]
    if answer[:1] == _ERROR and len(answer) <= 1 + _MAX_REASON:
        reason = answer[1:].decode(errors="replace")
        raise Unavailable(f"request {protocol}: {who} declines: {reason!r}")
    raise InvalidRemote(f"request {protocol}: the answer of {who} is neither an answer nor an error")


async def read_request(
    stream: Stream, limits: Limits, claim: Claim | None = None, most: int | None = None
) -> bytes:  # fmt: skip
    """Without a claim a small one. Raises Unavailable where none comes, or there is no room for it."""
    if most is None:
        most = limits.small_frame_bytes if claim is None else limits.frame_bytes
    with trio.move_on_after(limits.frame_seconds):
        payload = await stream.read_frame(most, limits.frame_seconds, claim)
        if claim is not None and claim.refused:
            raise Unavailable(f"no room for a request of {claim.refused} bytes")
        if payload is not None:
            return payload
    raise Unavailable("request stream without a request")


async def while_asked(stream: Stream, handler: Callable[[], Awaitable[bytes]]) -> bytes:
    """Run the handler for as long as somebody waits for its answer; raises Unavailable when nobody does."""
    answers: list[bytes] = []
    failures: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def work() -> None:
            try:
                answers.append(await handler())
            except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery's group
                failures.append(error)
            nursery.cancel_scope.cancel()

        nursery.start_soon(work)
        await stream.wait_gone()
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
    if not answers:
        raise Unavailable("the asker went away")
    return answers[0]


async def answer(stream: Stream, limits: Limits, payload: bytes) -> None:
    """Without a copy of a large one: a slow reader would hold it as well."""
    if len(payload) > limits.frame_bytes:
        raise Misuse(f"answer of {len(payload)} bytes, at most {limits.frame_bytes}")
    if len(payload) <= limits.small_frame_bytes:
        await stream.write_frame(_ANSWER + payload)
    else:
        await stream.write(encode_length(len(_ANSWER) + len(payload)) + _ANSWER)
        await stream.write(payload)


async def decline(stream: Stream, error: FlockError) -> None:
    await stream.write_frame(_ERROR + str(error).encode()[:_MAX_REASON])
