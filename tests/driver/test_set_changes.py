"""The validator set changes while real drivers on real ledgers go on: who enters signs, who leaves is not missed."""

import trio
from driver_support import on_mock_clock
from execution_support import ETHER, KEYS, USERS, VALIDATORS
from set_support import LedgerCluster

A, B, C, D = VALIDATORS
NEWCOMER = USERS[0]


@on_mock_clock
async def test_one_validator_enters_two_epochs_after_its_bond_another_leaves_and_the_chain_goes_on(tmp_path):
    async with trio.open_nursery() as nursery:
        cluster = LedgerCluster(tmp_path, nursery, VALIDATORS, listeners=(NEWCOMER,))
        await cluster.start()
        newcomer = cluster.peers[NEWCOMER]
        await cluster.grow(1)
        assert not newcomer.driver.status.is_validator and not newcomer.folder.exists()
        bonded_in = newcomer.ledger.executor.served().epoch
        await cluster.bond(NEWCOMER, 32 * ETHER)

        async def has_logs() -> bool:
            return newcomer.folder.exists()

        await cluster.until(has_logs)
        assert not newcomer.driver.status.is_validator, "its logs are as new as its first height: it could not vote"
        await cluster.until_members(A, B, C, D, NEWCOMER)
        assert newcomer.ledger.executor.served().epoch == bonded_in + 2
        await cluster.grow(3)
        assert newcomer.driver.status.is_validator and newcomer.driver.status.is_signing
        await cluster.submit(A, "unbond", 32 * ETHER)
        await cluster.until_members(B, C, D, NEWCOMER)
        await cluster.grow(1)
        cluster.peers[A].stop()
        start = trio.current_time()
        await cluster.grow(8)
        assert trio.current_time() - start < 12  # heartbeats of a second, and no view that timed out
        proposers = {newcomer.ledger.block(height).proposer for height in range(1, newcomer.ledger.height() + 1)}
        assert NEWCOMER.account in proposers
        cluster.peers[B].stop()  # one of four: the newcomer's vote is needed now
        await cluster.grow(4)
        cluster.assert_agreement()
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_more_than_a_third_of_the_stake_goes_away_over_time_and_the_chain_goes_on(tmp_path):
    """Seven validators: two die and are jailed, then a third; three of seven at once would have halted the chain."""
    async with trio.open_nursery() as nursery:
        keys = KEYS[:7]
        cluster = LedgerCluster(tmp_path, nursery, keys)
        await cluster.start()
        await cluster.grow(2)
        for gone in ([keys[6], keys[5]], [keys[4]]):
            for key in gone:
                cluster.peers[key].stop()
            await cluster.until_members(*(peer.key for peer in cluster.running()))
        assert await cluster.members() == set(keys[:4])
        await cluster.grow(5)
        ledger = cluster.peers[keys[0]].ledger
        for key in keys:
            jailed = await ledger.view("Stake", "jailed_until", key.account)
            assert (jailed > 0) == (key in keys[4:]), "an honest validator was jailed, or a dead one was not"
        cluster.assert_agreement()
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_a_peer_that_was_away_follows_through_changes_of_the_set(tmp_path):
    async with trio.open_nursery() as nursery:
        cluster = LedgerCluster(tmp_path, nursery, VALIDATORS, listeners=(NEWCOMER, KEYS[5]))
        await cluster.start(*VALIDATORS, NEWCOMER)
        await cluster.grow(1)
        cluster.peers[D].stop()
        await cluster.bond(NEWCOMER, 32 * ETHER)
        await cluster.until_members(A, B, C, NEWCOMER)
        await cluster.grow(4)
        await cluster.start(D, KEYS[5])  # a jailed validator, and one that starts from genesis
        await cluster.grow(4)
        assert not cluster.peers[D].driver.status.is_validator
        cluster.assert_agreement()
        nursery.cancel_scope.cancel()
