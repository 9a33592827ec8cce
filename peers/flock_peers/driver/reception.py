"""Packets of others: read within their rate, looked at for bodies, votes and doubles, handed to the core."""

from flock_chain.consensus.events import Effect, Received
from flock_chain.consensus.types import Proposal, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_message
from flock_chain.crypto import Account
from flock_chain.errors import InvalidRemote
from flock_peers.driver.attendance import VoteBook
from flock_peers.driver.bodies import Bodies
from flock_peers.driver.current import Current
from flock_peers.driver.inbox import Packet
from flock_peers.driver.offences import Offences
from flock_peers.driver.signing import Signing

MAX_STRANGER_BYTES = 64  # who validates another height only is heard where it says how far it is, in some 20 bytes


def is_worth_reading(account: Account, size: int, members: ValidatorSet | None) -> bool:
    """A stranger's proposal of 1 MiB would cost milliseconds, for nothing. No offence: sets change on the way."""
    return size <= MAX_STRANGER_BYTES or members is None or account in members


class Reception:
    def __init__(self, current: Current, bodies: Bodies, votes: VoteBook, offences: Offences, signing: Signing) -> None:
        self._current, self._bodies, self._votes = current, bodies, votes
        self._offences, self._signing = offences, signing

    def handle(self, packet: Packet) -> list[Effect]:
        """One peer's bad message is its own trouble: noted with its name, dropped."""
        size, members = len(packet.payload), self._current.validators
        if not self._offences.may_speak(packet.account) or not is_worth_reading(packet.account, size, members):
            return []
        current = self._current
        try:
            message, body = decode_message(packet.payload, packet.account)
            if body and isinstance(message, Proposal) and current.validators is not None:
                self._bodies.put_beside(message, body, current.ledger.block_id, current.height, current.validators)
            if isinstance(message, Vote):
                self._votes.note(message, current.height, current.validators)
            if message.height == current.height:
                self._signing.look_for_double(message, current.validators)
            return current.core.handle(Received(packet.account, message))
        except InvalidRemote as error:
            self._offences.note(packet.account, str(error))
            return []
