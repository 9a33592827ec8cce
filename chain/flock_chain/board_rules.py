"""The document by which validators agree on other numbers of the task board: all of them, for one network. Pure.

Canonical JSON, whose keccak pins it. Which numbers are allowed is the board's to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flock_chain import canonical_json
from flock_chain.canonical_json import parse_hex
from flock_chain.crypto import Digest, keccak256
from flock_chain.errors import InvalidEncoding, Misuse

MAX_DOCUMENT_BYTES = 4 << 10  # eleven numbers take 500 bytes
MAX_NUMBER = (1 << 256) - 1
NAMES = (  # as the board's struct has them
    "seed_delay", "phase_min_blocks", "invalid_bytes_slash", "norm_slash", "missed_reveal_slash", "bond_unlock_rounds",
    "unbonding_delay", "seat_absence_slash", "seat_absence_limit", "task_fee", "rules_delay",
)  # fmt: skip
_FORMAT = 1
_KEYS = {"format", "genesis", "rules"}


@dataclass(frozen=True)
class BoardRules:
    genesis_hash: bytes
    numbers: Mapping[str, int]  # exactly NAMES

    def encode(self) -> bytes:
        rules = {name: str(self.numbers[name]) for name in NAMES}  # as text: a fee in wei is more than JSON's 2^53
        return canonical_json.encode({"format": _FORMAT, "genesis": self.genesis_hash.hex(), "rules": rules})

    @property
    def hash(self) -> Digest:
        return keccak256(self.encode())

    def change(self, changes: Mapping[str, int]) -> "BoardRules":
        """With some numbers replaced; raises Misuse for a name that there is not."""
        unknown = sorted(set(changes) - set(NAMES))
        if unknown:
            raise Misuse(f"rules: the board has no number {', '.join(unknown)}; it has {', '.join(NAMES)}")
        return BoardRules(self.genesis_hash, {**self.numbers, **changes})


def decode_board_rules(data: bytes) -> BoardRules:
    """Parse the canonical form; raises InvalidEncoding for anything else."""
    document = canonical_json.decode(data, "rules document", max_bytes=MAX_DOCUMENT_BYTES, depth=2)
    if not isinstance(document, dict) or set(document) != _KEYS or document["format"] != _FORMAT:
        raise InvalidEncoding(f"rules document: not of format {_FORMAT}")
    rows = document["rules"]
    if not isinstance(rows, dict) or set(rows) != set(NAMES):
        raise InvalidEncoding(f"rules document: it must name {', '.join(NAMES)}")
    rules = BoardRules(
        parse_hex(document["genesis"], 32, "rules document: genesis"),
        {name: _parse_number(rows[name], name) for name in NAMES},
    )
    canonical_json.check_form(data, rules.encode(), "rules document")
    return rules


def _parse_number(text: object, name: str) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 78:
        raise InvalidEncoding(f"rules document: {name} is no number in digits")
    if int(text) > MAX_NUMBER:
        raise InvalidEncoding(f"rules document: {name} is above 2^256")
    return int(text)
