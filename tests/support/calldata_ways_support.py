"""Programs of calldata that lead to payments: who asks to leave also withdraws, when its time has come.

A way is a row of calls at whose end coins go out; a program is ways, single calls of a few callers and functions, and
blocks. Each call of a way may come spoilt before it comes as it is meant. Knows no world (calldata_worlds_support).
"""

from collections.abc import Sequence
from typing import Any

from calldata_support import CALLERS, FOUNDERS, FUNCTIONS, Call, Function, calls, spoil, value_of
from contracts_support import ETHER, FAUCET, PARAMETERS, account
from hypothesis import strategies as st

from flock_contracts.addresses import BY_NAME
from flock_contracts.loader import load

CREATOR, PEOPLE = account(0), [account(index) for index in range(1, 7)]
LEFT, SUBMITTER, CANDIDATE, BACKER = [account(7), account(8)], account(9), account(10), account(11)
NOT_FOR_ACCOUNTS = {  # refused to all but a contract or the system: one of an example's functions at most
    "on_block", "on_attendance", "on_restart", "end_epoch", "close", "hold", "cut", "convict", "credit", "note_seats",
    "pay_delegator",
}  # fmt: skip
FEW_FUNCTIONS, FEW_CALLERS = 8, 3  # of one example
LATER = PARAMETERS["unbonding_delay"] + 1  # seconds
DELAYS = (1, 1, 30, 90)  # between calls that are no way
Step = tuple[str, str] | int  # contract and function, or seconds

WAYS: tuple[tuple[Sequence[bytes], tuple[Step, ...]], ...] = (  # who is likely to get something, and how
    (PEOPLE, (("TaskBoard", "leave_task"), LATER, ("TaskBoard", "withdraw_bond"))),
    (PEOPLE, (("TaskBoard", "leave_task"), LATER, ("TaskBoard", "leave_task"), LATER, ("TaskBoard", "withdraw_bond"))),
    (CALLERS, (("TaskBoard", "join_task"), ("TaskBoard", "leave_task"), LATER, ("TaskBoard", "withdraw_bond"))),
    (LEFT, (("TaskBoard", "withdraw_bond"),)),
    (PEOPLE, (("TaskBoard", "claim"),)),
    (PEOPLE, (("TaskBoard", "confirm"),)),
    (CALLERS, (LATER, ("TaskBoard", "lift"))),
    ([CREATOR], (("TaskBoard", "withdraw_pot"),)),
    ([CREATOR], (("TaskBoard", "open_task"), LATER, ("TaskBoard", "withdraw_pot"))),
    (PEOPLE, (("Delegation", "set_terms"),)),
    ([BACKER], (("Delegation", "claim_delegation"),)),
    ([BACKER], (("Delegation", "withdraw_delegation"),)),
    ([BACKER], (("Delegation", "undelegate"), LATER, ("Delegation", "withdraw_delegation"))),
    (CALLERS, (("Delegation", "delegate"), ("Delegation", "undelegate"), LATER, ("Delegation", "withdraw_delegation"))),
    ([CANDIDATE], (("Stake", "withdraw"),)),
    (CALLERS, (("Stake", "bond_validator"), ("Stake", "unbond"), LATER, ("Stake", "withdraw"))),
    (FOUNDERS, (("Stake", "set_terms"),)),
    ([BACKER], (("Stake", "withdraw_delegation"),)),
    ([BACKER], (("Stake", "claim_delegation"),)),
    (CALLERS, (("Stake", "delegate"), ("Stake", "undelegate"), LATER, LATER, ("Stake", "withdraw_delegation"))),
    ([BACKER], (("Stake", "share_reward"), ("Stake", "claim_delegation"))),
    (FOUNDERS, (("Stake", "share_reward"), ("Stake", "claim_reward"))),
    ([SUBMITTER], (("Faucet", "refund"),)),
    (CALLERS, (("Faucet", "drip"), 90, ("Faucet", "refund"))),
)  # fmt: skip
COINS = {  # with a call of a way
    "join_task": 1_000, "open_task": 10_000, "bond_validator": 32 * ETHER, "share_reward": ETHER, "delegate": 500,
    "drip": FAUCET["deposit"],
}  # fmt: skip
ENTRIES = {(name, function): entry for name, function, entry in FUNCTIONS}


@st.composite
def _ways(draw: st.DrawFn) -> list[Call | int]:
    """The same arguments in all calls of it, by their names."""
    likely, steps = draw(st.sampled_from(WAYS))
    sender = draw(st.sampled_from([*likely, draw(st.sampled_from(CALLERS))]))
    meant: dict[str, Any] = {"task": 2 if "open_task" in str(steps) else 1, "round": 1, "limit": 10 * ETHER}
    rows: list[Call | int] = []
    for step in steps:
        if isinstance(step, int):
            rows.append(step)
            continue
        name, function = step
        for field in ENTRIES[step]["inputs"]:
            if field["name"] == "account":
                meant.setdefault("account", draw(st.sampled_from(FOUNDERS if name == "Stake" else PEOPLE[:2])))
            elif field["name"] == "amount":
                meant.setdefault("amount", draw(st.sampled_from((100, 250))))
            meant.setdefault(field["name"], draw(value_of(field)))
        data = load(name).encode(function, *(meant[field["name"]] for field in ENTRIES[step]["inputs"]))
        value = COINS.get(function, 0)
        if draw(st.integers(0, 2)) == 0:
            rows.append((sender, name, draw(spoil(data)), value))
        rows.append((sender, name, data, value))
    return rows


def _few_functions(draw: st.DrawFn) -> list[Function]:
    contract = draw(st.sampled_from([*["TaskBoard"] * 4, *["Stake"] * 3, *BY_NAME, None, None]))  # None: any, together
    known = [row for row in FUNCTIONS if contract in (row[0], None)]
    open_to_all = [row for row in known if row[2]["stateMutability"] != "view" and row[1] not in NOT_FOR_ACCOUNTS]
    order = draw(st.permutations(range(len(open_to_all or known))))
    return [*((open_to_all or known)[index] for index in order[:FEW_FUNCTIONS]), draw(st.sampled_from(known))]


@st.composite
def programs(draw: st.DrawFn, size: int) -> list[Call | int]:
    """Ways, and calls of a few callers and functions between them; a number: so many seconds pass."""
    callers = draw(st.lists(st.sampled_from(CALLERS), min_size=1, max_size=FEW_CALLERS, unique=True))
    one = calls(_few_functions(draw), callers).map(lambda call: [call])
    pause = st.sampled_from(DELAYS).map(lambda seconds: [seconds])
    parts = draw(st.lists(st.one_of(one, one, one, _ways(), _ways(), pause), min_size=size // 2, max_size=size // 2))
    return [row for part in parts for row in part][:size]
