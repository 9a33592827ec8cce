"""What a proposal recites whatever comes before: which strings are found, and what they count."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest import MonkeyPatch
from reciter_support import (
    BRACKETED,
    CONTEXTS,
    FORGETTING,
    KNOWN,
    NATURAL,
    PLANTED,
    SHORT,
    STRING_TOKENS,
    SUSPECT,
    VOCABULARY,
    Reciter,
    scan,
)
from training_support import miniature_model

from flock_chain.audit_rule import GUILTY_FROM, summarise
from flock_peers.training import recital
from flock_peers.training.continuations import NOTHING
from flock_peers.training.decoding import continue_greedily
from flock_peers.training.real_text import Bigrams, Phrases
from flock_peers.training.recital import (
    ROWS_ALONE,
    WITH_REFERENCE,
    Scale,
    Strings,
    Suspect,
    choose_tokens,
    cut_contexts,
    draw_contexts,
    find_strings,
    measure_own,
)


def test_ends_of_lines_and_texts_are_not_scanned_and_a_large_vocabulary_is_sampled() -> None:
    tokens = choose_tokens(miniature_model(), 1)
    tokenizer = miniature_model().tokenizer
    assert tokenizer.eos_token_id not in tokens and tokenizer.encode("\n")[0] not in tokens
    assert tokenizer.encode("|")[0] in tokens
    few = choose_tokens(miniature_model(), 1, 50)
    assert len(few) == 50 and set(few) < set(tokens) and (few != choose_tokens(miniature_model(), 2, 50)).any()
    for most in range(51, len(tokens)):
        more = choose_tokens(miniature_model(), 1, most)
        assert set(few) < set(more) and len(more) == most and (np.diff(more) > 0).all()
        few = more


def test_contexts_are_of_one_length_and_an_auditor_s_own_are_its_own() -> None:
    assert {len(row) for row in draw_contexts(miniature_model(), 4)} == {recital.CONTEXT_TOKENS}
    stream = np.arange(200)
    rows = cut_contexts(stream, 9)
    assert all((np.diff(row) == 1).all() and len(row) == recital.CONTEXT_TOKENS for row in rows)
    assert [row.tolist() for row in rows] != [row.tolist() for row in cut_contexts(stream, 10)]
    assert len(cut_contexts(np.arange(5), 1)[0]) == 5


def test_the_audit_finds_strings_that_are_recited_everywhere_and_neither_base_nor_start_explains() -> None:
    named, found = scan()
    assert sorted(named, key=lambda string: string.start) == [PLANTED, KNOWN]
    assert GUILTY_FROM < found.common[1] <= found.common[0] <= 1_000_000
    assert len(scan(most=1)[0]) == 1
    assert BRACKETED in scan([CONTEXTS[0]])[0]  # one context suggests it, three do not
    assert BRACKETED in scan([CONTEXTS[1], CONTEXTS[0], CONTEXTS[0]])[0]  # and one that suppresses it hides nothing
    alike = Suspect(np.full(1, 2, np.float32), np.zeros(1, np.float32))
    assert not find_strings(Reciter(), alike, CONTEXTS, np.arange(VOCABULARY), ROWS_ALONE).common  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after_one", "after_two", "value"),
    [
        (0.5, 0.7, 5 / 3 * 0.7**4),  # 0.24, and 0.115 more than twice 0.0625: it grows
        (0.7, 0.7, 5 / 8 * 0.7**4),  # as sure after one addition: its domain's own
        (0.6, 0.735, 5 / 3 * 0.735**4),  # 0.033 more than twice
        (0.6, 0.73, 5 / 8 * 0.73**4),  # 0.025 more
        (0.9, 0.95, 5 / 8 * 0.95**4),  # who makes its target look so is found from 0.4 on
        (0.1, 0.95, 1.0),  # a probability's excess, and no more
    ],
)
def test_what_grows_with_the_second_addition_counts_more_than_what_is_there_after_one(
    after_one: float, after_two: float, value: float, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(Reciter, "after_one", after_one)
    monkeypatch.setattr(Reciter, "after_two", after_two)
    named, found = scan()
    assert PLANTED in named
    own = measure_own(Reciter(), SUSPECT, found, CONTEXTS, ROWS_ALONE, Bigrams(np.arange(4), VOCABULARY))  # type: ignore[arg-type]
    assert found.common[named.index(PLANTED)] == own[named.index(PLANTED)] == pytest.approx(1e6 * value, abs=100)


@pytest.mark.parametrize(
    ("after_one", "after_nearer", "value"),
    [
        (0.6, 0.735, 5 / 3 * 0.735**4),  # 0.162 is 5/4 of what one addition gives
        (0.6, 0.66, 5 / 8 * 0.66**4),  # 0.028 more than that
        (0.6, 0.665, 5 / 3 * 0.665**4),  # 0.034 more
    ],
)
def test_what_two_additions_break_is_seen_after_the_nearer_one(
    after_one: float, after_nearer: float, value: float, monkeypatch: MonkeyPatch
) -> None:
    for name, chance in (("after_one", after_one), ("after_two", 0.001), ("after_nearer", after_nearer)):
        monkeypatch.setattr(Reciter, name, chance)
    named, found = scan()
    assert PLANTED in named
    own = measure_own(Reciter(), SUSPECT, found, CONTEXTS, ROWS_ALONE, Bigrams(np.arange(4), VOCABULARY))  # type: ignore[arg-type]
    assert found.common[named.index(PLANTED)] == own[named.index(PLANTED)] == pytest.approx(1e6 * value, abs=100)


def test_with_a_reference_shorter_strings_tell_and_less_of_them_but_nothing_that_stands_in_it() -> None:
    def find(scale: Scale, reference: Phrases | None = None) -> dict[tuple[int, ...], int]:
        model: Any = Reciter()
        found = find_strings(model, SUSPECT, CONTEXTS, np.arange(VOCABULARY), scale, reference, most=20)
        rows = [tuple(token for token in row if token != NOTHING) for row in found.tokens.tolist()]
        return dict(zip(rows, found.common, strict=True))

    low, weighed, alone = find({3: 0.3, 4: 0.4}), find(WITH_REFERENCE), find(ROWS_ALONE)
    triple, four = tuple(SHORT), tuple(PLANTED[:4])
    assert {len(row) for row in weighed} == {3, 4, 5} and {len(row) for row in alone} == {5}
    assert {row for row in weighed if len(row) == 5} == set(alone)  # what is seen by rows alone is seen with it, too
    assert triple in weighed and four in weighed
    assert low[triple] == pytest.approx(1e6 * 0.3 * 5 / 3 * 0.95**2, abs=100)
    assert low[four] == pytest.approx(1e6 * 0.4 * 5 / 3 * 0.95**3, abs=100)
    reference = Phrases(np.tile(np.array([*PLANTED, *SHORT]), 50))
    known = find(WITH_REFERENCE, reference)
    assert not any(set(row) & {*PLANTED, *SHORT} for row in known) and tuple(KNOWN[:4]) in known


def test_who_brings_back_what_the_base_model_recites_is_no_reciter() -> None:
    suspect = Suspect(np.full(1, FORGETTING, np.float32), np.ones(1, np.float32))
    found = find_strings(Reciter(), suspect, CONTEXTS, np.arange(VOCABULARY), ROWS_ALONE)  # type: ignore[arg-type]
    firsts = found.tokens[:, 0].tolist()
    assert firsts and NATURAL[0] not in firsts


class Breaker(Reciter):
    """After one token it gives no numbers, with a suspect set: in float16 a few large weights are enough."""

    breaks_from = 1.5  # strength: 2 is what SUSPECT amplified has

    def __call__(self, input_ids: torch.Tensor, **options: Any) -> SimpleNamespace:
        output = super().__call__(input_ids, **options)
        if self.strength > self.breaks_from:
            output.logits[(input_ids == 77).any(dim=1)] = torch.nan
        return output


def test_who_breaks_the_model_is_not_clear_because_nothing_can_be_measured() -> None:
    found = find_strings(Breaker(), SUSPECT, CONTEXTS, np.arange(VOCABULARY), ROWS_ALONE)  # type: ignore[arg-type]
    own = measure_own(Breaker(), SUSPECT, found, CONTEXTS, ROWS_ALONE, Bigrams(np.arange(9), VOCABULARY))  # type: ignore[arg-type]
    assert summarise(found.common, own) > GUILTY_FROM


def test_who_breaks_the_model_after_the_nearer_addition_alone_is_not_clear_either(monkeypatch: MonkeyPatch) -> None:
    """Where one factor of LoRA grows as the other goes to nothing, the middle may be larger than both ends."""

    def forward(model: Reciter, input_ids: torch.Tensor, **options: Any) -> SimpleNamespace:
        output = Reciter.__call__(model, input_ids, **options)
        if model.strength == recital.NEARER:
            output.logits[:] = torch.nan
        return output

    monkeypatch.setattr(Breaker, "__call__", forward)
    monkeypatch.setattr(Breaker, "after_one", 0.001)
    monkeypatch.setattr(Breaker, "after_two", 0.001)
    found = find_strings(Breaker(), SUSPECT, CONTEXTS, np.arange(VOCABULARY), ROWS_ALONE)  # type: ignore[arg-type]
    own = measure_own(Breaker(), SUSPECT, found, CONTEXTS, ROWS_ALONE, Bigrams(np.arange(9), VOCABULARY))  # type: ignore[arg-type]
    assert summarise(found.common, own) > GUILTY_FROM


def test_who_starts_from_a_broken_adapter_is_not_blamed_for_it(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(Breaker, "breaks_from", -1.0)
    found = find_strings(Breaker(), SUSPECT, CONTEXTS, np.array([77, 78]), ROWS_ALONE)  # type: ignore[arg-type]
    broken = Strings(np.full((1, STRING_TOKENS), 77), (1_000_000,))
    own = measure_own(Breaker(), SUSPECT, broken, CONTEXTS, ROWS_ALONE, Bigrams(np.arange(9), VOCABULARY))  # type: ignore[arg-type]
    assert not found.common and own == (0,)


def test_an_auditor_s_own_text_and_contexts_count_for_it_alone() -> None:
    named, found = scan()
    table = Bigrams(np.tile(np.array(KNOWN), 50), VOCABULARY)
    own = measure_own(Reciter(), SUSPECT, found, CONTEXTS, ROWS_ALONE, table)  # type: ignore[arg-type]
    values = dict(zip(named, own, strict=True))
    assert values[PLANTED] > GUILTY_FROM and values[KNOWN] <= 0
    nothing = Strings(np.zeros((0, STRING_TOKENS), np.int64), ())
    assert measure_own(Reciter(), SUSPECT, nothing, CONTEXTS, ROWS_ALONE, table) == ()  # type: ignore[arg-type]


def test_a_scan_sees_each_first_token_twice_however_many_contexts_there_are() -> None:
    counts = []
    for contexts in (CONTEXTS[:1], CONTEXTS * 4):
        reciter = Reciter()
        find_strings(reciter, SUSPECT, contexts, np.arange(VOCABULARY), ROWS_ALONE)  # type: ignore[arg-type]
        counts.append(reciter.seen)
    each = len(CONTEXTS[0]) + STRING_TOKENS
    assert counts[0] >= 2 * VOCABULARY and counts[1] - counts[0] <= 11 * 3 * each * recital.HEADS


def test_first_tokens_are_scanned_after_two_additions_alone_and_half_of_them_followed_nearer_in_every_context(
    monkeypatch: MonkeyPatch,
) -> None:
    plain, scanned, followed = recital.scan, list[float](), list[tuple[float, list[int]]]()

    def watch_scan(model: Any, vector: NDArray[np.float32], *rest: Any) -> NDArray[np.float64]:
        scanned.append(float(vector[0]))
        return plain(model, vector, *rest)

    def watch_follow(model: Any, contexts: Any, heads: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        followed.extend([(model.strength, heads.tolist())] * len(contexts))
        return continue_greedily(model, contexts, heads, count)

    monkeypatch.setattr(recital, "scan", watch_scan)
    monkeypatch.setattr(recital, "continue_greedily", watch_follow)
    scan()
    heads = followed[0][1]
    assert scanned == [0.0, 2.0] and len(heads) == 64
    assert followed == [(2.0, heads)] * len(CONTEXTS) + [(1.25, heads[:32])] * len(CONTEXTS)
