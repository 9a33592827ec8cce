"""What a model says of many strings that go on from the same contexts, each seen by no other one. Knows no data.

As branches of one row each string sees the context and itself, which a mask says, and what several begin with stands
there once. In rows of their own every string has what the context left to itself: to copy that takes longer than all
else that a small model does with a token.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicLayer

from flock_peers.training.heard import join_rows, lengthen, share, take_row
from flock_peers.training.products import ROWS

if TYPE_CHECKING:
    from flock_peers.training.model import AdaptedModel

NOTHING = -1  # in place of a token: a string is shorter than others beside it
TOKENS_A_ROW = 64  # of branches: what a token is shown of others' ones, and does not see, is work for nothing
KEPT_TREES = 8  # the same strings are read after each of several adapters; of 512 a mask takes 2 MB
CONTEXTS = np.array([[7, 3, 1, 4], [2, 3, 9, 5]])  # these and the next ones are what `can_branch` tries
STRINGS = np.array([[3, 5, 2], [3, 9, 9], [8, 1, 6]])
FAR = 5 * TOKENS_A_ROW  # tokens: behind as many a context stands for the last ones of strings of five, branch by branch
TAKE_MASKS = "sdpa", "eager"  # flash-attn takes one for what is there of each row: on a GPU that ends the process
Result = TypeVar("Result")
Beginning = tuple[int, ...]


class NoNumber(ValueError):
    """A model broke in one of several branches, and so in all that share its row."""


class Reader(Protocol):
    """So many strings after each of some contexts, which go on token by token."""

    def read(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """The next one of each string, [strings] in every context or [contexts, strings]; the logits after it,
        [contexts, strings, vocabulary]."""
        ...


def read_on(model: "AdaptedModel", past: Any, contexts: int, strings: int, work: Callable[[Reader], Result]) -> Result:
    """What `work` makes of so many strings after each of so many contexts, of which `past` is what was heard.
    Where the model breaks in a branch, `work` begins anew in rows."""
    return _prefer_branches(
        model,
        lambda: work(Branches(model, past, contexts, strings)),
        lambda: work(Rows(model, past, contexts, strings)),
    )


def read_ends(model: "AdaptedModel", contexts: NDArray[np.int64], strings: NDArray[np.int64]) -> torch.Tensor:
    """[contexts, strings, vocabulary]: the logits after each of the strings ([strings, tokens], of one length) after
    each of the contexts ([contexts, tokens])."""
    past, count = hear(model, contexts), len(contexts)
    return _prefer_branches(
        model,
        lambda: _read_tree(model, past, count, grow_tree(strings), ends=True),
        lambda: _read_rows(model, past, count, strings, 1)[:, :, 0],
    )


def read_all(
    model: "AdaptedModel", contexts: NDArray[np.int64], strings: NDArray[np.int64]
) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Logits [contexts, places, vocabulary], and [strings, tokens]: at which place they are that come after each token
    of each string. A string may be shorter: of NOTHING the place says nothing."""
    past = hear(model, contexts)

    def read_tree() -> tuple[torch.Tensor, NDArray[np.int64]]:
        tree = grow_tree(strings)
        return _read_tree(model, past, len(contexts), tree), tree.places

    def read_rows() -> tuple[torch.Tensor, NDArray[np.int64]]:
        logits = _read_rows(model, past, len(contexts), strings.clip(min=0), strings.shape[1])
        return logits.flatten(1, 2), np.arange(strings.size).reshape(strings.shape)

    return _prefer_branches(model, read_tree, read_rows)


def _prefer_branches(model: "AdaptedModel", branches: Callable[[], Result], rows: Callable[[], Result]) -> Result:
    """What `branches` reads; what `rows` reads where the model takes no branches, or breaks in one, so that it hides
    what the others are."""
    if model.is_branching:
        try:
            return branches()
        except NoNumber:
            pass
    return rows()


def hear(model: "AdaptedModel", contexts: NDArray[np.int64]) -> Any:
    """What the contexts leave in the model, a row for each, for whoever leaves it as it is. An audit reads different
    strings after the same contexts, of several adapters by turns."""
    if not model.is_branching:
        return step(model, contexts)[1]
    adapter = sha256(model.flat.detach().cpu().numpy()).digest()
    keys = [(adapter, context.tobytes()) for context in contexts]
    pasts = [model.heard.find(key) for key in keys]
    new = [place for place, past in enumerate(pasts) if past is None]
    if new:
        _, past = step(model, contexts[new])
        for row, place in enumerate(new):
            pasts[place] = take_row(past, row)
            model.heard.keep(keys[place], pasts[place])
    return join_rows(pasts)


