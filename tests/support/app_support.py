"""A whole home of a peer, made without a network: real contracts, chain, certificates and blobs, scripted rounds.

Six validators are also the task's participants. Small deltas come from seeded chance; the voters' scores are scripted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from flock_chain import ecvrf
from flock_chain.aggregation import (
    Delta,
    GlobalAdapter,
    Layout,
    apply,
    encode_delta,
    encode_global,
    filter_bits,
    quantise,
)
from flock_chain.audit_rule import REACH
from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import Kind
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_certificate
from flock_chain.content import object_digest
from flock_chain.crypto import Key, keccak256
from flock_chain.execution import records
from flock_chain.execution.executor import Executor
from flock_chain.execution.genesis_state import compute_contract_hashes
from flock_chain.execution.transactions import Transaction, decode_transaction, sign_call
from flock_chain.genesis import Genesis, GenesisValidator
from flock_chain.parameters import DEMO
from flock_chain.proposal import (
    Manifest,
    compute_proposal_commitment,
    compute_score_commitment,
    compute_vote_commitment,
)
from flock_chain.tally import SEATS_MAX, compute_tally
from flock_contracts.addresses import BOARD, BY_NAME
from flock_contracts.loader import load
from flock_peers.home import Home, write_private
from flock_peers.roles.board import Phase, bits
from flock_peers.roles.library import compute_file_digest
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.base_manifest import BaseFile
from flock_peers.training.document import Budget, LoraSettings, TaskDocument, compute_initial_adapter

CHAIN_ID = 424242
GENESIS_TIME = 1_700_000_000
ETHER = 10**18
KEYS = [Key(keccak256(b"app test key", bytes([index]))) for index in range(6)]
BY_ACCOUNT = {key.account: key for key in KEYS}
TERMS = {
    "rounds": 2, "extra_rounds": 0, "proposers": 3, "voters": 3, "min_participants": 6, "min_bond": ETHER,
    "proposer_share": 6_000, "commit_seconds": 60, "reveal_seconds": 60, "availability_seconds": 60,
    "score_commit_seconds": 60, "score_reveal_seconds": 60, "tally_seconds": 60, "adopt_seconds": 60,
    "loss_limit": 20_000, "mad_multiple": 12, "wait_seconds": 600,
    "tolerance": 50_000, "voting_rule": 0, "rule_slash": 0, "rest_share": 0,
    "audit_rounds": 0, "audit_seconds": 60, "audit_slash": 0,
}  # fmt: skip
MAX_BLOCKS = 200  # a scripted game takes about 35 a round
BAD_SCORE = 900_000  # a loss almost twice the previous one: rejected


def small_document() -> TaskDocument:
    """A layout of one projection, on a base model that nobody loads."""
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    return TaskDocument(
        name="small",
        base_files=(BaseFile("config.json", 2, bytes(range(32))),),
        layout=Layout.of({f"{prefix}.lora_A.weight": (4, 24), f"{prefix}.lora_B.weight": (24, 4)}),
        seed=bytes(32),
        lora=LoraSettings(4, 8, ("q_proj",)),
        budget=Budget(norm_thousandths=200),  # the scripted proposals have norms of 0.14, or 0.7 to be slashed
    )


def make_genesis(network: str = "app-test", changed: Mapping[str, int] | None = None) -> Genesis:
    rows = [GenesisValidator(key.account, 32 * ETHER, ecvrf.public_key(ecvrf.derive_seed(key))) for key in KEYS]
    return Genesis(
        network=network,
        chain_id=CHAIN_ID,
        timestamp=GENESIS_TIME,
        parameters=replace(DEMO, **changed or {}),
        accounts=tuple(sorted((key.account, 1_000 * ETHER) for key in KEYS)),
        validators=tuple(sorted(rows, key=lambda row: row.account)),
        contracts=compute_contract_hashes(),
    )


@dataclass
class Script:
    """What the participants do; each test overrides what it is about."""

    rounds: int = 2
    scale: Callable[[int, int], float] = lambda _round, _index: 1e-2  # of the proposal of a proposer's seat
    score: Callable[[int, int], int] = lambda _round, index: -1_000 * (index + 1)
    adopt: Callable[[int, bytes, bytes], bytes] = lambda _round, _before, candidate: candidate
    filters: Callable[[int, list[int]], list[int]] = lambda _round, exact: exact
    invalid: Callable[[int], int] = lambda _round: 0  # bitmap that every voter attests as invalid bytes
    terms: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)  # of the network, where they are not the demo's
    bonds: int = 0  # wei that one validator adds to its stake in the first block
    lost: Callable[[int], bool] = lambda _round: False  # whether all say that the round's parent is nowhere
    blames: Callable[[int, "Played"], Sequence[bytes]] = lambda _audit, _played: ()  # whom all others name
    forgets: bool = False  # whether voters leave in the adapter what audits found guilty
    says: tuple[tuple[int, int, int], ...] = ()  # (round, guilty, innocent) that all say of accusations at the end
    later: tuple[tuple[bytes | None, bytes], ...] = ()  # (document, adapter) of tasks that are opened at the end


@dataclass
class Played:
    """What a test needs to find things again."""

    home: Path
    genesis: Genesis
    manifests: dict[tuple[int, int], bytes] = field(default_factory=dict)  # by round and seat
    deltas: dict[tuple[int, int], bytes] = field(default_factory=dict)
    proposers: dict[int, list[bytes]] = field(default_factory=dict)
    adapters: list[bytes] = field(default_factory=list)  # by round, from 0
    head: int = 0

    def delta_path(self, number: int, seat: int) -> Path:
        return self.home / "blobs" / "files" / self.deltas[number, seat].hex()

    def manifest_path(self, number: int, seat: int) -> Path:
        return self.home / "blobs" / "objects" / self.manifests[number, seat].hex()


class Game:
    """Builds the blocks and stores what a peer that takes part would store."""

    def __init__(self, path: Path, document: TaskDocument, script: Script) -> None:
        self.genesis, self.document, self.script = make_genesis(changed=script.parameters), document, script
        self.played = Played(path, self.genesis)
        home = Home(path)
        write_private(home.genesis_path, self.genesis.encode())
        write_private(home.key_path, KEYS[0].secret.hex().encode() + b"\n")
        with home.lock():  # leaves its file, as every peer that ever ran does
            pass
        self.store = ChainStore(home.folder("chain"))
        self.blobs = BlobStore(home.folder("blobs"))
        self.executor = Executor(self.genesis, self.store)
        self.store.commit(self.executor.genesis_writes())
        self.domain = ChainDomain(CHAIN_ID, self.genesis.hash)
        self.adapter = compute_initial_adapter(document)
        self.past: list[GlobalAdapter] = []  # before the present one
        self.parsed: dict[int, Delta] = {}  # of the running round, by seat
        self.added: dict[int, list[tuple[bytes, Delta]]] = {}  # by round, as adopted
        self.removed: set[tuple[bytes, int]] = set()  # account and round

    # ---- blocks
    def view(self, function: str, *arguments: int) -> Any:
        return self.executor.view("TaskBoard", function, *arguments)

    def add(self, *calls: tuple[Key, str, Sequence[Any]], value: int = 0) -> None:
        """One final block with these calls of the board, each of which must succeed."""
        transactions = [self._sign(key, function, arguments, value) for key, function, arguments in calls]
        self._extend(transactions)

    def _extend(self, transactions: Sequence[Transaction]) -> None:
        head = self.executor.head
        validators = ValidatorSet(tuple((row.account, row.weight) for row in self.executor.served().rows))
        leader = KEYS[head.height % len(KEYS)]
        candidate = self.executor.execute(
            head,
            transactions,
            timestamp=head.timestamp + 1,
            proposer=leader.account,
            vrf_proof=ecvrf.prove(ecvrf.derive_seed(leader), self.executor.vrf_alpha(head)),
            strict=True,
        )
        assert all(receipt.status for receipt in candidate.receipts), [row.reason for row in candidate.receipts]
        certificate = certify(validators, self.domain, candidate.block.height, candidate.block.id)
        self.store.commit({**candidate.writes, records.certificate_key(candidate.block.height): certificate})
        self.executor.advance(candidate)

    def bond(self, key: Key, value: int) -> None:
        """One final block in which a validator adds to its stake."""
        arguments = [ecvrf.public_key(ecvrf.derive_seed(key))]
        self._extend([self._sign(key, "bond_validator", arguments, value, contract="Stake")])

    def _sign(
        self, key: Key, function: str, arguments: Sequence[Any], value: int, contract: str = "TaskBoard"
    ) -> Transaction:
        raw = sign_call(
            key,
            chain_id=CHAIN_ID,
            nonce=self.executor.account(key.account).nonce,
            to=BY_NAME[contract],
            data=load(contract).encode(function, *arguments),
            value=value,
            fee=10,
        )
        return decode_transaction(raw, CHAIN_ID)

    # ---- the task
    def put(self, data: bytes) -> bytes:
        with NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            return self.blobs.put_file(Path(file.name))

    def run(self) -> Played:
        adapter = self.put(encode_global(self.adapter))
        self.played.adapters.append(adapter)
        document = self.blobs.put_object(self.document.encode())
        if self.script.bonds:
            self.bond(KEYS[2], self.script.bonds)
        terms: Mapping[str, int] = {**TERMS, "rounds": self.script.rounds, **self.script.terms}
        self.add((KEYS[0], "open_task", (document, adapter, terms)), value=10 * ETHER)
        self.add(*((key, "join_task", (1, b"domain".ljust(32, b"\0"))) for key in KEYS), value=2 * ETHER)
        for _ in range(MAX_BLOCKS):
            row = self.view("round_view", 1)
            if row["phase"] == Phase.ENDED:
                break
            self.add(*self._act(row))
        for number, guilty, innocent in self.script.says:
            for key in KEYS:
                if self.view("case_view", 1, number)["open"] & (guilty | innocent):
                    self.add((key, "confirm", (1, number, guilty, innocent)))
        for other, first in self.script.later:
            self.add((KEYS[5], "open_task", (other or document, first, terms)), value=20 * ETHER)
        self.played.adapters += [
            self.view("round_result", 1, n)["adapter_after"] for n in range(1, self.script.rounds + 1)
        ]
        self.played.head = self.executor.head.height
        self.store.close()
        return self.played

    def _act(self, row: Any) -> list[tuple[Key, str, Sequence[Any]]]:
        """Everybody's calls for the phase, all in one block."""
        number, phase = row["round"], Phase(row["phase"])
        if phase is Phase.COMMIT and self.script.lost(number):
            if self.view("missing_stake", 1, number)[0]:
                return []  # said, and not poked yet
            self.adapter = self.past.pop()
            return [(key, "attest_missing", (1, number)) for key in KEYS]
        if phase is Phase.COMMIT and not row["committed"]:
            self.played.proposers[number] = row["proposers"]
            return [self._commit(row, seat, who) for seat, who in enumerate(row["proposers"])]
        if phase is Phase.REVEAL and not row["revealed"]:
            manifests = [self.played.manifests[number, seat] for seat in range(len(row["proposers"]))]
            return [
                (BY_ACCOUNT[who], "reveal", (1, number, manifest, _salt(who, number)))
                for who, manifest in zip(row["proposers"], manifests, strict=True)
            ]
        if phase is Phase.AVAILABILITY and not row["attested"]:
            invalid = self.script.invalid(number)
            return self._voters(row, "attest_available", lambda _who: (row["revealed"] & ~invalid, invalid))
        if self.script.terms.get("voting_rule") and phase in (Phase.SCORE_COMMIT, Phase.SCORE_REVEAL):
            return self._vote(row, phase)
        if phase is Phase.SCORE_COMMIT and not row["score_committed"]:
            return self._voters(row, "commit_scores", lambda who: (self._score_commitment(row, who),))
        if phase is Phase.SCORE_REVEAL and not row["score_revealed"]:
            return self._voters(row, "reveal_scores", lambda who: (*self._sheet(row), _salt(who, number)))
        if phase is Phase.TALLY and not row["tallied"]:
            return [(KEYS[0], "tally", (1, number, *self._tally(row)))]
        if phase is Phase.ADOPT and not row["adoption_votes"]:
            choice = self.script.adopt(number, row["adapter"], self._candidate(row))
            return self._voters(row, "attest_adoption", lambda _who: (choice,))
        if phase is Phase.AUDIT:
            return self._blame(number, self.view("audit_view", 1))
        return []

    def _blame(self, number: int, audit: Any) -> list[tuple[Key, str, Sequence[Any]]]:
        if audit["heard"]:
            return []
        accused = sorted(self.script.blames(audit["number"], self.played))
        self.removed |= {(who, before) for who in accused for before in range(number - REACH + 1, number + 1)}
        here = [row["account"] for row in self.view("participants", 1)]
        return [
            (BY_ACCOUNT[who], "attest_guilty", (1, audit["number"], [each for each in accused if each != who]))
            for who in here
        ]

    def _base(self) -> GlobalAdapter:
        """As if what audits found guilty had never been added, from the beginning on."""
        if not self.removed or self.script.forgets:
            return self.adapter
        adapter = compute_initial_adapter(self.document)
        for number, added in self.added.items():
            adapter = apply(adapter, [delta for who, delta in added if (who, number) not in self.removed])
        return adapter

    def _voters(
        self, row: Any, function: str, arguments: Callable[[bytes], Sequence[Any]]
    ) -> list[tuple[Key, str, Sequence[Any]]]:
        return [(BY_ACCOUNT[who], function, (1, row["round"], *arguments(who))) for who in row["voters"]]

    def _vote(self, row: Any, phase: Phase) -> list[tuple[Key, str, Sequence[Any]]]:
        """By the paper's rule: one adapter of each voter, the same of all."""
        number = row["round"]
        if phase is Phase.SCORE_REVEAL and not row["score_revealed"]:
            return self._voters(row, "reveal_vote", lambda who: (self.choice, _salt(who, number)))
        if row["score_committed"]:
            return []
        self.choice = self.script.adopt(number, row["adapter"], self._candidate(row, bits(row["held_set"])))

        def commitment(who: bytes) -> tuple[bytes]:
            return (compute_vote_commitment(CHAIN_ID, BOARD, 1, number, who, self.choice, _salt(who, number)),)

        return self._voters(row, "commit_scores", commitment)

    def _commit(self, row: Any, seat: int, who: bytes) -> tuple[Key, str, Sequence[Any]]:
        number, layout = row["round"], self.document.layout
        chance = np.random.default_rng([number, seat])
        vector = (chance.normal(size=layout.parameters) * self.script.scale(number, seat)).astype(np.float32)
        self.parsed[seat] = quantise(vector, layout, self.document.format)
        data = encode_delta(self.parsed[seat])
        delta = self.put(data)
        manifest = Manifest(
            chain=self.genesis.hash, task=1, round=number, account=BY_ACCOUNT[who].account, parent=row["adapter"],
            delta=delta, delta_bytes=len(data), steps=3, tokens=300,
        ).encode()  # fmt: skip
        self.blobs.put_object(manifest)
        digest = object_digest(manifest)
        self.played.manifests[number, seat], self.played.deltas[number, seat] = digest, delta
        commitment = compute_proposal_commitment(CHAIN_ID, BOARD, 1, number, who, digest, _salt(who, number))
        return BY_ACCOUNT[who], "commit", (1, number, commitment)

    def _sheet(self, row: Any) -> tuple[list[int], list[int]]:
        scores, filters = [0] * SEATS_MAX, [0] * SEATS_MAX
        members = bits(row["held_set"])
        exact = filter_bits([self.parsed[seat] for seat in members], self.document.budget.norm_thousandths)
        reported = self.script.filters(row["round"], exact)
        for seat, result in zip(members, reported, strict=True):
            scores[seat], filters[seat] = self.script.score(row["round"], seat), result
        return scores, filters

    def _score_commitment(self, row: Any, who: bytes) -> bytes:
        return compute_score_commitment(
            CHAIN_ID, BOARD, 1, row["round"], who, *self._sheet(row), _salt(who, row["round"])
        )

    def _tally(self, row: Any) -> tuple[list[int], int, int]:
        scores, filters = self._sheet(row)
        rows = len(row["voters"])
        terms = (TERMS["loss_limit"], TERMS["mad_multiple"])
        tally = compute_tally([scores] * rows, [filters] * rows, row["held_set"], *terms)
        return list(tally.medians), tally.center, tally.mad

    def _candidate(self, row: Any, seats: Sequence[int] | None = None) -> bytes:
        if seats is None:
            seats = [seat for seat, verdict in enumerate(row["verdicts"]) if verdict == 1]
        deltas = [self.parsed[seat] for seat in seats]
        candidate: GlobalAdapter = apply(self._base(), deltas)
        data = encode_global(candidate)
        if self.script.adopt(row["round"], row["adapter"], compute_file_digest(data)) == compute_file_digest(data):
            self.past.append(self.adapter)
            self.adapter = candidate
            who = [row["proposers"][seat] for seat in seats]
            self.added[row["round"]] = list(zip(who, deltas, strict=True))
        return self.put(data)


def certify(validators: ValidatorSet, domain: ChainDomain, height: int, block_id: bytes, signers: int = 5) -> bytes:
    """A finality certificate by the first `signers` validators; five of six are a quorum."""
    votes = [Signer(key, domain).sign(Kind.FINALIZE, height, 1, block_id)[0] for key in KEYS[:signers]]
    signatures = {vote.signer: vote.signature for vote in votes}
    return encode_certificate(make_certificate(Kind.FINALIZE, height, 1, block_id, signatures, validators))


def play(path: Path, script: Script | None = None, document: TaskDocument | None = None) -> Played:
    return Game(path, document or small_document(), script or Script()).run()


def _salt(who: bytes, number: int) -> bytes:
    return keccak256(b"salt", who, bytes([number]))
