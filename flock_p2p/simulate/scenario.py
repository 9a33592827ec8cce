"""What goes wrong in one schedule, as plain numbers: drawn from a seed, narrowed by name, shrunk field by field."""

import random
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from flock_chain.errors import Misuse

SINS = ("twins", "silent", "mutate", "liar", "split", "flood", "forge")
MAX_VALIDATORS = 40  # of a simulated network: every broadcast costs as many events


@dataclass(frozen=True)
class Scenario:
    """Times in milliseconds; shares are probabilities. Everything but `skew` and `tail` 0 or off: a healthy network."""

    seed: int
    n: int = 4
    weights: tuple[int, ...] | None = None
    byzantine: int = 1  # identities, as far as their weight stays within max_byzantine
    sin: str = "twins"
    flush: bool = False  # the misbehaving push the bodies of their blocks out of memory with more
    colluders: bool = False  # as many misbehave as a fork needs: agreement may break, but must convict
    bad_blocks: float = 0.2  # of the fresh blocks that the misbehaving make
    gst: int = 8_000  # from here on the network and the honest nodes are well
    drop: float = 0.0
    duplicate: float = 0.0
    tail: int = 20  # mean of the exponential part of a delay before GST
    partition: float = 0.0
    kind_fault: float = 0.0  # one kind of message of one view never reaches a random half
    laggard: bool = False  # one honest node is cut off until GST
    crash: float = 0.0  # between any two effects
    crash_all: int = 0  # times that everybody crashes at once
    corrupt: float = 0.0  # of the crashes of an unlucky node: a bit of its logs flips
    lost_signer: float = 0.0  # of the crashes of an unlucky node: its signer file is gone
    slow_disk: int = 0  # mean of a sync before GST
    skew: float = 0.0  # of the timers' speed
    set_change: int = 0  # heights between changes of the validator set
    work_delay: int = 50  # until a node notices that a block is wanted, at most
    on_demand: bool = False  # blocks are wanted for single transactions only; idle at the end
    heights: int = 2  # to be decided by everybody after GST
    after: int = 90_000
    executor: bool = False  # real keys, contracts and EVM instead of stand-ins


@dataclass(frozen=True)
class Fault:
    name: str
    field: str
    off: Any
    values: tuple[Any, ...]
    share: float  # of the drawn scenarios
    says: str


FAULTS = (
    Fault("drop", "drop", 0.0, (0.05, 0.2, 0.4), 0.7, "messages are lost"),
    Fault("duplicate", "duplicate", 0.0, (0.1,), 0.5, "messages arrive twice"),
    Fault("delay", "tail", 5, (30, 150), 0.7, "delays with a long tail, so messages overtake each other"),
    Fault("partition", "partition", 0.0, (0.5, 0.8), 0.6, "the network splits and heals, again and again"),
    Fault("rounds", "kind_fault", 0.0, (0.3, 0.6), 0.35, "one kind of message of one view never reaches a random half"),
    Fault("laggard", "laggard", False, (True,), 0.15, "one honest validator is cut off until the network is well"),
    Fault("crash", "crash", 0.0, (0.004, 0.02), 0.6, "crashes between any two effects; unsynced bytes are torn"),
    Fault("blackout", "crash_all", 0, (1, 2), 0.35, "everybody crashes at once"),
    Fault("corrupt", "corrupt", 0.0, (0.5,), 0.1, "a bit flips in an unlucky node's logs while it is down"),
    Fault("lost-signer", "lost_signer", 0.0, (0.5,), 0.1, "an unlucky node's signer file is gone after a crash"),
    Fault("slow-disk", "slow_disk", 0, (20, 120), 0.25, "waiting for the disk takes long, and crashes fall into it"),
    Fault("skew", "skew", 0.0, (0.2,), 0.5, "timers run at different speeds"),
    Fault("set-change", "set_change", 0, (1, 2, 5), 0.2, "the validator set and its weights change at a boundary"),
    Fault("on-demand", "on_demand", False, (True,), 0.2, "blocks only for single transactions; silence afterwards"),
    Fault("late-work", "work_delay", 50, (20, 3_000), 0.6, "nodes notice late that a block is wanted"),
    Fault("bad-blocks", "bad_blocks", 0.0, (0.2, 0.6), 0.6, "misbehaving leaders propose invalid blocks"),
    Fault("colluders", "colluders", False, (True,), 0.05, "more misbehave than the bound: a fork must convict them"),
    Fault("flush", "flush", False, (True,), 0.2, "misbehaving leaders push bodies out of memory by sending many"),
)
NAMES = (*(fault.name for fault in FAULTS), *SINS)
SIN_TEXTS = {
    "twins": "two machines with one key",
    "silent": "helps for a while, then falls silent",
    "mutate": "changes what it sends",
    "liar": "ignores the notarized parent, or invents one, and votes for its lie",
    "split": "twins that each tell one side of the network another story",
    "flood": "sends as much as it can, far ahead",
    "forge": "certificates with invented or too few signatures",
}


