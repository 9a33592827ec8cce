"""The chain's state machine: one function builds and verifies blocks. Pure but for reading final state.

Knows no network, mempool or certificate; who calls stores a candidate's writes once it is final, and then advances.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from flock_chain.crypto import Digest
from flock_chain.errors import FlockError, InvalidBlock, InvalidEncoding, InvalidRemote, Misuse
from flock_chain.execution import schedule, validators
from flock_chain.execution.block_run import BlockRun, Candidate
from flock_chain.execution.blocks import Block, Header, decode_block
from flock_chain.execution.final_state import FinalState
from flock_chain.execution.genesis_state import build_genesis, load_pinned
from flock_chain.execution.machine import KeyValues, Writes, run_view
from flock_chain.execution.transactions import (
    SYSTEM_TYPE,
    Transaction,
    decode_system_transaction,
    decode_transaction,
)
from flock_chain.execution.validators import AttendanceRule, Served, refuse_attendance
from flock_chain.genesis import Genesis
from flock_chain.parameters import Parameters
from flock_chain.restart import Restart
from flock_chain.upgrades import Schedule

CALL_GAS = 50_000_000  # of a read-only call; who asks is this peer itself


class CallReverted(FlockError):
    """A read-only call that the contract refused."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"call reverted: {reason}")
        self.reason = reason


class NotNext(InvalidBlock):
    """A block of another height than the head's next; nothing is said about whether it was valid in its place."""


@dataclass(frozen=True)
class AccountView:
    nonce: int
    balance: int


