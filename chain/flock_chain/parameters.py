"""The one frozen table of every number that peers must agree on. Its values are part of the genesis document.

A network's genesis lists all values; a document with a missing, unknown or out-of-range name is refused, so two peers
with the same genesis hash run with the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from flock_chain.errors import InvalidEncoding


@dataclass(frozen=True)
class Parameter:
    name: str
    unit: str
    default: int
    demo: int
    low: int
    high: int
    reason: str


TABLE: tuple[Parameter, ...] = (
    Parameter("rules", "version", 1, 1, 1, 1 << 31, "the rules of execution at the start; upgrades change them later"),
    Parameter("block_gas_limit", "gas", 30_000_000, 30_000_000, 16_000_000, 60_000_000,
              "Ethereum's own; about a second of Python at worst for the genesis contracts; a full task's dearest poke "
              "takes half of the least"),
    Parameter("base_fee", "wei", 1, 1, 1, 10**12, "constant: 0 drifts upward in py-evm and pushes wallets to legacy"),
    Parameter("max_block_bytes", "bytes", 256 << 10, 256 << 10, 16 << 10, 512 << 10,
              "a proposal with its body and certificates must fit one 1 MiB message"),
    Parameter("block_interval", "ms", 1_000, 200, 200, 60_000,
              "time between two blocks of a busy chain, at least; a quarter of it before one that ends a phase"),
    Parameter("heartbeat", "s", 60, 60, 1, 90, "an idle chain shows that it lives; below the chain-time gap"),
    Parameter("chain_time_gap", "s", 90, 90, 10, 3_600, "a longer gap between blocks is standstill, expires nothing"),
    Parameter("view_timeout", "ms", 2_000, 2_000, 50, 60_000,
              "view 1: several message delays on a machine that also trains"),
    Parameter("view_timeout_cap", "ms", 30_000, 15_000, 1_000, 600_000, "views grow by 1.5 up to here"),
    Parameter("retry_interval", "ms", 1_000, 1_000, 50, 60_000, "votes and certificates are sent again, with back-off"),
    Parameter("clock_slack_ahead", "s", 1, 1, 0, 60, "a proposal this far in the future waits"),
    Parameter("clock_slack_behind", "s", 5, 5, 1, 600, "a fresh proposal this far in the past waits"),
    Parameter("seed_delay", "blocks", 2, 2, 2, 64, "a seed is the mix this many heights after the closing block"),
    Parameter("phase_min_blocks", "blocks", 3, 3, 1, 64, "a phase stays open for this many blocks at least"),
    Parameter("min_validator_stake", "wei", 32 * 10**18, 32 * 10**18, 1, 10**30, "a seat in consensus costs something"),
    Parameter("unbonding_delay", "s", 7 * 86_400, 600, 1, 10**9, "longer than the evidence window"),
    Parameter("evidence_window", "s", 5 * 86_400, 300, 1, 10**9, "shorter than unbonding: the stake is still there"),
    Parameter("open_staking", "0 or 1", 0, 0, 0, 1,
              "1: stake buys weight; 0: genesis and admissions by two thirds grant it, as where a faucet gives coins"),
    Parameter("epoch_blocks", "blocks", 64, 64, 1, 10**6, "a set serves for this long at least"),
    Parameter("epoch_seconds", "s", 600, 600, 0, 10**9, "and for so much chain time: a busy chain changes no faster"),
    Parameter("absence_limit", "heights", 50, 50, 1, 100, "missed out of 100: jailed; a third that lies cannot do it"),
    Parameter("jail_delay", "s", 3_600, 60, 1, 10**9, "then whoever was absent may ask to come back"),
    Parameter("faucet_amount", "wei", 10 * 10**18, 10 * 10**18, 0, 10**30, "bonds to one task and pays its gas"),
    Parameter("faucet_deposit", "wei", 10**18, 10**18, 0, 10**30, "whoever submits for a newcomer has this locked"),
    Parameter("faucet_deposit_lock", "s", 3_600, 60, 1, 10**9, "limits the rate: one faucet call per deposit and lock"),
    Parameter("invalid_bytes_slash", "bps", 10_000, 10_000, 0, 10_000, "two thirds held bytes that are no adapter"),
    Parameter("norm_slash", "bps", 5_000, 5_000, 0, 10_000, "a norm above three times the median is no accident"),
    Parameter("missed_reveal_slash", "bps", 100, 100, 0, 10_000, "a commitment that is never opened; small, burned"),
    Parameter("bond_unlock_rounds", "rounds", 2, 2, 0, 64, "a bond stays until this many rounds after an acceptance"),
    Parameter("seat_absence_slash", "bps", 10, 10, 0, 10_000,
              "a seat not taken, or left; once a round, for all wait for it; a crash must cost next to nothing"),
    Parameter("seat_absence_limit", "seats", 3, 3, 1, 1_000,
              "missed in a row: drawn no more until it comes back; a restart takes less than one round"),
    Parameter("task_fee", "wei", 10**18, 10**18, 0, 10**30,
              "of opening a task, burned; doubles with every 8 that run: to fill all 64 places costs 2,040 fees"),
    Parameter("rules_delay", "s", 7 * 86_400, 600, 0, 10**9,
              "until other numbers of the task board, agreed on by two thirds of the set, hold: one unbonding delay"),
)  # fmt: skip


@dataclass(frozen=True)
class Parameters:
    """Values by name; the units are in TABLE."""

    rules: int
    block_gas_limit: int
    base_fee: int
    max_block_bytes: int
    block_interval: int
    heartbeat: int
    chain_time_gap: int
    view_timeout: int
    view_timeout_cap: int
    retry_interval: int
    clock_slack_ahead: int
    clock_slack_behind: int
    seed_delay: int
    phase_min_blocks: int
    min_validator_stake: int
    unbonding_delay: int
    evidence_window: int
    open_staking: int
    epoch_blocks: int
    epoch_seconds: int
    absence_limit: int
    jail_delay: int
    faucet_amount: int
    faucet_deposit: int
    faucet_deposit_lock: int
    invalid_bytes_slash: int
    norm_slash: int
    missed_reveal_slash: int
    bond_unlock_rounds: int
    seat_absence_slash: int
    seat_absence_limit: int
    task_fee: int
    rules_delay: int

    def to_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def parse_parameters(values: Mapping[str, object]) -> Parameters:
    """Raises InvalidEncoding for a missing, unknown, non-integer or out-of-range value."""
    known = {row.name: row for row in TABLE}
    if set(values) != set(known):
        raise InvalidEncoding(f"parameters: names differ: {sorted(set(values) ^ set(known))}")
    checked: dict[str, int] = {}
    for name, row in known.items():
        value = values[name]
        if not isinstance(value, int) or isinstance(value, bool) or not row.low <= value <= row.high:
            raise InvalidEncoding(f"parameters: {name} = {value!r} is not between {row.low} and {row.high} {row.unit}")
        checked[name] = value
    return Parameters(**checked)


DEFAULT = parse_parameters({row.name: row.default for row in TABLE})
DEMO = parse_parameters({row.name: row.demo for row in TABLE})
