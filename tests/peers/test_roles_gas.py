"""What peers give to a call is enough for it at the largest lists there are: who runs out of gas has not spoken."""

from gas_support import BLOCK, BOUNDS, SMALL, bound_of, expected

from flock_chain.execution import schedule
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
    floor = schedule.compute_poke_floor(BLOCK)
    assert bound_of("TaskBoard.poke") <= min(floor, schedule.POKE_GAS)
