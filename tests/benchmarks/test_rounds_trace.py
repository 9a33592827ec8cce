"""What the benchmark of rounds reads in the peers' logs is what they write there."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from roles_support import ACCOUNTS, ME, Desk, FakeTrainer, do, on_stepped_clock
from rounds_ours import Trace

from flock_peers.roles.board import Phase
from flock_peers.roles.jobs import Jobs


class Trains(FakeTrainer):
    steps = 1

    async def train(self, *arguments: Any, **named: Any) -> Any:
        return replace(await super().train(*arguments, **named), steps=self.steps)


@on_stepped_clock
@pytest.mark.parametrize("steps", [1, 24])
async def test_the_seconds_of_a_training_are_read_whatever_its_steps_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, steps: int
) -> None:
    async with trio.open_nursery() as nursery:
        trainer = Trains()
        trainer.steps = steps
        desk = Desk(tmp_path, Jobs(nursery), trainer=trainer)
        with caplog.at_level(logging.INFO):
            await do(desk.proposer.step, desk.view(Phase.COMMIT, proposers=(ACCOUNTS[0], ME)))
    trace = Trace()
    for record in caplog.records:
        trace.note(record.created, record.getMessage())
    assert trace.trained == {1: 5.0}
