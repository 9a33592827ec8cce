"""The genesis document of a benchmark's network. Starts nothing."""

from collections.abc import Iterable, Sequence

from flock_chain import ecvrf
from flock_chain.crypto import Key
from flock_chain.execution.genesis_state import compute_contract_hashes
from flock_chain.genesis import Genesis, GenesisValidator
from flock_chain.parameters import DEMO, Parameters

COIN = 10**18
STAKE, BALANCE = 32 * COIN, 1_000 * COIN


def make_genesis(
    network: str,
    chain_id: int,
    validators: Sequence[Key],
    others: Iterable[Key],
    *,
    timestamp: int = 1_700_000_000,
    parameters: Parameters = DEMO,
) -> Genesis:
    """Validators of equal stake; everybody has the same balance."""
    rows = [GenesisValidator(key.account, STAKE, ecvrf.public_key(ecvrf.derive_seed(key))) for key in validators]
    return Genesis(
        network=network,
        chain_id=chain_id,
        timestamp=timestamp,
        parameters=parameters,
        accounts=tuple(sorted((key.account, BALANCE) for key in [*validators, *others])),
        validators=tuple(sorted(rows, key=lambda row: row.account)),
        contracts=compute_contract_hashes(),
    )
