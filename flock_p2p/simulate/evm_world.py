"""The slower world: secp256k1 keys, the contracts, the EVM. Every node executes each block for itself."""

from collections.abc import Sequence
from dataclasses import replace

from flock_chain import ecvrf
from flock_chain.consensus.certificates import Recover
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import SigningKey
from flock_chain.crypto import Account, Key, keccak256, recover
from flock_chain.errors import InvalidRemote
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.blocks import decode_block
from flock_chain.execution.executor import Executor
from flock_chain.execution.genesis_state import compute_contract_hashes
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.transactions import decode_transaction, sign_call
from flock_chain.genesis import Genesis, GenesisValidator
from flock_chain.parameters import DEMO
from flock_contracts.addresses import FAUCET
from flock_p2p.simulate.ledgers import Body, SimulatedLedger

CHAIN_ID = 771177
GENESIS_TIME = 1_700_000_000
ETHER = 10**18
SENDERS = 4
GAS = 1_000_000
FEE = 10


def _key(name: bytes, index: int) -> Key:
    return Key(keccak256(b"simulated " + name, bytes([index])))


class EvmWorld:
    def __init__(self, identities: int) -> None:
        self._validators = [_key(b"validator", index) for index in range(identities)]
        self._senders = [_key(b"sender", index) for index in range(SENDERS)]
        self.keys: Sequence[SigningKey] = self._validators
        self.recover: Recover = recover
        self.genesis = self._make_genesis()
        self.domain = ChainDomain(CHAIN_ID, self.genesis.hash)

    def _make_genesis(self) -> Genesis:
        balances = {key.account: 1_000 * ETHER for key in [*self._validators, *self._senders]}
        rows = [
            GenesisValidator(key.account, 32 * ETHER, ecvrf.public_key(ecvrf.derive_seed(key)))
            for key in self._validators
        ]
        return Genesis(
            network="simulated",
            chain_id=CHAIN_ID,
            timestamp=GENESIS_TIME,
            parameters=DEMO,
            accounts=tuple(sorted([*balances.items(), (Account(FAUCET), 1_000 * ETHER)])),
            validators=tuple(sorted(rows, key=lambda row: row.account)),
            contracts=compute_contract_hashes(),
        )

    def make_ledger(self, index: int) -> SimulatedLedger:
        return EvmLedger(self.genesis, self._validators[index])

    def make_transaction(self, number: int) -> bytes:
        """A coin from one sender to the next; each sender's nonces in order."""
        sender, receiver = self._senders[number % SENDERS], self._senders[(number + 1) % SENDERS]
        nonce = number // SENDERS
        return sign_call(
            sender, chain_id=CHAIN_ID, nonce=nonce, to=receiver.account, data=b"", value=ETHER, gas=GAS, fee=FEE
        )


class EvmLedger:
    """The product's executor over a store in memory."""

    def __init__(self, genesis: Genesis, key: Key) -> None:
        self._genesis, self._key = genesis, key
        self._vrf_seed = ecvrf.derive_seed(key)
        self._store = MemoryStore()
        self._executor = Executor(genesis, self._store)
        self._store.commit(self._executor.genesis_writes())
        self._candidates: dict[bytes, Candidate] = {}
        self.height = 0
        self.head: bytes = self._executor.head.id
        self.included: set[bytes] = set()

    def build(self, _view: int, salt: int, good: bool, transactions: list[bytes], now: int) -> Body:
        """A bad one claims another state root."""
        parent = self._executor.head
        candidate = self._executor.execute(
            parent,
            [decode_transaction(raw, CHAIN_ID) for raw in transactions],
            timestamp=max(parent.timestamp, GENESIS_TIME + now // 1_000),
            proposer=self._key.account,
            vrf_proof=ecvrf.prove(self._vrf_seed, self._executor.vrf_alpha(parent)),
            strict=False,
        )
        data = candidate.block.encoded
        if good:
            self._candidates[data] = candidate
            return Body(candidate.block.id, data)
        return _spoil(data, salt)

    def check(self, data: bytes) -> bool:
        try:
            self._execute(data)
        except InvalidRemote:
            return False
        return True

    def _execute(self, data: bytes) -> Candidate:
        if data not in self._candidates:
            self._candidates[data] = self._executor.verify(data)
        return self._candidates[data]

    def commit(self, data: bytes) -> bytes:
        candidate = self._execute(data)
        self._store.commit(candidate.writes)
        self._executor.advance(candidate)
        self._candidates.clear()
        self.height, self.head = candidate.block.height, candidate.block.id
        self.included.update(candidate.block.transactions)
        return candidate.block.header.state_root

    def restart(self) -> None:
        """A new process reads its head from the store."""
        self._candidates.clear()
        self._executor = Executor(self._genesis, self._store)


def _spoil(data: bytes, salt: int) -> Body:
    """Another state root than the execution's."""
    block = decode_block(data, max_bytes=len(data))
    spoilt = replace(block, header=replace(block.header, state_root=keccak256(salt.to_bytes(8, "big"))))
    return Body(spoilt.id, spoilt.encoded)
