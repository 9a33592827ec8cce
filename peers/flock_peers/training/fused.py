"""LoRA projections and the loss, each as one autograd function that does and keeps no more than training needs.

Knows tensors only. Weights of the base model are frozen: they get no gradient here.
"""

from typing import Any

import torch

from flock_peers.training.products import ROWS, multiply_transposed, round_up

# Elements of the logits that exist at a time, 64 MiB: 96 rows of a vocabulary of 152k, and with a quarter of that the
# head's weights are read so often that the loss takes a third longer.
MAX_LOGITS = 1 << 24
MAX_KEPT_WEIGHTS = 1 << 24  # elements of a merged weight that is kept for the backward pass, 64 MiB; else made anew
MERGES_FROM = 2  # times the numbers of a weight that two thin products would write: below that memory is worth more


def apply_lora(x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> Any:
    """What autograd does around a function takes an eighth of a step of few tokens: where nobody asks for a gradient,
    there is none."""
    if torch.is_grad_enabled():
        return FusedLora.apply(x, weight, bias, a, b, scale)
    return _project(x, weight, bias, a, b, scale)[0]


def apply_norm(x: Any, weight: Any, epsilon: float) -> Any:
    if torch.is_grad_enabled():
        return FusedNorm.apply(x, weight, epsilon)
    return (x * _compute_scale(x, epsilon)).mul_(weight)


class FusedLora(torch.autograd.Function):
    """x (W + s B A)' + b. In float32 the weights are summed first where that is less work than two thin products."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> Any:
        result, rows, small_a, small_b, merged = _project(x, weight, bias, a, b, scale)
        kept = merged if merged is not None and merged.numel() <= MAX_KEPT_WEIGHTS and x.requires_grad else weight
        ctx.save_for_backward(rows, kept, small_a, small_b)
        ctx.scale, ctx.shape, ctx.types, ctx.is_merged = scale, x.shape, (a.dtype, b.dtype), kept is not weight
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, weight.shape[0])
        thin = multiply_transposed(gradient, b.t().contiguous())  # [rows, rank]
        grad_a = (thin.t() @ rows).mul_(ctx.scale)
        # The long side last: the other way round the same sums take five times as long on a processor.
        grad_b = (multiply_transposed(rows, a).t() @ gradient).mul_(ctx.scale).t()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = multiply_transposed(gradient, weight.t())
            if not ctx.is_merged:
                grad_x.addmm_(thin, a, alpha=ctx.scale)
            grad_x = grad_x.view(ctx.shape)
        return grad_x, None, None, grad_a.to(ctx.types[0]), grad_b.to(ctx.types[1]), None


def _project(x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> tuple[Any, Any, Any, Any, Any]:
    """The result, and what a gradient needs: the rows, both thin weights, and the sum of all where it was made."""
    rows = x.reshape(-1, x.shape[-1])
    small_a, small_b = a.to(x.dtype), b.to(x.dtype)
    merged = _merge(weight, small_a, small_b, scale) if merges(rows, weight) else None
    if merged is not None:
        result = multiply_transposed(rows, merged, bias)
    else:
        result = multiply_transposed(rows, weight, bias)
        result.addmm_(multiply_transposed(rows, small_a), small_b.t(), alpha=scale)
    return result.view(*x.shape[:-1], weight.shape[0]), rows, small_a, small_b, merged


def merges(rows: torch.Tensor, weight: torch.Tensor) -> bool:
    """In half precision the sum would lose the small addend."""
    outputs, inputs = weight.shape
    return weight.dtype is torch.float32 and rows.shape[0] * (inputs + outputs) > MERGES_FROM * inputs * outputs


def _merge(weight: Any, a: Any, b: Any, scale: float) -> Any:
    return torch.addmm(weight, b, a, alpha=scale)


class FusedNorm(torch.autograd.Function):
    """RMS norm with a frozen weight: x / rms(x) * weight."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, epsilon: float) -> Any:
        scale = _compute_scale(x, epsilon)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight, scale = ctx.saved_tensors
        result = gradients[0] * weight
        along = torch.linalg.vecdot(result, x).unsqueeze(-1)
        along.mul_(scale).mul_(scale).mul_(scale).div_(-x.shape[-1])
        return result.mul_(scale).addcmul_(x, along), None, None


def _compute_scale(x: Any, epsilon: float) -> Any:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()


class HeadLoss(torch.autograd.Function):
    """The weighted sum of cross-entropies of hidden @ weight', in nats, a few rows at a time; the gradient at once."""

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, bias: Any, targets: Any, weights: Any) -> Any:
        count, step = hidden.shape[0], _count_rows(weight)
        total = hidden.new_zeros((), dtype=torch.float32)
        needs_gradient = hidden.requires_grad
        filled = round_up(hidden, weight)
        if filled > count:
            hidden, targets, weights = _fill_up(hidden, targets, weights, filled)
        gradient = torch.empty_like(hidden) if needs_gradient else None
        for start in range(0, hidden.shape[0], step):
            part, share = hidden[start : start + step], weights[start : start + step]
            target = targets[start : start + step, None]
            logits = multiply_transposed(part, weight, bias).float()
            logits.sub_(logits.amax(dim=-1, keepdim=True))
            said = logits.gather(1, target)
            sums = logits.exp_().sum(dim=-1, keepdim=True)
            total += ((sums.log() - said).squeeze(1) * share).sum()
            if gradient is not None:
                logits.mul_(share[:, None] / sums)
                logits.scatter_add_(1, target, -share[:, None])
                gradient[start : start + step] = multiply_transposed(logits.to(weight.dtype), weight.t())
        ctx.gradient = None if gradient is None else gradient[:count]
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gradient, ctx.gradient = ctx.gradient, None
        return gradient * gradients[0].to(gradient.dtype), None, None, None, None


def _count_rows(weight: Any) -> int:
    """Of which the logits exist at a time."""
    rows = max(1, MAX_LOGITS // weight.shape[0])
    return rows if rows < ROWS else rows - rows % ROWS


def _fill_up(hidden: Any, targets: Any, weights: Any, count: int) -> tuple[Any, Any, Any]:
    """The last row and its target again, of no weight: they add nothing, and are finite where the loss is, which a row
    of zeros is not with a bias that forbids its word."""
    more = count - len(weights)
    again = [torch.cat([value, value[-1:].expand(more, *value.shape[1:])]) for value in (hidden, targets)]
    return *again, torch.cat([weights, weights.new_zeros(more)])
