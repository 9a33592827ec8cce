"""What waits for the core: messages, timers that are due, answers of work beside the loop. Handles nothing.

Bounded in number, and in bytes: of all peers together, however long the core waits for a slow disk.
"""

from dataclasses import dataclass

import trio

from flock_chain.consensus.events import Input, SetTimer, Timer, TimerFired
from flock_chain.crypto import Account
from flock_peers.driver.room import Room

INBOX_INPUTS = 1_024  # then the network's reader waits, and its queues drop
BATCH_INPUTS = 64  # inputs that share one fsync
INFINITE = float("inf")


@dataclass(frozen=True)
class Packet:
    account: Account
    payload: bytes


@dataclass(frozen=True)
class Advanced:
    """The ledger's height changed."""


Item = Input | Packet | Advanced


class Inbox:
    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[Item](INBOX_INPUTS)
        self._room = Room()
        self._timers: dict[Timer, tuple[float, TimerFired]] = {}

    async def put(self, item: Item) -> None:
        await self._sender.send(item)

    async def put_packet(self, packet: Packet) -> None:
        """A large one is dropped where there is no room for its bytes; then it waits for its turn like others."""
        size = len(packet.payload)
        if not self._room.take(packet.account, size):
            return
        try:
            await self.put(packet)
        except BaseException:
            self._room.give_back(packet.account, size)
            raise

    def put_if_room(self, item: Item) -> bool:
        try:
            self._sender.send_nowait(item)
        except trio.WouldBlock:
            return False
        return True

    def set_timer(self, effect: SetTimer) -> None:
        fired = TimerFired(effect.timer, effect.height, effect.view)
        self._timers[effect.timer] = (trio.current_time() + effect.delay_ms / 1_000, fired)

    def clear_timers(self) -> None:
        self._timers.clear()

    async def next_batch(self) -> list[Item]:
        """What has arrived, and the timers that are due; waits for the first of either."""
        due = min((at for at, _ in self._timers.values()), default=INFINITE)
        found: list[Item] = []
        with trio.move_on_at(due):
            found.append(await self._receiver.receive())
        while len(found) < BATCH_INPUTS:
            try:
                found.append(self._receiver.receive_nowait())
            except trio.WouldBlock:
                break
        for item in found:
            if isinstance(item, Packet):
                self._room.give_back(item.account, len(item.payload))
        return found + self._due_timers()

    def _due_timers(self) -> list[Item]:
        now = trio.current_time()
        due = [name for name, (at, _) in self._timers.items() if at <= now]
        return [self._timers.pop(name)[1] for name in due]
