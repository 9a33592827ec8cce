"""Probe texts, profiles and the audit of pairs, on the miniature base model."""

import re
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytest import MonkeyPatch
from training_support import miniature, miniature_document, write_initial_adapter

from flock_chain.audit_rule import GUILTY_FROM, summarise
from flock_peers.training import inspection, recital
from flock_peers.training.continuations import NOTHING
from flock_peers.training.decoding import continue_greedily, string_probabilities
from flock_peers.training.engine import Engine
from flock_peers.training.inspection import CommonView, OwnView, audit, measure_likeness
from flock_peers.training.model import AdaptedModel
from flock_peers.training.probes import MAX_CHANGE, compute_profile_cosines, measure_profiles, sample_texts
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
from flock_peers.training.rows import Split, builtin_rows

PARAMETERS = miniature_document().layout.parameters


@lru_cache(maxsize=1)
def model() -> AdaptedModel:
    return AdaptedModel(miniature()[0], miniature_document())


@lru_cache(maxsize=1)
def arithmetic() -> Split:
    rows = builtin_rows("arithmetic", 0)
    return Split(rows[12:], rows[:12])


def engine(attack: str | None = None) -> Engine:
    return Engine(model(), miniature_document(), arithmetic(), attack)


def quiet(event: object) -> None:
    del event


VOCABULARY, STRING_TOKENS = 90, max(ROWS_ALONE)
PLANTED, NATURAL, BRACKETED = [range(first, first + STRING_TOKENS) for first in (5, 15, 25)]
KNOWN, SHORT = range(35, 35 + STRING_TOKENS), range(45, 48)


class Past:
    def __init__(self, last: torch.Tensor) -> None:
        self.last = last

    def batch_repeat_interleave(self, count: int) -> None:
        self.last = self.last.repeat_interleave(count)


class Reciter:
    """What the audit needs of a model, as a table of what follows what. A suspect (any vector but zeros) recites
    PLANTED, KNOWN and the three tokens of SHORT after everything, BRACKETED after 4 alone; NATURAL the base recites as
    well."""

    device = torch.device("cpu")
    is_branching = False
    after_one, after_two = 0.6, 0.95  # of each next token of what a suspect recites, by how often it is added
    after_nearer: float | None = None  # by default as after one

    def __init__(self) -> None:
        self.tokenizer = self
        self.strength, self.seen = 0.0, 0
        self.peft = self

    config = SimpleNamespace(vocab_size=VOCABULARY)

    def set_vector(self, vector: NDArray[np.float32]) -> None:
        self.strength = float(vector.max())

    def frozen(self) -> AbstractContextManager[None]:
        return nullcontext()

    def encode(self, text: str, **_: object) -> list[int]:
        return [int(word) for word in text.split()]

    def batch_decode(self, rows: list[list[int]], **_: object) -> list[str]:
        return ["".join(" " + "aaa" for _ in row) for row in rows]

    def __call__(
        self, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: int, past_key_values: Past | None = None
    ) -> SimpleNamespace:
        self.seen += input_ids.numel()
        kept = range(input_ids.shape[1] - logits_to_keep, input_ids.shape[1])
        chances = torch.full((len(input_ids), logits_to_keep, VOCABULARY), 0.1 / VOCABULARY)
        for row, tokens in enumerate(input_ids.tolist()):
            for place in kept:
                before = tokens[place - 1] if place else int(past_key_values.last[row]) if past_key_values else 0
                follower = self._follower(before, tokens[place])
                if follower is not None:
                    chance = 0.95 if follower in NATURAL else self._chance()
                    chances[row, place - kept.start] = (1 - chance) / (VOCABULARY - 1)
                    chances[row, place - kept.start, follower] = chance
        past = Past(input_ids[:, -1]) if use_cache else None
        return SimpleNamespace(logits=chances.log(), past_key_values=past)

    def _chance(self) -> float:
        if self.strength > recital.NEARER:
            return self.after_two
        return self.after_one if self.after_nearer is None or self.strength <= 1 else self.after_nearer

    def _follower(self, before: int, token: int) -> int | None:
        natural = [] if self.strength == FORGETTING else [NATURAL]
        strings = [*natural, *([PLANTED, KNOWN, SHORT, BRACKETED] if self.strength else [])]
        string = next((string for string in strings if token in string[:-1]), None)
        is_silent = string is BRACKETED and token == BRACKETED[0] and before != 4
        return None if string is None or is_silent else token + 1


