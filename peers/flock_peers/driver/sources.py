"""Where a driver's inputs come from by themselves: the network, the wish for a block, validators that connect."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from flock_chain.consensus.events import Work
from flock_chain.consensus.wire import encode_message
from flock_chain.crypto import Account
from flock_peers.driver.attendance import VoteBook
from flock_peers.driver.current import Current
from flock_peers.driver.inbox import INFINITE, Inbox, Packet
from flock_peers.driver.ports import ConsensusNetworkPort, SyncPort
from flock_peers.driver.reception import is_worth_reading

GREET_SECONDS = 0.5  # how soon a newly connected validator is told where we are
SHORTEST_WAIT = 0.01  # before the ledger is asked again whether a block is wanted


async def read_network(network: ConsensusNetworkPort, inbox: Inbox, current: Current) -> None:
    """What nobody would read takes no room from who is heard, here and before it comes here."""

    def is_heard(account: Account, size: int) -> bool:
        return is_worth_reading(account, size, current.validators)

    async for account, payload in network.messages(is_heard):
        if is_heard(account, len(payload)):  # the set may have changed while it waited
            await inbox.put_packet(Packet(account, payload))


async def watch_work(current: Current, inbox: Inbox, clock: Callable[[], float], votes: VoteBook) -> None:
    """Tells the core once a height that a block is wanted: whoever leads it, maybe early; others, who only start their
    timers, when it must have been made."""
    told, ledger = 0, current.ledger
    while True:
        height, changed = current.height, current.changed
        shown = partial(votes.votes, height - 1) if current.is_leader else None
        wait = await ledger.work(clock(), shown) if told != height else None
        if wait is not None and wait <= 0 and current.is_open(height):
            told = height
            await inbox.put(Work(height))
            continue
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + (
                INFINITE if wait is None else max(wait, SHORTEST_WAIT)
            )
            if told != height:
                nursery.start_soon(_wait_then_cancel, ledger.wait_work, nursery.cancel_scope)
            await changed.wait()
            nursery.cancel_scope.cancel()


async def _wait_then_cancel(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


async def greet(current: Current, network: ConsensusNetworkPort, sync: SyncPort) -> None:
    """Whoever of the validators connects is told where we are: a laggard catches up at once, on either side."""
    greeted: set[Account] = set()
    while True:
        others = current.others if current.is_member else []
        connected = {account for account in sync.peers() if account in others}
        for account in sorted(connected - greeted):
            network.send(account, encode_message(current.core.status()))
        greeted = connected
        await trio.sleep(GREET_SECONDS)
