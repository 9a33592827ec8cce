"""When a signer that may have forgotten something signs again: after a quorum was heard, and some heights later."""

from pathlib import Path

import trio
from consensus_support import DOMAIN, real_key
from driver_support import CONFIG, Cluster, FakeLedger, on_mock_clock, run_inline

from flock_chain.consensus.core import Core
from flock_chain.consensus.validators import ValidatorSet
from flock_peers.driver.current import Current
from flock_peers.driver.journal import OLD_MEMORY_HEIGHTS, open_journal
from flock_peers.driver.signing import Signing
from flock_peers.store.signer_file import WAITING_HEIGHTS


@on_mock_clock
async def test_more_than_the_bound_but_less_than_a_quorum_is_not_enough_to_be_level(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, 7)
        cluster.start(0, 1, 2, 3)
        await trio.sleep(5)
        driver = cluster.peers[0].driver
        assert driver is not None and "has not heard yet" in driver.status.not_signing
        cluster.start(4)
        await cluster.until(lambda: driver.status.is_signing, 5)
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_a_new_file_waits_beyond_what_was_fetched_to_be_level_were_it_a_single_block(tmp_path: Path) -> None:
    key = real_key(0)
    ledger = FakeLedger(ValidatorSet(((key.account, 1),)))
    journal = open_journal(tmp_path, key, DOMAIN, final_height=0, run_blocking=run_inline)

    class OneBlock:
        async def reach(self, **_named: object) -> None:
            ledger.chain.append((b"block", b"certificate"))

    current = Current(Core(CONFIG, DOMAIN, key.account, journal.signer), ledger, key.account)
    current.validators = ledger.set
    await Signing(current, DOMAIN, journal, OneBlock, None).become_level()  # type: ignore[arg-type]
    assert journal.signer is not None and journal.signer.mark == 1 + 1 + WAITING_HEIGHTS
    journal.close()


@on_mock_clock
async def test_a_vote_that_is_not_in_the_file_closes_many_heights_at_once(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, real_key(0), DOMAIN, final_height=0, run_blocking=run_inline)
    assert journal.doubt(5) and not journal.doubt(5)
    assert journal.signer is not None and journal.signer.mark == 5 + 1 + OLD_MEMORY_HEIGHTS
    journal.close()
