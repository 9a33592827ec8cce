"""Who is connected, for people: address, direction, age, traffic, and how often it broke a rule. Changes nothing."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from flock_chain.crypto import Account
from flock_peers.network.link import Link

MAX_BLAMED = 1_024  # accounts whose misdeeds are counted; who did the last one longest ago is forgotten


@dataclass(frozen=True)
class PeerRow:
    account: Account
    address: str  # host:port of the other end
    is_outgoing: bool  # dialed from here
    seconds: float  # since the oldest connection that still lives was made
    bytes_in: int  # of the connections that live now, before decryption
    bytes_out: int
    connections: int  # two are normal where both dialed at once, or a file is under way
    misdeeds: int  # since this peer started, over all its connections


class Misdeeds:
    """How often each account was blamed for something."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Account, int] = OrderedDict()

    def note(self, account: Account) -> None:
        self._counts[account] = self._counts.pop(account, 0) + 1
        if len(self._counts) > MAX_BLAMED:
            self._counts.popitem(last=False)

    def of(self, account: Account) -> int:
        return self._counts.get(account, 0)


def list_peers(links: Iterator[tuple[Account, list[Link]]], misdeeds: Misdeeds, now: float) -> list[PeerRow]:
    """`links`: every connection of each account, the oldest first."""
    rows = []
    for account, every in links:
        alive = [link for link in every if not link.closed.is_set()]
        if alive:
            rows.append(
                PeerRow(
                    account=account,
                    address=alive[0].remote,
                    is_outgoing=alive[0].outbound,
                    seconds=now - min(link.opened_at for link in alive),
                    bytes_in=sum(link.traffic[0] for link in alive),
                    bytes_out=sum(link.traffic[1] for link in alive),
                    connections=len(alive),
                    misdeeds=misdeeds.of(account),
                )
            )
    return sorted(rows, key=lambda row: row.account)
