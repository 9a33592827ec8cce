"""The modules that a running peer is made of, imported at once. Knows nothing of what they do."""

import gc
from importlib import import_module

MODULES = (
    "flock_chain.execution.records",
    "flock_peers.network.genesis_fetch",
    "flock_peers.staging",
    "flock_peers.peer_opening",
    "flock_p2p.web.site",
)


def load_peer() -> None:
    """Two thousand modules of libraries, in a second or three. Looking through them for garbage all the while, of which
    there is none, took a tenth of that."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for name in MODULES:
            import_module(name)
    finally:
        if was_enabled:
            gc.enable()
