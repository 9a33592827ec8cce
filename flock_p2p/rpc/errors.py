"""What a JSON-RPC answer says when something is wrong: the codes of EIP-1474, and 3 for a revert, as elsewhere."""

from flock_chain.errors import FlockError, InvalidRemote, Refused, Unavailable
from flock_chain.execution.caller import CannotCall, Reverted

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
INVALID_INPUT = -32000
RESOURCE_NOT_FOUND = -32001
RESOURCE_UNAVAILABLE = -32002
TRANSACTION_REJECTED = -32003
LIMIT_EXCEEDED = -32005
REVERTED = 3  # no number of EIP-1474, but what every library looks for


class RpcError(Exception):
    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    def as_row(self) -> dict[str, object]:
        row: dict[str, object] = {"code": self.code, "message": self.message}
        return row if self.data is None else {**row, "data": self.data}


def invalid(message: str) -> RpcError:
    return RpcError(INVALID_PARAMS, message)


def explain(error: FlockError) -> RpcError:
    if isinstance(error, Reverted):
        return RpcError(REVERTED, str(error), "0x" + error.output.hex())
    if isinstance(error, CannotCall):
        return RpcError(INVALID_INPUT, str(error))
    if isinstance(error, Refused | InvalidRemote):
        return RpcError(TRANSACTION_REJECTED, str(error))
    if isinstance(error, Unavailable):
        return RpcError(RESOURCE_UNAVAILABLE, str(error))
    return RpcError(INVALID_INPUT, str(error))
