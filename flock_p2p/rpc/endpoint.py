"""JSON-RPC 2.0: bytes in, bytes out; requests, batches and notifications, within bounds. Knows no method's meaning."""

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from math import isfinite
from typing import Any

import trio

from flock_chain.bounded_json import loads
from flock_chain.errors import FlockError
from flock_p2p.rpc.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    LIMIT_EXCEEDED,
    PARSE_ERROR,
    RpcError,
    explain,
    invalid,
)
from flock_p2p.web.guard import Bucket

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 1 << 20  # eight of the largest transactions in hexadecimal
MAX_DEPTH = 16  # request, parameters, access list, keys: six
MAX_BATCH = 100  # viem and ethers send batches of tens
MAX_ANSWER_BYTES = 16 << 20  # of a whole batch: the largest block with its transactions takes 1.5 MB
CALLS_PER_SECOND = 200.0  # a wallet makes ten; a fifth of a core, the rest is for blocks and training
BURST_CALLS = 1_000  # what a page may ask for when it opens
CALL_SECONDS = 60.0  # for one request or batch: everything above is refused, or done sooner
# What costs the chain's thread milliseconds and more, in ordinary calls.
COSTS = {
    "eth_call": 2, "eth_estimateGas": 5, "eth_getLogs": 5, "eth_getFilterLogs": 5, "eth_getFilterChanges": 2,
    "eth_feeHistory": 3, "eth_getBlockReceipts": 5, "eth_getTransactionReceipt": 2,
}  # fmt: skip
BYTES_PER_CALL = 16 << 10  # of a request: so many take as long to parse as an ordinary call to answer
CALLS_PER_LONG_SECOND = 5 * CALLS_PER_SECOND  # that long calls took: in the end they get a fifth of a core

Call = Callable[[str, Sequence[Any]], Awaitable[Any]]


class Endpoint:
    """One per peer; connections share its rate."""

    def __init__(self, read_long: Callable[[], float]) -> None:
        """`read_long`: seconds that long calls have taken so far."""
        self._bucket = Bucket(CALLS_PER_SECOND, BURST_CALLS)
        self._read_long, self._long = read_long, 0.0
        self.counts: dict[str, int] = {"ok": 0, "error": 0, "limited": 0}

    async def answer(self, body: bytes, call: Call) -> bytes | None:
        """None where nothing was asked that wants an answer."""
        if not self._bucket.take(len(body) // BYTES_PER_CALL):
            return _encode(_fail(None, self._limited()))
        try:
            request = loads(body, depth=MAX_DEPTH)
        except ValueError as error:
            return _encode(_fail(None, RpcError(PARSE_ERROR, f"parse error: {str(error)[:100]}")))
        deadline = trio.current_time() + CALL_SECONDS
        if not isinstance(request, list):
            row = await self._answer_one(request, call, deadline)
            return None if row is None else _bounded(row)
        if not 0 < len(request) <= MAX_BATCH:
            return _encode(_fail(None, RpcError(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} requests")))
        return await self._answer_all(request, call, deadline)

    async def _answer_all(self, requests: list[Any], call: Call, deadline: float) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        for request in requests:
            if size > MAX_ANSWER_BYTES:
                row: dict[str, Any] | None = _too_large(request)
            else:
                row = await self._answer_one(request, call, deadline)
            if row is not None:
                parts.append(_bounded(row))
                size += len(parts[-1])
        return b"[" + b",".join(parts) + b"]" if parts else None

    def _limited(self) -> RpcError:
        self.counts["limited"] += 1
        return RpcError(LIMIT_EXCEEDED, f"more than {CALLS_PER_SECOND:.0f} calls a second; try again")

    def _take(self, cost: float) -> None:
        """Raises RpcError where too much was asked for of late."""
        taken = self._read_long()
        self._bucket.charge((taken - self._long) * CALLS_PER_LONG_SECOND)
        self._long = taken
        if not self._bucket.take(cost):
            self._bucket.charge(1)  # to be refused takes time, too: who goes on is refused by whole batches
            raise self._limited()

    async def _answer_one(self, request: Any, call: Call, deadline: float) -> dict[str, Any] | None:
        identity = request.get("id") if isinstance(request, dict) else None
        try:
            self._take(1)  # also for what is none
            name, parameters = _parse(request)
            self._take(COSTS.get(name, 1) - 1)
            with trio.fail_at(deadline):
                await trio.lowlevel.checkpoint()  # of a batch, none begins after its time
                result = await call(name, parameters)
            answer = {"jsonrpc": "2.0", "id": identity, "result": result}
        except (RpcError, FlockError, trio.TooSlowError) as error:
            answer = _fail(identity, _explain(error))
        except Exception:  # a task's edge: one request's failure is its own
            log.exception("rpc: a request failed")
            answer = _fail(identity, RpcError(INTERNAL_ERROR, "internal error; see the peer's log"))
        self.counts["ok" if "result" in answer else "error"] += 1
        is_notification = isinstance(request, dict) and "id" not in request and "method" in request
        return None if is_notification else answer


def _parse(request: Any) -> tuple[str, Sequence[Any]]:
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0" or not isinstance(request.get("method"), str):
        raise RpcError(INVALID_REQUEST, "not a JSON-RPC 2.0 request")
    if request.get("id") is not None and not _is_id(request["id"]):
        raise RpcError(INVALID_REQUEST, "the id is no string and no number")
    parameters = request.get("params", [])
    if not isinstance(parameters, list):
        raise invalid("parameters are a list here")
    return request["method"], parameters


def _explain(error: Exception) -> RpcError:
    if isinstance(error, RpcError):
        return error
    if isinstance(error, FlockError):
        return explain(error)
    return RpcError(LIMIT_EXCEEDED, f"no answer within {CALL_SECONDS:.0f} s")


def _too_large(request: Any) -> dict[str, Any]:
    identity = request.get("id") if isinstance(request, dict) else None
    return _fail(identity, RpcError(LIMIT_EXCEEDED, f"the answer is above {MAX_ANSWER_BYTES} bytes; ask for less"))


def _bounded(row: dict[str, Any]) -> bytes:
    encoded = _encode(row)
    return encoded if len(encoded) <= MAX_ANSWER_BYTES else _encode(_too_large(row))


def _fail(identity: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity if _is_id(identity) else None, "error": error.as_row()}


def _is_id(value: Any) -> bool:
    """Python reads and writes numbers that JSON does not have."""
    return isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))


def _encode(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode()
