"""Strings that go on from the same contexts: the same said of each, whoever is beside it and however it is read."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from family_support import FAMILIES, make_family
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from training_support import SEED, miniature, miniature_document
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from flock_peers.training.continuations import (
    CONTEXTS,
    NOTHING,
    STRINGS,
    TOKENS_A_ROW,
    Branches,
    NoNumber,
    Reader,
    Rows,
    can_branch,
    grow_tree,
    hear,
    read_all,
    read_ends,
    read_on,
    spread,
    step,
)
from flock_peers.training.decoding import continue_greedily, probabilities_after
from flock_peers.training.document import Budget, create_document
from flock_peers.training.model import AdaptedModel
from flock_peers.training.probes import sample_texts

# Those whose layers keep only a part of what they read, or see only so far back, and one that takes no positions.
IN_ROWS = ("gemma2", "gemma3", "gpt_neo", "bloom")
BUDGET = Budget(steps=2, batch=2, seq_len=48, lr_millionths=5_000, eval_windows=4)


@pytest.fixture(scope="module")
def model() -> AdaptedModel:
    model = AdaptedModel(miniature()[0], miniature_document())
    chance = np.random.default_rng(3)
    model.set_vector(chance.normal(0, 0.05, model.layout.parameters).astype(np.float32))
    return model


def draw(*shape: int) -> NDArray[np.int64]:
    return np.random.default_rng(shape).integers(1, 200, shape)


def read_whole_texts(model: AdaptedModel, contexts: NDArray[np.int64], strings: NDArray[np.int64]) -> torch.Tensor:
    """[contexts, strings, tokens, vocabulary]"""
    whole = [np.concatenate([context, string]) for context in contexts for string in strings]
    logits = model.logits(np.stack(whole))[:, contexts.shape[1] :]
    return logits.reshape(len(contexts), *strings.shape, -1)


def place(logits: torch.Tensor, places: NDArray[np.int64]) -> torch.Tensor:
    return logits[:, torch.from_numpy(places)]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_read_as_branches_where_that_says_what_whole_texts_say(name: str, tmp_path: Path) -> None:
    folder = make_family(name, tmp_path)
    model = AdaptedModel(folder, create_document("family", folder, seed=SEED, budget=BUDGET, rank=4, alpha=8))
    assert model.is_branching is (name not in IN_ROWS)
    contexts, strings = draw(2, 9), draw(40, 3) % 4 + 7
    with model.frozen():
        expected = read_whole_texts(model, contexts, strings)
        assert torch.allclose(place(*read_all(model, contexts, strings)), expected, atol=1e-5)
        assert torch.allclose(read_ends(model, contexts, strings), expected[:, :, -1], atol=1e-5)
        token_by_token = read_on(model, hear(model, contexts), 2, 40, lambda reader: read_steps(reader, strings))
        assert torch.allclose(token_by_token, expected, atol=1e-5)


def read_steps(reader: Reader, strings: NDArray[np.int64]) -> torch.Tensor:
    return torch.stack([reader.read(tokens) for tokens in strings.T], dim=2)


@pytest.mark.parametrize("tokens", [1, 4, TOKENS_A_ROW + 1])
@pytest.mark.parametrize("count", [1, TOKENS_A_ROW - 1, 2 * TOKENS_A_ROW + 3])
@pytest.mark.parametrize("alphabet", [3, 200])
def test_branches_say_of_each_string_what_its_whole_text_says(
    model: AdaptedModel, count: int, tokens: int, alphabet: int
) -> None:
    """Of few letters most share a beginning, and some are the same."""
    contexts, strings = draw(2, 7), draw(count, tokens) % alphabet
    with torch.no_grad():
        expected = read_whole_texts(model, contexts, strings)
        assert torch.allclose(place(*read_all(model, contexts, strings)), expected, atol=1e-4)
        assert torch.allclose(read_ends(model, contexts, strings), expected[:, :, -1], atol=1e-4)


def test_a_string_may_end_before_others_and_be_the_beginning_of_one(model: AdaptedModel) -> None:
    strings = np.array([[5, 6, 7], [5, 6, NOTHING], [9, NOTHING, NOTHING], [5, 8, 7]])
    with torch.no_grad():
        logits, places = read_all(model, CONTEXTS, strings)
        for row, string in enumerate(strings):
            length = int((string != NOTHING).sum())
            expected = read_whole_texts(model, CONTEXTS, string[None, :length])[:, 0]
            assert torch.allclose(place(logits, places[row, :length]), expected, atol=1e-5)
    assert places[0, 0] == places[1, 0] == places[3, 0] and places[0, 1] == places[1, 1] != places[3, 1]


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=60))
def test_in_a_tree_each_beginning_stands_once_a_row_and_sees_itself_and_what_is_before_it(
    rows: list[list[int]],
) -> None:
    strings = np.array([row + [NOTHING] * (5 - len(row)) for row in rows])
    tree = grow_tree(strings)
    width = tree.tokens.shape[1]
    assert width <= TOKENS_A_ROW
    for row, places in zip(rows, tree.places.tolist(), strict=True):
        number = places[0] // width
        columns = [spot - number * width for spot in places[: len(row)]]
        assert [int(tree.tokens[number, column]) for column in columns] == row
        assert [int(tree.depths[number, column]) for column in columns] == list(range(len(row)))
        for end, column in enumerate(columns, 1):
            assert np.flatnonzero(tree.sees[number, column]).tolist() == sorted(columns[:end])
    used = {int(spot) for row, places in zip(rows, tree.places, strict=True) for spot in places[: len(row)]}
    beginnings = {tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)}
    assert len(beginnings) <= len(used) <= len(beginnings) + 5 * (len(tree.tokens) - 1)


def test_what_has_no_room_in_one_row_goes_on_in_the_next_one_with_its_beginning() -> None:
    strings = np.array([[first, second, 9] for first in range(3) for second in range(40)])
    tree = grow_tree(strings)
    assert tree.tokens.shape == (4, TOKENS_A_ROW) and tree.most <= TOKENS_A_ROW // 2
    assert (tree.tokens.reshape(-1)[tree.places] == strings).all()


def test_what_the_contexts_left_stays_as_it_is_for_whoever_goes_on(model: AdaptedModel) -> None:
    with torch.no_grad():
        _, past = step(model, CONTEXTS)
        for kind in (Branches, Rows, Branches):
            steps = read_steps(kind(model, past, 2, len(STRINGS)), STRINGS)
            assert torch.allclose(steps, read_whole_texts(model, CONTEXTS, STRINGS), atol=1e-5)
    assert past.get_seq_length() == CONTEXTS.shape[1] and len(past.layers[0].keys) == 2


def test_strings_go_on_differently_from_each_context(model: AdaptedModel) -> None:
    strings = draw(2, 70, 3)
    with torch.no_grad():
        _, past = step(model, CONTEXTS)
        for kind in (Branches, Rows):
            reader = kind(model, past, 2, 70)
            steps = torch.stack([reader.read(strings[:, :, token]) for token in range(3)], dim=2)
            for number in range(2):
                expected = read_whole_texts(model, CONTEXTS[[number]], strings[number])
                assert torch.allclose(steps[[number]], expected, atol=1e-5)


def test_each_context_is_continued_greedily_by_what_is_likeliest_after_it(model: AdaptedModel) -> None:
    heads, contexts, vector = np.array([5, 60, 7]), [*draw(3, 6), draw(9)], model.get_vector()
    model.set_vector(vector * 20)  # so that it says different things
    for these in (contexts[:3], contexts):  # of one length, and of two
        found = continue_greedily(model, these, heads, 4)
        assert found.shape == (len(these), 3, 5)
        for context, strings in zip(these, found, strict=True):
            whole = np.concatenate([np.tile(context, (3, 1)), strings], axis=1)
            likeliest = model.logits(whole).argmax(dim=-1).numpy()[:, len(context) : -1]
            assert (strings[:, 0] == heads).all() and (strings[:, 1:] == likeliest).all()
    model.set_vector(vector)
    assert len({tuple(strings.reshape(-1)) for strings in found}) > 1


def test_a_branch_is_told_nothing_by_the_others_of_its_row(model: AdaptedModel) -> None:
    strings, others = draw(10, 3), draw(10, 3) + 50
    others[4] = strings[4]
    with torch.no_grad():
        one, other = (place(*read_all(model, CONTEXTS, what)) for what in (strings, others))
    assert torch.allclose(one[:, 4], other[:, 4], atol=1e-6) and not torch.allclose(one[:, 5], other[:, 5], atol=1e-2)


@pytest.fixture
def broken() -> tuple[AdaptedModel, int]:
    """A model that says no number after one token, and which that is."""
    model = AdaptedModel(miniature()[0], miniature_document())
    with torch.no_grad():
        weight = model.peft.get_input_embeddings().weight
        if weight is model.peft.get_output_embeddings().weight:
            model.peft.get_output_embeddings().weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
        weight[77] = torch.nan
    return model, 77


def test_a_model_that_breaks_after_one_string_says_what_it_says_after_the_others(
    broken: tuple[AdaptedModel, int],
) -> None:
    model, token = broken
    tokens = np.arange(token - 10, token + 10)
    with torch.no_grad(), pytest.raises(NoNumber):
        Branches(model, step(model, CONTEXTS)[1], 2, len(tokens)).read(tokens)
    found = torch.cat(list(probabilities_after(model, CONTEXTS[0], tokens)))
    assert [int(row) for row in torch.isnan(found).any(dim=1).nonzero()] == [10]
    alone = [next(probabilities_after(model, CONTEXTS[0], tokens[[place]])) for place in range(20) if place != 10]
    assert torch.allclose(found[[place for place in range(20) if place != 10]], torch.cat(alone), atol=1e-6)
    heads = np.array([token, token + 1])
    both, one = (continue_greedily(model, CONTEXTS, these, 3) for these in (heads, heads[1:]))
    assert (both[:, 1] == one[:, 0]).all()
    strings = np.array([[token, 5, 6], [token + 1, 5, 6]])
    with torch.no_grad():
        logits, places = read_all(model, CONTEXTS, strings)
        assert torch.isnan(place(logits, places[0])).all() and not torch.isnan(place(logits, places[1])).any()
        assert torch.equal(
            torch.isnan(read_ends(model, CONTEXTS, strings)).all(dim=2), torch.tensor([[True, False]] * 2)
        )


def test_a_model_that_minds_no_mask_or_no_positions_reads_no_branches(model: AdaptedModel) -> None:
    class Heedless:
        """Leaves out one of what it is given, token by token or of whole strings."""

        def __init__(self, ignored: str, whole: bool) -> None:
            self.ignored, self.whole = ignored, whole
            self.dtype, self.config = model.peft.dtype, model.peft.config

        def __call__(self, **given: Any) -> object:
            left_out = self.ignored if (given["logits_to_keep"] > 0) is self.whole else None
            return model.peft(**{name: value for name, value in given.items() if name != left_out})

    class Changed:
        def __init__(self, ignored: str, whole: bool) -> None:
            self.peft, self.device = Heedless(ignored, whole), model.device
            self.frozen, self.logits = model.frozen, model.logits

    assert can_branch(model, 1e-5)
    for ignored in ("attention_mask", "position_ids"):
        for whole in (False, True):
            assert not can_branch(Changed(ignored, whole), 1e-5)  # type: ignore[arg-type]


def test_flash_attn_is_given_no_mask_of_branches() -> None:
    """It takes a mask for what is there of each row, and looks on a GPU for what is nowhere: nothing works then."""
    model = AdaptedModel(miniature()[0], miniature_document())
    config = SimpleNamespace(_attn_implementation="flash_attention_2")
    model.peft = SimpleNamespace(config=config)  # that is asked for nothing else
    assert not can_branch(model, 1e-5)


def test_a_model_that_computes_layers_twice_reads_strings_after_their_contexts(model: AdaptedModel) -> None:
    twice = AdaptedModel(miniature()[0], miniature_document(), checkpoints=True)
    twice.set_vector(model.get_vector())
    layers = [module for module in twice.peft.modules() if isinstance(module, GradientCheckpointingLayer)]
    assert twice.is_branching and layers
    for is_branching in (True, False):
        twice.is_branching = is_branching
        with twice.frozen():
            expected = read_whole_texts(model, CONTEXTS, STRINGS)
            assert torch.allclose(place(*read_all(twice, CONTEXTS, STRINGS)), expected, atol=1e-5)
        assert not any(layer.training for layer in layers)
    assert np.array_equal(
        sample_texts(twice, 1, 2, 8), sample_texts(AdaptedModel(miniature()[0], miniature_document()), 1, 2, 8)
    )
    twice.logits(CONTEXTS)
    assert all(layer.training for layer in layers)  # where a gradient is wanted


class Packed(DynamicLayer):
    """Keeps something beside keys and values, which only itself can repeat."""

    beside = torch.zeros(1)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.beside = self.beside.repeat_interleave(repeats)


def test_what_is_kept_of_a_context_is_there_for_each_row_whatever_its_layers_are() -> None:
    """One that slides, one that packs, and one that a model never asks anything of, as where layers share what others
    keep."""
    kept = torch.arange(24.0).reshape(1, 2, 3, 4)
    for other in (DynamicLayer(), DynamicSlidingWindowLayer(sliding_window=8), Packed(), None):
        cache = DynamicCache()
        cache.update(kept, kept + 1, 0)
        if other is not None:
            cache.layers.append(other)
        if type(other) in (DynamicSlidingWindowLayer, Packed):
            cache.update(kept, kept + 1, 1)
        spread(cache, 5)
        for layer in cache.layers:
            if layer.is_initialized:
                assert (layer.keys == kept).all() and layer.keys.shape == layer.values.shape == (5, 2, 3, 4)
            if isinstance(layer, Packed):
                assert len(layer.beside) == 5


def test_of_several_contexts_each_is_there_for_so_many_rows_one_after_the_other() -> None:
    kept = torch.arange(4.0).reshape(2, 1, 1, 2)
    cache = DynamicCache()
    cache.update(kept, kept + 1, 0)
    (layer,) = spread(cache, 3).layers
    assert (layer.keys == kept[[0, 0, 0, 1, 1, 1]]).all() and (layer.values == layer.keys + 1).all()
