"""A chain in memory that has come as far as a vote, and blocks of signed transactions that could follow. Own time."""

from collections.abc import Sequence
from typing import Any

from small_genesis import make_genesis

from flock_chain import ecvrf
from flock_chain.crypto import Key, keccak256
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.executor import Executor
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.transactions import decode_transaction, sign_call
from flock_chain.proposal import compute_proposal_commitment
from flock_contracts import loader
from flock_contracts.addresses import BOARD

CHAIN_ID = 771177
ETHER = 10**18
SEATS = 16
TASKS = 7  # of 16 voters each: 112 votes
AVAILABILITY = 5
KEYS = [Key(keccak256(b"ledger benchmark", bytes([index]))) for index in range(2 * SEATS)]
VALIDATOR = KEYS[0]
FEE, TIP = 10, 1
TERMS = {
    "rounds": 1,
    "extra_rounds": 0,
    "proposers": SEATS,
    "voters": SEATS,
    "min_participants": 2 * SEATS,
    "min_bond": ETHER,
    "proposer_share": 5_000,
    "loss_limit": 20_000,
    "mad_multiple": 12,
    "wait_seconds": 36_000,
    "tolerance": 50_000,
    "voting_rule": 0,
    "rule_slash": 0,
    "rest_share": 0,
    "audit_rounds": 0,
    "audit_seconds": 60,
    "audit_slash": 0,
    **{
        f"{name}_seconds": 36_000
        for name in ("commit", "reveal", "availability", "score_commit", "score_reveal", "tally", "adopt")
    },
}


class Chain:
    """One validator, 32 funded accounts, and seven tasks whose voters are asked which proposals they hold."""

    def __init__(self) -> None:
        self.genesis = make_genesis("ledger-benchmark", CHAIN_ID, [VALIDATOR], KEYS[1:])
        self.store = MemoryStore()
        self.executor = Executor(self.genesis, self.store)
        self.store.commit(self.executor.genesis_writes())
        self.board = loader.load("TaskBoard")
        self._nonces = {key.account: 0 for key in KEYS}

    def play_to_the_votes(self) -> None:
        open_task = self.board.encode("open_task", b"d" * 32, b"a" * 32, TERMS)
        self.add([self.call(KEYS[0], open_task, ETHER) for _ in range(TASKS)])
        for task in range(1, TASKS + 1):
            join = self.board.encode("join_task", task, b"domain".ljust(32))
            self.add([self.call(key, join, ETHER) for key in KEYS])
        self._wait("proposers")
        for task in range(1, TASKS + 1):
            seated = [key for key in KEYS if key.account in self.round(task)["proposers"]]
            self.add([self.call(key, self._commit(task, key)) for key in seated])
        self._wait("voters")
        for task in range(1, TASKS + 1):
            seated = [key for key in KEYS if key.account in self.round(task)["proposers"]]
            self.add([self.call(key, self._reveal(task, key)) for key in seated])
        while any(self.round(task)["phase"] != AVAILABILITY for task in range(1, TASKS + 1)):
            self.add([])

    def votes(self, count: int) -> list[bytes]:
        """Which of 16 proposals a voter holds, attested once by each."""
        calls = [
            self.call(key, self.board.encode("attest_available", task, 1, (1 << SEATS) - 1, 0))
            for task in range(1, TASKS + 1)
            for key in KEYS
            if key.account in self.round(task)["voters"]
        ]
        return calls[:count]

    def transfers(self, count: int) -> list[bytes]:
        calls = []
        for index in range(count):
            key = KEYS[index % len(KEYS)]
            to = KEYS[(index * 7 + 3) % len(KEYS)].account
            calls.append(self.call(key, b"", 1 + index, to=to, gas=21_000))
        return calls

    # ---- moves
    def call(self, key: Key, data: bytes, value: int = 0, *, to: bytes = BOARD, gas: int = 2_000_000) -> bytes:
        nonce = self._nonces[key.account]
        self._nonces[key.account] += 1
        return sign_call(key, chain_id=CHAIN_ID, nonce=nonce, to=to, data=data, value=value, gas=gas, fee=FEE, tip=TIP)

    def forget_unsent(self) -> None:
        """What was signed and not added: the next call takes its nonce again."""
        self._nonces = {key.account: self.executor.account(key.account).nonce for key in KEYS}

    def build(self, raws: Sequence[bytes]) -> Candidate:
        head = self.executor.head
        proof = ecvrf.prove(ecvrf.derive_seed(VALIDATOR), self.executor.vrf_alpha(head))
        transactions = [decode_transaction(raw, CHAIN_ID) for raw in raws]
        return self.executor.execute(
            head,
            transactions,
            timestamp=head.timestamp + 1,
            proposer=VALIDATOR.account,
            vrf_proof=proof,
            strict=True,
        )

    def add(self, raws: Sequence[bytes]) -> None:
        """In as many blocks as it takes; each transaction must succeed."""
        for start in range(0, max(len(raws), 1), 12):
            candidate = self.build(raws[start : start + 12])
            failed = [row.reason for row in candidate.receipts if not row.status]
            if failed:
                raise RuntimeError(f"the benchmark's own transaction failed: {failed[0]}")
            self.store.commit(candidate.writes)
            self.executor.advance(candidate)

    def round(self, task: int) -> dict[str, Any]:
        found = self.executor.view("TaskBoard", "round_view", task)
        assert isinstance(found, dict)
        return found

    def _wait(self, role: str) -> None:
        while any(len(self.round(task)[role]) != SEATS for task in range(1, TASKS + 1)):
            self.add([])

    def _commit(self, task: int, key: Key) -> bytes:
        digest = compute_proposal_commitment(
            CHAIN_ID, BOARD, task, 1, key.account, self._manifest(task, key), bytes(32)
        )
        return self.board.encode("commit", task, 1, digest)

    def _reveal(self, task: int, key: Key) -> bytes:
        return self.board.encode("reveal", task, 1, self._manifest(task, key), bytes(32))

    def _manifest(self, task: int, key: Key) -> bytes:
        return keccak256(b"manifest", bytes([task]), key.account)
