"""A peer's orders about its own stake and the evidence that it reports, on a real ledger with blocks made by hand."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
import trio.testing
from execution_support import ETHER, GENESIS_TIME, USERS, VALIDATORS, make_genesis, with_parameters
from set_support import InlineEvm

from flock_chain import ecvrf
from flock_chain.consensus.digest import make_domain
from flock_chain.consensus.types import Kind, Vote
from flock_chain.crypto import Key
from flock_chain.errors import Misuse, Refused
from flock_chain.execution.executor import CallReverted
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.transactions import sign_call
from flock_peers.ledger.ledger import Ledger
from flock_peers.roles.sender import Sender
from flock_peers.roles.staking import REPORT_SECONDS, Staking
from flock_peers.store.evidence_file import EvidenceFile

LEADER, ME, OFFENDER = VALIDATORS[0], USERS[0], VALIDATORS[3]
GENESIS = make_genesis(
    with_parameters(epoch_blocks=2, epoch_seconds=0, open_staking=1, evidence_window=300, unbonding_delay=600)
)


class Bench:
    """One chain, its leader's ledger, and one account that gives orders."""

    def __init__(self, folder: Path, key: Key = ME) -> None:
        self.key = key
        clock: Callable[[], float] = lambda: GENESIS_TIME + trio.current_time()  # noqa: E731
        self.ledger = Ledger(GENESIS, MemoryStore(), InlineEvm(), LEADER, clock)  # type: ignore[arg-type]
        self.sender = Sender(key, GENESIS.chain_id, 1, self.ledger, sign_call, self._gossip)
        self.evidence = EvidenceFile(folder / "evidence")
        self.staking = self.make_staking()

    def make_staking(self) -> Staking:
        """As after a start of the peer: nothing is remembered but what the file holds."""
        vrf_key = ecvrf.public_key(ecvrf.derive_seed(self.key))
        return Staking(self.key.account, vrf_key, self.ledger, self.sender, EvidenceFile(self.evidence._path))

    async def _gossip(self, raw: bytes) -> None:
        pass

    async def blocks(self, count: int) -> None:
        for _ in range(count):
            await trio.sleep(1)
            block = await self.ledger.build(self.ledger.height() + 1, 1)
            await self.ledger.commit(block, b"certificate")

    async def order(self, action: str, **params: Any) -> dict[str, Any]:
        return await self.staking.order(action, params)


def run(test: Callable[[Bench], Any]) -> None:
    async def main() -> None:
        with TemporaryDirectory() as folder:
            bench = Bench(Path(folder))
            await bench.ledger.start()
            await test(bench)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_peer_bonds_serves_leaves_and_has_its_stake_back() -> None:
    async def test(bench: Bench) -> None:
        assert await bench.order("add", amount=str(32 * ETHER)) == {"sent": True}
        assert await bench.order("add", amount=str(32 * ETHER)) == {"sent": False}  # under way
        await bench.blocks(1)
        row = await bench.order("status")
        assert (row["stake"], row["serving_weight"], row["release_at"]) == (str(32 * ETHER), "0", row["release_at"])
        await bench.blocks(4)
        row = await bench.order("status")
        assert row["serving_weight"] == row["next_weight"] == str(32 * ETHER) and row["validators"] == 5
        await bench.order("remove", amount=str(32 * ETHER))
        await bench.blocks(1)
        row = await bench.order("status")
        assert row["release_at"] is None and row["unbonding"] == str(32 * ETHER)
        await bench.blocks(6)
        row = await bench.order("status")
        assert row["serving_weight"] == "0" and row["release_at"] > row["chain_time"]

    run(test)


def test_a_seat_takes_the_stake_that_a_status_names_and_is_kept_by_what_is_bonded_before_the_epoch_ends() -> None:
    """What `stake` promises of a seat whose owner took out too much."""

    async def test(bench: Bench) -> None:
        async def look_after(blocks: int) -> dict[str, Any]:
            await bench.blocks(blocks)
            return await bench.order("status")

        await bench.order("add", amount=str(40 * ETHER))
        row = await look_after(9)  # it rises by an average weight in each epoch
        assert int(row["seat_stake"]) == 32 * ETHER and row["serving_weight"] == row["next_weight"] == str(40 * ETHER)
        while row["first_height"] != bench.ledger.height() + 1:  # an epoch of two blocks begins
            row = await look_after(1)
        await bench.order("remove", amount=str(9 * ETHER))
        row = await look_after(1)
        assert int(row["stake"]) < int(row["seat_stake"]) and row["next_weight"] == str(40 * ETHER)
        await bench.order("add", amount=str(ETHER))  # before it ends
        row = await look_after(5)
        assert row["serving_weight"] == row["next_weight"] == str(32 * ETHER)
        while row["first_height"] != bench.ledger.height() + 1:
            row = await look_after(1)
        await bench.order("remove", amount="1")
        last = row["epoch"] + 1  # the epoch until whose end it has the seat
        while row["epoch"] < last:
            row = await look_after(1)
            assert row["serving_weight"] == str(32 * ETHER)
        assert row["next_weight"] == "0"
        row = await look_after(2)
        assert row["epoch"] == last + 1 and row["serving_weight"] == "0" and row["stake"] == str(32 * ETHER - 1)
        await bench.order("add", amount="1")
        while row["epoch"] < last + 3:  # bonded in one epoch, it weighs two later
            assert row["serving_weight"] == "0"
            row = await look_after(1)
        assert row["serving_weight"] == str(32 * ETHER)

    run(test)


