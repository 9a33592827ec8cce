"""What the control socket may ask of a peer: its status, transactions, tasks and stake. Knows no socket."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio

from flock_chain.crypto import Account, Digest
from flock_chain.errors import FlockError, Misuse, Unavailable
from flock_chain.genesis import Genesis
from flock_contracts.addresses import BY_NAME, SYSTEM
from flock_peers.base_giver import BaseGiver
from flock_peers.baseline import Baseline
from flock_peers.bases import Bases
from flock_peers.clock_offset import ClockOffset
from flock_peers.coins import count_coins
from flock_peers.contents import Contents
from flock_peers.control import Method
from flock_peers.courier import Courier
from flock_peers.declined import add_clause
from flock_peers.driver.driver import Driver
from flock_peers.ledger import Ledger
from flock_peers.left_behind import LeftBehind
from flock_peers.loop_lag import LoopLag
from flock_peers.measurements import Measurements
from flock_peers.network.blobs import BlobService
from flock_peers.network.host import Host
from flock_peers.roles.board import as_account
from flock_peers.roles.participant import Participant
from flock_peers.roles.rule_orders import RuleOrders
from flock_peers.roles.sender import Sender
from flock_peers.roles.staking import Staking, parse_account, parse_wei
from flock_peers.roles.task_orders import TaskOrders
from flock_peers.snapshots import Snapshots
from flock_peers.task_facts import TaskFacts
from flock_peers.task_list import choose_other, list_rounds, list_tasks
from flock_peers.tasks import PreparedTask, open_task, parse_wanted
from flock_peers.telemetry import RoundBytes, TrainingProgress, compute_percentile

SILENT_SECONDS = 30.0  # without a block beyond the heartbeat: some views of waiting are no standstill


@dataclass(frozen=True)
class PeerControl:
    """The parts of one peer that the methods look at."""

    account: Account
    genesis: Genesis
    started_at: float  # seconds since 1970
    host: Host
    ledger: Ledger
    driver: Driver
    snapshots: Snapshots
    contents: Contents
    blobs: BlobService
    sender: Sender
    courier: Courier
    staking: Staking
    task_orders: TaskOrders
    rule_orders: RuleOrders
    baseline: Baseline
    base: Path | None  # the owner's folder of a base model, on which tasks are opened; None: the shipped one
    bases: Bases
    giver: BaseGiver
    facts: TaskFacts
    explain_tasks: Callable[[], Mapping[int, str]]
    progress: TrainingProgress
    measurements: Measurements
    left_behind: LeftBehind
    round_bytes: RoundBytes
    clock: ClockOffset
    loop_lag: LoopLag
    stop: trio.Event
    find_participant: Callable[[], Participant | None]
    find_page: Callable[[], str | None]

    def methods(self) -> Mapping[str, Method]:
        orders: Mapping[str, Method] = {
            "stake": lambda params: self.staking.order(str(params["action"]), params),
            "task": self._order_task,
            "open_task": self._open_task,
            "rules": lambda params: self.rule_orders.order(str(params["action"]), params),
            "send": self._send,
        }
        return {
            **{name: self._as_of_then(method) for name, method in orders.items()},
            "status": self.status,
            "peers": self.peers,
            "tasks": self._list_tasks,
            "rounds": self._list_rounds,
            "reference": self._read_reference,
            "give_base": self._give_base,
            "giving": self._giving,
            "stop_task": self._stop_task,
            "sent": self._sent,
            "connect": self._connect,
            "baseline": self._start_baseline,
            "submit": self._submit,
            "receipt": self._receipt,
            "stop": self._stop,
        }

    def _as_of_then(self, order: Method) -> Method:
        """What a peer refuses that is still executing old blocks may be of long ago: its owner is told so."""

        async def run(params: Mapping[str, Any]) -> Any:
            try:
                return await order(params)
            except FlockError as error:
                if (sync := self.driver.status.sync) is None:
                    raise
                behind = f"that is as of block {sync.height} of {sync.target}: this peer is still catching up"
                raise add_clause(error, behind) from error

        return run

    async def status(self, _params: Mapping[str, Any]) -> dict[str, Any]:
        head, validators = self.ledger.head, await self.ledger.validators()
        here = {self.account, *self.host.connected()}
        away = [account for account in validators.accounts if account not in here]
        samples, consensus = list(self.ledger.finality), self.driver.status
        return {
            "account": "0x" + self.account.hex(),
            "address": self.host.address,
            "page": self.find_page(),
            "network": self.genesis.network,
            "genesis": self.genesis.hash.hex(),
            "height": head.height,
            "block": head.id.hex(),
            "state_root": head.state_root.hex(),
            "base": self.ledger.base(),
            "snapshots": [row.height for row in self.snapshots.rows],
            "epoch": self.ledger.epoch,
            "rules": self.ledger.parameters.rules,
            "upgrades": self.ledger.upgrades.hash.hex(),
            "stops_before": unknown.epoch if (unknown := self.ledger.upgrades.find_unknown()) else None,
            "head_timestamp": head.timestamp,
            "peers": ["0x" + account.hex() for account in self.host.connected()],
            "balance": str(await self.ledger.balance(self.account)),
            "is_validator": consensus.is_validator,
            "validators": consensus.validators,
            "away": ["0x" + account.hex() for account in away],
            "has_quorum": validators.total - sum(map(validators.weight, away)) >= validators.quorum,
            "is_silent": time.time() - head.timestamp > self.genesis.parameters.heartbeat + SILENT_SECONDS,
            "sync": self._sync_status(),
            "not_signing": self.driver.status.not_signing,
            "up_seconds": int(time.time() - self.started_at),
            "finality_seconds": {"p50": compute_percentile(samples, 0.5), "p95": compute_percentile(samples, 0.95)},
            "finality_samples": samples[-1000:],
            "bytes_by_round": {str(k): v for k, v in self.round_bytes.by_round().items()},
            "clock_offset": self.clock.read(),
            "loop_lag": self.loop_lag.read(),
            "disk": asdict(self.blobs.store.usage()),
            "transfers": [row.as_row() for row in self.blobs.progress()],
            "base_model": self._base_status(),
            "publishing": None if self.giver.now is None else self.giver.now.describe(),
            "not_joined": {str(task): text for task, text in self.explain_tasks().items()},
            "training": self.progress.latest,
            "task": (task := await self._task_status()),
            "other_task": await self._describe_other() if task is None else None,
            "left_behind": self.left_behind.rows(),
            "baseline": self.baseline.result,
        }

    async def peers(self, _params: Mapping[str, Any]) -> dict[str, Any]:
        """The connections of now; what a peer says of itself is not asked for."""
        validators = set((await self.ledger.validators()).accounts)
        rows = [
            asdict(row) | {"account": "0x" + row.account.hex(), "is_validator": row.account in validators}
            for row in self.host.list_peers()
        ]
        return {"peers": rows, "own_address": self.host.address, "misbehaved": self.host.counters.peers_misbehaved}

    def _sync_status(self) -> dict[str, Any] | None:
        sync = self.driver.status.sync
        return None if sync is None else asdict(sync)

    async def _task_status(self) -> dict[str, Any] | None:
        participant = self.find_participant()
        if participant is None or participant.view is None:
            return None
        view = participant.view
        rows = {as_account(row["account"]): row for row in await participant.membership.participants()}
        mine = rows.get(self.account)
        return {
            "task": view.task,
            "round": view.round,
            "rounds": (await self.ledger.view("TaskBoard", "task_view", view.task))["terms"]["rounds"],
            "phase": view.phase.name,
            "deadline": view.deadline,
            "adapter": view.adapter.hex(),
            "proposers": ["0x" + account.hex() for account in view.proposers],
            "voters": ["0x" + account.hex() for account in view.voters],
            "awaited": ["0x" + account.hex() for account in view.awaited()],
            "committed": view.committed.bit_count(),
            "revealed": view.revealed.bit_count(),
            "verdicts": [verdict.name for verdict in view.verdicts],
            "joined": mine is not None,
            "bonds": {"0x" + account.hex(): str(row["bond"]) for account, row in rows.items()},
            "is_leaving": mine is not None and (participant.is_leaving or bool(mine["leaving_at"])),
            "is_ended": participant.is_ended,
            "pay": participant.read_pay(),
            "skipped": self.measurements.skipped_of(view.task),
            "kept_until": participant.keeper.kept_until if participant.keeper else 0,
            "claimed_until": participant.keeper.claimed_until if participant.keeper else 0,
            "judged_until": participant.jury.judged_until if participant.jury else 0,
        }

    async def _describe_other(self) -> dict[str, Any] | None:
        """Of a task without a part here: it may have paid before a restart."""
        row = await choose_other(self.ledger, self.account)
        return None if row is None else row | {"pay": self.measurements.pay_of(row["task"])}

    def _base_status(self) -> dict[str, Any] | None:
        fetching = self.bases.fetching
        return None if fetching is None else fetching.as_row([(row.digest, row.done) for row in self.blobs.progress()])

    async def _list_tasks(self, _params: Mapping[str, Any]) -> dict[str, Any]:
        found = await list_tasks(self.ledger)
        about = await self.facts.describe([bytes.fromhex(row["document"]) for row in found["tasks"]])
        return found | {"tasks": [row | {"about": about.get(bytes.fromhex(row["document"]))} for row in found["tasks"]]}

    async def _list_rounds(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"rounds": await list_rounds(self.ledger, int(params["task"]))}

    async def _read_reference(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Of one task, by default the newest: its public text."""
        count: int = await self.ledger.view("TaskBoard", "task_count")
        task = params.get("task", count)
        if not count:
            raise Misuse("task: none was opened on this network yet")
        if not isinstance(task, int) or isinstance(task, bool) or not 1 <= task <= count:
            raise Misuse(f"task: there is no task {task!r:.20}; {count} have been opened, and `task list` shows them")
        row: Any = await self.ledger.view("TaskBoard", "task_view", task)
        return {"task": task, "reference": await self.facts.read_reference(bytes(row["document"]))}

    async def _order_task(self, params: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self.task_orders.order(str(params["action"]), params)
        if "document" in answer:
            document = bytes.fromhex(answer["document"])
            answer["about"] = (await self.facts.describe([document])).get(document)
        return answer

    async def _give_base(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Publish the base model in a folder, or in the one that this peer was started with; `giving` says how far it
        is. The shipped one is everywhere already."""
        folder = Path(str(params["folder"])) if params.get("folder") is not None else self.base
        return {} if folder is None else self.giver.start(folder).as_row()

    async def _giving(self, params: Mapping[str, Any]) -> dict[str, Any]:
        giving = self.giver.ask(Path(str(params.get("folder"))))
        return {} if giving is None else giving.as_row()

    async def _open_task(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`base`: the content id of one that was given; without it the task is on the shipped one."""
        wanted, pot = parse_wanted(params), int(params["pot"])
        if params.get("base") is None:
            task = await open_task(wanted, pot, self.contents, self.ledger, self.sender)
            return {"document": task.document.hex(), "adapter": task.adapter.hex()}
        base = self.giver.find(str(params["base"]))
        folder = self.bases.show(base)
        if folder is None:
            raise Unavailable("base model: it was removed again for the room of others; publish it again")

        def keep(task: PreparedTask) -> None:
            self.giver.keep_for(task.document, base)

        task = await open_task(wanted, pot, self.contents, self.ledger, self.sender, folder, manifest=base, keep=keep)
        return {"document": task.document.hex(), "adapter": task.adapter.hex()}

    async def _send(self, params: Mapping[str, Any]) -> dict[str, Any]:
        to, value = parse_account(params, "to"), parse_wei(params)
        if to in (*BY_NAME.values(), SYSTEM):
            raise Misuse(
                f"send: 0x{to.hex()} is no account but part of the chain: coins sent there are refused or lost"
            )
        return {"sent": await self.sender.pay(_transfer(to, value), to, value)}

    async def _sent(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What became of a transfer."""
        to, value = parse_account(params, "to"), parse_wei(params)
        return {
            "under_way": self.sender.is_pending(_transfer(to, value)),  # asked first: the balances are then as new
            "balance": str(await self.ledger.balance(self.account)),
            "their_balance": str(await self.ledger.balance(to)),
        }

    async def _stop_task(self, params: Mapping[str, Any]) -> dict[str, Any]:
        sent = await self.sender.call("stop task", "TaskBoard", "stop_task", int(params["task"]))
        return {"sent": sent}

    async def _start_baseline(self, params: Mapping[str, Any]) -> dict[str, Any]:
        self.baseline.start(self.find_participant(), int(params["rounds"]))
        return {}

    async def _connect(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"account": "0x" + (await self.host.connect(str(params["address"]))).hex()}

    async def submit(self, raw: bytes) -> Digest:
        """A signed transaction to this peer's mempool and to its neighbours. Final is what has a receipt."""
        digest = await self.ledger.submit(raw)
        await self.courier.send(raw)
        return digest

    async def _submit(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"hash": (await self.submit(bytes.fromhex(str(params["transaction"])))).hex()}

    async def _receipt(self, params: Mapping[str, Any]) -> dict[str, Any]:
        receipt = await self.ledger.receipt(bytes.fromhex(str(params["hash"])))
        if receipt is None:
            return {"height": None}
        return {"height": receipt.height, "status": receipt.status, "reason": receipt.reason}

    async def _stop(self, _params: Mapping[str, Any]) -> dict[str, Any]:
        self.stop.set()
        return {}


def _transfer(to: Account, value: int) -> str:
    return f"send {count_coins(value)} to 0x{to.hex()}"
