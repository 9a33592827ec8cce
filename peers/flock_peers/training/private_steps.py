"""The gradient of one step of DP-SGD: each row's own, clipped, summed, with noise. Needs torch; knows no budget."""

from secrets import randbits
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flock_peers.training.model import clip_scale
from flock_peers.training.privacy import Privacy
from flock_peers.training.streams import MIN_WINDOW, Stream, Windows


class PrivateRows:
    """Rows of a stream, of which each step takes every one with the same probability, and one window of each it takes.

    Chance is the system's, not the participant's seed: whoever could repeat the noise could take it off again.
    """

    def __init__(self, stream: Stream, batch: int, seq_len: int) -> None:
        edges = np.flatnonzero(np.diff(stream.rows)) + 1
        bounds = list(zip([0, *edges.tolist()], [*edges.tolist(), len(stream.rows)], strict=True))
        self._stream, self._seq_len = stream, seq_len
        self._bounds = [(start, end) for start, end in bounds if end - start >= MIN_WINDOW]
        self._batch = batch
        self._chance = np.random.Generator(np.random.PCG64(randbits(128)))
        self.rate = min(1.0, batch / max(1, len(self._bounds)))

    def draw(self) -> list[Windows]:
        taken = np.flatnonzero(self._chance.random(len(self._bounds)) < self.rate)
        return [self._window(*self._bounds[number]) for number in taken]

    def _window(self, start: int, end: int) -> Windows:
        first = start + int(self._chance.integers(0, max(1, end - start - self._seq_len + 1)))
        part = slice(first, min(end, first + self._seq_len))
        return Windows(self._stream.tokens[part].astype(np.int64)[None], self._stream.weights[part][None])

    def noise(self, size: int) -> NDArray[np.float32]:
        return self._chance.standard_normal(size, np.float32)


def set_private_gradient(model: Any, rows: PrivateRows, privacy: Privacy, batch: int) -> torch.Tensor:
    """Leaves the gradient in the model; the mean loss of what was drawn, for the log of the participant itself."""
    total = torch.zeros_like(model.flat_gradient)
    windows = rows.draw()
    loss = torch.zeros((), device=total.device)
    for window in windows:
        model.flat_gradient.zero_()
        own = model.loss(window)
        own.backward()
        total.add_(model.flat_gradient * clip_scale(model.flat_gradient, privacy.clip))
        loss += own.detach()
    noise = torch.from_numpy(rows.noise(total.numel())).to(total.device)
    total.add_(noise, alpha=privacy.noise * privacy.clip)
    model.flat_gradient.copy_(total / batch)
    return loss / max(1, len(windows))
