"""What happened to the tasks' money and people, from the logs of final blocks: the newest first, within bounds.

Works a little whenever it is asked to, so that nobody waits for an old chain and nothing runs while no page is open.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flock_chain.audit_rule import STRIKES_TO_EXPEL
from flock_chain.errors import Unavailable
from flock_chain.tally import Verdict
from flock_contracts.addresses import BY_NAME
from flock_contracts.loader import load
from flock_peers.ledger.queries import ChainView, Queries
from flock_peers.roles.board import as_account

BLOCKS_AT_ONCE = 250  # read in one step: about 25 ms
MAX_BLOCKS = 20_000  # below the first head that was seen; five hours of a busy chain, 2 s of reading
MAX_EVENTS = 100  # shown
MAX_SLASHED_ROUNDS = 1_024  # of which losses of bonds are known

# Of the board and the staking contract: what a person would call news.
NEWS: Mapping[str, frozenset[str]] = {
    "TaskBoard": frozenset((
        "TaskOpened", "TaskStopped", "TaskEnded", "Joined", "Left", "Adopted", "Accused", "Convicted", "Freed",
        "Slashed", "Audited", "Struck", "AuditClosed", "Unseated", "Rejoined", "FellBack", "Verdict",
    )),
    "Stake": frozenset(("Bonded", "Unbonding", "Jailed", "Unjailed", "Admitted", "Convicted", "Slashed")),
}  # fmt: skip
_NAMES = {BY_NAME[name]: name for name in NEWS}
_AMOUNTS = ("amount", "slashed", "held", "pot")  # wei; one of them at most is in an event
# What befalls coins with a validator that are not its own: the event names both.
OF_DELEGATORS = {"Bonded": "Delegated", "Unbonding": "Undelegated", "Slashed": "DelegatorSlashed"}
_FLAGS = ("guilty", "suspended", "void")

Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """One stretch of blocks, in their order."""

    events: list[Row] = field(default_factory=list)
    slashed: list[tuple[int, int, str, int]] = field(default_factory=list)  # task, round, account, wei


class History:
    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._events: list[Row] = []  # the oldest first
        self._slashed: dict[tuple[int, int], dict[str, int]] = {}
        self._first = self._last = 0  # heights that were read: first to last, once last is above 0
        self._floor = 1

    @property
    def since(self) -> int:
        """The lowest height that was read."""
        return self._first

    @property
    def until(self) -> int:
        """The highest height that was read: below the head for a while where many blocks came at once."""
        return self._last

    def events(self) -> list[Row]:
        """The newest first."""
        return self._events[::-1]

    def slashed(self, task: int, number: int) -> Mapping[str, int]:
        """Wei by account: what bonds lost for that round, as far as the blocks were read."""
        return self._slashed.get((task, number), {})

    async def step(self, head: int, base: int) -> None:
        """`base`: the lowest height whose block is here. Cancelled, it has read nothing."""
        if not self._last:
            self._last, self._first = head, head + 1
            self._floor = max(base, 1, head - MAX_BLOCKS + 1)
        if head > self._last:
            last = min(head, self._last + BLOCKS_AT_ONCE)
            found = await self._queries.run(lambda view: find_news(view, self._last + 1, last))
            self._add(found.events, newest=True)
            self._last = last
        elif self._first > self._floor:
            first = max(self._floor, self._first - BLOCKS_AT_ONCE)
            found = await self._queries.run(lambda view: find_news(view, first, self._first - 1))
            self._add(found.events, newest=False)
            self._first = first
        else:
            return
        for task, number, account, amount in found.slashed:
            self._note_slash(task, number, account, amount)

    def _add(self, events: list[Row], *, newest: bool) -> None:
        self._events = ([*self._events, *events] if newest else [*events, *self._events])[-MAX_EVENTS:]

    def _note_slash(self, task: int, number: int, account: str, amount: int) -> None:
        row = self._slashed.setdefault((task, number), {})
        row[account] = row.get(account, 0) + amount
        while len(self._slashed) > MAX_SLASHED_ROUNDS:
            del self._slashed[min(self._slashed)]  # the oldest task's first: rounds begin at 1 in each


def _describe_strikes(strikes: int | None) -> list[str]:
    if strikes is None:
        return []
    return ["expelled"] if strikes == STRIKES_TO_EXPEL else [f"{strikes} of {STRIKES_TO_EXPEL}"]


def find_news(view: ChainView, first: int, last: int) -> Found:
    found = Found()
    for height in range(first, last + 1):
        try:
            header, receipts = view.header(height), view.receipts(height)
        except Unavailable:  # before the snapshot that this home began with
            continue
        for receipt in receipts:
            for address, topics, data in receipt.logs:
                if (name := _NAMES.get(bytes(address))) is not None:
                    _note(found, name, height, header.timestamp, [t.to_bytes(32, "big") for t in topics], data)
    return found


def _note(found: Found, contract: str, height: int, timestamp: int, topics: list[bytes], data: bytes) -> None:
    decoded = load(contract).decode_log(topics, data)
    if decoded is None or decoded[0] not in NEWS[contract]:
        return
    name, values = decoded
    if contract == "Stake" and name in OF_DELEGATORS and values["owner"] != values["account"]:
        name, values["account"] = OF_DELEGATORS[name], values["owner"]
    account = _hex(values["account"]) if "account" in values else None
    amount = next((values[key] for key in _AMOUNTS if key in values), None)
    if contract == "TaskBoard" and name == "Slashed":
        found.slashed.append((values["task"], values["round"], str(account), values["amount"]))
    found.events.append(
        {
            "height": height,
            "timestamp": timestamp,
            "contract": contract,
            "event": name,
            "task": values.get("task"),
            "round": values.get("round"),
            "audit": values.get("audit"),
            "account": account,
            "amount": None if amount is None else str(amount),
            "verdict": Verdict(values["verdict"]).name if "verdict" in values else None,
            "flags": [flag for flag in _FLAGS if values.get(flag)] + _describe_strikes(values.get("strikes")),
        }
    )


def _hex(value: Any) -> str:
    return "0x" + as_account(value).hex()
