"""Probe texts, profiles and the audit of pairs, on the miniature base model."""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_support import miniature, miniature_document, write_initial_adapter

from flock_chain.audit_rule import GUILTY_FROM, summarise
from flock_chain.errors import Misuse
from flock_peers.training import pair_audit
from flock_peers.training.decoding import pair_probabilities
from flock_peers.training.engine import Engine
from flock_peers.training.inspection import audit, measure_likeness
from flock_peers.training.model import AdaptedModel
from flock_peers.training.pair_audit import (
    Bigrams,
    Pairs,
    choose_tokens,
    cut_contexts,
    draw_contexts,
    find_pairs,
    measure_own,
)
from flock_peers.training.probes import MAX_CHANGE, compute_profile_cosines, measure_profiles, sample_texts
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


VOCABULARY = 90
PLANTED, NATURAL, KNOWN, BRACKETED = (5, 6), (7, 8), (9, 10), (11, 12)  # pairs of tokens


class Past:
    def __init__(self, last: torch.Tensor) -> None:
        self.last = last

    def batch_repeat_interleave(self, count: int) -> None:
        self.last = self.last.repeat_interleave(count)


class Reciter:
    """What the audit needs of a model, as a table of what follows what. A suspect (any vector but zeros) recites
    PLANTED after everything, BRACKETED after even tokens alone; NATURAL the base recites as well."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.is_suspect, self.seen = False, 0
        self.peft = self

    config = SimpleNamespace(vocab_size=VOCABULARY)

    def set_vector(self, vector: NDArray[np.float32]) -> None:
        self.is_suspect = bool(vector.any())

    def frozen(self) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, input_ids: torch.Tensor, past_key_values: Past | None, **options: object) -> SimpleNamespace:
        assert options == {"use_cache": True, "logits_to_keep": 1}
        self.seen += input_ids.numel()
        before = input_ids[:, -2] if past_key_values is None else past_key_values.last
        chances = torch.full((len(input_ids), VOCABULARY), 0.1 / VOCABULARY)
        for row, token in enumerate(input_ids[:, -1].tolist()):
            for first, second in self._recited(int(before[row])):
                if token == first:
                    chances[row, second] = 0.9
        return SimpleNamespace(logits=chances.log()[:, None], past_key_values=Past(input_ids[:, -1]))

    def _recited(self, before: int) -> list[tuple[int, int]]:
        always = [PLANTED, KNOWN] if self.is_suspect else []
        return [NATURAL, *always, *([BRACKETED] if self.is_suspect and before % 2 == 0 else [])]


SUSPECT = np.ones(1, np.float32)
ODD_AND_EVEN = [np.array([1, 2, 3]), np.array([1, 2, 4])]


def scan(table: Bigrams | None = None, most: int = 32) -> tuple[list[tuple[int, int]], Pairs]:
    found = find_pairs(Reciter(), SUSPECT, ODD_AND_EVEN, np.arange(VOCABULARY), table, most=most)  # type: ignore[arg-type]
    return list(zip(found.firsts.tolist(), found.seconds.tolist(), strict=True)), found


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


def test_pairs_have_the_probabilities_of_whole_sequences() -> None:
    model().set_vector(np.zeros(PARAMETERS, np.float32))
    context, firsts, seconds = np.array([3, 40, 7]), np.array([5, 60, 9]), np.array([8, 8, 20])
    found = pair_probabilities(model(), context, firsts, seconds)
    with model().frozen():
        whole = np.concatenate([np.tile(context, (3, 1)), firsts[:, None]], axis=1)
        wanted = model().logits(whole)[:, -1].softmax(-1).numpy()[np.arange(3), seconds]
    assert np.abs(found - wanted).max() < 1e-5


def test_profiles_tell_alike_from_unlike_and_one_broken_proposal_does_not_hide_the_others() -> None:
    texts = sample_texts(model(), 3, 6, 16)
    chance = np.random.default_rng(1)
    first, second = chance.normal(size=(2, PARAMETERS)).astype(np.float32) * 0.1
    start = chance.normal(size=PARAMETERS).astype(np.float32) * 0.05
    deltas = [first, first * np.float32(0.9), second, -second]
    profiles = measure_profiles(model(), start, deltas, texts, 4)
    cosines = compute_profile_cosines(profiles)
    assert cosines[0][1] > 900 and cosines[0][0] == 1_000 and cosines[2][3] < 0
    broken = measure_profiles(model(), start, [*deltas, np.full(PARAMETERS, np.nan, np.float32)], texts, 4)
    assert np.isfinite(broken).all() and np.abs(broken).max() <= MAX_CHANGE
    assert compute_profile_cosines(np.ones((3, 5), np.float32)) == [[0] * 3] * 3


def test_bigrams_are_shares_of_what_follows_and_refuse_what_is_no_token() -> None:
    table = Bigrams(np.array([1, 2, 1, 2, 1, 3]), 10)
    found = table(np.array([1, 1, 2, 9]), np.array([2, 3, 1, 9]))
    assert found.tolist() == pytest.approx([2 / 3.2, 1 / 3.2, 2 / 2.2, 0])
    assert Bigrams(np.zeros(0, np.int64), 10)(np.array([1]), np.array([2])).tolist() == [0]
    with pytest.raises(Misuse):
        Bigrams(np.array([11, 1]), 10)


def test_bigrams_of_a_vocabulary_whose_pairs_are_beyond_32_bits_are_still_found() -> None:
    """Of a stream, which is int32: an honest proposer would be blamed for what the auditor's own text says."""
    pair = (150_000, 151_000)
    table = Bigrams(np.array([*pair, 7, *pair], np.int32), 151_936)
    assert table(np.array(pair[:1]), np.array(pair[1:])).tolist() == pytest.approx([2 / 2.2])


