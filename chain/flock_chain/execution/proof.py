"""A final state read by its root alone, from rows that are true by their hashes; and which rows a reading took.

Whoever holds a header that a quorum signed can so run the contracts' views without the chain. Knows no signature.
"""

from collections.abc import Iterable, Mapping

from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidContent
from flock_chain.execution import validators
from flock_chain.execution.blocks import Header
from flock_chain.execution.final_state import FinalState
from flock_chain.execution.genesis_state import load_pinned
from flock_chain.execution.machine import STORE_FAULTS, KeyValues, Overlay, State, make_context, run_view
from flock_chain.execution.validators import Served
from flock_chain.genesis import Genesis

VIEW_GAS = 50_000_000  # as for any read-only call: nobody pays, and this peer itself asks
# What a state comes to whose rows somebody made up: numbers that fit no type, a contract that refuses to answer.
_FAULTS = (*STORE_FAULTS, ValueError)


class Recorder:
    """Passes reads on and keeps what they found, by hash."""

    def __init__(self, reader: KeyValues) -> None:
        self._reader = reader
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        value = self._reader.get(key)
        if value is not None:
            self.rows[key] = value
        return value


class ProofRows:
    """Rows under their own hashes: what is read is what a root refers to. `unused`: those that nobody asked for."""

    def __init__(self, rows: Iterable[bytes]) -> None:
        self._rows = {bytes(keccak256(row)): row for row in rows}
        self.unused = set(self._rows)

    def get(self, key: bytes) -> bytes | None:
        row = self._rows.get(key)
        if row is None:
            raise InvalidContent(f"proof: the row {key.hex()} of the state is missing")
        self.unused.discard(key)
        return row


class ProvenState:
    """The state that one header names. The contracts' code is this release's, compared with the genesis document."""

    def __init__(self, genesis: Genesis, header: Header, rows: KeyValues) -> None:
        self._contracts = load_pinned(genesis)
        self._height = header.height
        code = {bytes(keccak256(entry.runtime)): entry.runtime for entry in self._contracts.values()}
        context = FinalState(genesis, rows).context_of(header)
        self._state = _PinnedState(Overlay(_WithCode(rows, code)), make_context(context, ()), header.state_root)
        self._state.pinned = {entry.address: entry.runtime for entry in self._contracts.values()}

    def view(self, contract: str, function: str, *arguments: object) -> object:
        """Decoded. Raises InvalidContent where the rows do not suffice or the contract refuses."""
        entry = self._contracts.get(contract)
        if entry is None:
            raise InvalidContent(f"proof: this network has no contract {contract!r}")
        try:
            outcome = run_view(self._state, entry.address, entry.encode(function, *arguments), gas=VIEW_GAS)
            if not outcome.status:
                raise InvalidContent(f"proof: {contract}.{function} refuses: {outcome.reason}")
            result: object = entry.decode(function, outcome.output)
        except _FAULTS as error:
            raise InvalidContent(f"proof: {contract}.{function}: {error}") from error
        return result

    def served(self) -> Served:
        """Who decides about the next height, and in the next epoch."""
        try:
            return validators.read_served(self._state, self._contracts["Stake"], self._height)
        except _FAULTS as error:
            raise InvalidContent(f"proof: the validators after block {self._height}: {error}") from error


class _PinnedState(State):
    """Runs the genesis document's contracts and no other code: a state that somebody made up could hold any, such as
    some that calls itself until the stack of this process ends."""

    pinned: Mapping[bytes, bytes]  # code by address

    def get_code(self, address: bytes) -> bytes:
        code: bytes = super().get_code(address)
        if code and code != self.pinned.get(bytes(address)):
            raise InvalidContent(f"proof: the code of 0x{bytes(address).hex()} is none that the genesis document pins")
        return code


class _WithCode:
    """Code need not be proven: the genesis document pins it."""

    def __init__(self, rows: KeyValues, code: dict[bytes, bytes]) -> None:
        self._rows, self._code = rows, code

    def get(self, key: bytes) -> bytes | None:
        return self._code.get(key) or self._rows.get(key)
