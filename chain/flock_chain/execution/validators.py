"""Which set decides about a height: read from the staking contract's final state, and what consensus asks of it.

Knows no votes: who was absent at the parent's height is computed by a rule that the caller brings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flock_chain.crypto import Account
from flock_chain.errors import InvalidBlock, Misuse
from flock_chain.execution.machine import State, run_view
from flock_chain.restart import Restart
from flock_contracts.loader import Contract

READ_GAS = 20_000_000  # a set of 150 takes 0.7 M
ATTENDANCE_GAS = 10_000_000  # 150 absent take 4 M
END_EPOCH_GAS = 30_000_000  # 17 M where 150 members of 300 candidates change
RESTART_GAS = 30_000_000  # 19.5 M where all 150 go on and all need weight again that a snapshot had taken
_PAYLOAD_OFFSET = 4 + 32 * 3  # selector, bits, offset and length of the votes


@dataclass(frozen=True)
class Validator:
    account: Account
    weight: int  # wei
    vrf_key: bytes


@dataclass(frozen=True)
class Served:
    """Who decides about the height after a final block, who decided about that block itself, and who comes next."""

    epoch: int
    first_height: int  # of the epoch
    rows: tuple[Validator, ...]  # in the chain's order
    before: tuple[Validator, ...]
    following: tuple[Validator, ...]  # of the next epoch

    def find(self, account: bytes) -> Validator | None:
        return next((row for row in self.rows if row.account == account), None)


# payload, the height that it is about, and that height's set -> bit i: row i did not vote. Raises InvalidBlock.
AttendanceRule = Callable[[bytes, int, Sequence[Validator]], int]


def refuse_attendance(_payload: bytes, _height: int, _rows: Sequence[Validator]) -> int:
    """For chains without votes, such as tests' and tools'."""
    raise InvalidBlock("block: attendance: this executor was made without the rule for it")


def read_served(state: State, stake: Contract, height: int) -> Served:
    """From the final state of `height`."""
    epoch, first_height = _read(state, stake, "epoch_state")
    rows = _read_rows(state, stake, epoch)
    before = rows if height >= first_height or not epoch else _read_rows(state, stake, epoch - 1)
    return Served(epoch, first_height, rows, before, _read_rows(state, stake, epoch + 1))


def restarted(served: Served, restart: Restart) -> Served:
    """What an agreed restart leaves of the set; raises Misuse where the document names somebody who is not in it."""
    missing = [account for account in restart.keep if served.find(account) is None]
    if missing:
        raise Misuse(f"restart: 0x{missing[0].hex()} is not in the set at height {restart.height}")
    rows = tuple(row for row in served.rows if row.account in restart.keep)
    return replace(served, rows=rows, following=rows)


def is_epoch_over(state: State, stake: Contract, served: Served, height: int, epoch_blocks: int) -> bool:
    """Whether the block that `state` is in the middle of is its epoch's last."""
    if height + 1 < served.first_height + epoch_blocks:
        return False
    return bool(_read(state, stake, "is_epoch_over"))


def extract_attendance(stake: Contract, to: bytes, calldata: bytes) -> bytes:
    """The votes in what claims to be an `on_attendance` call; rebuilding the block checks every other byte of it."""
    if to != stake.address or calldata[:4] != stake.encode("on_attendance", 0, b"")[:4]:
        return b""
    length = int.from_bytes(calldata[_PAYLOAD_OFFSET - 32 : _PAYLOAD_OFFSET], "big")
    return calldata[_PAYLOAD_OFFSET : _PAYLOAD_OFFSET + min(length, len(calldata))]


def _read_rows(state: State, stake: Contract, epoch: int) -> tuple[Validator, ...]:
    rows = _read(state, stake, "validators_of", epoch)
    return tuple(Validator(Account(row["account"]), row["weight"], row["vrf_key"]) for row in rows)


def _read(state: State, stake: Contract, function: str, *arguments: object) -> Any:
    outcome = run_view(state, stake.address, stake.encode(function, *arguments), gas=READ_GAS)
    if not outcome.status:
        raise Misuse(f"executor: the staking contract does not answer {function}: {outcome.reason}")
    return stake.decode(function, outcome.output)