def test_a_status_is_of_one_block_however_many_come_while_it_is_read() -> None:
    """Half of a stake that leaves between two reads was shown as minus that much of others'."""

    async def test(bench: Bench) -> None:
        await bench.order("add", amount=str(32 * ETHER))
        await bench.blocks(1)
        await bench.order("remove", amount=str(16 * ETHER))
        view = bench.ledger.view

        async def view_and_block(*args: Any, **named: Any) -> Any:
            bench.ledger.view = view  # type: ignore[method-assign]
            value = await view(*args, **named)
            await bench.blocks(1)
            return value

        bench.ledger.view = view_and_block  # type: ignore[method-assign]
        row = await bench.order("status")
        assert (row["stake"], row["unbonding"], row["delegated"]) == (str(32 * ETHER), "0", "0") and row["under_way"]
        row = await bench.order("status")
        assert (row["stake"], row["unbonding"], row["delegated"]) == (str(16 * ETHER), str(16 * ETHER), "0")

    run(test)


def test_what_the_contract_refuses_is_said_before_anything_is_sent() -> None:
    async def test(bench: Bench) -> None:
        for action, params, reason in (
            ("unjail", {}, "stake: not jailed"),
            ("withdraw", {}, "stake: nothing is unbonding"),
            ("claim", {}, "stake: no reward"),
            ("settle", {"account": OFFENDER.account.hex()}, "stake: not convicted"),
            ("remove", {"amount": "1"}, "stake: more than is bonded"),
            ("admit", {"amount": "1", "account": ME.account.hex()}, "stake: only the serving set admits"),
        ):
            with pytest.raises(CallReverted, match=reason):
                await bench.order(action, **params)
        with pytest.raises(Refused, match=r"1000 coins, and 10{12} are needed"):
            await bench.order("add", amount=str(10**30))
        for action, params in (("dance", {}), ("add", {"amount": 5}), ("admit", {"amount": "1", "account": "0x12"}),
                               ("settle", {"account": "nobody"})):  # fmt: skip
            with pytest.raises(Misuse):
                await bench.order(action, **params)
        assert not bench.ledger.mempool.has_executable()

    run(test)


def make_pair(key: Key, height: int) -> tuple[Vote, Vote]:
    votes = []
    for block_id in (b"\1" * 32, b"\2" * 32):
        signature = key.sign(make_domain(GENESIS).digest(Kind.FINALIZE, height, 1, block_id))
        votes.append(Vote(Kind.FINALIZE, height, 1, block_id, 0, key.account, signature))
    return votes[0], votes[1]


def test_detected_evidence_is_sent_once_and_convicts() -> None:
    async def test(bench: Bench) -> None:
        await bench.blocks(5)
        pairs = [make_pair(OFFENDER, 2), make_pair(OFFENDER, 5), make_pair(USERS[2], 5)]  # the last one has no stake
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.staking.report_forever, lambda: pairs)
            await trio.sleep(1)
            await bench.blocks(1)
            assert await bench.ledger.view("Stake", "tombstoned_at", OFFENDER.account) > 0
            assert await bench.ledger.view("Stake", "reporter_of", OFFENDER.account) == ME.account
            await trio.sleep(3 * REPORT_SECONDS)
            await bench.blocks(1)
            nursery.cancel_scope.cancel()
        assert await bench.ledger.nonce(ME.account) == 1
        assert await bench.staking.report(*pairs[1])
        await bench.blocks(4)
        assert OFFENDER.account not in await bench.ledger.validators()

    run(test)


