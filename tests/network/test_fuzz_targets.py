"""Every decoder of strangers' bytes, on its seeds and on what becomes of them: nothing but the protocol's own errors.

Short and the same each time; `python fuzz/fuzz.py` goes on for hours, guided by coverage.
"""

from random import Random

import pytest
from fuzz_mutators import mutate_bytes
from fuzz_table import load_targets
from hypothesis import given, settings
from hypothesis import strategies as st

TARGETS = load_targets()
SLOW = {"noise_handshake", "noise_payload", "gossip"}  # keys, signatures
NEVER_ACCEPTED = {"noise_handshake"}  # its seeds are strangers


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_takes_its_seeds_and_survives_their_mutations(name: str) -> None:
    target, random = TARGETS[name], Random(name)
    seeds = target.seeds()
    accepted = [target.check(seed) for seed in seeds]
    assert any(accepted) or name in NEVER_ACCEPTED, "no seed gets through"
    for number in range(12 if name in SLOW else 80):
        mutate = target.mutate if number % 2 else mutate_bytes
        data = random.choice(seeds)
        for _ in range(1 + number % 3):
            data = mutate(data, random)
        target.check(data)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(set(TARGETS) - SLOW)), data=st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(name: str, data: bytes) -> None:
    TARGETS[name].check(data)
