"""From a genesis, a key and the parts of a peer to a driver that runs: its configuration, its logs, its end."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from flock_chain.consensus.digest import make_domain
from flock_chain.consensus.rules import CoreConfig
from flock_chain.crypto import Key
from flock_chain.genesis import Genesis
from flock_chain.parameters import Parameters
from flock_chain.restart import Restart
from flock_peers.driver.driver import Driver
from flock_peers.driver.journal import Journal, open_journal
from flock_peers.driver.ports import ConsensusNetworkPort, LedgerPort, SyncPort

STATUS_MS_PER_HEARTBEAT_SECOND = 1_250  # while heartbeats come nobody needs to be told where we are; greetings remain


def make_config(parameters: Parameters) -> CoreConfig:
    return CoreConfig(
        view_timeout_ms=parameters.view_timeout,
        view_timeout_cap_ms=parameters.view_timeout_cap,
        retry_interval_ms=parameters.retry_interval,
        status_interval_ms=parameters.heartbeat * STATUS_MS_PER_HEARTBEAT_SECOND,
    )


@asynccontextmanager
async def open_driver(
    genesis: Genesis,
    key: Key,
    ledger: LedgerPort,
    network: ConsensusNetworkPort,
    sync: SyncPort,
    folder: Path,
    *,
    restarts: Sequence[Restart] = (),
) -> AsyncIterator[Driver]:
    """Run a driver for as long as the block lasts. `folder`: of the logs; nothing is written for a non-validator.

    Raises Refused while another process signs with this folder.
    """
    domain = make_domain(genesis, restarts)

    def enlist(final_height: int) -> Journal:
        folder.mkdir(parents=True, exist_ok=True)
        return open_journal(folder, key, domain, final_height=final_height)

    is_member = key.account in await ledger.validators()
    journal = enlist(ledger.height()) if is_member else Journal()
    try:
        driver = Driver(
            make_config(genesis.parameters), domain, key.account, ledger, network, sync, journal,
            enlist=None if is_member else enlist,
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run)
            yield driver
            nursery.cancel_scope.cancel()
    finally:
        journal.close()
