"""What a running peer answers where it says no, as an error of whoever asked it. Imports nothing but errors."""

from collections.abc import Mapping

from flock_chain.errors import FlockError, InvalidRemote, Misuse, Refused, Unavailable

_KINDS: Mapping[str, type[FlockError]] = {kind.__name__: kind for kind in (InvalidRemote, Misuse, Refused, Unavailable)}


class Declined(Unavailable):
    """`kind`: whose fault it was, as the peer said."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = _KINDS.get(kind, Unavailable)


def name_kind(error: FlockError) -> str:
    """What a contract refuses is for its caller to mend, as a misuse is."""
    return next((name for name, kind in _KINDS.items() if isinstance(error, kind)), Misuse.__name__)


def add_clause(error: FlockError, clause: str) -> FlockError:
    """The same refusal, of the same kind, with one more clause."""
    return _KINDS[name_kind(error)](f"{error}; {clause}")