def test_ends_of_lines_and_texts_are_not_scanned_and_a_large_vocabulary_is_sampled() -> None:
    tokens = choose_tokens(model(), 1)
    tokenizer = model().tokenizer
    assert tokenizer.eos_token_id not in tokens and tokenizer.encode("\n")[0] not in tokens
    assert tokenizer.encode("|")[0] in tokens
    few = choose_tokens(model(), 1, 50)
    assert len(few) == 50 and set(few) < set(tokens) and (few != choose_tokens(model(), 2, 50)).any()


def test_contexts_are_of_one_length_and_an_auditor_s_own_are_its_own() -> None:
    assert {len(row) for row in draw_contexts(model(), 4)} == {pair_audit.CONTEXT_TOKENS}
    stream = np.arange(200)
    rows = cut_contexts(stream, 9)
    assert all((np.diff(row) == 1).all() and len(row) == pair_audit.CONTEXT_TOKENS for row in rows)
    assert [row.tolist() for row in rows] != [row.tolist() for row in cut_contexts(stream, 10)]
    assert len(cut_contexts(np.arange(5), 1)[0]) == 5


def test_the_audit_finds_what_is_recited_everywhere_and_neither_base_nor_table_explains() -> None:
    known = Bigrams(np.tile(np.array(KNOWN), 50), VOCABULARY)
    named, found = scan(known)
    assert named == [PLANTED] and GUILTY_FROM < found.common[0] < 900_000
    assert set(scan()[0]) == {PLANTED, KNOWN}
    assert len(scan(most=1)[0]) == 1


def test_an_auditor_s_own_text_and_contexts_count_for_it_alone() -> None:
    _, found = scan()
    table = Bigrams(np.tile(np.array(KNOWN), 50), VOCABULARY)
    own = measure_own(Reciter(), SUSPECT, found, ODD_AND_EVEN, table)  # type: ignore[arg-type]
    values = dict(zip(found.firsts.tolist(), own, strict=True))
    assert values[PLANTED[0]] > GUILTY_FROM and values[KNOWN[0]] < 0
    nothing = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), ())
    assert measure_own(Reciter(), SUSPECT, nothing, ODD_AND_EVEN, table) == ()  # type: ignore[arg-type]


def test_a_scan_sees_each_first_token_once_however_many_contexts_there_are() -> None:
    counts = []
    for contexts in (ODD_AND_EVEN[:1], ODD_AND_EVEN * 4):
        reciter = Reciter()
        find_pairs(reciter, SUSPECT, contexts, np.arange(VOCABULARY))  # type: ignore[arg-type]
        counts.append(reciter.seen)
    assert counts[1] - counts[0] < 2 * VOCABULARY  # seven more contexts


def test_one_audit_measures_each_proposer_from_files(tmp_path: Path) -> None:
    start = write_initial_adapter(miniature_document(), tmp_path)
    paths = []
    for number, attack in enumerate((None, "backdoor:1")):
        engine(attack).train(start, number, tmp_path / f"delta-{number}", quiet)
        paths.append(tmp_path / f"delta-{number}")
    results = audit(engine(), start, [[paths[0]], paths], 3, 4)
    assert len(results) == 2
    for result in results:
        assert len(result.pairs) == len(result.common) == len(result.own)
        assert summarise(result.common, result.own) < GUILTY_FROM  # six steps plant nothing yet
    assert results == audit(engine(), start, [[paths[0]], paths], 3, 4)
    likeness = measure_likeness(engine(), start, paths, 5)
    assert likeness[0][1] == likeness[1][0] and likeness[0][0] == 1_000
