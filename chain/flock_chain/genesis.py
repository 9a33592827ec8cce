"""The genesis document: canonical JSON, whose keccak is the genesis hash that a joiner pins.

It says everything that a network starts with: chain id, parameters, accounts, validators, contract artifacts by hash.
Pure: reading a file and building the state are others' work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from flock_chain import canonical_json
from flock_chain.canonical_json import parse_hex
from flock_chain.crypto import Account, Digest, keccak256
from flock_chain.errors import InvalidEncoding
from flock_chain.parameters import Parameters, parse_parameters

MAX_GENESIS_BYTES = 512 << 10  # one message on the wire; 1,000 accounts take 100 KB
_KEYS = {"format", "network", "chain_id", "timestamp", "parameters", "accounts", "validators", "contracts"}
_FORMAT = 2  # 1: without rules and the numbers of validator sets
MAX_DEPTH = 3  # the document, a list, a row
MAX_WEI = 1 << 128


@dataclass(frozen=True)
class GenesisValidator:
    account: Account
    stake: int  # wei, counted as consensus weight
    vrf_key: bytes  # Ed25519 public key, 32 bytes


@dataclass(frozen=True)
class Genesis:
    network: str
    chain_id: int
    timestamp: int  # seconds
    parameters: Parameters
    accounts: tuple[tuple[Account, int], ...]  # balances in wei, sorted by account; validators' stake is on top
    validators: tuple[GenesisValidator, ...]  # sorted by account
    contracts: tuple[tuple[str, Digest], ...]  # keccak of each contract's runtime bytecode, sorted by name

    def encode(self) -> bytes:
        document = {
            "format": _FORMAT,
            "network": self.network,
            "chain_id": self.chain_id,
            "timestamp": self.timestamp,
            "parameters": self.parameters.to_dict(),
            "accounts": [[account.hex(), str(balance)] for account, balance in self.accounts],
            "validators": [[row.account.hex(), str(row.stake), row.vrf_key.hex()] for row in self.validators],
            "contracts": {name: digest.hex() for name, digest in self.contracts},
        }
        return canonical_json.encode(document)

    @property
    def hash(self) -> Digest:
        return keccak256(self.encode())


def _wei(text: object, what: str) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 39:
        raise InvalidEncoding(f"genesis: {what} is no amount in wei")
    if int(text) >= MAX_WEI:
        raise InvalidEncoding(f"genesis: {what} is above 2^128 wei")
    return int(text)


def _rows(document: Mapping[str, Any], key: str, width: int) -> list[list[Any]]:
    rows = document[key]
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == width for row in rows):
        raise InvalidEncoding(f"genesis: {key} must be rows of {width}")
    return rows


def decode_genesis(data: bytes) -> Genesis:
    """Parse the canonical form; raises InvalidEncoding for anything else."""
    document = canonical_json.decode(data, "genesis", max_bytes=MAX_GENESIS_BYTES, depth=MAX_DEPTH)
    number = document.get("format") if isinstance(document, dict) else None
    if isinstance(number, int) and not isinstance(number, bool) and number != _FORMAT:
        raise InvalidEncoding(f"genesis: a document of format {number}, this release reads format {_FORMAT}")
    if not isinstance(document, dict) or set(document) != _KEYS or number != _FORMAT:
        raise InvalidEncoding(f"genesis: not a genesis document of format {_FORMAT}")
    genesis = _parse(document)
    canonical_json.check_form(data, genesis.encode(), "genesis")
    return genesis


def _parse(document: dict[str, Any]) -> Genesis:
    network, chain_id, timestamp = document["network"], document["chain_id"], document["timestamp"]
    if not isinstance(network, str) or not 0 < len(network) <= 64 or not network.isprintable():
        raise InvalidEncoding("genesis: a network name has 1 to 64 printable characters")
    for name, value in (("chain_id", chain_id), ("timestamp", timestamp)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 53:
            raise InvalidEncoding(f"genesis: {name} is no positive integer below 2^53")
    contracts = document["contracts"]
    if not isinstance(document["parameters"], dict) or not isinstance(contracts, dict):
        raise InvalidEncoding("genesis: parameters and contracts must be objects")
    accounts = [
        (Account(parse_hex(a, 20, "genesis: account")), _wei(b, "balance")) for a, b in _rows(document, "accounts", 2)
    ]
    validators = [
        GenesisValidator(
            Account(parse_hex(a, 20, "genesis: validator")), _wei(s, "stake"), parse_hex(k, 32, "genesis: vrf key")
        )
        for a, s, k in _rows(document, "validators", 3)
    ]
    _check_sorted([account for account, _ in accounts], "accounts")
    _check_sorted([row.account for row in validators], "validators")
    if sum(balance for _, balance in accounts) + sum(row.stake for row in validators) >= MAX_WEI:
        raise InvalidEncoding("genesis: all coins together are above 2^128 wei, more than the contracts can count")
    if not validators:
        raise InvalidEncoding("genesis: without a validator no block can be made")
    return Genesis(
        network=network,
        chain_id=chain_id,
        timestamp=timestamp,
        parameters=parse_parameters(document["parameters"]),
        accounts=tuple(accounts),
        validators=tuple(validators),
        contracts=tuple(
            (name, Digest(parse_hex(digest, 32, f"genesis: contract {name!r:.40}")))
            for name, digest in sorted(contracts.items())
        ),
    )


def _check_sorted(accounts: list[Account], what: str) -> None:
    if any(a >= b for a, b in pairwise(accounts)):
        raise InvalidEncoding(f"genesis: {what} must be sorted and unique")
