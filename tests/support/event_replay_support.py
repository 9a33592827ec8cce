"""Indexers that know genesis and events, and what the contracts store: both must be the same, slot by slot.

An event is known with the height of its block; chain time comes from the beacon's own.
"""

from functools import partial
from typing import Any, Protocol

from board_replay_support import BoardIndex
from contracts_support import CHAIN_TIME_GAP, FAUCET, GENESIS_TIME, PARAMETERS
from delegation_replay_support import DelegationIndex
from fast_world_support import FastWorld
from storage_support import differences

from flock_contracts.addresses import BY_NAME

RING = 8_192
Logs = list[tuple[str, dict[str, Any]]]


class Index(Protocol):
    height: int
    now: int  # chain time

    def feed(self, name: str, log: dict[str, Any]) -> None: ...
    def variables(self) -> dict[str, Any]: ...


class BeaconIndex:
    def __init__(self) -> None:
        self.chain_time = self.last_timestamp = GENESIS_TIME
        self.last_height, self.ring = 0, dict[int, dict[str, Any]]()

    def mix(self, height: int, timestamp: int, log: dict[str, Any]) -> None:
        self.chain_time, self.last_timestamp, self.last_height = log["chain_time"], timestamp, height
        self.ring[height % RING] = {"height": log["height"], "mix": log["mix"]}

    def variables(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("chain_time", "last_timestamp", "last_height", "ring")}
        return {"initialized": True, "chain_time_gap": CHAIN_TIME_GAP, **own}


class FaucetIndex:
    def __init__(self) -> None:
        self.height = self.now = self.deposits = self.left_in_window = 0
        self.window = (1 << 256) - 1
        self.dripped: dict[bytes, bool] = {}
        self.release_at: dict[bytes, int] = {}

    def feed(self, name: str, log: dict[str, Any]) -> None:
        if name == "Dripped":
            self.dripped[log["newcomer"]] = True
            self.release_at[log["submitter"]] = self.now + FAUCET["lock"]
            self.window, self.left_in_window = self.now // FAUCET["lock"], log["left"]
            self.deposits += FAUCET["deposit"]
        else:
            del self.release_at[log["submitter"]]
            self.deposits -= log["amount"]

    def variables(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("deposits", "dripped", "release_at", "window", "left_in_window")}
        numbers = {"amount": FAUCET["amount"], "deposit": FAUCET["deposit"], "deposit_lock": FAUCET["lock"]}
        return {"initialized": True, **numbers, **own}


class Replay:
    """Some contracts of a world, and their logs by the contract's name."""

    def __init__(self, world: FastWorld, indices: dict[str, Index]) -> None:
        self.world, self.indices, self.beacon = world, indices, BeaconIndex()
        self.logs: dict[str, Logs] = {name: [] for name in indices}
        self.names = {BY_NAME[name]: name for name in ("Beacon", *indices)}

    def feed(self) -> None:
        """What was logged since the last time."""
        for height, timestamp, address, topics, data in self.world.taken_entries():
            name = self.names.get(address)
            if name is None:
                continue
            found = self.world.contracts[name].decode_log([topic.to_bytes(32, "big") for topic in topics], data)
            assert found is not None, "an event that is in no ABI"
            if name == "Beacon":
                self.beacon.mix(height, timestamp, found[1])
                for index in self.indices.values():
                    index.height, index.now = height, self.beacon.chain_time
            else:
                self.indices[name].feed(*found)
                self.logs[name].append(found)

    def compare(self) -> None:
        """Every slot that was ever written holds what follows from the events."""
        self.feed()
        for name, variables in (("Beacon", self.beacon.variables()), *self._variables()):
            written = self.world.state.written[BY_NAME[name]]
            found = differences(name, variables, written, partial(self.world.slot, BY_NAME[name]))
            assert not found, found[:20]

    def _variables(self) -> list[tuple[str, dict[str, Any]]]:
        return [(name, index.variables()) for name, index in self.indices.items()]


def market_replay(world: FastWorld) -> Replay:
    """Of tasks, and of what others bond with their participants."""
    board = BoardIndex(dict(PARAMETERS))
    return Replay(world, {"TaskBoard": board, "Delegation": DelegationIndex(board)})
