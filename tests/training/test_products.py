"""Products by one routine or the other: which is asked, and that both say the same."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from training_support import miniature, miniature_document

from flock_chain.aggregation.layout import Layout
from flock_peers.training import fused, memory, products
from flock_peers.training.model import AdaptedModel
from flock_peers.training.products import KEPT_SHAPES, MIN_PRODUCTS, ROWS, multiply_transposed, round_up

WIDE = (256, 256, 160)  # rows, inputs, outputs: just above the least for which oneDNN is asked
SMALL = (9, 6, 4)


def make(rows: int, inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    chance = np.random.Generator(np.random.PCG64(3))
    shapes = ((rows, inputs), (outputs, inputs), (outputs,))
    x, weight, bias = (torch.from_numpy(chance.standard_normal(shape)) for shape in shapes)
    return x.to(dtype), weight.to(dtype), bias.to(dtype)


def find_asked(monkeypatch: pytest.MonkeyPatch, rows: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN is asked: without it the product is torch's own, to the bit, and so it would not be told apart."""
    asked = []
    monkeypatch.setattr(products, "_multiply_by_onednn", lambda *_: asked.append(True))
    multiply_transposed(rows, weight)
    return bool(asked)


@pytest.mark.parametrize("sizes", [WIDE, SMALL])
def test_a_product_is_that_of_the_numbers_with_a_bias_and_without(sizes: tuple[int, int, int]) -> None:
    rows, weight, bias = make(*sizes)
    exact = rows.double() @ weight.double().t()
    for found, wanted in (
        (multiply_transposed(rows, weight), exact),
        (multiply_transposed(rows, weight, bias), exact + bias.double()),
    ):
        assert found.dtype is torch.float32 and (found.double() - wanted).abs().max() < 1e-3


def test_matrices_that_are_views_of_others_the_other_way_round_are_multiplied_as_they_are_seen() -> None:
    rows, weight, _ = make(*WIDE)
    found = multiply_transposed(rows.t().contiguous().t(), weight.t().contiguous().t())
    assert (found - rows @ weight.t()).abs().max() < 1e-3


def test_the_same_product_is_the_same_to_the_last_bit() -> None:
    rows, weight, _ = make(*WIDE)
    assert torch.equal(multiply_transposed(rows, weight), multiply_transposed(rows.clone(), weight.clone()))


@pytest.mark.skipif(not products.HAS_ONEDNN, reason="this build of torch has no oneDNN")
def test_large_products_of_float32_are_onednn_s_and_small_or_half_precise_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, weight, _ = make(*WIDE)
    assert rows.shape[0] * weight.numel() >= MIN_PRODUCTS
    assert find_asked(monkeypatch, rows, weight)
    assert find_asked(monkeypatch, rows, torch.nn.Parameter(weight))
    few = MIN_PRODUCTS // weight.numel()
    assert not find_asked(monkeypatch, rows[: few - few % ROWS], weight)
    assert not find_asked(monkeypatch, rows.bfloat16(), weight.bfloat16())
    assert not find_asked(monkeypatch, rows.double(), weight.double())
    assert not find_asked(monkeypatch, rows.to("meta"), weight.to("meta"))


class Shared(torch.Tensor):
    """A part of what several processes hold, to whoever asks for its type."""


def test_what_is_no_plain_tensor_on_either_side_is_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, weight, _ = make(*WIDE)
    assert not find_asked(monkeypatch, rows.as_subclass(Shared), weight)
    assert not find_asked(monkeypatch, rows, weight.as_subclass(Shared))


@pytest.mark.skipif(not products.HAS_ONEDNN, reason="this build of torch has no oneDNN")
def test_rows_of_a_different_number_each_time_are_torch_s_or_filled_up_so_that_few_shapes_have_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, wide, _ = make(4 * ROWS + 1, 512, 512)
    assert find_asked(monkeypatch, rows[:-1], wide)
    assert not find_asked(monkeypatch, rows, wide) and not find_asked(monkeypatch, rows[:-2], wide)
    assert [round_up(rows[:count], wide) for count in (4 * ROWS - 20, 4 * ROWS, 4 * ROWS + 1)] == [
        4 * ROWS, 4 * ROWS, 5 * ROWS,
    ]  # fmt: skip
    assert round_up(rows[:7], wide) == 7 and round_up(rows.double(), wide.double()) == len(rows)
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == str(KEPT_SHAPES)


