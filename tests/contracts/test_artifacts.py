"""The committed artifacts are what the sources compile to, and the loader takes nothing that does not fit."""

import json
from importlib import resources

import pytest
from contracts_support import TERMS
from mutant_child import quick_compiler

from flock_chain.crypto import keccak256
from flock_contracts.addresses import BEACON, BOARD, BY_NAME, FAUCET, STAKE, SYSTEM
from flock_contracts.build_artifacts import compile_contract, render
from flock_contracts.loader import load, load_all


@pytest.mark.parametrize("name", list(BY_NAME))
@pytest.mark.filterwarnings("ignore:.*EIP-170.*")
def test_a_committed_artifact_is_what_its_source_compiles_to(name: str) -> None:
    """The compiler does less work here, and what comes out is the same: the committed one was made by all of it."""
    committed = resources.files("flock_contracts").joinpath("artifacts", f"{name}.json").read_text("utf-8")
    with quick_compiler():
        assert committed == render(compile_contract(name))


def test_addresses_are_fixed() -> None:
    assert [address.hex()[-6:] for address in (BEACON, STAKE, FAUCET, BOARD)] == [
        "f10c01",
        "f10c02",
        "f10c03",
        "f10c04",
    ]
    assert all(len(address) == 20 for address in (*BY_NAME.values(), SYSTEM))
    assert {contract.address for contract in load_all().values()} == set(BY_NAME.values())


def test_no_contract_has_a_constructor_or_takes_plain_coins() -> None:
    for contract in load_all().values():
        assert {entry["type"] for entry in contract.abi} <= {"function", "event"}


def test_calldata_is_selector_and_words() -> None:
    data = load("TaskBoard").encode("commit", 3, 2, b"c" * 32)
    assert data == keccak256(b"commit(uint256,uint256,bytes32)")[:4] + (3).to_bytes(32, "big") + (2).to_bytes(
        32, "big"
    ) + (b"c" * 32)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        ("commit", (1, 1, b"short")),
        ("commit", (1, 1, b"c" * 33)),
        ("commit", (1, 1, "c" * 32)),
        ("commit", (1, -1, b"c" * 32)),
        ("commit", (True, 1, b"c" * 32)),
        ("commit", (1 << 256, 1, b"c" * 32)),
        ("commit", (1, 1)),
        ("evict", (1, b"a" * 19)),
        ("tally", (1, 1, (0,) * 15, 0, 0)),
        ("tally", (1, 1, (0,) * 16, 1 << 255, 0)),
        ("open_task", (b"d" * 32, b"a" * 32, {**TERMS, "more": 1})),
        ("open_task", (b"d" * 32, b"a" * 32, (1, 2))),
        ("no_such_function", ()),
    ],
)
def test_arguments_that_do_not_fit_are_refused_and_never_padded(function: str, args: tuple[object, ...]) -> None:
    with pytest.raises(ValueError):
        load("TaskBoard").encode(function, *args)


def test_terms_may_be_a_mapping_or_a_tuple() -> None:
    board = load("TaskBoard")
    as_tuple = board.encode("open_task", b"d" * 32, b"a" * 32, tuple(TERMS.values()))
    assert board.encode("open_task", b"d" * 32, b"a" * 32, TERMS) == as_tuple


def test_an_unknown_contract_log_or_garbled_output_is_named() -> None:
    with pytest.raises(ValueError, match="no genesis contract"):
        load("Board")
    board = load("TaskBoard")
    assert board.decode_log([], b"") is None and board.decode_log([b"\1" * 32], b"") is None
    with pytest.raises(ValueError, match="do not fit"):
        board.decode("task_count", b"\0" * 31)
    assert json.dumps(list(board.abi))
