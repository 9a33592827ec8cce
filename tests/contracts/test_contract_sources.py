"""The static checks of the Vyper sources: nothing is found in ours, and every kind of fault where it is made."""

import os
from pathlib import Path

import pytest
import vyper.ast as ast
from vyper.ast import parse_to_ast

from flock_contracts.check_sources import SOURCES, Sources, main

HEAD = """# pragma version 0.4.3
import other
uses: other
rows: DynArray[uint256, 100]
owed: public(HashMap[address, uint256])
"""
OTHER = """# pragma version 0.4.3
LIMIT: constant(uint256) = 70
paid: public(uint256)
@internal
def _note(amount: uint256):
    self.paid += amount
@internal
def _pay(to: address, amount: uint256):
    raw_call(to, b"", value=amount)
"""
FINE = """
@external
@payable
@nonreentrant
def take():
    for row: uint256 in self.rows:
        self.owed[msg.sender] -= min(row, msg.value)
    self.rows.append(1)
    other._note(1)
    other._pay(msg.sender, 1)
"""
FAULTS = {
    "take changes state after it sent": FINE.replace("other._note(1)\n    other._pay(msg.sender, 1)",
                                                     "other._pay(msg.sender, 1)\n    other._note(1)"),
    "take sends and is not @nonreentrant": FINE.replace("@nonreentrant\n", ""),
    "nobody looks whether it failed": FINE.replace("other._pay(msg.sender, 1)",
                                                   'raw_call(msg.sender, b"", revert_on_failure=False)'),
    "passes of nested loops": FINE.replace("    self.rows.append", """    for row: uint256 in self.rows:
        for other_row: uint256 in range(other.LIMIT):
            self.owed[msg.sender] += 1
    self.rows.append"""),
    "take takes coins and forgets them": FINE.replace("msg.value", "1"),
    "an assertion without a reason": FINE + "    assert msg.value > 0\n",
    "nobody ever reads kept": FINE.replace("@external", "kept: uint256\n@external")
                                  .replace("    other._note", "    self.kept = 1\n    other._note"),
    "nobody ever writes kept": FINE.replace("@external", "kept: public(uint256)\n@external"),
    "tx.origin": FINE.replace("self.owed[msg.sender]", "self.owed[tx.origin]"),
    "block.prevrandao": FINE + "    assert block.prevrandao != empty(bytes32), 'why'\n",
    "self.balance ==": FINE + "    assert self.balance == 1, 'why'\n",
}  # fmt: skip


def findings(folder: Path, text: str) -> list[str]:
    (folder / "other.vy").write_text(OTHER)
    (folder / "Book.vy").write_text(HEAD + text)
    return [str(finding) for finding in Sources(folder).check()]


def test_nothing_is_found_in_the_contracts() -> None:
    assert Sources(Path(os.environ.get("FLOCK_SOURCES", SOURCES))).check() == []


def test_what_the_board_calls_of_the_delegation_contract_sends_nothing_and_calls_nobody() -> None:
    """So the check takes none of these calls for one that could come back."""
    folder = Path(os.environ.get("FLOCK_SOURCES", SOURCES))
    sources = Sources(folder)
    called = parse_to_ast((folder / "IDelegation.vyi").read_text(), is_interface=True).get_children(ast.FunctionDef)
    assert {"cut", "hold", "convict", "close", "credit", "note_seats"} <= {function.name for function in called}
    delegation = sources.modules["Delegation"]
    for function in called:
        assert "send" not in dict(sources._effects(delegation, delegation.functions[function.name])), function.name


def test_nothing_is_found_in_a_contract_without_a_fault(tmp_path: Path) -> None:
    assert findings(tmp_path, FINE) == []


@pytest.mark.parametrize("what", FAULTS)
def test_each_kind_of_fault_is_found(what: str, tmp_path: Path) -> None:
    found = findings(tmp_path, FAULTS[what])
    assert len(found) == 1 and found[0].startswith("Book.vy:") and what in found[0], found


def test_the_command_says_where_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings(tmp_path, FAULTS["tx.origin"])
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("Book.vy:")
