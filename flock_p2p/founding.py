"""A new network's genesis document, from its first validators and the coins that there are. Writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from flock_chain import ecvrf
from flock_chain.canonical_json import parse_hex
from flock_chain.crypto import Account, Key
from flock_chain.errors import InvalidEncoding, Misuse
from flock_chain.execution.genesis_state import build_genesis, compute_contract_hashes
from flock_chain.genesis import Genesis, GenesisValidator, decode_genesis
from flock_chain.parameters import Parameters
from flock_contracts.addresses import FAUCET
from flock_peers.tasks import COIN

BALANCE = 1_000 * COIN  # of each first validator, beside its stake
FAUCET_FUNDS = 10_000 * COIN


@dataclass(frozen=True)
class Founder:
    """What a first validator publishes of its key."""

    account: Account
    vrf_key: bytes

    def __str__(self) -> str:
        return f"0x{self.account.hex()}:{self.vrf_key.hex()}"


def make_founder(key: Key) -> Founder:
    return Founder(key.account, ecvrf.public_key(ecvrf.derive_seed(key)))


def parse_founder(text: str) -> Founder:
    """As one is written. Raises Misuse."""
    account, _, vrf_key = text.removeprefix("0x").partition(":")
    try:
        founder = Founder(Account(parse_hex(account, 20, "account")), parse_hex(vrf_key, 32, "VRF key"))
    except InvalidEncoding as error:
        raise Misuse(f"{text!r:.200} is no validator: ACCOUNT:VRFKEY, as its `keys` prints it ({error})") from error
    if not ecvrf.is_public_key(founder.vrf_key):
        raise Misuse(f"{text!r:.200} is no validator: nobody can have this VRF key; copy it from its `keys` once more")
    return founder


def make_genesis(
    network: str, founders: Sequence[Founder], parameters: Parameters, *, chain_id: int, timestamp: int,
    faucet_funds: int = FAUCET_FUNDS,
) -> Genesis:  # fmt: skip
    """Every founder with the stake of a seat, and coins beside it. Amounts are in wei, `timestamp` in seconds."""
    accounts = [(founder.account, BALANCE) for founder in founders]
    if faucet_funds:
        accounts.append((Account(FAUCET), faucet_funds))
    stake = parameters.min_validator_stake
    return Genesis(
        network=network,
        chain_id=chain_id,
        timestamp=timestamp,
        parameters=parameters,
        accounts=tuple(sorted(accounts)),
        validators=tuple(
            sorted((GenesisValidator(row.account, stake, row.vrf_key) for row in founders), key=lambda row: row.account)
        ),
        contracts=compute_contract_hashes(),
    )


def check_genesis(genesis: Genesis) -> None:
    """As whoever joins will: the document, and what the contracts say of it. Raises Misuse, for it is our own."""
    try:
        build_genesis(decode_genesis(genesis.encode()))
    except InvalidEncoding as error:
        raise Misuse(str(error)) from error


def count_quorum(validators: int) -> int:
    """How many validators of one weight are more than two thirds of them."""
    return validators * 2 // 3 + 1
