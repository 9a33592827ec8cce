"""The embedded EVM: transactions, blocks, state, views. The only package that imports eth, rlp or trie.

Knows nothing of consensus, network, disk or clock: who calls says when it is, what to execute, and stores the result.
"""

import os

os.environ["ETH_HASH_BACKEND"] = "pysha3"  # before the first import of eth: six times faster than the default

from flock_chain.execution.backends import check_backends

check_backends()
