"""A peer's own stake: what its owner orders over the local socket, and the evidence that it reports. Knows no socket.

A call is tried on the final state first, so that what the contract would refuse is said in its own words and costs
nothing. Whether it became final is seen by asking for the state again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import trio

from flock_chain.consensus.types import Vote
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, Misuse

log = logging.getLogger(__name__)

NEVER = (1 << 256) - 1  # the contract's word for: no time can be named yet
LOOK_SECONDS = 1.0  # between two looks at what was detected: so much a kill may lose
REPORT_SECONDS = 10.0  # between two tries to send it
# What no later try can change, in the contract's words; everything else (no coins, a height to come) waits.
FINAL_REFUSALS = (
    "stake: the evidence is too old", "stake: the signer has no stake", "stake: the signer never had a seat",
    "stake: two signers",
)  # fmt: skip
FUNCTIONS = (  # by orders
    "bond_validator", "unbond", "withdraw", "unjail", "admit", "settle", "claim_reward", "set_terms", "delegate",
    "undelegate", "withdraw_delegation", "claim_delegation", "share_reward",
)  # fmt: skip
MAX_EPOCHS_BACK = 64  # of evidence that is still sent; the contract's window is shorter on every network we ship
STAKE_GAS = 6_000_000  # the dearest, a bond into a full list of 300 candidates, takes 4 million


class Head(Protocol):
    @property
    def height(self) -> int: ...


class State(Protocol):
    """What this needs of a ledger."""

    @property
    def head(self) -> Head: ...
    async def view(self, contract: str, function: str, *args: Any, height: int | None = None) -> Any: ...
    async def simulate(self, contract: str, function: str, *args: Any, sender: Account, value: int = 0) -> None: ...


class Caller(Protocol):
    """What this needs of the sender."""

    async def call(
        self, label: str, contract: str, function: str, *args: Any, value: int = 0, gas: int = 0
    ) -> bool: ...
    def is_pending(self, label: str) -> bool: ...


Pair = tuple[Vote, Vote]


class Memory(Protocol):
    """Where evidence waits to be sent, one pair for each signer. Blocks for the disk, once or twice an offender."""

    @property
    def pairs(self) -> Sequence[Pair]: ...
    def add(self, pair: Pair) -> None: ...
    def remove(self, signer: Account) -> None: ...


class Staking:
    def __init__(self, account: Account, vrf_key: bytes, state: State, sender: Caller, memory: Memory) -> None:
        self._account, self._vrf_key, self._state, self._sender = account, vrf_key, state, sender
        self._memory = memory
        self._said: dict[Account, str] = {}  # why evidence is not sent yet: once in the log, not at each look

    # ---- orders

    async def order(self, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Misuse for what is no order, CallReverted with the contract's reason."""
        orders: dict[str, Callable[[Mapping[str, Any]], Awaitable[bool]]] = {
            "add": lambda row: self._call("bond_validator", self._vrf_key, value=parse_wei(row)),
            "remove": lambda row: self._call("unbond", parse_wei(row)),
            "withdraw": lambda _: self._call("withdraw"),
            "unjail": lambda _: self._call("unjail"),
            "admit": lambda row: self._call("admit", parse_account(row), parse_wei(row)),
            "settle": lambda row: self._call("settle", parse_account(row), parse_account(row)),
            "claim": lambda _: self._call("claim_reward"),
            "terms": lambda row: self._call("set_terms", parse_bps(row), parse_wei(row)),
            "delegate": lambda row: self._call("delegate", parse_account(row), value=parse_wei(row)),
            "undelegate": lambda row: self._call("undelegate", parse_account(row), parse_wei(row)),
            "withdraw-delegation": lambda row: self._call("withdraw_delegation", parse_account(row)),
            "claim-delegation": lambda row: self._call("claim_delegation", parse_account(row)),
            "share": lambda row: self._call("share_reward", parse_account(row), value=parse_wei(row)),
        }
        if action == "status":
            status = await self.status()
            return (
                status | {"delegation": await self._delegation(parse_account(params))}
                if "account" in params
                else status
            )
        if action not in orders:
            raise Misuse(f"stake: no order {action!r}")
        return {"sent": await orders[action](params)}

    async def _call(self, function: str, *arguments: Any, value: int = 0) -> bool:
        await self._state.simulate("Stake", function, *arguments, sender=self._account, value=value)
        return await self._sender.call(_label(function), "Stake", function, *arguments, value=value, gas=STAKE_GAS)

    def _view_now(self) -> Callable[..., Awaitable[Any]]:
        """Of one block: amounts of two do not add up."""
        return partial(self._state.view, height=self._state.head.height)

    async def _delegation(self, validator: Account) -> dict[str, Any]:
        """What this account has bonded with somebody else, and that validator's terms."""
        view, pair = self._view_now(), (validator, self._account)
        stake, leaving = await view("Stake", "delegation_of", *pair)
        release_at = await view("Stake", "delegation_release_at", *pair)
        commission, limit, next_commission, next_at = await view("Stake", "terms_of", validator)
        return {
            "validator": "0x" + validator.hex(),
            "stake": str(stake),
            "leaving": str(leaving),
            "release_at": None if release_at == NEVER else release_at,
            "reward": str(await view("Stake", "delegation_reward_of", *pair)),
            "commission": commission,
            "next_commission": next_commission,
            "next_commission_at": next_at,
            "room": str(max(0, limit - await view("Stake", "staked_with", validator)
                + await view("Stake", "stake_of", validator))),
        }  # fmt: skip

    async def status(self) -> dict[str, Any]:
        """Amounts in wei as text, times in chain time; `release_at` None while the stake still secures a set."""
        under_way = any(
            self._sender.is_pending(_label(function)) for function in FUNCTIONS
        )  # first: the rest is as new
        view = self._view_now()
        names = ("stake_of", "weight_of", "allowance_of", "unbonding_of", "jailed_until", "tombstoned_at", "reward_of")
        values = {name: await view("Stake", name, self._account) for name in names}
        epoch, first_height = await view("Stake", "epoch_state")
        rows = await view("Stake", "validators")
        release_at = await view("Stake", "release_at", self._account)
        serving = next((row["weight"] for row in rows if row["account"] == self._account), 0)
        return {
            "account": "0x" + self._account.hex(),
            "stake": str(values["stake_of"]),
            "seat_stake": str(await view("Stake", "min_validator_stake")),  # of one's own, for a seat
            "serving_weight": str(serving),
            "next_weight": str(values["weight_of"]),
            "granted_weight": str(values["allowance_of"]),
            "open_staking": await view("Stake", "open_staking"),
            "unbonding": str(values["unbonding_of"]),
            "release_at": None if release_at == NEVER else release_at,
            "jailed_until": values["jailed_until"],
            "tombstoned_at": values["tombstoned_at"],
            "reward": str(values["reward_of"]),
            "delegated": str(await view("Stake", "staked_with", self._account) - values["stake_of"]),
            "missed": await view("Stake", "missed", self._account),
            "chain_time": await view("Beacon", "chain_time"),
            "epoch": epoch,
            "first_height": first_height,
            "validators": len(rows),
            "under_way": under_way,
        }

    # ---- evidence

    async def report_forever(self, find: Callable[[], Sequence[Pair]]) -> None:
        """Keeps what `find` returns, and sends it, once for each signer, while nobody else has."""
        done: set[Account] = set()
        reported_at = -REPORT_SECONDS
        while True:
            try:
                known = done | {first.signer for first, _ in self._memory.pairs}
                for pair in find():
                    if pair[0].signer not in known:
                        known.add(pair[0].signer)
                        self._memory.add(pair)
                if trio.current_time() - reported_at >= REPORT_SECONDS:
                    reported_at = trio.current_time()
                    done |= await self._report_all()
            except Exception as error:  # a task's edge: a disk or a view that fails never ends the validator
                log.warning("evidence: %s", error, exc_info=None if isinstance(error, FlockError) else error)
            await trio.sleep(LOOK_SECONDS)

    async def _report_all(self) -> set[Account]:
        """About whom nothing is left to do. A failure waits for the next look."""
        done = set()
        for first, second in list(self._memory.pairs):
            try:
                if not await self.report(first, second):
                    continue
            except FlockError as error:
                self._say(first.signer, error)
                if not any(reason in str(error) for reason in FINAL_REFUSALS):
                    continue
            done.add(first.signer)
            self._said.pop(first.signer, None)
            self._memory.remove(first.signer)
        return done

    def _say(self, signer: Account, error: FlockError) -> None:
        if self._said.get(signer) != str(error):
            self._said[signer] = str(error)
            log.warning("evidence against 0x%s is not sent: %s", signer.hex(), error)

    async def report(self, first: Vote, second: Vote) -> bool:
        """Whether nothing is left to do about this signer."""
        label = f"evidence against 0x{first.signer.hex()}"
        if await self._state.view("Stake", "tombstoned_at", first.signer):
            return True
        if self._sender.is_pending(label):
            return False
        pair = [_statement(first), _statement(second)]
        epoch = await self._find_epoch(first.height)
        await self._state.simulate("Stake", "report", *pair, epoch, sender=self._account)
        await self._sender.call(label, "Stake", "report", *pair, epoch, gas=STAKE_GAS)
        return False

    async def _find_epoch(self, height: int) -> int:
        epoch, first_height = await self._state.view("Stake", "epoch_state")
        for _ in range(MAX_EPOCHS_BACK):
            if height >= first_height or epoch == 0:
                break
            epoch -= 1
            first_height = await self._state.view("Stake", "first_height_of", epoch)
        return int(epoch)


def _label(function: str) -> str:
    return f"stake: {function}"


def _statement(vote: Vote) -> dict[str, Any]:
    signature = vote.signature
    return {
        "kind": int(vote.kind),
        "height": vote.height,
        "view": vote.view,
        "block_id": bytes(vote.block_id),
        "parent_view": vote.parent_view,
        "v": signature[64] + 27,
        "r": int.from_bytes(signature[:32], "big"),
        "s": int.from_bytes(signature[32:64], "big"),
    }


def parse_wei(params: Mapping[str, Any]) -> int:
    text = params["amount"]
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 39:
        raise Misuse("order: the amount is wei in digits")
    return int(text)


def parse_bps(params: Mapping[str, Any]) -> int:
    value = params["commission"]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10_000:
        raise Misuse("order: a commission is 0 to 10000 hundredths of a per cent")
    return value


def parse_account(params: Mapping[str, Any], name: str = "account") -> Account:
    try:
        value = bytes.fromhex(str(params[name]).removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != 20:
        raise Misuse("order: an account is 40 hex digits")
    return Account(value)
