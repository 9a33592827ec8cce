"""kill -9 of real validators at random moments, over and over: is anything signed twice, or anything final lost?

    python benchmarks/crash_campaign.py [--kills N] [--seed S] [--folder HOMES] [--json]

Four real peers decide blocks with a stream of transfers. One, two or all of them are killed at moments drawn from the
seed, also while they start; a quarter of the kills also loses what the logs had not synced, with a torn end, as a
power loss would. The same --folder goes on where an earlier campaign stopped. Checked: no slashable pair among all
statements heard by anybody or held by any signer's file; nothing heard that the signer's file lacks; no reported
block, receipt or state root missing from any chain at the end; each chain replayed from its genesis; every peer level,
signing anew after the last kill and ending in order. A campaign in which nothing was heard, final or lost fails too.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crash_network import POLL_SECONDS, CrashNetwork, CrashPeer, lose_unsynced
from crash_oracle import Recoveries, Statements, read_signer_log
from crash_reports import Reports, find_gaps
from percentiles import sum_up

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.errors import FlockError, Unavailable
from flock_chain.execution.transactions import sign_call

VALIDATORS, CLIENTS = 4, 6
RECOVER_SECONDS = 120.0  # for everybody to be level and signing; then the campaign fails
RESEND_SECONDS = 2.0  # a submitted transaction lives in memory: its client offers it again until it is final
ASK_SECONDS = 0.15  # between two questions of the clients
POWER_LOSS_SHARE = 0.25
# How many die at once (0: the same one again while it starts), with weights.
VICTIMS, WEIGHTS = (1, 0, 2, VALIDATORS), (66, 16, 12, 6)
PARAMETERS = {"view_timeout": 1_000, "view_timeout_cap": 8_000, "retry_interval": 500}


@dataclass
class Tally:
    """What a folder's campaigns have done so far; kept beside the homes."""

    seed: int
    kills: int = 0
    while_starting: int = 0
    power_losses: int = 0
    bytes_lost: int = 0
    cluster_crashes: int = 0
    runs: int = 0
    seconds: float = 0.0
    recovery_s: list[float] = field(default_factory=list)
    receipts: dict[str, int] = field(default_factory=dict)
    heads: dict[int, tuple[str, str]] = field(default_factory=dict)


class Client:
    """One account that always has one transfer under way."""

    def __init__(self, network: CrashNetwork, number: int) -> None:
        self._network, self._key = network, network.clients[number]
        self._to = network.clients[(number + 1) % CLIENTS].account
        self._nonce, self._hash, self._raw, self._offered_at = 0, "", b"", 0.0

    def turn(self, peer: CrashPeer, reports: Reports) -> None:
        """Ask any running peer for the receipt; offer the transfer where it is due. Raises Unavailable."""
        if not self._raw:
            chain_id = self._network.genesis.chain_id
            self._raw = sign_call(
                self._key, chain_id=chain_id, nonce=self._nonce, to=self._to, value=1, gas=21_000, fee=10
            )
            self._offered_at = 0.0
        if self._hash:
            receipt = self._network.ask(peer, "receipt", hash=self._hash)
            if receipt["height"] is not None:
                reports.receipt(peer.name, self._hash, receipt["height"])
                self._nonce, self._hash, self._raw = self._nonce + 1, "", b""
                return
        if time.monotonic() - self._offered_at > RESEND_SECONDS:
            self._offered_at = time.monotonic()
            try:
                self._hash = self._network.ask(peer, "submit", transaction=self._raw.hex())["hash"]
            except Unavailable as error:
                if "is used, the sender's next is" in str(error) and not self._hash:  # of an earlier campaign
                    self._nonce, self._raw = int(str(error).rsplit(" ", 1)[1]), b""
                raise


