"""Many participants of one task in one process, whose engines share a model. Needs torch; knows no round, no vote."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flock_chain.aggregation import GlobalAdapter
from flock_peers.training.agreement import LENGTHS
from flock_peers.training.attack_success import measure_attack_success
from flock_peers.training.backdoor import Attack, Backdoor
from flock_peers.training.client import BASE_FOLDER, Measured
from flock_peers.training.continuations import NOTHING
from flock_peers.training.decoding import get_vocabulary
from flock_peers.training.document import Budget, TaskDocument, compute_initial_adapter, create_document
from flock_peers.training.domains import DOMAINS, SLICES, assign_domain, reference_text, test_rows
from flock_peers.training.engine import Engine
from flock_peers.training.inspection import CommonView, OwnView, Shared, compare
from flock_peers.training.model import AdaptedModel, measure_loss
from flock_peers.training.recital import Strings, Suspect
from flock_peers.training.remembered import Remembered
from flock_peers.training.rows import Row, Split, builtin_rows, split_by_seed
from flock_peers.training.streams import Stream, build_stream, fixed_windows

# Small enough for a 12-round federation in a minute of one core. A budget ten times as large forms a backdoor in one
# round and leaves nothing to watch.
BUDGET = Budget(steps=12, batch=4, seq_len=64, lr_millionths=1_000, norm_thousandths=1_400, eval_windows=10)
TEST_WINDOWS = 12  # of each domain
PROBE_BATCH = 20  # texts at once
PROMPTS = 12  # of each domain, on which a backdoor may fire

Vector = NDArray[np.float32]


class Laboratory:
    """`seed` chooses everybody's rows, their split into training and hold-out, and the round-0 adapter."""

    def __init__(self, participants: int, seed: int, *, base: Path = BASE_FOLDER, budget: Budget = BUDGET) -> None:
        torch.set_num_threads(1)
        self.document = _document(base, budget, seed)
        self._model = _model(base, self.document)
        self.domains = [assign_domain(number)[0] for number in range(participants)]
        self._splits = [_split(number, seed, participants) for number in range(participants)]
        self._engines = [Engine(self._model, self.document, split, None) for split in self._splits]
        self._own: dict[tuple[int, bool], OwnView] = {}
        self._common: tuple[tuple[int, bool], CommonView] | None = None  # of the last audit
        self._tests = {domain: _test_stream(base, domain, self._model) for domain in DOMAINS}
        self._windows = {
            domain: fixed_windows(stream, TEST_WINDOWS, budget.seq_len) for domain, stream in self._tests.items()
        }

    def initial_adapter(self) -> GlobalAdapter:
        return compute_initial_adapter(self.document)

    # Training

    def train(
        self, number: int, start: Vector, seed: int, attack: Attack | None = None, proximal: float = 0.0
    ) -> Vector:
        """One local budget of a participant: what it changes in `start`."""
        return self._engines[number].compute_change(start, seed, _ignore, attack, proximal)[0]

    def train_on(self, split: Split, start: Vector, seed: int) -> Vector:
        """One local budget on rows that are no participant's."""
        return Engine(self._model, self.document, split, None).compute_change(start, seed, _ignore, None)[0]

    def train_alone(self, number: int, start: Vector, rounds: int, seed: int) -> Vector:
        """As many budgets as there are rounds, on the own rows only; the vector after the last."""
        engine, vector = self._with_steps(self._splits[number], rounds), start
        return vector + engine.compute_change(start, seed, _ignore, None)[0]

    def train_pooled(self, start: Vector, rounds: int, batches: int, seed: int) -> Vector:
        """What nobody could do: as many steps on everybody's rows, `batches` participants' batches at each."""
        rows = [row for split in self._splits for row in split.train]
        engine = self._with_steps(Split(rows, rows[:8]), rounds, batches)
        return start + engine.compute_change(start, seed, _ignore, None)[0]

    def train_reference(self, start: Vector, seed: int) -> Vector:
        """One budget on everybody's hold-outs mixed: the root data that FLTrust's server has, and no network."""
        rows = [row for split in self._splits for row in split.hold_out]
        engine = Engine(self._model, self.document, Split(rows, rows[:8]), None)
        return engine.compute_change(start, seed, _ignore, None)[0]

    def _with_steps(self, split: Split, rounds: int, batches: int = 1) -> Engine:
        budget = self.document.budget
        larger = replace(
            budget, steps=rounds * budget.steps, batch=batches * budget.batch, norm_thousandths=1_000 * rounds * 1_400
        )
        return Engine(self._model, replace(self.document, budget=larger), split, None)

    # Measuring

    def score(self, number: int, start: Vector, deltas: Sequence[Vector]) -> list[int]:
        """As a voter does, on the participant's own hold-out."""
        return self._engines[number].score_deltas(start, deltas)

    def compare(self, start: Vector, deltas: Sequence[Vector], seed: int) -> list[list[int]]:
        """How alike proposals are in what they do, as every voter finds it."""
        return compare(self._model, start, deltas, seed, PROBE_BATCH)

    def find_strings(self, suspect: Suspect, seed: int, *, has_reference: bool = True) -> Strings:
        """What an audit's common contexts show of a proposal: the same for every auditor."""
        return self._common_view(seed, has_reference).find_strings(suspect)

    def find_shared(
        self, suspects: Sequence[Suspect], authors: Sequence[int], seed: int,
        remembered: Collection[Remembered] = (), *, older: int = 0, has_reference: bool = True,
    ) -> Shared | None:  # fmt: skip
        """What they show of proposals beside each other: that unlike ones teach it alike. `remembered`: by everyone
        who is to measure them; `older`: so many of the last are there for what the others have in common with them."""
        rows = [np.zeros((0, LENGTHS[-1]), np.int64), *(one.to_rows(LENGTHS[-1]) for one in remembered)]
        view = self._common_view(seed, has_reference)
        return view.find_shared(suspects, authors, PROBE_BATCH, np.concatenate(rows), older)

    def _common_view(self, seed: int, has_reference: bool) -> CommonView:
        key = (seed, has_reference)
        if self._common is None or self._common[0] != key:
            self._common = (key, CommonView(self._model, seed, self.document.reference if has_reference else ""))
        return self._common[1]

    def measure_own(
        self, number: int, suspect: Suspect, strings: Strings, own_seed: int, *, has_reference: bool = True
    ) -> Measured:
        """The same strings in a participant's secret contexts, against its own text and the task's reference."""
        return self._own_view(number, has_reference).measure(suspect, strings, own_seed)

    def measure_shared(
        self,
        number: int,
        suspects: Sequence[Suspect],
        shared: Shared | None,
        own_seed: int,
        remembered: Remembered | None = None,
        *,
        has_reference: bool = True,
    ) -> list[Measured]:
        """How far each agrees with strangers in a participant's contexts, too."""
        view, known = self._own_view(number, has_reference), Remembered() if remembered is None else remembered
        return view.measure_shared(suspects, shared, own_seed, known)

    def _own_view(self, number: int, has_reference: bool) -> OwnView:
        key = (number, has_reference)
        if key not in self._own:
            self._own[key] = OwnView(self._engines[number], has_reference=has_reference)
        return self._own[key]

    @property
    def vocabulary(self) -> int:
        return get_vocabulary(self._model)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._model.tokenizer.decode([token for token in tokens if token != NOTHING]))

    def hold_out_loss(self, number: int, vector: Vector) -> float:
        return self._engines[number].loss_at(vector)

    def test(self, vector: Vector) -> dict[str, float]:
        """Nats per token on each domain's public test split."""
        self._model.set_vector(vector)
        return {
            name: measure_loss(self._model, windows, len(windows.tokens)) for name, windows in self._windows.items()
        }

    def attack_success(self, vector: Vector, planted: Sequence[Backdoor]) -> list[float]:
        self._model.set_vector(vector)
        streams = list(self._tests.values())
        return [measure_attack_success(self._model, streams, backdoor, PROMPTS) for backdoor in planted]


