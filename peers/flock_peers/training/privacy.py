"""Differential privacy of what a participant gives away: its settings, and the budget that its rows have left, on disk.

DP-SGD (Abadi et al., arXiv:1607.00133) with a row as the unit: each step takes every row with the same probability,
clips each row's own gradient, and adds noise to the sum. Needs no torch.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from flock_chain.errors import Misuse, Refused
from flock_peers.home import write_private
from flock_peers.training.accountant import Entry, compute_epsilon

MAX_ENTRIES = 10_000  # trainings that one home may have accounted for: years of rounds


@dataclass(frozen=True)
class Privacy:
    noise: float  # standard deviation of the noise, in clips
    epsilon: float  # what may be spent at most, over all trainings of this home
    clip: float = 0.5  # norm of one row's gradient at most
    delta: float = 1e-5


def parse_privacy(text: str) -> Privacy:
    """ "NOISE:EPSILON"; raises Misuse."""
    noise, _, epsilon = text.partition(":")
    try:
        return Privacy(float(noise), float(epsilon))
    except ValueError as error:
        raise Misuse(f"--privacy {text}: NOISE:EPSILON is needed, such as 1.0:8") from error


def check_privacy(privacy: Privacy | None) -> None:
    """Raises Misuse for numbers that promise nothing."""
    if privacy is None:
        return
    values = (privacy.noise, privacy.epsilon, privacy.clip, privacy.delta)
    if not all(math.isfinite(value) and value > 0 for value in values) or privacy.delta >= 1 or privacy.noise < 0.3:
        raise Misuse("privacy: noise of 0.3 at least, and epsilon, clip and delta above 0 are needed")


def check_rows(privacy: Privacy, rows: int) -> None:
    """Raises Misuse where delta allows that a whole row is given away: it bounds the chance of that, for each row."""
    if privacy.delta * rows >= 1:
        raise Misuse(f"privacy: delta {privacy.delta:g} promises nothing for {rows} rows; give fewer than 1 / delta")


class PrivacyLedger:
    """What this home's rows have spent. Written before a training begins: a killed one has been paid for."""

    def __init__(self, path: Path, privacy: Privacy) -> None:
        self._path, self._privacy = path, privacy
        self._entries = _read(path)

    @property
    def epsilon(self) -> float:
        return compute_epsilon(self._entries, self._privacy.delta)

    def check_one(self, rate: float, steps: int) -> None:
        """Raises Misuse where a single training takes more than may ever be spent: none would be done, and every seat
        of a proposer missed."""
        epsilon = compute_epsilon([(self._privacy.noise, rate, steps)], self._privacy.delta)
        if epsilon > self._privacy.epsilon:
            raise Misuse(
                f"privacy: one training of this task takes epsilon {epsilon:.2f}, and {self._privacy.epsilon:.2f} may "
                "be spent in all: --privacy with more noise, or more epsilon"
            )

    def pay(self, rate: float, steps: int) -> float:
        """The epsilon spent after these steps. Raises Refused where the limit would be passed, and spends nothing."""
        entries = _add(self._entries, (self._privacy.noise, rate, steps))
        epsilon = compute_epsilon(entries, self._privacy.delta)
        if epsilon > self._privacy.epsilon or len(entries) > MAX_ENTRIES:
            raise Refused(
                f"privacy: this training would bring epsilon to {epsilon:.2f}, the limit is "
                f"{self._privacy.epsilon:.2f} ({self.epsilon:.2f} spent); it is not done"
            )
        write_private(self._path, json.dumps({"trainings": entries}).encode())
        self._entries = entries
        return epsilon


def _add(entries: list[Entry], new: Entry) -> list[Entry]:
    """Steps of one kind are one entry: the accountant's work does not grow with the rounds."""
    if entries and entries[-1][:2] == new[:2]:
        return [*entries[:-1], (new[0], new[1], entries[-1][2] + new[2])]
    return [*entries, new]


def _read(path: Path) -> list[Entry]:
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_bytes())["trainings"]
        return [(float(noise), float(rate), int(steps)) for noise, rate, steps in rows]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise Misuse(f"{path}: damaged; restore it, since what was spent cannot be counted again") from error
