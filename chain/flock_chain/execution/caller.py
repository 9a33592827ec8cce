"""Calls that change nothing, on any final state, and how much gas a transaction would need.

Beside the executor, with a cache of its own, so that it can work in another thread. Knows no block in the making.
"""

from dataclasses import dataclass

from flock_chain.crypto import Account
from flock_chain.errors import FlockError
from flock_chain.execution.blocks import Header
from flock_chain.execution.final_state import FinalState
from flock_chain.execution.machine import KeyValues, Outcome, State, make_context, run_view
from flock_chain.execution.transactions import AccessList, compute_gas_bounds
from flock_chain.genesis import Genesis

ESTIMATE_TOLERANCE = 64  # a 64th too much comes back when the transaction ends; each halving is one more run


@dataclass(frozen=True)
class Call:
    """What a transaction would do."""

    sender: Account
    to: bytes
    data: bytes = b""
    value: int = 0
    access_list: AccessList = ()


class CannotCall(FlockError):
    """Out of gas, or without the coins that it would send."""


class Reverted(FlockError):
    """The contract refused; `output` is what it said, as an ABI error."""

    def __init__(self, reason: str, output: bytes) -> None:
        super().__init__(f"execution reverted: {reason}" if output else "execution reverted")
        self.output = output


class Caller:
    """One thread at a time."""

    def __init__(self, genesis: Genesis, reader: KeyValues) -> None:
        self._final = FinalState(genesis, reader)

    def open_state(self, header: Header, *, next_at: int | None = None) -> State:
        """As that block left it. `next_at`: a call sees the block that would come next, at that time."""
        state = self._final.state_of(header)
        if next_at is not None:
            context = self._final.next_context(header, next_at)
            state.execution_context = make_context(context, self._final.ancestors(header))
        return state

    def call(self, state: State, call: Call, gas: int) -> bytes:
        """What it returns. Raises Reverted or CannotCall."""
        return _check(_run(state, call, gas), gas).output

    def estimate_gas(self, state: State, call: Call, most: int) -> int:
        """A gas limit with which the transaction succeeds; raises as `call` does where `most` is not enough."""
        intrinsic, floor = compute_gas_bounds(call.data, call.access_list)
        if most < max(intrinsic, floor):
            raise CannotCall(f"gas required exceeds allowance: {max(intrinsic, floor)} before it begins")
        high = most - intrinsic
        used = _check(_run(state, call, high), high).gas_used
        if _run(state, call, used).status:
            return max(floor, intrinsic + used)
        low = used
        while high - low > max(1, high // ESTIMATE_TOLERANCE):  # more than it uses: a callee gets 63 of 64 parts
            middle = (low + high) // 2
            if _run(state, call, middle).status:
                high = middle
            else:
                low = middle
        return max(floor, intrinsic + high)


def _run(state: State, call: Call, gas: int) -> Outcome:
    balance = state.get_balance(call.sender) if call.value else 0
    if balance < call.value:
        raise CannotCall(f"insufficient funds for transfer: the sender has {balance} wei, the value is {call.value}")
    return run_view(state, call.to, call.data, gas=gas, value=call.value, sender=call.sender)


def _check(outcome: Outcome, gas: int) -> Outcome:
    if outcome.status:
        return outcome
    if outcome.gas_used >= gas:  # a revert leaves some; whatever else fails takes all
        raise CannotCall(f"out of gas: the call takes more than {gas}")
    raise Reverted(outcome.reason, outcome.output)