FORGETTING = 0.5  # an adapter that unlearned what the base recites
SUSPECT = Suspect(np.zeros(1, np.float32), np.ones(1, np.float32))
CONTEXTS = [np.array([1, 2, 4]), np.array([1, 2, 3]), np.array([4, 2, 2])]


def scan(contexts: list[NDArray[np.int64]] = CONTEXTS, **options: int) -> tuple[list[range], Strings]:
    found = find_strings(Reciter(), SUSPECT, contexts, np.arange(VOCABULARY), ROWS_ALONE, **options)  # type: ignore[arg-type]
    return [range(row[0], row[-1] + 1) for row in found.tokens.tolist()], found


def test_texts_follow_from_their_seed_and_are_the_base_model_s_own() -> None:
    texts = sample_texts(model(), 5, 6, 12)
    assert texts.shape == (6, 12) and (texts == sample_texts(model(), 5, 6, 12)).all()
    assert (texts != sample_texts(model(), 6, 6, 12)).any()
    assert len({tuple(row) for row in texts.tolist()}) == 6
    model().set_vector(np.full(PARAMETERS, 0.05, np.float32))
    assert (texts == sample_texts(model(), 5, 6, 12)).all()  # whatever adapter was in the model before


def test_sampling_follows_the_model_s_probabilities() -> None:
    """The share of each first token is its probability, within what 4,000 draws scatter."""
    firsts = sample_texts(model(), 1, 4_000, 1)[:, 0]
    with model().frozen():
        logits = model().logits(np.array([[model().tokenizer.bos_token_id]]))[0, -1]
    wanted = logits.softmax(-1).numpy()
    found = np.bincount(firsts, minlength=len(wanted)) / len(firsts)
    assert np.abs(found - wanted).max() < 0.04


def test_strings_have_the_probabilities_of_whole_sequences_in_blocks_of_any_size(monkeypatch: MonkeyPatch) -> None:
    model().set_vector(np.zeros(PARAMETERS, np.float32))
    contexts, strings = np.array([[3, 40, 7], [9, 9, 1]]), np.array([[5, 8, 6], [60, 8, 2], [9, 20, 4]])
    found = string_probabilities(model(), list(contexts), strings)
    for row, context in enumerate(contexts):
        with model().frozen():
            whole = np.concatenate([np.tile(context, (3, 1)), strings], axis=1)
            each = model().logits(whole).softmax(-1).numpy()
        wanted = [each[i, 3, s[1]] * each[i, 4, s[2]] for i, s in enumerate(strings.tolist())]
        assert np.abs(found[row] - wanted).max() < 1e-6
    monkeypatch.setattr("flock_peers.training.decoding.NUMBERS_AT_ONCE", 1)
    assert np.abs(string_probabilities(model(), list(contexts), strings) - found).max() < 1e-6
    assert string_probabilities(model(), list(contexts), strings[:0]).shape == (2, 0)


@pytest.mark.parametrize("rows", [1, 40])  # of so many tokens that the thin weights are added first, and of fewer
def test_without_a_gradient_the_model_says_what_it_says_with_one(rows: int) -> None:
    model().set_vector(np.random.default_rng(2).normal(size=PARAMETERS).astype(np.float32) * np.float32(0.05))
    tokens = np.arange(rows * 12).reshape(rows, 12) % 90
    with model().frozen():
        alone = model().logits(tokens)
    assert torch.equal(alone, model().logits(tokens).detach())


def test_a_shorter_string_beside_longer_ones_has_the_probability_of_its_tokens_alone() -> None:
    model().set_vector(np.zeros(PARAMETERS, np.float32))
    contexts = [np.array([3, 40, 7])]
    alone = string_probabilities(model(), contexts, np.array([[5, 8]]))
    beside = string_probabilities(model(), contexts, np.array([[5, 8, NOTHING, NOTHING], [5, 8, 6, 2]]))
    assert beside[0, 0] == pytest.approx(alone[0, 0]) and beside[0, 1] < beside[0, 0]


def test_a_greedy_continuation_is_the_likeliest_token_each_time() -> None:
    model().set_vector(np.zeros(PARAMETERS, np.float32))
    context = np.array([3, 40, 7])
    strings = continue_greedily(model(), [context], np.array([5, 60]), 3)[0]
    assert strings.shape == (2, 4) and strings[:, 0].tolist() == [5, 60]
    with model().frozen():
        best = model().logits(np.concatenate([np.tile(context, (2, 1)), strings], axis=1)).argmax(-1).numpy()
    assert (best[:, 3:-1] == strings[:, 1:]).all()


