"""Who enters the set after its process began: it asks a quorum how far they are before it signs, as at a start."""

import trio
from driver_support import heard_from, on_mock_clock, slashable_pairs
from execution_support import ETHER, USERS, VALIDATORS
from set_support import LedgerCluster

from flock_chain.codec import decode, encode
from flock_chain.crypto import Account
from flock_chain.execution.machine import MemoryStore

A, B, C, D = VALIDATORS
NEWCOMER = USERS[0]


@on_mock_clock
async def test_a_key_in_a_new_home_signs_nothing_old_though_it_entered_after_genesis(tmp_path):
    """Its only neighbour shows it the chain block by block. It was once a listener first, and asked nobody else."""
    async with trio.open_nursery() as nursery:
        cluster = LedgerCluster(tmp_path, nursery, VALIDATORS, listeners=(NEWCOMER,), absence_limit=100)
        await cluster.start()
        peer = cluster.peers[NEWCOMER]
        await cluster.bond(NEWCOMER, 32 * ETHER)
        await cluster.until_members(A, B, C, D, NEWCOMER)
        await cluster.grow(8)
        assert peer.driver.status.is_signing
        peer.stop()
        await trio.sleep(1)
        peer.store, peer.folder = MemoryStore(), tmp_path / "new"
        others = {key.account for key in VALIDATORS}
        cluster.wires.groups = [others, {NEWCOMER.account, D.account}]
        shown, answer = [0], cluster.peers[D].driver.answer_sync

        async def show_slowly(account: Account, payload: bytes) -> bytes:
            request = decode(payload)
            if request == ["head"]:
                return encode([1, shown[0]])
            if request[0] == "range":
                payload = encode(["range", request[1], min(request[2], max(1, shown[0] + 1 - request[1])), 0])
            return await answer(account, payload)

        cluster.wires.ports[D.account].answer = show_slowly
        await peer.start()
        head = cluster.peers[A].ledger.height()
        for shown[0] in range(1, head):
            await trio.sleep(0.6)
        assert slashable_pairs(heard_from(cluster.wires, NEWCOMER.account)) == []
        cluster.wires.groups = None
        cluster.wires.ports[D.account].answer = answer

        async def is_signing() -> bool:
            return peer.driver.status.is_signing

        await cluster.until(is_signing, 60)
        await cluster.grow(10)
        assert slashable_pairs(heard_from(cluster.wires, NEWCOMER.account)) == []
        cluster.assert_agreement()
        nursery.cancel_scope.cancel()