class Campaign:
    def __init__(self, folder: Path, tally: Tally, *, power_loss: float = POWER_LOSS_SHARE) -> None:
        self.folder, self.tally, self._power_loss = folder, tally, power_loss
        self.network = CrashNetwork(folder, tally.seed, VALIDATORS, CLIENTS, taped=True, **PARAMETERS)
        genesis = self.network.genesis
        self.validators = ValidatorSet(tuple((row.account, row.stake) for row in genesis.validators))
        self.statements = Statements(ChainDomain(genesis.chain_id, genesis.hash), self.validators)
        self.reports = Reports(receipts=tally.receipts, heads=tally.heads)
        self.clients = [Client(self.network, number) for number in range(CLIENTS)]
        self.chance = random.Random(f"{tally.seed}/{tally.kills}")
        self.recoveries = Recoveries(tally.recovery_s)
        self.top = 0  # the highest height that anybody signed at
        self._asked_at = 0.0

    # ---- watching

    def drain(self) -> None:
        """Read every tape; a first new statement at the running height ends a recovery."""
        for peer in self.network.peers:
            for heard in peer.hear():
                for vote in self.statements.hear(peer.account, heard.sender, heard.payload):
                    self.top = max(self.top, vote.height)
                    self.recoveries.hear(vote, heard.sender, heard.at)

    def expect(self, peer: CrashPeer, height: int) -> None:
        """It must sign something new at this height or above."""
        self.recoveries.expect(peer.account, time.monotonic(), height)

    def watch(self, seconds: float) -> None:
        """Let the network run, with its stream of transfers."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if time.monotonic() - self._asked_at >= ASK_SECONDS:
                self._asked_at = time.monotonic()
                self._ask_somebody()
            time.sleep(min(POLL_SECONDS, left))
        self.drain()

    def _ask_somebody(self) -> None:
        running = self.network.running()
        for client in self.chance.sample(self.clients, 2) if running else ():
            try:
                client.turn(self.chance.choice(running), self.reports)
            except Unavailable:
                pass  # it is starting, dying, or says no for now
        if running:
            self.report_head(self.chance.choice(running))

    def report_head(self, peer: CrashPeer) -> int:
        try:
            status = self.network.ask(peer, "status")
        except Unavailable:
            return 0
        self.reports.head(peer.name, status["height"], status["block"], status["state_root"])
        return int(status["height"])

    def settle(self, seconds: float) -> None:
        """Until everybody who is waited for signs at the head; raises Unavailable where it takes too long."""
        deadline = time.monotonic() + seconds
        while self.recoveries:
            self.watch(POLL_SECONDS)
            self.check_alive()
            if time.monotonic() > deadline:
                stuck = self.recoveries.describe(time.monotonic())
                raise Unavailable(f"not level and signing after {seconds:.0f} s: {stuck}; height {self.top}")

    def check_alive(self) -> None:
        for peer in self.network.running():
            self.network.check_alive(peer)

    def prove_well(self, seconds: float) -> None:
        """Everybody signs something new and then holds all that was called final; raises Unavailable. No sample."""
        samples = len(self.tally.recovery_s)
        self.drain()
        for peer in self.network.peers:
            self.expect(peer, self.top + 1)
        self.settle(seconds)
        del self.tally.recovery_s[samples:]
        deadline = time.monotonic() + seconds
        while min(heights := [self.report_head(peer) for peer in self.network.peers]) < self.reports.top:
            self.check_alive()
            if time.monotonic() > deadline:
                raise Unavailable(f"heights {heights}, although {self.reports.top} was called final")
            time.sleep(POLL_SECONDS)

    def await_receipt(self, seconds: float) -> None:
        """A campaign of a few kills is over before its first transfer is final; one that never is will be said."""
        deadline = time.monotonic() + seconds
        while not self.reports.receipts and time.monotonic() < deadline:
            self.watch(POLL_SECONDS)
            self.check_alive()

    # ---- crashing

    def crash(self, victims: list[CrashPeer]) -> None:
        for peer in victims:
            starting = not (peer.home / "control.sock").exists() or peer.account in self.recoveries
            self.network.kill(peer)
            self.tally.kills += 1
            self.tally.while_starting += starting
            self.recoveries.forget(peer.account)
            (peer.home / "control.sock").unlink(missing_ok=True)
        if len(victims) == VALIDATORS:
            self.tally.cluster_crashes += 1
        for peer in victims:
            if self.chance.random() < self._power_loss:
                self.tally.power_losses += 1
                self.tally.bytes_lost += lose_unsynced(peer.signer_log, self.chance)
                self.tally.bytes_lost += lose_unsynced(peer.wal_log, self.chance)

    def revive(self, victims: list[CrashPeer]) -> None:
        self.drain()
        for peer in victims:
            self.statements.check_memory(peer.account, read_signer_log(peer.signer_log))
            self.expect(peer, self.top)
            self.network.start(peer)

    def step(self) -> None:
        """One turn of the campaign: wait, kill, wait, start again, and mostly wait until all is well."""
        number = self.chance.choices(VICTIMS, WEIGHTS)[0]
        self.watch(self.chance.expovariate(1 / 0.5))
        running = self.network.running()
        victims = self.chance.sample(running, min(max(1, number), len(running)))
        self.crash(victims)
        self.watch(min(2.0, self.chance.expovariate(1 / 0.3)))
        self.revive(victims)
        if number == 0:  # again and again, at any point of its start
            for _ in range(self.chance.randint(1, 3)):
                self.watch(self.chance.uniform(0.0, 1.2))
                self.crash(victims)
                self.revive(victims)
        if number == VALIDATORS or self.chance.random() < 0.6:
            self.settle(RECOVER_SECONDS)

    def run(self, kills: int, progress: Any) -> None:
        """Raises Unavailable where a peer ends by itself or does not come back."""
        started, before = time.monotonic(), self.tally.seconds
        wanted = self.tally.kills + kills
        try:
            for peer in self.network.peers:
                self.expect(peer, 0)
                self.network.start(peer)
            self.settle(RECOVER_SECONDS)
            del self.tally.recovery_s[-VALIDATORS:]  # a first start is no recovery
            while self.tally.kills < wanted:
                self.step()
                self.tally.seconds = before + time.monotonic() - started
                self.save()
                progress(self)
                if self.violations():
                    return
            self.settle(RECOVER_SECONDS)
            self.await_receipt(RECOVER_SECONDS)
            self.prove_well(RECOVER_SECONDS)
        finally:
            codes = self.network.stop_all()
            self.tally.seconds = before + time.monotonic() - started
            self.tally.runs += 1
            self.save()
        if any(codes.values()):
            raise Unavailable(f"peers did not end in order when they were asked to: exit codes {codes}")

    def save(self) -> None:
        (self.folder / "campaign.json").write_text(json.dumps(asdict(self.tally)))

    # ---- judging

    def violations(self) -> list[str]:
        return self.statements.violations + self.reports.violations

    def judge(self) -> dict[str, Any]:
        """After the peers have stopped: every chain against everything that was reported."""
        self.drain()
        heights = []
        for peer in self.network.peers:
            self.statements.check_memory(peer.account, read_signer_log(peer.signer_log))
            heights.append(self.reports.check_home(peer.name, peer.home, self.statements))
        self.reports.check_reach(heights)
        lost = [hash for hash, height in self.reports.receipts.items() if height > min(heights)]
        tally = self.tally
        return {
            "seed": tally.seed,
            "kills": tally.kills,
            "killed_while_starting_or_recovering": tally.while_starting,
            "whole_network_kills": tally.cluster_crashes,
            "power_losses": tally.power_losses,
            "unsynced_bytes_lost": tally.bytes_lost,
            "seconds": round(tally.seconds, 1),
            "heights": heights,
            "statements_checked": self.statements.count,
            "transactions_reported_final": len(self.reports.receipts),
            "above_the_lowest_head": len(lost),
            "recoveries": len(tally.recovery_s),
            "recovery_s": sum_up(tally.recovery_s, 2),
            "not_exercised": self.find_gaps(),
            "violations": self.violations(),
        }

    def find_gaps(self) -> list[str]:
        tally = self.tally
        return find_gaps(
            unheard=self.statements.unheard(peer.account for peer in self.network.peers), reports=self.reports,
            kills=tally.kills, recoveries=len(tally.recovery_s), power_losses=tally.power_losses,
            bytes_lost=tally.bytes_lost,
        )  # fmt: skip


def load_tally(folder: Path, seed: int) -> Tally:
    path = folder / "campaign.json"
    if not path.exists():
        return Tally(seed)
    tally = Tally(**json.loads(path.read_text()))
    tally.heads = {int(height): (block, root) for height, (block, root) in tally.heads.items()}  # JSON has no tuples
    return tally


def show_progress(wanted: int) -> Any:
    shown = [0.0]

    def show(campaign: Campaign) -> None:
        tally = campaign.tally
        if time.monotonic() - shown[0] < 10 and tally.kills < wanted:
            return
        shown[0] = time.monotonic()
        recovery = sum_up(tally.recovery_s, 2)
        print(
            f"[{tally.kills:5}/{wanted}] {tally.seconds:6.0f} s  height {campaign.top}  "
            f"{len(campaign.reports.receipts)} transactions final  "
            f"recovery p50 {recovery['p50']} s, p95 {recovery['p95']} s  "
            f"{campaign.statements.count} statements, {len(campaign.violations())} violations",
            file=sys.stderr, flush=True,
        )  # fmt: skip

    return show


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how many more (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of keys and of every draw (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="homes and tally; goes on where it stopped (default: temporary)")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flock-crash-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        tally = load_tally(folder, options.seed)
        campaign = Campaign(folder, tally)
        failure = ""
        try:
            campaign.run(options.kills, show_progress(tally.kills + options.kills))
        except FlockError as error:
            failure = str(error)
        result = campaign.judge() | {"failure": failure}
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name.replace('_', ' '):<38}{value}")
    return 1 if failure or any(result[name] for name in ("violations", "above_the_lowest_head", "not_exercised")) else 0


if __name__ == "__main__":
    sys.exit(main())
