"""A small network for tests of execution: keys, a genesis document, and a chain in memory. Own time, no chance."""

from collections.abc import Sequence
from dataclasses import replace

from flock_chain import ecvrf
from flock_chain.crypto import Key, keccak256
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.executor import Executor
from flock_chain.execution.genesis_state import compute_contract_hashes
from flock_chain.execution.machine import KeyValues, MemoryStore
from flock_chain.execution.transactions import Transaction, decode_transaction, sign_call
from flock_chain.genesis import Genesis, GenesisValidator
from flock_chain.parameters import DEMO, Parameters
from flock_contracts.addresses import FAUCET

CHAIN_ID = 771177
GENESIS_TIME = 1_700_000_000
ETHER = 10**18
KEYS = [Key(keccak256(b"execution test key", bytes([index]))) for index in range(8)]
VALIDATORS = KEYS[:4]
USERS = KEYS[4:]


def make_genesis(
    parameters: Parameters = DEMO,
    validators: Sequence[Key] = tuple(VALIDATORS),
    accounts: Sequence[tuple[bytes, int]] = (),
    timestamp: int = GENESIS_TIME,
) -> Genesis:
    balances = {key.account: 1_000 * ETHER for key in KEYS} | {FAUCET: 1_000 * ETHER} | dict(accounts)
    rows = [GenesisValidator(key.account, 32 * ETHER, ecvrf.public_key(ecvrf.derive_seed(key))) for key in validators]
    return Genesis(
        network="execution-test",
        chain_id=CHAIN_ID,
        timestamp=timestamp,
        parameters=parameters,
        accounts=tuple(sorted(balances.items())),  # type: ignore[arg-type] # Account is bytes
        validators=tuple(sorted(rows, key=lambda row: row.account)),
        contracts=compute_contract_hashes(),
    )


def with_parameters(**changes: int) -> Parameters:
    return replace(DEMO, **changes)


class Chain:
    """An executor over a store in memory, with the moves that tests make."""

    def __init__(self, genesis: Genesis | None = None, reader: KeyValues | None = None) -> None:
        """`reader`: a store that holds the chain already."""
        self.genesis = genesis or make_genesis()
        self.store = MemoryStore()
        self.executor = Executor(self.genesis, reader or self.store)
        if reader is None:
            self.store.commit(self.executor.genesis_writes())
        self.nonces: dict[bytes, int] = {}

    def prove(self, key: Key) -> bytes:
        return ecvrf.prove(ecvrf.derive_seed(key), self.executor.vrf_alpha(self.executor.head))

    def build(
        self,
        transactions: Sequence[Transaction] = (),
        *,
        proposer: Key = VALIDATORS[0],
        after: int = 1,
        strict: bool = False,
    ) -> Candidate:
        head = self.executor.head
        return self.executor.execute(
            head,
            transactions,
            timestamp=head.timestamp + after,
            proposer=proposer.account,
            vrf_proof=self.prove(proposer),
            strict=strict,
        )

    def commit(self, candidate: Candidate) -> Candidate:
        self.store.commit(candidate.writes)
        self.executor.advance(candidate)
        return candidate

    def add(self, *transactions: Transaction, after: int = 1) -> Candidate:
        """Build and make final; every transaction must have found its place."""
        candidate = self.build(transactions, after=after)
        assert not candidate.rejected, candidate.rejected
        return self.commit(candidate)

    def call(
        self, key: Key, to: bytes, data: bytes = b"", *, value: int = 0, gas: int = 1_000_000, nonce: int | None = None
    ) -> Transaction:
        """The next transaction of `key`, signed and decoded."""
        if nonce is None:
            nonce = self.nonces.get(key.account, self.executor.account(key.account).nonce)
        self.nonces[key.account] = nonce + 1
        raw = sign_call(key, chain_id=CHAIN_ID, nonce=nonce, to=to, data=data, value=value, gas=gas, fee=10)
        return decode_transaction(raw, CHAIN_ID)
