"""Probe texts, and profiles of what proposals do to them, on the miniature base model."""

import numpy as np
from training_support import miniature_model

from flock_peers.training.probes import MAX_CHANGE, compute_profile_cosines, measure_profiles, sample_texts


def test_texts_follow_from_their_seed_and_are_the_base_model_s_own() -> None:
    texts = sample_texts(miniature_model(), 5, 6, 12)
    assert texts.shape == (6, 12) and (texts == sample_texts(miniature_model(), 5, 6, 12)).all()
    assert (texts != sample_texts(miniature_model(), 6, 6, 12)).any()
    assert len({tuple(row) for row in texts.tolist()}) == 6
    miniature_model().set_vector(np.full(miniature_model().layout.parameters, 0.05, np.float32))
    assert (texts == sample_texts(miniature_model(), 5, 6, 12)).all()  # whatever adapter was in the model before


def test_sampling_follows_the_model_s_probabilities() -> None:
    """The share of each first token is its probability, within what 4,000 draws scatter."""
    firsts = sample_texts(miniature_model(), 1, 4_000, 1)[:, 0]
    miniature_model().set_vector(np.zeros(miniature_model().layout.parameters, np.float32))  # the base model's own
    with miniature_model().frozen():
        logits = miniature_model().logits(np.array([[miniature_model().tokenizer.bos_token_id]]))[0, -1]
    wanted = logits.softmax(-1).numpy()
    found = np.bincount(firsts, minlength=len(wanted)) / len(firsts)
    assert np.abs(found - wanted).max() < 0.04


def test_profiles_tell_alike_from_unlike_and_one_broken_proposal_does_not_hide_the_others() -> None:
    texts = sample_texts(miniature_model(), 3, 6, 16)
    chance, count = np.random.default_rng(1), miniature_model().layout.parameters
    first, second = chance.normal(size=(2, count)).astype(np.float32) * 0.03  # with 0.1 a tenth less is another
    start = chance.normal(size=count).astype(np.float32) * 0.05
    deltas = [first, first * np.float32(0.9), second, -second]
    profiles = measure_profiles(miniature_model(), start, deltas, texts, 4)
    cosines = compute_profile_cosines(profiles)
    assert cosines[0][1] > 900 and cosines[0][0] == 1_000 and cosines[2][3] < 0
    broken = measure_profiles(miniature_model(), start, [*deltas, np.full(count, np.nan, np.float32)], texts, 4)
    assert np.isfinite(broken).all() and np.abs(broken).max() <= MAX_CHANGE
    assert compute_profile_cosines(np.ones((3, 5), np.float32)) == [[0] * 3] * 3
