"""How many bytes of large messages may wait for the driver: of one validator, and of all together. Knows no queue."""

from flock_chain.crypto import Account

SMALL_BYTES = 16 << 10  # votes, statuses, a certificate of 150 signatures: bounded by the number of those that wait
PEER_BYTES = 2 << 20  # a proposal is 1 MiB at most, and who leads a view may lead the next height too
ALL_BYTES = 8 << 20  # proposals of several views, beside the first of each: more wait only where validators lie


class Room:
    """In one queue, for those alone who are heard. What is small always has room, and so has everybody's first: however
    many lie together, they keep out nobody's vote, and not the proposal of who leads."""

    def __init__(self) -> None:
        self._held: dict[Account, int] = {}
        self.total = 0

    @staticmethod
    def is_small(size: int) -> bool:
        return size <= SMALL_BYTES

    def take(self, account: Account, size: int) -> bool:
        """Whether a message may wait; then `give_back` is due once it does no more."""
        if self.is_small(size):
            return True
        held = self._held.get(account, 0)
        if held and (held + size > PEER_BYTES or self.total + size > ALL_BYTES):
            return False
        self._held[account], self.total = held + size, self.total + size
        return True

    def give_back(self, account: Account, size: int) -> None:
        if self.is_small(size):
            return
        self.total -= size
        self._held[account] -= size
        if not self._held[account]:
            del self._held[account]
