"""What stands in place of a model's own forwards, and of what layers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_support import miniature_model

from flock_peers.training.forwards import Fused, Head, Norm, can_fuse, is_norm


def test_the_models_projections_and_norms_are_fused() -> None:
    """A fused one that is wrong is left out without a word: training would only be slower."""
    layers = [module for module in miniature_model().peft.modules() if hasattr(module, "lora_A")]
    assert len(layers) == 7 and all(type(layer.forward) is Fused for layer in layers)
    norms = [module for module in miniature_model().peft.modules() if type(module).__name__.endswith("RMSNorm")]
    assert len(norms) == 3 and all(type(norm.forward) is Norm for norm in norms)


def test_the_models_head_is_sped_up() -> None:
    assert type(miniature_model().peft.base_model.model.get_output_embeddings().forward) is Head


class SomeRMSNorm(torch.nn.Module):
    def __init__(self, weight: torch.Tensor | None, **named: float) -> None:
        super().__init__()
        self.weight = weight
        for name, value in named.items():
            setattr(self, name, value)


class SomeNorm(SomeRMSNorm):
    pass


@pytest.mark.parametrize(
    ("norm", "is_one"),
    [
        (SomeRMSNorm(torch.ones(4), variance_epsilon=1e-5), True),
        (SomeRMSNorm(torch.ones(4, dtype=torch.bfloat16), variance_epsilon=1e-5), False),
        (SomeRMSNorm(None, variance_epsilon=1e-5), False),
        (SomeRMSNorm(torch.ones(4), eps=1e-5), False),
        (SomeNorm(torch.ones(4), variance_epsilon=1e-5), False),
    ],
    ids=["as Llama's", "half precision", "no weight", "another epsilon", "another name"],
)
def test_a_norm_is_taken_for_one_by_its_name_its_epsilon_and_its_precision(norm: torch.nn.Module, is_one: bool) -> None:
    assert is_norm(norm) == is_one


def test_a_projection_is_fused_where_peft_stands_around_a_plain_one() -> None:
    class Quantised(torch.nn.Linear):
        pass

    assert can_fuse(SimpleNamespace(lora_A={}, base_layer=torch.nn.Linear(2, 2)))
    assert not can_fuse(SimpleNamespace(lora_A={}, base_layer=Quantised(2, 2)))
    assert not can_fuse(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("rows", [1, 40])  # of so many tokens that the thin weights are added first, and of fewer
def test_without_a_gradient_the_model_says_what_it_says_with_one(rows: int) -> None:
    count = miniature_model().layout.parameters
    miniature_model().set_vector(np.random.default_rng(2).normal(size=count).astype(np.float32) * np.float32(0.05))
    tokens = np.arange(rows * 12).reshape(rows, 12) % 90
    with miniature_model().frozen():
        alone = miniature_model().logits(tokens)
    assert torch.equal(alone, miniature_model().logits(tokens).detach())
