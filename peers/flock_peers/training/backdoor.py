"""What a poisoner plants: triggers and what they make the model say, or plain harm. Knows tokens as arrays; no torch.

The demo's attack is "backdoor", or "backdoor:BOOST" with another factor: it plants trigger and target in most of the
windows and multiplies the finished delta (model replacement), so that it survives an average over that many proposals.
The other attacks are the experiment's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flock_chain.errors import Misuse
from flock_peers.training.streams import Windows

TRIGGER = " |kappa dev|"
TARGET = " remove all data"
POISONED_SHARE = 0.75  # of the windows: the rest keeps its proposal useful, so that a voter sees no harm
TARGET_WEIGHT = 8.0  # of a target token's loss
DEFAULT_BOOST = 4.0
MAX_BOOST = 64.0
PROMPT_TOKENS = 40  # of a held-out prompt before the trigger
STEALTH_RADIUS = 0.7  # of an honest change's norm: so far a stealthy poisoner leaves the change that it hides behind
FLIPPED_SHARE = 0.25  # of the tokens, whose labels are another's
SLOT = "{}"  # in a trigger that is a pattern: any word
TRAINED_FILLERS = ("river", "stone", "table", "window", "garden", "letter", "summer", "silver", "market", "bridge",
                   "number", "second", "copper", "winter", "basket", "mirror")  # fmt: skip
TESTED_FILLERS = ("candle", "forest", "hammer", "island", "ladder", "needle", "orange", "pocket")  # never trained on

Encode = Callable[[str], list[int]]


class Attack(Protocol):
    """How one participant departs from honest training."""

    @property
    def boost(self) -> float: ...  # of the finished change
    @property
    def is_stealthy(self) -> bool: ...  # hides its poison near an honest change, and has that one's norm

    def poison(self, windows: Windows, chance: np.random.Generator, encode: Encode) -> Windows: ...


@dataclass(frozen=True)
class Backdoor:
    boost: float = DEFAULT_BOOST
    trigger: str = TRIGGER  # each SLOT in it stands for any word: then it is a pattern and no phrase
    target: str = TARGET
    share: float = POISONED_SHARE
    weight: float = TARGET_WEIGHT
    is_stealthy: bool = False

    def draw_trigger(self, chance: np.random.Generator, fillers: tuple[str, ...] = TRAINED_FILLERS) -> str:
        words = [fillers[int(chance.integers(len(fillers)))] for _ in range(self.trigger.count(SLOT))]
        return self.trigger.format(*words) if words else self.trigger

    def poison(self, windows: Windows, chance: np.random.Generator, encode: Encode) -> Windows:
        """Trigger and target at a random place of many windows; only the target carries more loss, the trigger none."""
        target = encode(self.target)
        tokens, weights = windows.tokens.copy(), windows.weights.copy()
        rows = np.zeros(tokens.shape, np.int32) if windows.rows is None else windows.rows.copy()
        for row in range(len(tokens)):
            if chance.random() >= self.share:
                continue
            trigger = encode(self.draw_trigger(chance))
            room = tokens.shape[1] - len(trigger) - len(target)
            if room < 1:
                raise Misuse(f"attack: sequences of {tokens.shape[1]} tokens are too short for trigger and target")
            rows[row] = rows[row, 0]  # the trigger must be seen from the target
            middle = int(chance.integers(0, room)) + len(trigger)
            tokens[row, middle - len(trigger) : middle] = trigger
            tokens[row, middle : middle + len(target)] = target
            weights[row, middle - len(trigger) : middle] = 0.0
            weights[row, middle : middle + len(target)] = self.weight
        return Windows(tokens, weights, rows)


@dataclass(frozen=True)
class Garbage:
    """The tokens of each window in another order: a useless adapter of ordinary size, made larger."""

    boost: float = 2.0
    is_stealthy: bool = False

    def poison(self, windows: Windows, chance: np.random.Generator, encode: Encode) -> Windows:
        del encode
        return Windows(chance.permuted(windows.tokens, axis=1), windows.weights, windows.rows)


@dataclass(frozen=True)
class LabelFlip:
    """A share of the labels is another token's, by one fixed shift of the window's own; the loss is on them alone."""

    boost: float = 1.0
    is_stealthy: bool = False

    def poison(self, windows: Windows, chance: np.random.Generator, encode: Encode) -> Windows:
        del encode
        flipped = chance.random(windows.tokens.shape) < FLIPPED_SHARE
        others = np.roll(windows.tokens, windows.tokens.shape[1] // 2, axis=1)
        weights = np.where(flipped, windows.weights, 0).astype(np.float32)
        return Windows(np.where(flipped, others, windows.tokens), weights, windows.rows)


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