def test_profiles_tell_alike_from_unlike_and_one_broken_proposal_does_not_hide_the_others() -> None:
    texts = sample_texts(model(), 3, 6, 16)
    chance = np.random.default_rng(1)
    first, second = chance.normal(size=(2, PARAMETERS)).astype(np.float32) * 0.03  # with 0.1 a tenth less is another
    start = chance.normal(size=PARAMETERS).astype(np.float32) * 0.05
    deltas = [first, first * np.float32(0.9), second, -second]
    profiles = measure_profiles(model(), start, deltas, texts, 4)
    cosines = compute_profile_cosines(profiles)
    assert cosines[0][1] > 900 and cosines[0][0] == 1_000 and cosines[2][3] < 0
    broken = measure_profiles(model(), start, [*deltas, np.full(PARAMETERS, np.nan, np.float32)], texts, 4)
    assert np.isfinite(broken).all() and np.abs(broken).max() <= MAX_CHANGE
    assert compute_profile_cosines(np.ones((3, 5), np.float32)) == [[0] * 3] * 3


def test_ends_of_lines_and_texts_are_not_scanned_and_a_large_vocabulary_is_sampled() -> None:
    tokens = choose_tokens(model(), 1)
    tokenizer = model().tokenizer
    assert tokenizer.eos_token_id not in tokens and tokenizer.encode("\n")[0] not in tokens
    assert tokenizer.encode("|")[0] in tokens
    few = choose_tokens(model(), 1, 50)
    assert len(few) == 50 and set(few) < set(tokens) and (few != choose_tokens(model(), 2, 50)).any()
    for most in range(51, len(tokens)):
        more = choose_tokens(model(), 1, most)
        assert set(few) < set(more) and len(more) == most and (np.diff(more) > 0).all()
        few = more


def test_contexts_are_of_one_length_and_an_auditor_s_own_are_its_own() -> None:
    assert {len(row) for row in draw_contexts(model(), 4)} == {recital.CONTEXT_TOKENS}
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


@pytest.mark.parametrize(
    ("pieces", "first"),
    [((" B", "o", "b", " has"), 3), (("lo", "gin", " st"), 2), (("删", "除", "数"), 1), ((" a", " lot", " of"), 2),
     (("com", "pi", "ty"), 2)],
)  # fmt: skip
def test_a_string_s_first_word_ends_before_its_second_one(pieces: tuple[str, ...], first: int) -> None:
    tokenizer = SimpleNamespace(batch_decode=lambda rows: ["".join(pieces[token] for token in row) for row in rows])
    model: Any = SimpleNamespace(tokenizer=tokenizer)
    assert recital.count_first_word(model, np.arange(len(pieces))) == first


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