def test_evidence_survives_the_peer_and_is_sent_by_its_next_start() -> None:
    async def test(bench: Bench) -> None:
        await bench.blocks(3)
        pairs = [make_pair(OFFENDER, 3), make_pair(USERS[2], 3)]  # nobody takes the second: no stake
        with trio.move_on_after(1.5 * REPORT_SECONDS):  # the transaction is never in a block
            await bench.staking.report_forever(lambda: pairs)
        again = bench.make_staking()
        bench.sender._pending.clear()  # a new process has sent nothing
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.report_forever, list)
            await trio.sleep(1)
            await bench.blocks(1)
            assert await bench.ledger.view("Stake", "reporter_of", OFFENDER.account) == ME.account
            await trio.sleep(2 * REPORT_SECONDS)
            nursery.cancel_scope.cancel()
        assert EvidenceFile(bench.evidence._path).pairs == []  # what is on the chain or never will be is not kept

    run(test)


def test_evidence_that_can_be_sent_later_is_kept_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        await bench.blocks(1)
        with trio.move_on_after(5 * REPORT_SECONDS):
            await bench.staking.report_forever(lambda: [make_pair(OFFENDER, 9)])  # the network halted at that height
        assert [pair[0].height for pair in EvidenceFile(bench.evidence._path).pairs] == [9]

    run(test)
    assert caplog.text.count("is not sent") == 1


def test_the_reporter_settles_a_conviction_and_claims_its_reward() -> None:
    async def test(bench: Bench) -> None:
        await bench.blocks(3)
        with trio.move_on_after(1.5):
            await bench.staking.report_forever(lambda: [make_pair(OFFENDER, 3)])
        await bench.blocks(1)
        with pytest.raises(CallReverted, match=r"still secures|still unbonding"):
            await bench.order("settle", account=OFFENDER.account.hex())
        await bench.blocks(6)
        release_at = await bench.ledger.view("Stake", "release_at", OFFENDER.account)
        await sleep_on_chain(bench, release_at)
        assert await bench.order("settle", account="0x" + OFFENDER.account.hex()) == {"sent": True}
        assert (await bench.order("status"))["under_way"]
        await bench.blocks(1)
        await bench.sender.resend()  # looks at what is final
        row = await bench.order("status")
        assert int(row["reward"]) > 0 and not row["under_way"]
        before = await bench.ledger.balance(ME.account)
        await bench.order("claim")
        await bench.blocks(1)
        assert await bench.ledger.balance(ME.account) - before > int(row["reward"]) * 99 // 100
        assert (await bench.order("status"))["reward"] == "0"

    run(test)


async def sleep_on_chain(bench: Bench, until: int) -> None:
    """Chain time moves by a bounded gap between blocks."""
    while await bench.ledger.view("Beacon", "chain_time") < until:
        await trio.sleep(GENESIS.parameters.chain_time_gap - 1)
        await bench.blocks(1)


def test_a_peer_delegates_to_a_validator_and_sees_what_it_has_there() -> None:
    async def test(bench: Bench) -> None:
        validator = VALIDATORS[1]
        theirs = Sender(validator, GENESIS.chain_id, 1, bench.ledger, sign_call, bench._gossip)
        other = Staking(validator.account, b"", bench.ledger, theirs, bench.evidence)
        name = validator.account.hex()
        with pytest.raises(CallReverted, match="takes no more delegations"):
            await bench.order("delegate", account=name, amount="1")
        await other.order("terms", {"amount": str(50 * ETHER), "commission": 500})
        await bench.blocks(1)
        await bench.order("delegate", account=name, amount=str(5 * ETHER))
        await bench.blocks(1)
        await bench.order("share", account=name, amount=str(ETHER))
        await bench.blocks(1)
        row = (await bench.order("status", account=name))["delegation"]
        assert (row["stake"], row["commission"], row["room"]) == (str(5 * ETHER), 500, str(45 * ETHER))
        assert (await other.order("status", {}))["delegated"] == str(5 * ETHER)
        earned = int(row["reward"])
        assert 0 < earned < ETHER // 5
        await bench.order("claim-delegation", account=name)
        await bench.order("undelegate", account=name, amount=str(2 * ETHER))
        await bench.blocks(1)
        row = (await bench.order("status", account=name))["delegation"]
        assert (row["stake"], row["leaving"], row["reward"]) == (str(3 * ETHER), str(2 * ETHER), "0")
        with pytest.raises(CallReverted, match=r"secures a set|still unbonding"):
            await bench.order("withdraw-delegation", account=name)
        for commission in (-1, 10_001, True, "5", None):
            with pytest.raises(Misuse):
                await other.order("terms", {"amount": "1", "commission": commission})

    run(test)
