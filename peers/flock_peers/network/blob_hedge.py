"""A small object from whoever answers first. Knows no streams: how a provider is asked is given."""

from collections.abc import Awaitable, Callable

import trio

from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote, Unavailable


async def first_object(
    providers: list[Account], ask: Callable[[Account], Awaitable[bytes | None]], hedge_seconds: float
) -> tuple[Account, bytes]:
    """Ask the providers in order, the next one when the last failed or is silent; the first good answer wins."""
    reasons: dict[Account, str] = {}
    found: list[tuple[Account, bytes]] = []

    async def try_one(account: Account, failed: trio.Event) -> None:
        try:
            data = await ask(account)
            if data is not None:
                found.append((account, data))
                nursery.cancel_scope.cancel()
            reasons[account] = "does not have it"
        except (InvalidRemote, Unavailable) as error:
            reasons[account] = str(error)
        failed.set()

    async with trio.open_nursery() as nursery:
        for account in providers:
            failed = trio.Event()
            nursery.start_soon(try_one, account, failed)
            with trio.move_on_after(hedge_seconds):
                await failed.wait()
    if not found:
        told = "; ".join(f"0x{account.hex()}: {reason}" for account, reason in reasons.items())
        raise Unavailable(f"no provider has it ({told or 'nobody is connected'})")
    return found[0]
