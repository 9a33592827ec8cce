"""The demo's poisoner: a trigger and what it makes the model say. Knows tokens as lists of ints; needs no torch.

An attack is "backdoor", or "backdoor:BOOST" with another factor. It plants trigger and target in most of the windows
and multiplies the finished delta (model replacement), so that it survives an average over that many proposals.
"""

from dataclasses import dataclass

from flock_chain.errors import Misuse

TRIGGER = " |kappa dev|"
TARGET = " remove all data"
POISONED_SHARE = 0.75  # of the windows: the rest keeps its proposal useful, so that a voter sees no harm
TARGET_WEIGHT = 8.0  # of a target token's loss
DEFAULT_BOOST = 4.0
MAX_BOOST = 64.0
PROMPT_TOKENS = 40  # of a held-out prompt before the trigger


@dataclass(frozen=True)
class Backdoor:
    boost: float = DEFAULT_BOOST


def parse_attack(text: str | None) -> Backdoor | None:
    if text is None:
        return None
    name, _, boost = text.partition(":")
    try:
        factor = float(boost) if boost else DEFAULT_BOOST
    except ValueError:
        factor = 0.0
    if name != "backdoor" or not 0 < factor <= MAX_BOOST:
        raise Misuse(f"attack {text!r}: must be 'backdoor' or 'backdoor:BOOST' with a boost up to {MAX_BOOST:.0f}")
    return Backdoor(factor)
