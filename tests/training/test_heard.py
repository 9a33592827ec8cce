"""What contexts left in a model is kept: of the adapter that left it, and no more than there is room for."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from training_support import miniature, miniature_document

from flock_peers.training import continuations, decoding, heard
from flock_peers.training.continuations import CONTEXTS, STRINGS, hear, read_ends, step
from flock_peers.training.heard import Heard, join_rows, share, take_row
from flock_peers.training.model import AdaptedModel


@pytest.fixture
def model() -> AdaptedModel:
    return AdaptedModel(miniature()[0], miniature_document())


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many contexts were read, each time that any were."""
    seen = list[int]()

    def watch(model: Any, tokens: Any, past: Any = None) -> Any:
        seen.append(len(tokens))
        return step(model, tokens, past)

    monkeypatch.setattr(continuations, "step", watch)
    return seen


def draw_adapter(model: AdaptedModel, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 0.05, model.layout.parameters).astype(np.float32)


def is_same(one: Any, other: Any) -> bool:
    return all(
        torch.allclose(mine.keys, its.keys, atol=1e-6) and torch.allclose(mine.values, its.values, atol=1e-6)
        for mine, its in zip(one.layers, other.layers, strict=True)
    )


def test_a_context_is_read_once_of_each_adapter_however_often_strings_go_on_from_it(
    model: AdaptedModel, steps: list[int]
) -> None:
    with torch.no_grad():
        for seed in (1, 2, 1, 2):
            model.set_vector(draw_adapter(model, seed))
            found = [read_ends(model, contexts, STRINGS) for contexts in (CONTEXTS[:1], CONTEXTS, CONTEXTS[1:])]
            assert torch.allclose(torch.cat([found[0], found[2]]), found[1], atol=1e-5)
    assert steps == [1, 1, 1, 1]  # the first one, then only the one that is new, of two adapters


def test_what_an_adapter_became_by_training_is_not_taken_for_what_was_set(model: AdaptedModel) -> None:
    model.set_vector(draw_adapter(model, 1))
    with torch.no_grad():
        hear(model, CONTEXTS)
        model.flat.mul_(3.0)  # as a step of training does it, in place
        assert is_same(hear(model, CONTEXTS), step(model, CONTEXTS)[1])


def test_a_model_that_reads_no_branches_keeps_nothing(model: AdaptedModel, steps: list[int]) -> None:
    model.is_branching = False
    with torch.no_grad():
        for _ in range(3):
            hear(model, CONTEXTS)
    assert steps == [2, 2, 2]


def test_a_scan_reads_its_context_once_for_all_that_it_reads_after_it(
    model: AdaptedModel, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "SCANNED_AT_ONCE", 4)
    model.is_branching = False
    assert len(list(decoding.probabilities_after(model, CONTEXTS[0], np.arange(3, 15)))) == 3
    assert steps == [1, 4, 4, 4]


def test_what_was_not_wanted_for_longest_goes_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def past(rows: int = 1) -> Any:
        return SimpleNamespace(layers=[SimpleNamespace(keys=torch.ones(rows, 4), values=torch.ones(rows, 4))])

    monkeypatch.setattr(heard, "MAX_BYTES", 3 * 32)
    kept, keys = Heard(), [(b"adapter", bytes([number])) for number in range(4)]
    for key in (*keys[:3], keys[2]):  # one of them again
        kept.keep(key, past())
    assert kept.find(keys[0]) is not None
    kept.keep(keys[3], past())
    assert [kept.find(key) is not None for key in keys] == [True, False, True, True]
    kept.keep(keys[1], past(rows=100))
    assert [kept.find(key) is not None for key in keys] == [False] * 4


def test_rows_are_taken_apart_and_joined_again_and_what_shares_them_changes_nothing(model: AdaptedModel) -> None:
    with torch.no_grad():
        _, past = step(model, CONTEXTS)
        joined = join_rows([take_row(past, 0), take_row(past, 1)])
        assert is_same(joined, past)
        step(model, CONTEXTS[:, :1], share(joined))
        assert is_same(joined, past) and joined.get_seq_length() == CONTEXTS.shape[1]
