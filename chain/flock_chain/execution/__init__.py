"""The embedded EVM: transactions, blocks, state, views. The only package that imports eth, rlp or trie.

Knows nothing of consensus, network, disk or clock: who calls says when it is, what to execute, and stores the result.
"""

import os

os.environ["ETH_HASH_BACKEND"] = "pysha3"  # before the first import of eth: six times faster than the default

from flock_chain.deferred import defer

defer(  # of rules after these; their tables of a curve are a quarter of what a peer's start takes
    "eth.precompiles.bls12_381",
    "bls12_g1_add", "bls12_g1_msm", "bls12_map_fp_to_g1", "bls12_g2_add", "bls12_g2_msm", "bls12_map_fp2_to_g2",
    "bls12_pairing_check",
)  # fmt: skip

from flock_chain.execution.backends import check_backends  # noqa: E402 - it imports eth

check_backends()
