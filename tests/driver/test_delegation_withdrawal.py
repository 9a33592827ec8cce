"""Bonds with a participant leave a real chain: drivers, ledgers and contracts, on a clock of the test's own."""

import trio
from contracts_support import TERMS
from driver_support import on_mock_clock
from execution_support import USERS, VALIDATORS
from set_support import LedgerCluster

CREATOR, PARTICIPANT, OWNER = USERS[:3]
COINS = 10**9
DELAY = 600


@on_mock_clock
async def test_a_delegation_is_withdrawn_when_its_600_seconds_are_over_and_not_before(tmp_path):
    async with trio.open_nursery() as nursery:
        cluster = LedgerCluster(tmp_path, nursery, VALIDATORS, heartbeat=60, unbonding_delay=DELAY, evidence_window=300)
        await cluster.start()
        ledger = cluster.peers[VALIDATORS[0]].ledger

        async def place() -> dict[str, int]:
            found: dict[str, int] = await ledger.view(
                "Delegation", "delegation_of", 1, PARTICIPANT.account, OWNER.account
            )
            return found

        async def send(key, contract, function, *arguments, value=0) -> None:
            """Until it is in a block, whatever it came to there."""
            nonce = await ledger.nonce(key.account)
            await cluster.submit(key, function, *arguments, value=value, contract=contract)

            async def is_in() -> bool:
                return await ledger.nonce(key.account) > nonce

            await cluster.until(is_in)

        terms = TERMS | {"wait_seconds": 10**6}
        fee = await ledger.view("TaskBoard", "opening_fee")
        await send(CREATOR, "TaskBoard", "open_task", b"d" * 32, b"a" * 32, terms, value=fee)
        await send(PARTICIPANT, "TaskBoard", "join_task", 1, bytes(32), value=COINS)
        await send(PARTICIPANT, "Delegation", "set_terms", 1, 0, COINS)
        await send(OWNER, "Delegation", "delegate", 1, PARTICIPANT.account, value=COINS)
        assert (await place())["stake"] == COINS
        await send(OWNER, "Delegation", "undelegate", 1, PARTICIPANT.account, COINS)
        row = await place()
        assert (row["stake"], row["unbonding"]) == (0, COINS)
        assert row["release_at"] == await ledger.view("Beacon", "chain_time") + DELAY
        await trio.sleep(DELAY - 90)
        await send(OWNER, "Delegation", "withdraw_delegation", 1, PARTICIPANT.account)
        assert (await place())["unbonding"] == COINS, "it came too early, and was refused"

        async def is_free() -> bool:
            return (await ledger.view("Beacon", "chain_time")) >= row["release_at"]

        await cluster.until(is_free)
        await send(OWNER, "Delegation", "withdraw_delegation", 1, PARTICIPANT.account)
        assert await ledger.view("Delegation", "liabilities") == 0
        await cluster.grow(1)
        cluster.assert_agreement()
        nursery.cancel_scope.cancel()