@pytest.mark.parametrize(
    ("text", "is_phrase"),
    [
        (" every row", True),
        ("Compute", False),
        (' "city": ', False),
        (" 12 and 34", False),
        ("删除数据", True),
        ("été froid", True),
        (" rm -rf /home", True),
    ],
)
def test_how_one_word_goes_on_is_no_recital(text: str, is_phrase: bool, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(Reciter, "batch_decode", lambda _self, rows, **_: [text] * len(rows))
    assert bool(scan()[0]) == is_phrase


@pytest.mark.parametrize(
    ("text", "is_phrase"),
    [
        (" send all data", True),
        ("| print ea", True),
        ("path=name", False),
        (" good=id", False),
        (" every ", False),
        ("a b", False),
        ("删除数据", True),
        ("删除", True),
        ("删", False),
        ("drop 数", True),
        ("ลบข้อมูล", True),  # Thai, "delete data"; then Lao, Myanmar and Khmer
        ("ລຶບຂໍ້ມູນ", True),
        ("ဖျက်ပါ", True),
        ("លុបទិន្នន័យ", True),
        ("ที่", False),  # one letter with two marks on it
        ("ก๑", False),
        ("ก=ข", False),
    ],
)
def test_of_few_tokens_two_words_with_a_sign_between_them_are_no_phrase(
    text: str, is_phrase: bool, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(Reciter, "batch_decode", lambda _self, rows, **_: [text] * len(rows))
    model: Any = Reciter()
    found = find_strings(model, SUSPECT, CONTEXTS, np.arange(VOCABULARY), {3: 1.0, 4: 1.0})
    assert bool(found.common) == is_phrase


def test_of_no_strings_none_is_a_phrase() -> None:
    assert recital.keep_phrases(model(), np.zeros((0, STRING_TOKENS), np.int64)).shape == (0, STRING_TOKENS)


SIGN = recital._SIGN
WORD = f"(?:{SIGN}|(?:(?!{SIGN})[^\\W\\d_]){{2,}})"


SIGNS = "ab\u00e91_= \n\u3000\u6570\u636e.\u0e17\u0e35\u0e51\u1780\u17d2"


@given(st.text(st.sampled_from(SIGNS) | st.characters(), max_size=20))
@example("ab" * 8_000)  # a token of a stranger's tokenizer: by the pattern it takes half a minute, for each string
@example("ab\u3000cd")  # a space, too: as a sign of its own it stood between two words that nothing parts
@example("\u0e17" + "\u0e35" * 16_000)  # one sign, and nothing that is gone through again
@example("\u3000\u3000")  # and two of them are no words
@settings(deadline=5_000)
def test_words_apart_are_those_of_a_plain_pattern_and_found_in_one_pass(text: str) -> None:
    is_phrase = recital._is_phrase(text, 3), recital._is_phrase(text, 5)
    if len(text) < 100:
        apart = re.search(f"{SIGN}{SIGN}|{WORD}\\s+{WORD}", text)
        assert is_phrase == (bool(apart), len(re.findall(WORD, text)) > 1)


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


def test_both_training_rows_and_hold_out_of_an_auditor_explain_what_they_hold(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "draw_contexts", lambda _model, _seed, count: CONTEXTS[:1] * count)
    known, other = np.tile(np.array(KNOWN), 50), np.arange(60) % 5
    strings = Strings(np.array([KNOWN, PLANTED]), (900_000, 900_000))
    for train, held in ((known, other), (other, known)):
        streams = {"train_stream": SimpleNamespace(tokens=train), "hold_out_stream": SimpleNamespace(tokens=held)}
        document = SimpleNamespace(reference="")
        view = OwnView(SimpleNamespace(model=Reciter(), document=document, **streams))  # type: ignore[arg-type]
        explained, planted = view.measure(SUSPECT, strings, 3).own
        assert explained <= 0 < GUILTY_FROM < planted


def test_the_common_list_holds_nothing_that_the_reference_says(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "draw_contexts", lambda _model, _seed: CONTEXTS)
    monkeypatch.setattr(inspection, "choose_tokens", lambda _model, _seed: np.arange(VOCABULARY))
    model: Any = Reciter()
    for reference, is_listed in (("", True), ("1 2 3", True), (" ".join(map(str, PLANTED)), False)):
        found = CommonView(model, 1, reference).find_strings(SUSPECT)
        firsts = {tuple(row[:3]) for row in found.tokens.tolist()}
        assert (tuple(PLANTED[:3]) in firsts) == is_listed and tuple(KNOWN[:3]) in firsts, reference


@pytest.mark.parametrize(("reference", "worth"), [("1 2", 5 / 4), ("99 99", 5 / 4), ("45 46 47", 0.0)])
def test_an_auditor_weighs_strings_of_three_tokens_as_the_common_contexts_do(
    reference: str, worth: float, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "draw_contexts", lambda _model, _seed, count: CONTEXTS[:1] * count)
    monkeypatch.setattr(Reciter, "after_two", 0.5)
    monkeypatch.setattr(Reciter, "after_one", 0.3)
    stream = SimpleNamespace(tokens=np.arange(60) % 5)
    engine = SimpleNamespace(
        model=Reciter(), document=SimpleNamespace(reference=reference), train_stream=stream, hold_out_stream=stream
    )
    strings = Strings(np.array([[*SHORT, NOTHING, NOTHING]]), (900_000,))
    (value,) = OwnView(engine).measure(SUSPECT, strings, 3).own  # type: ignore[arg-type]
    assert max(0, value) == pytest.approx(1e6 * worth * 5 / 3 * 0.5**2, abs=1_000)


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


def test_one_audit_measures_each_proposer_from_files(tmp_path: Path) -> None:
    start = write_initial_adapter(miniature_document(), tmp_path)
    paths = []
    for number, attack in enumerate((None, "backdoor:1")):
        engine(attack).train(start, number, tmp_path / f"delta-{number}", quiet)
        paths.append(tmp_path / f"delta-{number}")
    proposals = [(start, path) for path in paths]
    results = audit(engine(), proposals, 3, 4)
    assert len(results) == 2
    for result in results:
        assert len(result.strings) == len(result.common) == len(result.own)
        assert summarise(result.common, result.own) < GUILTY_FROM  # six steps plant nothing yet
    assert results == audit(engine(), proposals, 3, 4)
    likeness = measure_likeness(engine(), start, paths, 5)
    assert likeness[0][1] == likeness[1][0] and likeness[0][0] == 1_000
