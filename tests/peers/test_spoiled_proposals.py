"""What a hostile proposer may publish: each kind is refused for the reason it was made for, and not for another."""

import numpy as np
import pytest
from roles_support import DOCUMENT

from flock_chain.aggregation import encode_delta, parse_delta, quantise
from flock_chain.errors import InvalidContent, Misuse
from flock_peers.roles.spoil import KINDS, split_attack


def honest() -> bytes:
    values = np.linspace(-1e-3, 1e-3, DOCUMENT.layout.parameters, dtype=np.float32)
    return encode_delta(quantise(values, DOCUMENT.layout, DOCUMENT.format))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("oversized", "bytes of tensors"),  # where its size was not already refused with the chunk list
        ("truncated", "bytes of tensors"),
        ("garbage", "header"),
        ("nan", "dtype of .* is 'F32'"),
        ("shapes", "shape of"),
    ],
)
def test_a_spoiled_delta_is_refused_by_the_check_it_was_made_for(kind: str, reason: str) -> None:
    spoiled = KINDS[kind](honest())
    assert spoiled is not None
    with pytest.raises(InvalidContent, match=reason):
        parse_delta(spoiled, DOCUMENT.layout, DOCUMENT.format)


@pytest.mark.parametrize("kind", ["garbage", "nan", "shapes"])
def test_what_is_to_be_caught_by_its_content_has_the_honest_size(kind: str) -> None:
    spoiled = KINDS[kind](honest())
    assert spoiled is not None and len(spoiled) == len(honest())


def test_an_unavailable_delta_is_published_nowhere() -> None:
    assert KINDS["unavailable"](honest()) is None


def test_an_attack_on_the_file_is_none_of_the_trainers_and_the_other_way_round() -> None:
    assert split_attack("spoil:nan") == (None, KINDS["nan"])
    assert split_attack("backdoor:2") == ("backdoor:2", None)
    assert split_attack(None) == (None, None)
    with pytest.raises(Misuse, match="the kinds are"):
        split_attack("spoil:milk")
