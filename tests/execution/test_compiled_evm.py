"""Bytecode that the test support translates to Python does what the project's interpreter does, gas included."""

from random import Random
from typing import Any

import pytest
from board_support import Game
from compiled_evm_support import CompiledState
from contracts_support import Outcome, World, build_genesis
from evm_fuzz_support import CONTRACTS, Call, Engine, OurState, Row, Scenario, make_scenario
from evm_program_support import EDGES
from fast_world_support import FastWorld, Known
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def compare(scenario: Scenario) -> None:
    compiled, ours = Engine(CompiledState, scenario.rows), Engine(OurState, scenario.rows)
    for steps in scenario.blocks:
        assert list(compiled.run(steps)) == list(ours.run(steps))
        assert compiled.root == ours.root


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_blocks_give_what_the_interpreter_gives(seed: int) -> None:
    compare(make_scenario(Random(seed)))


@pytest.mark.parametrize("code", EDGES, ids=bytes.hex)
def test_the_edges_of_stack_code_and_memory_are_the_interpreter_s(code: bytes) -> None:
    calls = [Call(CONTRACTS[0], b"\1" * 36, gas, 0, False) for gas in (30, 3_000, 200_000)]
    compare(Scenario({CONTRACTS[0]: Row(0, 1, code)}, (tuple(calls),)))


def test_the_contracts_do_what_they_do_on_stock_pyevm() -> None:
    base = build_genesis(10)
    seen: list[list[Outcome]] = []
    for world in (World(*base, is_stock=True), World(*base, is_fast=False), FastWorld(*base, Known(base[0]))):
        outcomes: list[Outcome] = []
        world.next_block(pokes=False)  # there are no transactions in block 0
        _record(world, outcomes)
        game = Game(8, world=world)
        game.play_round()
        world.blocks(30, 20)
        seen.append(outcomes)
    assert len(seen[0]) > 100 and seen[0] == seen[1] == seen[2]


def _record(world: World, outcomes: list[Outcome]) -> None:
    call = world.call

    def recorded(*args: Any, **values: Any) -> Outcome:
        outcomes.append(call(*args, **values))
        return outcomes[-1]

    world.call = recorded  # type: ignore[method-assign]
