"""One block while it is being executed: the system's calls, transactions, receipts, gas and room; sealed at the end.

Does not know which calls a height prescribes, nor what another peer claimed about the block.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flock_chain.crypto import Account, Digest
from flock_chain.errors import InvalidBlock, InvalidRemote
from flock_chain.execution import records, schedule, validators
from flock_chain.execution.blocks import (
    HEADER_ROOM_BYTES,
    Block,
    Header,
    Receipt,
    compute_bloom,
    encode_receipt,
    make_header,
)
from flock_chain.execution.final_state import FinalState
from flock_chain.execution.machine import Outcome, Writes, open_state, run_system, run_transaction
from flock_chain.execution.ordered_trie import compute_ordered_root
from flock_chain.execution.transactions import SYSTEM_TYPE, SystemTransaction, Transaction
from flock_chain.execution.validators import AttendanceRule, Served
from flock_chain.restart import Restart
from flock_contracts.loader import Contract

_LIST_PREFIX_BYTES = 4  # what a transaction's length takes in a block, at most


class NotNow(InvalidBlock):
    """A transaction that is valid but finds no room in this block."""


@dataclass(frozen=True)
class Candidate:
    """An executed block, not yet final."""

    block: Block
    receipts: tuple[Receipt, ...]
    rejected: tuple[tuple[Transaction, InvalidRemote], ...]  # left out while building; NotNow: try again
    nonces: Mapping[Account, int]  # the next nonce of every account that sent a transaction in it
    writes: Writes  # everything to store in one transaction, less the certificate
    changes_set: bool  # another set may serve the next height


class BlockRun:
    def __init__(
        self,
        final: FinalState,
        contracts: Mapping[str, Contract],
        parent: Header,
        served: Served,
        *,
        timestamp: int,
        proposer: bytes,
        mix: bytes,
        gas_limit: int,
    ) -> None:
        self._genesis = final.genesis
        self._contracts = contracts
        self._parent = parent
        self._served = served
        self._changes_set = False
        self._overlay = final.open_overlay()
        self._context = replace(final.next_context(parent, timestamp, proposer, mix), gas_limit=gas_limit)
        self.state = open_state(self._overlay, parent.state_root, self._context, final.ancestors(parent))
        self.rejected: list[tuple[Transaction, InvalidRemote]] = []
        self._raws: list[bytes] = []
        self._encoded_receipts: list[bytes] = []
        self._receipts: list[Receipt] = []
        self._nonces: dict[Account, int] = {}
        self._gas_used = 0
        self._bloom = 0
        self._bytes_left = self._genesis.parameters.max_block_bytes - HEADER_ROOM_BYTES

    @property
    def gas_left(self) -> int:
        return self._context.gas_limit - self._gas_used

    def serve(self, attendance: bytes, *, restart: Restart | None, rule: AttendanceRule) -> None:
        """The calls that the validator set needs: a restart, or who was absent, and the end of the epoch."""
        if restart is not None:
            if attendance:
                raise InvalidBlock("block: attendance: the first block after a restart shows none")
            arguments = (bytes(restart.hash), [row.account for row in self._served.rows])
            self.call_system("Stake", "on_restart", *arguments, gas=validators.RESTART_GAS)
            self._changes_set = True  # also where it failed: the document's set was for this block alone
        elif attendance:
            absent = rule(attendance, self._parent.height, self._served.before)
            self.call_system("Stake", "on_attendance", absent, attendance, gas=validators.ATTENDANCE_GAS)
        stake, blocks = self._contracts["Stake"], self._genesis.parameters.epoch_blocks
        if validators.is_epoch_over(self.state, stake, self._served, self._context.height, blocks):
            self._changes_set |= self.call_system("Stake", "end_epoch", gas=validators.END_EPOCH_GAS)

    def call_system(self, contract: str, function: str, *arguments: object, gas: int) -> bool:
        """Always included; where it fails, its receipt says so and the chain goes on."""
        entry = self._contracts[contract]
        transaction = SystemTransaction(
            chain_id=self._genesis.chain_id,
            height=self._context.height,
            index=len(self._raws),
            to=entry.address,
            gas=gas,
            data=entry.encode(function, *arguments),
        )
        outcome = run_system(self.state, transaction.to, transaction.data, gas=gas)
        self._add(transaction.raw, transaction.hash, SYSTEM_TYPE, outcome)
        return outcome.status

    def include(self, transaction: Transaction) -> None:
        """Raises InvalidBlock and changes nothing where it cannot be included."""
        if transaction.gas > self.gas_left:
            raise NotNow(f"transaction: gas limit {transaction.gas}, {self.gas_left} left in the block")
        if len(transaction.raw) + _LIST_PREFIX_BYTES > self._bytes_left:
            raise NotNow(f"transaction: {len(transaction.raw)} bytes, {self._bytes_left} left in the block")
        outcome = run_transaction(self.state, transaction)
        self._add(transaction.raw, transaction.hash, transaction.type_id, outcome)
        self._nonces[transaction.sender] = transaction.nonce + 1

    def _add(self, raw: bytes, digest: Digest, type_id: int, outcome: Outcome) -> None:
        bloom = compute_bloom(outcome.logs)
        self._gas_used += outcome.gas_used
        self._bloom |= bloom
        self._bytes_left -= len(raw) + _LIST_PREFIX_BYTES
        self._receipts.append(
            Receipt(
                hash=digest,
                height=self._context.height,
                index=len(self._raws),
                status=outcome.status,
                gas_used=outcome.gas_used,
                logs=outcome.logs,
                reason=outcome.reason,
            )
        )
        self._encoded_receipts.append(encode_receipt(type_id, outcome, self._gas_used, bloom))
        self._raws.append(raw)

    def seal(self) -> Candidate:
        self.state.lock_changes()
        self.state.persist()
        header = make_header(
            parent_hash=self._parent.id,
            coinbase=self._context.proposer,
            height=self._context.height,
            timestamp=self._context.timestamp,
            mix_hash=self._context.mix,
            gas_limit=self._context.gas_limit,
            base_fee=self._context.base_fee,
            certificate_commitment=schedule.compute_certificate_commitment(self._parent.id, self._served.before),
            state_root=self.state.state_root,
            transaction_root=compute_ordered_root(self._raws),
            receipt_root=compute_ordered_root(self._encoded_receipts),
            bloom=self._bloom.to_bytes(256, "big"),
            gas_used=self._gas_used,
        )
        block, receipts = Block(header, tuple(self._raws)), tuple(self._receipts)
        writes = self._overlay.writes | records.make_rows(block, receipts)
        return Candidate(block, receipts, tuple(self.rejected), self._nonces, writes, self._changes_set)