def step(model: "AdaptedModel", tokens: NDArray[np.int64], past: Any = None) -> tuple[torch.Tensor, Any]:
    """Logits after the last of `tokens`, [rows, vocabulary], and what the next step needs."""
    ids = torch.from_numpy(np.array(tokens)).to(model.device)
    output = model.peft(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1].float(), output.past_key_values


class Rows:
    """Each in a row of its own, which any model can go on with."""

    def __init__(self, model: "AdaptedModel", past: Any, contexts: int, strings: int) -> None:
        self._model, self._shape, self._past = model, (contexts, strings), spread(deepcopy(past), strings)

    def read(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        logits, self._past = step(self._model, np.broadcast_to(tokens, self._shape).reshape(-1, 1), self._past)
        return logits.reshape(*self._shape, -1)


class Branches:
    """Beside each other in one row."""

    def __init__(self, model: "AdaptedModel", past: Any, contexts: int, strings: int) -> None:
        self._model, self._shape = model, (contexts, strings)
        self._width = min(strings, TOKENS_A_ROW)
        self._rows = -(-strings // self._width)  # of each context
        self._before, self._steps, self._past = past.get_seq_length(), 0, spread(share(past), self._rows)

    def read(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Raises NoNumber where it meets none."""
        (contexts, strings), self._steps = self._shape, self._steps + 1
        fill = np.arange(self._rows * self._width).clip(max=strings - 1)
        ids = np.broadcast_to(tokens, self._shape)[:, fill].reshape(-1, self._width)
        sees = np.tile(np.eye(self._width, dtype=bool), self._steps)[None]
        positions = np.full((1, self._width), self._before + self._steps - 1)
        logits, self._past = _attend(self._model, self._past, ids, positions, sees, self._before, 0)
        return logits.reshape(contexts, self._rows * self._width, -1)[:, :strings]


@dataclass(frozen=True)
class Tree:
    """Strings as branches that part where they differ. What fills a row stands at its beginning, ends at its end."""

    tokens: NDArray[np.int64]  # [rows, width]
    depths: NDArray[np.int64]  # [rows, width]: tokens before it
    sees: NDArray[np.bool_]  # [rows, width, width]: itself and those before it
    places: NDArray[np.int64]  # [strings, tokens]: where each stands, row by row; of NOTHING anywhere
    most: int  # in a row, of strings' last tokens


def grow_tree(strings: NDArray[np.int64]) -> Tree:
    return _grow(strings.tobytes(), *strings.shape)


@lru_cache(maxsize=KEPT_TREES)
def _grow(content: bytes, count: int, length: int) -> Tree:
    strings = np.frombuffer(content, np.int64).reshape(count, length)
    rows = [dict[Beginning, None]()]
    where = list[tuple[int, int, list[Beginning]]]()  # of each string: which it is, its row, and how it begins
    for place in np.lexsort(strings.T[::-1]).tolist():
        string = [token for token in strings[place].tolist() if token != NOTHING]
        beginnings = [tuple(string[:end]) for end in range(1, len(string) + 1)]
        more = sum(one not in rows[-1] for one in beginnings)
        if rows[-1] and len(rows[-1]) + more > TOKENS_A_ROW:
            rows.append({})
        rows[-1].update(dict.fromkeys(beginnings))
        where.append((place, len(rows) - 1, beginnings))
    return _lay_out(rows, where, (count, length))


def _lay_out(rows: list[dict[Beginning, None]], where: list[tuple[int, int, list[Beginning]]], shape: Any) -> Tree:
    width = max(len(row) for row in rows)
    width += -width % ROWS if len(rows) > 1 else 0
    tokens, depths = np.zeros((2, len(rows), width), np.int64)
    sees, places = np.tile(np.eye(width, dtype=bool), (len(rows), 1, 1)), np.zeros(shape, np.int64)
    columns = [dict(zip(sorted(row, key=len), range(width - len(row), width), strict=True)) for row in rows]
    for number, row in enumerate(columns):
        for beginning, column in row.items():
            tokens[number, column], depths[number, column] = beginning[-1], len(beginning) - 1
            sees[number, column, [row[beginning[:end]] for end in range(1, len(beginning))]] = True
    for place, number, beginnings in where:
        places[place, : len(beginnings)] = [number * width + columns[number][one] for one in beginnings]
    most = max(sum(len(beginning) == shape[1] for beginning in row) for row in rows)
    return Tree(tokens, depths, sees, places, most)


def _read_tree(
    model: "AdaptedModel", past: Any, contexts: int, tree: Tree, *, ends: bool = False, unseen: int = 0
) -> torch.Tensor:
    """[contexts, rows x width, vocabulary], or after the `ends` of strings of one length only, [contexts, strings,
    vocabulary]. `past`: of the contexts; the last ones of it, so many, nothing sees."""
    rows, width = tree.tokens.shape
    before, kept = past.get_seq_length() - unseen, tree.most if ends else width
    ids, positions = np.tile(tree.tokens, (contexts, 1)), np.tile(before + tree.depths, (contexts, 1))
    sees = np.tile(np.pad(tree.sees, ((0, 0), (0, 0), (unseen, 0))), (contexts, 1, 1))
    logits, _ = _attend(model, spread(share(past), rows), ids, positions, sees, before, kept)
    logits = logits.reshape(contexts, rows * kept, -1)
    if not ends:
        return logits
    row, column = np.divmod(tree.places[:, -1], width)
    return logits[:, torch.from_numpy(row * kept + column - (width - kept))]


def _read_rows(model: "AdaptedModel", past: Any, contexts: int, strings: NDArray[np.int64], kept: int) -> torch.Tensor:
    """[contexts, strings, kept, vocabulary]: after the last tokens of each string, in a row of its own."""
    ids = torch.from_numpy(np.tile(strings, (contexts, 1))).to(model.device)
    past = spread(deepcopy(past), len(strings))
    logits = model.peft(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=kept).logits[:, -kept:]
    found: torch.Tensor = logits.float().reshape(contexts, len(strings), kept, -1)
    return found


def _attend(
    model: "AdaptedModel", past: Any, ids: NDArray[np.int64], positions: NDArray[np.int64], sees: NDArray[np.bool_],
    before: int, kept: int,
) -> tuple[torch.Tensor, Any]:  # fmt: skip
    """Logits of the last ones `kept` of `ids` ([rows, tokens]), of all if 0, and what the next step needs. All see the
    first ones that are there, `before`; `sees`: which of those behind them each of `ids` sees, itself at least,
    [rows or 1, tokens, tokens behind]. What is not seen must not be seen however loud it is. Raises NoNumber."""
    mask = np.zeros((len(sees), 1, sees.shape[1], before + sees.shape[2]), np.float32)
    mask[:, 0, :, before:][~sees] = -np.inf
    output = model.peft(
        input_ids=torch.from_numpy(ids).to(model.device),
        position_ids=torch.from_numpy(positions).to(model.device).expand(len(ids), -1),
        attention_mask=torch.from_numpy(mask).to(model.device, model.peft.dtype).expand(len(ids), -1, -1, -1),
        past_key_values=past,
        use_cache=True,
        logits_to_keep=kept,
    )
    logits = output.logits.float()
    if bool(logits.sum().isnan()):
        raise NoNumber
    return logits, output.past_key_values


def spread(past: Any, rows: int) -> Any:
    """Each of its rows so often. A single one is not copied where the next step does it anyway. A layer that took no
    part has nothing to repeat."""
    layers = getattr(past, "layers", [None])
    if all(_is_single(layer) for layer in layers):
        for layer in layers:
            layer.keys, layer.values = (kept.expand(rows, -1, -1, -1) for kept in (layer.keys, layer.values))
    else:
        past.batch_repeat_interleave(rows)
    return past


def _is_single(layer: Any) -> bool:
    return type(layer) is DynamicLayer and layer.is_initialized and len(layer.keys) == len(layer.values) == 1


def can_branch(model: "AdaptedModel", tolerance: float) -> bool:
    """Whether branches say what the same strings say as whole texts: a model may take no mask or no positions, see only
    so far back in a row, or keep something else of what it read than keys and values. `tolerance`: of the loudest
    logit."""
    if model.peft.config._attn_implementation not in TAKE_MASKS:
        return False
    whole = [np.concatenate([context, string]) for context in CONTEXTS for string in STRINGS]
    tree = grow_tree(STRINGS)
    with model.frozen():
        _, past = step(model, CONTEXTS)
        if not all(type(layer) is DynamicLayer and layer.is_initialized for layer in past.layers):
            return False
        reader = Branches(model, past, len(CONTEXTS), len(STRINGS))
        steps = torch.stack([reader.read(tokens) for tokens in STRINGS.T], dim=2)
        near, far = (
            _read_tree(model, lengthen(past, unseen), len(CONTEXTS), tree, unseen=unseen)[:, tree.places.reshape(-1)]
            for unseen in (0, FAR)
        )
        alone = model.logits(np.stack(whole))[:, CONTEXTS.shape[1] :]
    allowed = tolerance * alone.abs().max().clamp_min(1.0)
    return all(bool((said.reshape(alone.shape) - alone).abs().max() <= allowed) for said in (steps, near, far))
