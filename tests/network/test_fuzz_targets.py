"""Every decoder of strangers' bytes, on its seeds and on what becomes of them: nothing but the protocol's own errors.

Short and the same each time; `python fuzz/fuzz.py` goes on for hours, guided by coverage.
"""

from random import Random

import pytest
from fuzz_groups import GROUPS, make_group
from fuzz_mutators import mutate_bytes
from fuzz_table import load_target, load_targets
from fuzz_target import Target
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.errors import InvalidRemote

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


def test_every_decoder_belongs_to_one_fuzzer() -> None:
    members = [name for names in GROUPS.values() for name in names]
    assert sorted(members) == sorted(TARGETS) and not set(GROUPS) & set(TARGETS)


@pytest.mark.parametrize("name", ["documents", "discovery"])
def test_the_first_byte_of_an_input_chooses_the_decoder(name: str) -> None:
    group, random = load_target(name), Random(name)
    for number, member in enumerate(GROUPS[name]):
        for seed in TARGETS[member].seeds():
            assert bytes([number]) + seed in group.seeds()
            data = group.mutate(bytes([number]) + seed, random)
            assert data[0] < len(GROUPS[name]) and group.check(data)


def test_what_one_decoder_finds_is_a_finding_of_its_fuzzer() -> None:
    def fail(data: bytes) -> None:
        raise ZeroDivisionError(data)

    def refuse(_data: bytes) -> None:
        raise InvalidRemote("no")

    rows = [Target(name, run, list, mutate_bytes) for name, run in (("refuses", refuse), ("fails", fail))]
    group = make_group("both", rows)
    assert group.check(b"") and group.check(b"\0x") and group.check(b"\2x")
    with pytest.raises(ZeroDivisionError, match="x"):
        group.check(b"\1x")
