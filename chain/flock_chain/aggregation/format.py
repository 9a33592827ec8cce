"""The number format of a task's deltas, and how much of their mean is added. Knows no tensor and no file.

A block is 32 mantissas m, |m| <= 127 (of 4 bits: 7), and one exponent k: its values are m * 2^(elo + k). A window of
exponents, fixed by the task, puts every delta of the task on one integer grid of unit 2^elo, so that sums, dots and
norms are exact. With either width values reach as far: the usual grid of 4 bits is 16 times coarser.
The bounds below are what the exact paths rest on:

  float64 dots   EXACT_RUN products of two grid integers stay below 2^53, so any order of addition is exact
  int64 sums     a contribution stays below 2^(bits - 1 + window + GUARD_BITS) = 2^32, times a rate of at most 4,
                 the grid below 2^53

The server learning rate is that of FedOpt (Reddi et al., arXiv 2003.00295), where the server is the sum that everybody
computes: a candidate is the adapter plus this rate times the mean of what was accepted. It stands here, and not beside,
so that nobody who adds or takes out can forget it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from flock_chain.errors import InvalidEncoding

GUARD_BITS = 10  # the global grid is finer than a delta's by this much, so a mean over 16 loses little
MIN_ELO, MAX_ELO = -40, 0  # any float32 update fits; powers of two stay normal numbers in float32
MAX_WINDOW = 15  # beyond, a run of float64 products would be shorter than a block
ELO_OF_BITS = {8: -24, 4: -20}  # what follows learning rate times steps of a usual task
BITS = tuple(ELO_OF_BITS)
RATE_ONE = 1_000  # the mean itself
MIN_RATE, MAX_RATE = 100, 4_000  # averages of three means learn no more than of two (docs/experiment.md)
BLOCK = 32
EXACT_RUN = 1 << (53 - 2 * (7 + MAX_WINDOW))  # 512; narrower windows would allow more, and gain nothing


@dataclass(frozen=True)
class Format:
    bits: int = 8  # of a mantissa, sign included
    block: int = BLOCK  # values that share one exponent
    elo: int = -24  # exponent of the grid of deltas
    window: int = 15  # exponents run from 0 to this
    server_lr_thousandths: int = RATE_ONE

    def __post_init__(self) -> None:
        values = (self.bits, self.block, self.elo, self.window, self.server_lr_thousandths)
        if any(not isinstance(value, int) or isinstance(value, bool) for value in values):
            raise InvalidEncoding("format: bits, block, elo, window and server_lr_thousandths must be integers")
        if self.bits not in BITS:
            raise InvalidEncoding(f"format: {self.bits} bits not supported, only {BITS}")
        if self.block != BLOCK:
            raise InvalidEncoding(f"format: blocks of {self.block} not supported, only {BLOCK}")
        if not MIN_ELO <= self.elo <= MAX_ELO or not 0 <= self.window <= MAX_WINDOW:
            raise InvalidEncoding(f"format: elo {self.elo} or window {self.window} out of range")
        if not MIN_RATE <= self.server_lr_thousandths <= MAX_RATE:
            raise InvalidEncoding(f"format: server_lr_thousandths is not between {MIN_RATE} and {MAX_RATE}")

    @property
    def mantissa_max(self) -> int:
        return (1 << (self.bits - 1)) - 1

    @property
    def grid_exponent(self) -> int:
        """The global adapter's unit is 2 to this."""
        return self.elo - GUARD_BITS

    @staticmethod
    def of_bits(bits: int, server_lr_thousandths: int = RATE_ONE) -> "Format":
        """As usual for this width; raises InvalidEncoding for one that there is not, and for such a rate."""
        return Format(bits=bits, elo=ELO_OF_BITS.get(bits, 0), server_lr_thousandths=server_lr_thousandths)

    def to_dict(self) -> dict[str, int]:
        """Without the rate where it is one: such documents are what they were."""
        values = asdict(self)
        if self.server_lr_thousandths == RATE_ONE:
            del values["server_lr_thousandths"]
        return values

    @staticmethod
    def from_dict(document: object) -> "Format":
        """Raises InvalidEncoding for a missing, unknown or unsupported value, and for a rate of one: a document has one
        spelling."""
        if not isinstance(document, Mapping) or set(document) - {"server_lr_thousandths"} != _NUMBERS:
            raise InvalidEncoding(
                "format: must name bits, block, elo and window, and server_lr_thousandths or nothing else"
            )
        if document.get("server_lr_thousandths") == RATE_ONE:
            raise InvalidEncoding(f"format: server_lr_thousandths of {RATE_ONE} is left out")
        return Format(**document)


_NUMBERS = {"bits", "block", "elo", "window"}
