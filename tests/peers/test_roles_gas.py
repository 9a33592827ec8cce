"""What peers give to a call is enough for it at the largest lists there are: who runs out of gas has not spoken."""

import pytest
from gas_support import BOUNDS, SMALL, bound_of, expected

from flock_chain.errors import InvalidEncoding
from flock_chain.execution import schedule
from flock_chain.parameters import DEFAULT, TABLE, parse_parameters
from flock_peers.ledger.queries import MAX_CALL_GAS
from flock_peers.roles.rule_orders import RULES_GAS
from flock_peers.roles.sender import CALL_GAS
from flock_peers.roles.staking import STAKE_GAS
from flock_peers.roles.voter import TALLY_GAS

OWN = {"TaskBoard.tally": TALLY_GAS, "TaskBoard.approve_rules": RULES_GAS, "TaskBoard.enact_rules": RULES_GAS}
OF_THE_SYSTEM = {"Beacon.on_block", "Stake.on_attendance", "Stake.end_epoch", "Stake.on_restart", "TaskBoard.poke"}


def given(function: str) -> int:
    return OWN.get(function, STAKE_GAS if function.startswith("Stake.") else CALL_GAS)


def test_whatever_a_peer_sends_has_gas_for_its_bound() -> None:
    """The bounds are those below which every function was measured (contracts/test_board_gas.py)."""
    assert set(BOUNDS) <= set(expected()) and SMALL < CALL_GAS
    sent = [name for name in BOUNDS if name not in OF_THE_SYSTEM and not name.endswith(".initialize")]
    assert {name: bound_of(name) for name in sent if bound_of(name) > given(name)} == {}
    assert max(bound_of(name) for name in sent) < MAX_CALL_GAS, "an estimate of its gas comes to an end"


def test_a_poke_that_is_begun_has_gas_for_its_bound() -> None:
    assert bound_of("TaskBoard.poke") <= min(schedule.POKE_GAS_MIN, schedule.POKE_GAS)


def test_the_smallest_block_has_room_for_the_dearest_poke_and_for_the_dearest_call_of_a_peer() -> None:
    """With a million gas, as once allowed, a full task's round ended by no poke and was tallied by nobody."""
    least = next(row.low for row in TABLE if row.name == "block_gas_limit")
    most = schedule.compute_transaction_gas(least)
    sent = [name for name in BOUNDS if name not in OF_THE_SYSTEM and not name.endswith(".initialize")]
    assert most >= schedule.POKE_GAS_MIN and max(map(given, sent)) <= most
    with pytest.raises(InvalidEncoding, match=f"block_gas_limit = {least - 1} is not between {least} and"):
        parse_parameters(DEFAULT.to_dict() | {"block_gas_limit": least - 1})