class Executor:
    """The chain's state machine. One thread at a time."""

    def __init__(
        self,
        genesis: Genesis,
        reader: KeyValues,
        *,
        attendance: AttendanceRule = refuse_attendance,
        restarts: Sequence[Restart] = (),
        upgrades: Schedule | None = None,
    ) -> None:
        """`attendance`: how the votes that a block shows are judged. `restarts`, `upgrades`: agreed on, if any."""
        self.genesis = genesis
        self._final = FinalState(genesis, reader)
        self._contracts = load_pinned(genesis)
        self._attendance = attendance
        self._restarts = {restart.height: restart for restart in restarts}
        self._upgrades = upgrades or Schedule(genesis.hash)
        self._served: tuple[Digest, Served] | None = None  # by the id of the parent

    # ---- final state
    def genesis_writes(self) -> Writes:
        """Everything to store before the first use, as one transaction."""
        return build_genesis(self.genesis).writes

    @property
    def head(self) -> Header:
        """The last final header; raises Misuse where the store holds no chain, or another network's."""
        return self._final.head

    def header(self, height: int) -> Header:
        """Raises Unavailable for a height that is not final here."""
        return self._final.header(height)

    def advance(self, candidate: Candidate) -> None:
        """The candidate's writes are stored: it is the head now."""
        if candidate.block.parent_id != self.head.id:
            raise Misuse("executor: only a child of the head can become the head")
        known = self._served
        self._final.advance(candidate.block.header)
        self._served = None
        if self.head.height in self._restarts:
            return  # the document says who decides from here on, not what held until now
        if known is not None and known[0] == candidate.block.parent_id and not candidate.changes_set:
            self._served = (self.head.id, replace(known[1], before=known[1].rows))

    # ---- validators
    def served(self, parent: Header | None = None) -> Served:
        """Who decides about the child of a final block, the head by default. In the state, or in a restart document."""
        parent = parent or self.head
        if self._served is not None and self._served[0] == parent.id:
            return self._served[1]
        served = validators.read_served(self._final.state_of(parent), self._contracts["Stake"], parent.height)
        restart = self.find_restart(parent)
        if restart is not None:
            served = validators.restarted(served, restart)
        self._served = (parent.id, served)
        return served

    def find_restart(self, parent: Header) -> Restart | None:
        """The document that the child of this block begins anew with; raises Misuse where it names another block."""
        restart = self._restarts.get(parent.height)
        if restart is not None and restart.block_id != parent.id:
            raise Misuse(
                f"restart document {restart.hash.hex()}: block {parent.height} is {restart.block_id.hex()} there and "
                f"{parent.id.hex()} here"
            )
        return restart

    def parameters(self, parent: Header | None = None) -> Parameters:
        """What holds for the child of a final block; raises Refused where this release does not contain its rules."""
        return self._upgrades.parameters_at(self.genesis.parameters, self.served(parent).epoch)

    # ---- blocks
    def vrf_alpha(self, parent: Header) -> bytes:
        """What the proposer of the next block must prove."""
        return schedule.compute_alpha(self.genesis.chain_id, parent.height + 1, parent.mix_hash)

    def execute(
        self,
        parent: Header,
        transactions: Sequence[Transaction],
        *,
        timestamp: int,
        proposer: bytes,
        vrf_proof: bytes,
        strict: bool,
        attendance: bytes = b"",
    ) -> Candidate:
        """The block that follows from these inputs, and no other.

        `strict`: a transaction that cannot be included makes the block invalid; else it is left out and reported.
        `attendance`: votes of the parent's height, where somebody's are missing. Raises InvalidBlock naming the rule.
        """
        if timestamp < parent.timestamp:
            raise InvalidBlock(f"block: timestamp {timestamp} before its parent's {parent.timestamp}")
        served = self.served(parent)
        validator = served.find(proposer)
        if validator is None:
            raise InvalidBlock(f"block: the proposer 0x{proposer.hex()} is no validator")
        mix = schedule.verify_randomness(validator.vrf_key, self.vrf_alpha(parent), parent.mix_hash, vrf_proof)
        gas_limit = self.parameters(parent).block_gas_limit
        run = BlockRun(
            self._final, self._contracts, parent, served,
            timestamp=timestamp, proposer=proposer, mix=mix, gas_limit=gas_limit,
        )  # fmt: skip
        run.call_system("Beacon", "on_block", mix, vrf_proof, gas=schedule.ON_BLOCK_GAS)
        run.serve(attendance, restart=self.find_restart(parent), rule=self._attendance)
        if "TaskBoard" in self._contracts:
            for task in schedule.get_due_tasks(run.state, self._contracts["TaskBoard"]):
                if run.gas_left >= schedule.POKE_GAS_MIN:
                    run.call_system("TaskBoard", "poke", task, gas=min(schedule.POKE_GAS, run.gas_left))
        for transaction in transactions:
            try:
                run.include(transaction)
            except InvalidRemote as error:
                if strict:
                    raise
                run.rejected.append((transaction, error))
        return run.seal()

    def verify(self, data: bytes, *, known: Callable[[bytes], Transaction | None] = lambda _: None) -> Candidate:
        """Rebuild a child of the head from its bytes and compare; raises InvalidBlock naming the field.

        `known`: transactions that were decoded and whose signature was checked before, by their raw bytes.
        """
        block = decode_block(data, max_bytes=self.genesis.parameters.max_block_bytes)
        header, parent = block.header, self.head
        if header.height != parent.height + 1:
            raise NotNext(f"block: height {header.height}: not a child of the head at {parent.height}")
        if header.parent_hash != parent.id:
            raise InvalidBlock(f"block: parent_hash: not a child of the head at {parent.height}")
        system = [raw for raw in block.transactions if raw[:1] == bytes((SYSTEM_TYPE,))]
        if not system:
            raise InvalidBlock("block: transactions: without the beacon's call")
        proof = schedule.extract_proof(decode_system_transaction(system[0]).data)
        attendance = b""
        if len(system) > 1:
            second = decode_system_transaction(system[1])
            attendance = validators.extract_attendance(self._contracts["Stake"], second.to, second.data)
        transactions = [
            known(raw) or decode_transaction(raw, self.genesis.chain_id) for raw in block.transactions[len(system) :]
        ]
        rebuilt = self.execute(
            parent,
            transactions,
            timestamp=header.timestamp,
            proposer=header.coinbase,
            vrf_proof=proof,
            strict=True,
            attendance=attendance,
        )
        _compare(block, rebuilt.block)
        return rebuilt

    # ---- reading
    def call(
        self,
        to: bytes,
        data: bytes,
        *,
        height: int | None = None,
        timestamp: int | None = None,
        sender: bytes = bytes(20),
        value: int = 0,
    ) -> bytes:
        """A read-only call on a final state. At the head it sees the block that would come next, at `timestamp`.

        Raises CallReverted with the contract's reason.
        """
        if height is None or height == self.head.height:
            state = self._final.head_state(self.head.timestamp if timestamp is None else timestamp)
        else:
            state = self._final.state_of(self._final.block(height).header)  # raises where no state is here
        outcome = run_view(state, to, data, gas=CALL_GAS, value=value, sender=sender)
        if not outcome.status:
            raise CallReverted(outcome.reason)
        return outcome.output

    def view(
        self, contract: str, function: str, *arguments: object, height: int | None = None, timestamp: int | None = None
    ) -> object:
        """`call` on a genesis contract by name, decoded."""
        entry = self._contracts.get(contract)
        if entry is None:
            raise Misuse(f"view: this network has no contract {contract!r}")
        output = self.call(entry.address, entry.encode(function, *arguments), height=height, timestamp=timestamp)
        result: object = entry.decode(function, output)
        return result

    def account(self, account: bytes) -> AccountView:
        state = self._final.head_state(self.head.timestamp)
        return AccountView(state.get_nonce(account), state.get_balance(account))

    @property
    def contracts(self) -> Mapping[str, object]:
        return self._contracts


def _compare(claimed: Block, rebuilt: Block) -> None:
    """Transactions first: where they differ, the roots do too, and the list says more."""
    if claimed.transactions != rebuilt.transactions:
        raise InvalidBlock("block: transactions: not the system's calls that this height prescribes, in their order")
    for field in fields(Header):
        if getattr(claimed.header, field.name) != getattr(rebuilt.header, field.name):
            raise InvalidBlock(f"block: {field.name} is not what executing it gives")
    if claimed.encoded != rebuilt.encoded:
        raise InvalidEncoding("block: not the canonical encoding")
