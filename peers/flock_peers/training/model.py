"""A base model with LoRA weights that can be set and read as one vector of the task's layout. Knows no data."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flock_peers.training.opening import load_base, load_tokenizer, put_lora, reasons_of  # libraries stay offline

# isort: split
from flock_chain.errors import Misuse
from flock_peers.training.base_check import UnusableBase, check_context
from flock_peers.training.continuations import can_branch
from flock_peers.training.document import TaskDocument
from flock_peers.training.forwards import Fused, Head, Norm, can_fuse, is_norm
from flock_peers.training.fused import HeadLoss
from flock_peers.training.heard import Heard
from flock_peers.training.precision import Precision
from flock_peers.training.sharding import Group, sum_up, take_share
from flock_peers.training.streams import Windows, compute_positions

log = logging.getLogger(__name__)

PROBE_LENGTHS = (5, 9)  # tokens of the two rows on which attention and the fast path are tried
PROBE_TOLERANCE = 2e-3  # of losses, relative; sums are made in another order. Half precision: its own error on top
_GATES = {torch.bfloat16: 2e-2, torch.float16: 5e-3}


class AdaptedModel:
    """The base model, frozen, with the task's LoRA tensors beside its projections.

    The LoRA tensors are views of one vector, `flat`, and their gradients of another: what is done to all of them
    (Adam, clipping, projection, reading, setting) is one operation each.
    """

    is_fast = False  # fused projections, and a loss that makes no logits of what is no target
    group: Group | None = None  # of processes that hold the base together
    is_isolating = False  # rows of one window do not see each other
    is_branching = False  # strings that go on from one context are read as branches of one row

    def __init__(
        self, folder: Path, document: TaskDocument, *, precision: Precision | None = None, checkpoints: bool = False,
        group: Group | None = None,
    ) -> None:  # fmt: skip
        self.layout, self.group = document.layout, group
        self.tokenizer = load_tokenizer(folder)
        base = load_base(folder, precision, group)
        check_context(base.config.get_text_config(), document.budget.seq_len, len(self.tokenizer))
        self.peft, self.parameters = put_lora(folder, base, document.lora, document.layout)
        self.peft.eval()
        if checkpoints:
            _checkpoint_layers(self.peft)
        self.device = next(self.peft.parameters()).device if group is None else group.device
        self.flat, self.flat_gradient = _flatten(self.parameters)
        self.heard = Heard()
        with reasons_of(folder, "cannot be computed with"):
            self._check_numbers(folder)
            self._try_fast_paths()
        self.is_isolating = self._try_isolation()
        self.is_branching = self._try_branching()

    # The vector

    def set_vector(self, vector: NDArray[np.float32]) -> None:
        with torch.no_grad():
            self.flat.copy_(self.as_flat(vector))

    def as_flat(self, vector: NDArray[np.float32]) -> torch.Tensor:
        if vector.shape != (self.layout.parameters,):
            raise Misuse(f"adapter vector of shape {vector.shape}, the task's have {self.layout.parameters} numbers")
        return torch.from_numpy(np.array(vector, np.float32)).to(self.device)

    def get_vector(self) -> NDArray[np.float32]:
        return self.flat.detach().to("cpu", copy=True).numpy()

    def project(self, centre: torch.Tensor, radius: float) -> None:
        """Back onto the ball of this radius around the centre, where the weights have left it."""
        with torch.no_grad():
            change = self.flat - centre
            norm = torch.linalg.vector_norm(change)
            self.flat.copy_(torch.where(norm > radius, centre + change * (radius / norm), self.flat))

    def count_base_bytes(self) -> int:
        """Of the frozen weights that this process holds itself: of a shared layer, its part."""
        frozen = [value for value in self.peft.parameters() if not value.requires_grad]
        local = [value.to_local() if hasattr(value, "to_local") else value for value in frozen]
        return sum(value.numel() * value.element_size() for value in local)

    # The loss

    def logits(self, tokens: NDArray[np.int64], rows: NDArray[np.int32] | None = None) -> torch.Tensor:
        output: torch.Tensor = self.peft(**self._inputs(tokens, rows)).logits
        return output.reshape(*tokens.shape, -1).float()

    def loss(self, windows: Windows, *, total_weight: float | None = None) -> torch.Tensor:
        """Weighted mean in nats per target token; `total_weight` where these windows are a part of a batch.

        In a group it is this process' share of the mean: `value` says the whole.
        """
        weight = max(1.0, float(windows.weights[:, 1:].sum()) if total_weight is None else total_weight)
        windows = windows if self.group is None else take_share(windows, self.group)
        tokens, weights = windows.tokens, windows.weights[:, 1:]
        targets = torch.from_numpy(np.ascontiguousarray(tokens[:, 1:])).to(self.device)
        shares = torch.from_numpy(np.ascontiguousarray(weights)).to(self.device)
        rows = windows.rows if self.is_isolating else None
        if self.is_fast:
            return self._fast_sum(tokens, rows, targets, shares) / weight
        logits = self.logits(tokens, rows)[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        return (losses * shares).sum() / weight

    def value(self, loss: torch.Tensor) -> float:
        """Waits for it, and for the other processes."""
        return (loss if self.group is None else sum_up(loss.detach().clone())).item()

    def gather_gradient(self) -> None:
        """The gradient of the whole batch, in every process."""
        if self.group is not None:
            sum_up(self.flat_gradient)

    def _fast_sum(self, tokens: Any, rows: Any, targets: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Without logits of what is no target."""
        inner = self.peft.base_model.model
        hidden = getattr(inner, inner.base_model_prefix)(**self._inputs(tokens, rows))[0]
        hidden = hidden.reshape(*tokens.shape, -1)[:, :-1].reshape(-1, hidden.shape[-1])
        shares, targets = shares.reshape(-1), targets.reshape(-1)
        wanted = shares.nonzero().squeeze(1)
        if len(wanted) < len(shares):
            hidden, shares, targets = hidden[wanted], shares[wanted], targets[wanted]
        head = inner.get_output_embeddings()
        total: torch.Tensor = HeadLoss.apply(hidden, head.weight, head.bias, targets, shares)
        return total

    def _inputs(self, tokens: NDArray[np.int64], rows: NDArray[np.int32] | None) -> dict[str, Any]:
        ids = torch.from_numpy(tokens).to(self.device)
        positions = None if rows is None else compute_positions(rows)
        if positions is None:
            return {"input_ids": ids, "use_cache": False}
        where = torch.from_numpy(positions).to(self.device)
        if self.peft.config._attn_implementation == "flash_attention_2":  # takes packed rows as one long sequence only
            ids, where = ids.reshape(1, -1), where.reshape(1, -1)
        return {"input_ids": ids, "position_ids": where, "use_cache": False}

    @contextmanager
    def frozen(self) -> Iterator[None]:
        with torch.no_grad():
            yield

    # What is tried before it is relied on

    def _check_numbers(self, folder: Path) -> None:
        """Of a model that says no number every training is refused, and every seat for it missed."""
        with self.frozen():
            self.flat.zero_()
            loss = self.value(self.loss(self._probe_windows()))
        if not math.isfinite(loss):
            raise UnusableBase(f"base model {folder}: its loss is no number; weights of it are none, or too large")

    def _try_fast_paths(self) -> None:
        """The fused projections and the loss without logits, each where it says what the model itself says."""
        windows = self._probe_windows()
        layers = [layer for layer in self.peft.modules() if can_fuse(layer)]
        with torch.no_grad():
            self.flat.copy_(torch.sin(torch.arange(len(self.flat), device=self.device, dtype=torch.float32)) * 0.05)
        plain = self._probe_gradient(windows)
        for layer in layers:
            layer.forward = Fused(layer)
        if not self._is_same(plain, windows, "projections"):
            for layer in layers:
                del layer.forward
        self._try_norms(plain, windows)
        self._speed_up_head()
        self.is_fast = self._ends_with_its_head(windows)
        self.is_fast = self.is_fast and self._is_same(plain, windows, "loss")

    def _try_norms(self, plain: tuple[float, torch.Tensor], windows: Windows) -> None:
        norms = [module for module in self.peft.modules() if is_norm(module)]
        for norm in norms:
            norm.forward = Norm(norm)
        if norms and not self._is_same(plain, windows, "norms"):
            for norm in norms:
                del norm.forward

    def _speed_up_head(self) -> None:
        """Of what is read without a gradient the head is the largest product."""
        head = self.peft.base_model.model.get_output_embeddings()
        if type(head) is torch.nn.Linear:
            head.forward = Head(head)

    def _is_same(self, plain: tuple[float, torch.Tensor], windows: Windows, what: str) -> bool:
        allowed = PROBE_TOLERANCE + _GATES.get(self.peft.dtype, 0.0)
        try:
            loss, gradient = self._probe_gradient(windows)
        except Exception as error:  # noqa: BLE001 - whatever a model's own code raises when it is called otherwise
            log.info("this model keeps its own %s: %r", what, error)
            return False
        difference = torch.linalg.vector_norm(plain[1] - gradient)
        is_close = bool(difference <= 10 * allowed * torch.linalg.vector_norm(plain[1]))
        return is_close and abs(plain[0] - loss) <= allowed * abs(plain[0])

    def _ends_with_its_head(self, windows: Windows) -> bool:
        """Caps and scales are told from the logits of a head that speaks far louder than it does."""
        head = self.peft.base_model.model.get_output_embeddings()
        if type(head) is not torch.nn.Linear:
            return False
        said: list[torch.Tensor] = []

        def shout(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            said.append(output * 1_000)
            return said[-1]

        hook = head.register_forward_hook(shout)
        try:
            with self.frozen():
                heard = self.logits(windows.tokens)
        finally:
            hook.remove()
        return len(said) == 1 and torch.equal(heard.reshape(-1), said[0].float().reshape(-1))

    def _probe_windows(self) -> Windows:
        length = sum(PROBE_LENGTHS)
        tokens = (np.arange(length) * 37 % min(len(self.tokenizer), 251)).astype(np.int64)[None]
        rows = np.repeat(np.arange(2, dtype=np.int32), PROBE_LENGTHS)[None]
        return Windows(tokens, np.ones((1, length), np.float32), rows)

    def _probe_gradient(self, windows: Windows) -> tuple[float, torch.Tensor]:
        self.flat_gradient.zero_()
        loss = self.loss(windows)
        loss.backward()
        self.gather_gradient()
        found = self.flat_gradient.clone()
        self.flat_gradient.zero_()
        return self.value(loss), found

    def _try_isolation(self) -> bool:
        """Whether rows of one window do not see each other: the second must be what it is alone."""
        windows = self._probe_windows()
        cut = PROBE_LENGTHS[0]
        try:
            with self.frozen():
                together = self.logits(windows.tokens, windows.rows)[:, cut:]
                alone = self.logits(windows.tokens[:, cut:])
        except Exception as error:  # noqa: BLE001 - a model that takes no positions says so in its own way
            log.info("rows of one window see each other in this model: %r", error)
            return False
        allowed = PROBE_TOLERANCE + _GATES.get(self.peft.dtype, 0.0)
        return bool((together - alone).abs().max() <= allowed * alone.abs().max().clamp_min(1.0))

    def _try_branching(self) -> bool:
        try:
            return can_branch(self, PROBE_TOLERANCE + _GATES.get(self.peft.dtype, 0.0))
        except Exception as error:  # noqa: BLE001 - a model that takes no mask says so in its own way
            log.info("strings are read in rows of their own in this model: %r", error)
            return False


def _checkpoint_layers(model: Any) -> None:
    """Layers are computed twice instead of kept. Only they are told that they train: dropout elsewhere stays off. And
    only where there is a gradient: a layer that trains leaves nothing of what it read, so that whoever goes on from a
    context would go on from none."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    def tell(layer: Any, _inputs: Any) -> None:
        layer.training = torch.is_grad_enabled()

    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.register_forward_pre_hook(tell)


def _flatten(parameters: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """One vector of the values and one of the gradients, of which the parameters become views."""
    sizes = [parameter.numel() for parameter in parameters]
    flat = torch.empty(sum(sizes), dtype=torch.float32, device=parameters[0].device)
    gradient = torch.zeros_like(flat)
    for parameter, value, change in zip(parameters, flat.split(sizes), gradient.split(sizes), strict=True):
        value.copy_(parameter.data.reshape(-1))
        parameter.data = value.view(parameter.shape)
        parameter.grad = change.view(parameter.shape)
    return flat, gradient


def measure_loss(model: AdaptedModel, windows: Windows, batch: int) -> float:
    """Nats per target token over all windows, batch after batch in order: deterministic on one machine."""
    total, weight = 0.0, 0.0
    with model.frozen():
        for start in range(0, len(windows.tokens), batch):
            rows = None if windows.rows is None else windows.rows[start : start + batch]
            part = Windows(windows.tokens[start : start + batch], windows.weights[start : start + batch], rows)
            targets = float(part.weights[:, 1:].sum())
            total += model.value(model.loss(part)) * max(targets, 1.0)
            weight += targets
    return total / max(weight, 1.0)


def clip_scale(gradient: torch.Tensor, most: float) -> torch.Tensor:
    """What a gradient is multiplied with so that its norm is at most `most`; as torch's clip_grad_norm_."""
    return torch.clamp(most / (torch.linalg.vector_norm(gradient) + 1e-6), max=1.0)
