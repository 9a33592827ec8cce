"""What py-evm picks up from the environment in silence, and which of it we insist on."""

from importlib.util import find_spec

from eth_hash.auto import keccak
from eth_hash.backends import pysha3
from eth_keys.backends import get_backend
from eth_keys.backends.coincurve import CoinCurveECCBackend

from flock_chain.errors import Misuse


def check_backends() -> None:
    """Raises Misuse where a library is installed, or missing, that would split the chain or stall this peer."""
    if find_spec("rusty_rlp") is not None:
        raise Misuse("execution: rusty_rlp is installed; it accepts malformed RLP that others refuse: uninstall it")
    if not isinstance(get_backend(), CoinCurveECCBackend):
        raise Misuse("execution: eth-keys does not use coincurve (signatures 100 times slower): install coincurve")
    # Where somebody hashed before this package was imported, another backend is already bound: bind ours.
    keccak.hasher = pysha3.backend.keccak256
    keccak.preimage = pysha3.backend.preimage