def draw_scenario(seed: int, validators: int | None = None, faults: Collection[str] | None = None) -> Scenario:
    """`faults` None: a mix of all. Otherwise exactly those, in every schedule (of several sins, one)."""
    _check(validators, faults)
    r = random.Random(f"scenario {seed}")
    n = r.choice((4, 4, 5, 6, 7))
    n = validators or n
    weights = tuple(r.randint(1, 5) for _ in range(n))
    weights_differ, byzantine = r.random() < 0.25, r.choice((0, 1, 1, 2))
    sins = SINS if faults is None else tuple(name for name in SINS if name in faults)
    sin = r.choice(sins or SINS)
    if faults is not None:
        byzantine = max(1, byzantine) if sins else 0
    scenario = Scenario(
        seed, n, weights if weights_differ else None, byzantine, sin, gst=r.choice((1_500, 3_000)),
        **{fault.field: _draw(r, fault, faults) for fault in FAULTS},
    )  # fmt: skip
    return _settle(scenario)


def _draw(r: random.Random, fault: Fault, faults: Collection[str] | None) -> Any:
    value, hit = r.choice(fault.values), r.random() < fault.share
    if faults is not None:
        hit = fault.name in faults
    return value if hit else fault.off


def _settle(scenario: Scenario) -> Scenario:
    """What excludes each other: colluders need equal weights and a fixed set; who is unlucky counts as faulty."""
    if scenario.colluders:
        return replace(
            scenario, sin="split", weights=None, set_change=0, corrupt=0.0, lost_signer=0.0, on_demand=False,
            laggard=False, partition=0.0, drop=min(scenario.drop, 0.05), kind_fault=0.0,
        )  # fmt: skip
    if scenario.corrupt or scenario.lost_signer:  # what goes bad is found at a start: somebody must crash
        scenario = replace(scenario, byzantine=max(0, scenario.byzantine - 1), crash=max(scenario.crash, 0.004))
    return scenario


def _check(validators: int | None, faults: Collection[str] | None) -> None:
    if validators is not None and not 1 <= validators <= MAX_VALIDATORS:
        raise Misuse(f"--validators: 1 to {MAX_VALIDATORS}")
    unknown = sorted(set(faults or ()) - set(NAMES))
    if unknown:
        raise Misuse(f"--faults: {', '.join(unknown)} unknown; there are {', '.join(NAMES)}")


def describe(scenario: Scenario) -> str:
    """The fields that say something, as Python would take them."""
    plain = Scenario(scenario.seed, byzantine=0, bad_blocks=0.0)
    rows = {name: getattr(scenario, name) for name in plain.__dataclass_fields__}
    shown = {name: value for name, value in rows.items() if name == "seed" or value != getattr(plain, name)}
    if not scenario.byzantine and not scenario.colluders:
        shown.pop("sin", None)
        shown.pop("bad_blocks", None)
        shown.pop("flush", None)
    return ", ".join(f"{name}={value!r}" for name, value in shown.items())