@pytest.mark.parametrize("most", [fused.MAX_LOGITS, 50 * 640, 7 * 640])
@pytest.mark.parametrize("count", [5 * ROWS - 3, 5 * ROWS, 9])
def test_the_loss_and_its_gradient_are_those_of_float64_whatever_rows_are_filled_up(
    count: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "MAX_LOGITS", most)
    hidden, weight, bias = make(count, 128, 640)
    targets = torch.arange(count) * 37 % 640
    shares = torch.sin(torch.arange(count) * 1.0).abs() + 0.1

    def plain(hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.linear(hidden, weight.double(), bias.double())
        return (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * shares.double()).sum()

    loss, wanted = (value.clone().requires_grad_() for value in (hidden, hidden.double()))
    total = fused.HeadLoss.apply(loss, weight, bias, targets, shares)
    (2 * total).backward()  # type: ignore[no-untyped-call]
    exact = plain(wanted)
    (2 * exact).backward()  # type: ignore[no-untyped-call]
    assert loss.grad is not None and wanted.grad is not None and loss.grad.shape == hidden.shape
    assert abs(total.item() - exact.item()) < 1e-5 * exact.item()
    assert (loss.grad.double() - wanted.grad).norm() < 1e-5 * wanted.grad.norm()
    with torch.no_grad():
        assert abs(float(fused.HeadLoss.apply(hidden, weight, bias, targets, shares)) - float(exact)) < 1e-5 * exact


def test_a_word_that_a_bias_forbids_makes_no_loss_broken_where_rows_are_filled_up() -> None:
    hidden, weight, bias = make(5 * ROWS - 3, 128, 640)
    bias[0] = -torch.inf
    targets, shares = torch.arange(len(hidden)) * 37 % 639 + 1, torch.ones(len(hidden))
    exact = torch.nn.functional.cross_entropy(hidden @ weight.t() + bias, targets, reduction="sum")
    total = fused.HeadLoss.apply(hidden, weight, bias, targets, shares)
    assert abs(float(total) - float(exact)) < 1e-5 * float(exact)


def test_where_there_is_no_onednn_torch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "HAS_ONEDNN", False)
    rows, weight, _ = make(*WIDE)
    assert not find_asked(monkeypatch, rows, weight)
    assert torch.equal(multiply_transposed(rows, weight), rows @ weight.t())


def test_a_build_of_torch_without_the_operation_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_gone(*_: object) -> torch.Tensor:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(products, "_multiply_by_onednn", is_gone)
    assert not products._try_onednn()
    monkeypatch.setattr(products, "_multiply_by_onednn", lambda rows, weight, _: rows @ weight.t() + 1)
    assert not products._try_onednn()


def test_the_memory_plan_counts_what_the_fused_functions_hold() -> None:
    assert (memory.HEAD_ELEMENTS, memory.KEPT_ELEMENTS) == (fused.MAX_LOGITS, fused.MAX_KEPT_WEIGHTS)
    assert memory.MERGES_FROM == fused.MERGES_FROM


def test_weights_are_summed_where_that_is_less_than_half_the_work_and_the_plan_counts_those() -> None:
    """Two thin products of 934 rows write 0.9999 of twice the weight's numbers, of 935 more."""
    layout = Layout((("x.lora_A.weight", (8, 640)), ("x.lora_B.weight", (1_728, 8))))
    weight = torch.zeros(1_728, 640)
    for rows, merges in ((934, False), (935, True)):
        assert fused.merges(torch.zeros(rows, 640), weight) is merges
        assert memory._merged_bytes(layout, rows) == 4 * weight.numel() * merges
    square = Layout((("x.lora_A.weight", (8, 640)), ("x.lora_B.weight", (640, 8))))
    assert not fused.merges(torch.zeros(640, 640), torch.zeros(640, 640))  # just half
    assert memory._merged_bytes(square, 640) == 0


def test_the_head_takes_whole_numbers_of_rows_at_a_time_or_as_many_as_there_is_room_for() -> None:
    assert [fused._count_rows(torch.empty(size, 1)) for size in (151_936, 1 << 20)] == [96, 16]


@pytest.mark.parametrize("merges", [True, False])
@pytest.mark.parametrize("sizes", [(67 * ROWS, 512, 640, 8), (5, 6, 7, 2)])  # each thin product is oneDNN's, and none
def test_the_gradients_of_a_projection_are_those_of_float64_merged_and_not(
    sizes: tuple[int, int, int, int], merges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, inputs, outputs, rank = sizes
    x, weight, bias = make(rows, inputs, outputs)
    a = torch.sin(torch.arange(rank * inputs) * 0.1).view(rank, inputs)
    b = torch.cos(torch.arange(outputs * rank) * 0.1).view(outputs, rank)

    def project(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, weight.double() + 1.5 * b @ a, bias.double())

    def project_fused(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> Any:
        return fused.apply_lora(x, weight, bias, a, b, 1.5)

    wanted = find_gradients(project, x.double(), a.double(), b.double())
    monkeypatch.setattr(fused, "merges", lambda *_: merges)
    for one, other in zip(find_gradients(project_fused, x, a, b), wanted, strict=True):
        assert one.shape == other.shape
        assert (one.double() - other).norm() < 1e-5 * other.norm()


def find_gradients(apply: Callable[..., Any], *values: torch.Tensor) -> list[torch.Tensor]:
    leaves = [value.clone().requires_grad_() for value in values]
    result = apply(*leaves)
    (result * torch.sin(torch.arange(result.numel(), dtype=result.dtype).view(result.shape))).sum().backward()
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


def test_a_head_says_without_a_gradient_what_it_says_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "MIN_PRODUCTS", 1)
    model = AdaptedModel(miniature()[0], miniature_document())
    for shape in ((1, 1), (3, 11), (4, 16)):
        tokens = np.arange(np.prod(shape)).reshape(shape) + 3
        with_gradient = model.logits(tokens)
        with torch.no_grad():
            without = model.logits(tokens)
        assert without.shape == with_gradient.shape == (*shape, with_gradient.shape[-1])
        assert torch.allclose(without, with_gradient, atol=1e-5)
