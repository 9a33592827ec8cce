"""Known digests: whoever changes a format or a rounding by accident fails here, before peers disagree."""

import numpy as np
from aggregation_support import FORMAT, FOUR

from flock_chain.aggregation import (
    Layout,
    apply,
    compute_clip_factors,
    compute_gram,
    encode_delta,
    encode_global,
    from_floats,
    quantise,
)
from flock_chain.content import compute_chunk_list, split_chunks

LAYOUT = Layout.of({"layers.0.lora_A": (8, 24), "layers.0.lora_B": (24, 8), "layers.1.lora_A": (8, 25)})


def make_golden_vector(seed: int, exponent: int) -> np.ndarray:
    """By integer arithmetic, so that no library's generator takes part."""
    values = [((index + seed) ** 2 * 2654435761 % 4001 - 2000) * 2.0**exponent for index in range(LAYOUT.parameters)]
    return np.array(values, np.float32)


def digest(data: bytes) -> str:
    return compute_chunk_list(split_chunks(data)).digest.hex()


def test_of_four_bits_too():
    deltas = [quantise(make_golden_vector(seed, -13 - seed % 2), LAYOUT, FOUR) for seed in range(3)]
    adapter = from_floats(make_golden_vector(9, -14), LAYOUT, FOUR)
    assert [digest(encode_delta(delta)) for delta in deltas] == GOLDEN_FOUR
    large = quantise(make_golden_vector(3, -12), LAYOUT, FOUR)
    assert digest(encode_global(apply(adapter, [*deltas, large]))) == GOLDEN_FOUR_AFTER


def test_files_and_sums_of_known_vectors_have_known_ids():
    deltas = [quantise(make_golden_vector(seed, -16 - seed % 2), LAYOUT, FORMAT) for seed in range(3)]
    adapter = from_floats(make_golden_vector(9, -14), LAYOUT, FORMAT)
    deltas.append(quantise(make_golden_vector(3, -15), LAYOUT, FORMAT))  # clipped
    gram = compute_gram(deltas)
    assert [digest(encode_delta(delta)) for delta in deltas] == GOLDEN_DELTAS
    assert gram[0] == GOLDEN_DOTS
    assert compute_clip_factors([gram[i][i] for i in range(4)]) == GOLDEN_FACTORS
    assert digest(encode_global(adapter)) == GOLDEN_ADAPTER
    assert digest(encode_global(apply(adapter, deltas))) == GOLDEN_AFTER


GOLDEN_DELTAS = [
    "441455a506c842f3f7fe7ceff9924e1c215546b46bc788d7d4d04ab6276fb7b2",
    "08d1a0503cf6fe0a3441cb369d57e34a8b9153b12c1c9b3dcdf7071649bdf9b5",
    "e06f72d9f66fd2ce94c5cd2ec1cc52d128fb08185c8eab2896c58a5ee16eea4d",
    "484be5c8cb5cc0a3e036b7c424f1600c5f35afaec1715767fcb1496f0a8acfc3",
]
GOLDEN_DOTS = [54035721748480, -1246387765248, 1399538581504, 1952935051264]
GOLDEN_FACTORS = [1073741824, 1073741824, 1073741824, 804666532]
GOLDEN_ADAPTER = "804f2ab081c0e10b1f89bb5fb1a22d0fab46a15174ab3cd05107f0c476344e72"
GOLDEN_AFTER = "a2146e210feb4fc7e7e505874d1a22c7dfcb619c8569e7fb5868022f3f6e81c5"
GOLDEN_FOUR = [
    "8584d93b12348d036d95a5c74c129e7e25c029adacb32143033d360f68f7730e",
    "e88f671b44cb97f3cf969af1f972e22f9498593880a54bd1295ca1268eab1733",
    "ed957bdfff71362737e4c45f535864250784889a22b0acd28c1e825cb4f32145",
]
GOLDEN_FOUR_AFTER = "8f2010bff6336d27c88e1416e1650f0fa53eddfbe32e9a6b512a071a2ecf4305"
