"""What stands in place of a model's own forwards where it says the same, and says it sooner. Knows no data.

Another model's projections and norms may do more than these: that is tried where these are put
(flock_peers.training.model).
"""

from typing import Any

import torch

from flock_peers.training.fused import apply_lora, apply_norm
from flock_peers.training.products import multiply_transposed, round_up


class Fused:
    """In place of a LoRA layer's own forward."""

    def __init__(self, layer: Any) -> None:
        self.base, self.a, self.b = layer.base_layer, layer.lora_A["default"], layer.lora_B["default"]
        self.scale = float(layer.scaling["default"])

    def __call__(self, x: torch.Tensor) -> Any:
        return apply_lora(x, self.base.weight, self.base.bias, self.a.weight, self.b.weight, self.scale)


class Norm:
    """In place of an RMS norm's own forward."""

    def __init__(self, norm: Any) -> None:
        self.norm, self.epsilon = norm, float(norm.variance_epsilon)

    def __call__(self, x: torch.Tensor) -> Any:
        return apply_norm(x, self.norm.weight, self.epsilon)


class Head:
    """In place of the last layer's own forward."""

    def __init__(self, head: torch.nn.Linear) -> None:
        self.head = head

    def __call__(self, x: torch.Tensor) -> Any:
        if torch.is_grad_enabled():
            return torch.nn.functional.linear(x, self.head.weight, self.head.bias)
        rows = x.reshape(-1, x.shape[-1])
        filled = round_up(rows, self.head.weight)
        if filled > len(rows):
            rows = torch.cat([rows, rows[-1:].expand(filled - len(rows), -1)])
        result = multiply_transposed(rows, self.head.weight, self.head.bias)
        return result[: x[..., 0].numel()].view(*x.shape[:-1], -1)


def is_norm(module: Any) -> bool:
    """Of float32, and written as Llama's is; what another one does differently is found by trying it."""
    return type(module).__name__.endswith("RMSNorm") and (
        hasattr(module, "variance_epsilon") and module.weight is not None and module.weight.dtype is torch.float32
    )


def can_fuse(layer: Any) -> bool:
    return hasattr(layer, "lora_A") and type(layer.base_layer) is torch.nn.Linear
