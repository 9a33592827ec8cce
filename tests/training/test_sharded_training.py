"""A base in two parts, held by two processes over gloo: the adapter is the one that a single process makes."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trio
from family_support import make_family
from training_support import SEED, miniature, miniature_document, write_initial_adapter, write_split

from flock_chain.aggregation import parse_delta
from flock_chain.errors import Misuse, Refused
from flock_peers.training.client import Trainer, TrainerConfig, TrainerDied
from flock_peers.training.document import Budget, create_document, read_weight_shapes
from flock_peers.training.sharding import Group, take_share
from flock_peers.training.streams import Windows

TOLERANCE = 2e-3  # of the delta's norm: sums are made in another order, and Adam divides by small numbers


def test_two_processes_with_half_of_each_layer_make_the_adapter_of_one(tmp_path: Path) -> None:
    document = miniature_document()
    start = write_initial_adapter(document, tmp_path)
    config = TrainerConfig(document, write_split(tmp_path / "home"), base=miniature()[0], domain="arithmetic")
    losses: dict[int, tuple[float, float]] = {}
    scores: dict[int, list[int]] = {}
    held: dict[int, int] = {}

    async def scenario(processes: int) -> None:
        command = _write_command(tmp_path, SECOND_FAILS) if processes > 1 else None
        async with await Trainer.open(replace(config, processes=processes), command=command) as trainer:
            held[processes] = trainer.base_bytes
            result = await trainer.train(start, round=1, seed=3, out_path=tmp_path / f"delta-{processes}")
            losses[processes] = (result.loss_before, result.loss_after)
            scores[processes] = await trainer.measure(start, [tmp_path / "delta-1"])
            await trainer.export(start, tmp_path / f"peft-{processes}")
            if processes > 1:
                await fail_in_one(trainer)

    async def fail_in_one(trainer: Trainer) -> None:
        """Once where the others come to the end, so that all go on; once where they wait for the one that failed."""
        with pytest.raises(Refused, match="only here"):
            await trainer.attack_success(None)
        assert scores[2] == await trainer.measure(start, [tmp_path / "delta-1"])
        with pytest.raises(TrainerDied):
            await trainer.evaluate(None, "hold_out")
        assert not trainer.is_alive

    async def both() -> None:
        with trio.fail_after(500):
            await scenario(1)
            await scenario(2)

    trio.run(both)
    one, two = (
        parse_delta((tmp_path / f"delta-{n}").read_bytes(), document.layout, document.format).to_float32()
        for n in (1, 2)
    )
    assert np.linalg.norm(one) > 0
    layers = [shape for name, shape in read_weight_shapes(miniature()[0]).items() if ".layers." in name]
    assert held[1] - held[2] == 2 * sum(math.prod(shape) for shape in layers)  # half of 4 bytes each
    assert np.linalg.norm(one - two) < TOLERANCE * np.linalg.norm(one)
    assert losses[2] == pytest.approx(losses[1], abs=1e-5) and losses[1][1] < losses[1][0]
    assert scores[2] == pytest.approx(scores[1], abs=20)  # millionths
    written = [(tmp_path / f"peft-{n}" / "adapter_model.safetensors").read_bytes() for n in (1, 2)]
    assert written[0] == written[1]


# The trainer's process, but for a second one that fails alone: before a result that needs nobody, and at one that does.
SECOND_FAILS = """
from flock_chain.errors import Refused
from flock_peers.training import process, sharding
def failing(call):
    def fail(self, values):
        if self.group.rank == 1:
            raise Refused("only here")
        return call(self, values)
    return fail
sharding.WAIT_SECONDS = 1.0
process.Service._attack_success = failing(lambda self, values: {"share": 0.0})
process.Service._evaluate = failing(process.Service._evaluate)
process.main()
"""


def test_a_family_with_no_attention_but_its_own_is_opened_by_several_processes_too(tmp_path: Path) -> None:
    folder = make_family("gpt_neo", tmp_path / "base")
    config = _config(folder, tmp_path)

    async def scenario() -> None:
        with trio.fail_after(120):
            async with await Trainer.open(config) as trainer:
                assert 0 < trainer.base_bytes < 4 * sum(map(math.prod, read_weight_shapes(folder).values()))

    trio.run(scenario)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("opening.make_empty_base = fail", Misuse),
        ("sharding.find_layers = fail", TrainerDied),
    ],
)
def test_what_is_told_is_the_reason_of_the_process_that_failed_and_not_that_it_is_gone(
    fault: str, kind: type[Exception], tmp_path: Path
) -> None:
    config = _config(miniature()[0], tmp_path)

    async def scenario() -> None:
        with trio.fail_after(120):
            await Trainer.open(config, command=_write_command(tmp_path, SECOND_CANNOT_OPEN.replace("FAULT", fault)))

    with pytest.raises(kind, match="a layer too many"):
        trio.run(scenario)


SECOND_CANNOT_OPEN = """
import os
from flock_peers.training import opening, process, sharding
def fail(*values, **options):
    raise ValueError("a layer too many. Nobody reads on here.")
if os.environ["RANK"] == "1":
    FAULT
process.main()
"""


def _config(base: Path, folder: Path) -> TrainerConfig:
    budget = Budget(steps=2, batch=2, seq_len=48, lr_millionths=5_000, eval_windows=4)
    document = create_document("several", base, seed=SEED, budget=budget, rank=2, alpha=4)
    return TrainerConfig(document, write_split(folder / "home"), base=base, domain="arithmetic", processes=2)


def _write_command(folder: Path, text: str) -> list[str]:
    script = folder / "second_fails.py"
    script.write_text(text)
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]


def test_a_batch_is_shared_out_whole_and_nothing_counts_twice() -> None:
    windows = Windows(np.arange(15).reshape(5, 3), np.ones((5, 3), np.float32), np.zeros((5, 3), np.int32))
    shares = [take_share(windows, Group(rank, 3, None, None)) for rank in range(3)]  # type: ignore[arg-type]
    assert {len(share.tokens) for share in shares} == {2}
    counted = [row for share in shares for row, weight in zip(share.tokens.tolist(), share.weights) if weight.any()]
    assert counted == windows.tokens.tolist()
    few = [take_share(Windows(windows.tokens[:1], windows.weights[:1]), Group(rank, 2, None, None)) for rank in (0, 1)]  # type: ignore[arg-type]
    assert [float(share.weights.sum()) for share in few] == [3.0, 0.0]
