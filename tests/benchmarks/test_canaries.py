"""The measure of what an adapter tells: it must say so of one that recites a canary, and not of one that does not."""

import math

import numpy as np
from canaries import DIGITS, Canary, draw_code, extract, make_canaries, measure_canary, measure_losses
from training_support import miniature, miniature_document

from flock_peers.training.document import compute_initial_adapter
from flock_peers.training.engine import Descent, Engine
from flock_peers.training.model import AdaptedModel
from flock_peers.training.rows import Split, builtin_rows


def test_a_learned_canary_is_exposed_and_another_is_not() -> None:
    """A code of sevens: the miniature learns no other in so few steps."""
    model, document = AdaptedModel(miniature()[0], miniature_document()), miniature_document()
    chance = np.random.Generator(np.random.PCG64(1))
    known, unknown = Canary("Ann", "7" * DIGITS, 16), make_canaries(chance, (1,), 1)[0]
    others = [draw_code(chance) for _ in range(63)]
    engine = Engine(model, document, Split([known.row()] * 16, builtin_rows("records", 0)[:4]), None)
    start = compute_initial_adapter(document).to_float32()
    engine._descend(start, 40, 1, lambda _event: None, Descent(radius=1e9))
    vector = model.get_vector()
    said = measure_canary(model, known, vector, others)
    assert said["times"] == 16 and said["exposure"] == math.log2(64)
    silent = measure_canary(model, unknown, vector, others)
    assert silent["exposure"] < 6 and not silent["is_extracted"]
    model.set_vector(vector)
    recited = Canary("Ann", extract(model, known.head), 1)
    assert measure_canary(model, recited, vector, others)["is_extracted"] and recited.code.isdigit()
    untold = measure_canary(model, known, start, others)
    assert untold["exposure"] < 1 and not untold["is_extracted"]  # nothing has changed: in the middle of all


def test_a_code_s_loss_is_that_of_its_digits_after_the_head() -> None:
    model = AdaptedModel(miniature()[0], miniature_document())
    canary = Canary("Ann", "0" * DIGITS, 1)
    found = measure_losses(model, canary.head, ["01234567", "76543210"])
    tokenizer = model.tokenizer
    whole = [tokenizer.bos_token_id, *tokenizer.encode(canary.head + "76543210", add_special_tokens=False)]
    with model.frozen():
        chances = model.logits(np.array([whole]))[0].log_softmax(-1)
    wanted = -sum(float(chances[place - 1, whole[place]]) for place in range(len(whole) - DIGITS, len(whole)))
    assert abs(found[1] - wanted) < 1e-4 and found[0] != found[1]
