"""Products with a transposed matrix, by the routine that is faster for their size. Knows tensors only.

On a processor, torch multiplies float32 matrices by MKL, which on processors that are not its maker's falls behind
oneDNN, the other library that torch carries: by a tenth to a quarter on projections, by half and more where few rows
meet a large vocabulary, and by two thirds where a matrix is as thin as a rank. Of small products oneDNN's own start
(a hundredth of a millisecond) takes it back. And of every new shape it makes machine code, a millisecond and megabytes:
of products whose rows are a different number each time a thousand kept six gigabytes.
"""

import os
from typing import Any

KEPT_SHAPES = 64  # whose code oneDNN keeps: a training has twenty and its hold-out as many
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_SHAPES))  # read at its first product

import torch  # noqa: E402 - after what it reads

MIN_PRODUCTS = 1 << 23  # multiplications from which oneDNN is asked: an eighth of a millisecond and more
ROWS = 32  # of which it is asked for whole numbers only, so that shapes come again


def multiply_transposed(rows: Any, weight: Any, bias: Any = None) -> Any:
    """rows @ weight' + bias: [rows, inputs], [outputs, inputs], [outputs] or None. Makes no gradient.

    Which routine it is depends on sizes and on the machine, on nothing that is measured: the same product is the same
    to the last bit every time.
    """
    if rows.shape[0] % ROWS == 0 and _asks_onednn(rows, weight):
        return _multiply_by_onednn(rows, weight, bias)
    return torch.nn.functional.linear(rows, weight, bias)


def round_up(rows: Any, weight: Any) -> int:
    """To how many rows they are filled up for it, by whoever can: else as many as there are."""
    count: int = rows.shape[0]
    return count + -count % ROWS if _asks_onednn(rows, weight) else count


def _asks_onednn(rows: Any, weight: Any) -> bool:
    is_large = rows.shape[0] * weight.numel() >= MIN_PRODUCTS
    return HAS_ONEDNN and is_large and _is_plain(rows) and _is_plain(weight)


def _is_plain(value: Any) -> bool:
    """Neither of another precision, nor on another device, nor a part of what several processes hold."""
    return type(value) in (torch.Tensor, torch.nn.Parameter) and value.dtype is torch.float32 and value.is_cpu


def _multiply_by_onednn(rows: Any, weight: Any, bias: Any) -> Any:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


def _try_onednn() -> bool:
    """The operation is torch's own, for its compiler: a release may take it away."""
    if not torch.backends.mkldnn.is_available():
        return False
    rows, weight = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
    try:
        found = _multiply_by_onednn(rows, weight, None)
    except Exception:  # noqa: BLE001 - whatever a build of torch without it raises
        return False
    return torch.equal(found, rows @ weight.t())


HAS_ONEDNN = _try_onednn()