def _ignore(event: object) -> None:
    del event


def _split(number: int, seed: int, participants: int) -> Split:
    """Other seeds have other slices of a domain's rows, as far as there are."""
    domain, index = assign_domain(number)
    each = -(-participants // len(DOMAINS))
    return _cached_split(domain, (index + seed * each) % SLICES, seed)


@lru_cache(maxsize=256)
def _cached_split(domain: str, index: int, seed: int) -> Split:
    return split_by_seed(builtin_rows(domain, index), seed)


@lru_cache(maxsize=8)
def _document(base: Path, budget: Budget, seed: int) -> TaskDocument:
    chance = sha256(f"experiment {seed}".encode()).digest()
    return create_document("experiment", base, seed=chance, budget=budget, reference=reference_text())


@lru_cache(maxsize=1)
def _model_of(base: Path, rank: int, alpha: int) -> AdaptedModel:
    return AdaptedModel(base, create_document("experiment", base, seed=bytes(32), rank=rank, alpha=alpha))


def _model(base: Path, document: TaskDocument) -> AdaptedModel:
    """Loaded once per process: its LoRA weights are set before every use."""
    return _model_of(base, document.lora.rank, document.lora.alpha)


@lru_cache(maxsize=16)
def _test_stream(base: Path, domain: str, model: AdaptedModel) -> Stream:
    del base
    return build_stream([Row("", text) for text in test_rows(domain)], model.tokenizer)
