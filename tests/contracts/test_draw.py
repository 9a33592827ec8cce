"""The draw: the contract's code and its reference in Python agree, and the weights mean what they say."""

import os
from collections import Counter
from pathlib import Path

import pytest
from board_support import BOND, Game
from contracts_support import COMMIT, DRAW_PROPOSERS, GAS, REVEAL, account, new_world
from eth.vm.message import Message
from eth_abi import decode, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from vyper.compiler import compile_code
from vyper.compiler.input_bundle import FilesystemInputBundle

import flock_contracts
from flock_chain.crypto import keccak256
from flock_contracts.draw import draw

HARNESS = """
# pragma version 0.4.3
import drawing

@external
@pure
def draw(seed: bytes32, weights: DynArray[uint256, 64], count: uint256) -> DynArray[uint256, 16]:
    return drawing._draw(seed, weights, count)
"""
_sources = Path(os.environ.get("FLOCK_SOURCES", Path(flock_contracts.__file__).parent / "vyper"))
_compiled = compile_code(HARNESS, input_bundle=FilesystemInputBundle([_sources]), output_formats=["bytecode_runtime"])[
    "bytecode_runtime"
]
CODE = bytes.fromhex(_compiled.removeprefix("0x"))
WORLD = new_world()


def draw_on_chain(seed: bytes, weights: list[int], count: int) -> list[int]:
    data = keccak256(b"draw(bytes32,uint256[],uint256)")[:4]
    data += encode(["bytes32", "uint256[]", "uint256"], [seed, weights, count])
    state = WORLD.state
    message = Message(gas=GAS, to=b"\7" * 20, sender=account(0), value=0, data=data, code=CODE)
    context = state.get_transaction_context_class()(gas_price=1, origin=account(0))
    computation = state.computation_class.apply_message(state, message, context)
    computation.raise_if_error()
    return list(decode(["uint256[]"], computation.output)[0])


weights_and_count = st.lists(
    st.one_of(st.integers(1, 100), st.just(0), st.integers(1, 10**27)), min_size=1, max_size=64
).flatmap(lambda ws: st.tuples(st.just(ws), st.integers(0, min(16, sum(w > 0 for w in ws)))))


def test_a_ticket_on_the_edge_of_a_weight_is_the_next_row_s() -> None:
    """With large weights no ticket ever falls there."""
    for weights in ([1] * 8, [2, 1, 3], [1, 0, 1, 2]):
        for index in range(12):
            seed, count = keccak256(b"edge", bytes([index])), sum(weight > 0 for weight in weights)
            assert draw_on_chain(seed, weights, count) == draw(seed, weights, count)


@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(seed=st.binary(min_size=32, max_size=32), rows=weights_and_count)
def test_the_contract_draws_what_the_reference_draws(seed: bytes, rows: tuple[list[int], int]) -> None:
    weights, count = rows
    drawn = draw(seed, weights, count)
    assert draw_on_chain(seed, weights, count) == drawn
    assert len(set(drawn)) == count and all(weights[index] > 0 for index in drawn)


def test_a_draw_of_more_than_there_are_takes_all_with_weight() -> None:
    assert sorted(draw_on_chain(b"s" * 32, [5, 0, 7], 16)) == [0, 2]
    with pytest.raises(ValueError):
        draw(b"s" * 32, [5, 0, 7], 3)


@pytest.mark.parametrize("seed", [b"", b"s" * 31])
def test_a_seed_has_32_bytes(seed: bytes) -> None:
    with pytest.raises(ValueError):
        draw(seed, [1], 1)


SEEDS = 10_000
ON_CHAIN = 300  # of them, by the contract's code, too: it draws what the reference draws
WEIGHTS = [1, 2, 7, 0, 5, 20, 1, 64]
CHI_SQUARE = 22.46  # six degrees of freedom: exceeded by chance once in a thousand


def test_first_draws_of_ten_thousand_seeds_follow_the_weights() -> None:
    seeds = [keccak256(b"chi-square", k.to_bytes(4, "big")) for k in range(SEEDS)]
    drawn = [draw(seed, WEIGHTS, 1) for seed in seeds]
    assert [draw_on_chain(seed, WEIGHTS, 1) for seed in seeds[:ON_CHAIN]] == drawn[:ON_CHAIN]
    firsts = Counter(first for (first,) in drawn)
    expected = {index: SEEDS * weight / sum(WEIGHTS) for index, weight in enumerate(WEIGHTS) if weight}
    assert set(firsts) == set(expected)
    assert sum((firsts[index] - count) ** 2 / count for index, count in expected.items()) < CHI_SQUARE


def test_the_seats_of_a_round_are_the_reference_draws_of_its_two_seeds() -> None:
    game = Game(9)
    for index in range(1, 5):
        game.join(account(index), 500 * index)
    bonds = [BOND + 500 * index * (index < 5) for index in range(1, 10)]
    game.until(DRAW_PROPOSERS)
    game.world.next_block()
    game.join(account(9), 10**9)  # too late to weigh in this round
    game.until(COMMIT)
    seed = game.world.view("Beacon", "mix", game.view["seed_height"])
    proposers = draw(seed, bonds, 3)
    assert game.proposers == [account(index + 1) for index in proposers]
    for who in game.proposers:
        game.commit(who)
    game.until(REVEAL)
    seed = game.world.view("Beacon", "mix", game.view["seed_height"])
    rest = [0 if index in proposers else bond for index, bond in enumerate(bonds)]
    assert game.voters == [account(index + 1) for index in draw(seed, rest, 3)]


@pytest.mark.parametrize(
    ("people", "proposers", "voters", "expected"),
    [
        (2, 3, 3, (1, 1)),
        (3, 3, 3, (1, 2)),
        (4, 3, 3, (1, 3)),
        (6, 3, 3, (3, 3)),
        (6, 1, 16, (1, 5)),
        (7, 16, 3, (4, 3)),
        (20, 8, 7, (8, 7)),
        (40, 16, 16, (16, 16)),
    ],
)
def test_how_many_propose_and_vote(people: int, proposers: int, voters: int, expected: tuple[int, int]) -> None:
    game = Game(people, proposers=proposers, voters=voters, min_participants=0)
    game.until(COMMIT)
    count = len(game.proposers)
    game.commit(game.proposers[0])
    game.until(REVEAL, seconds=5)
    assert (count, len(game.voters)) == expected
