"""Block bodies of the running height and the next, by id, bounded. Does not know whether a block is valid."""

from collections import OrderedDict
from collections.abc import Callable

from flock_chain.consensus.types import Message, Proposal
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account
from flock_chain.errors import InvalidContent

MAX_BODIES_PER_SOURCE = 4  # of those not voted for; more than a leader proposes before a height ends or is kept


class Bodies:
    """What this validator votes for is pinned until the height is final: it may be asked for again."""

    def __init__(self) -> None:
        self._pinned: dict[tuple[int, bytes], bytes] = {}
        self._loose: dict[Account, OrderedDict[tuple[int, bytes], bytes]] = {}
        self._sent: set[tuple[int, int]] = set()  # heights and views whose proposal went out with its body

    def get(self, height: int, block_id: bytes) -> bytes | None:
        key = (height, block_id)
        pinned = self._pinned.get(key)
        if pinned is not None:
            return pinned
        return next((rows[key] for rows in self._loose.values() if key in rows), None)

    def put(self, source: Account, height: int, block_id: bytes, body: bytes) -> None:
        rows = self._loose.setdefault(source, OrderedDict())
        rows[(height, block_id)] = body
        while len(rows) > MAX_BODIES_PER_SOURCE:
            rows.popitem(last=False)

    def pin(self, height: int, block_id: bytes, body: bytes) -> None:
        self._pinned[(height, block_id)] = body

    def put_beside(
        self,
        proposal: Proposal,
        body: bytes,
        block_id: Callable[[bytes], bytes],
        running: int,
        validators: ValidatorSet,
    ) -> None:
        """What came with a proposal of the running height or the next, from its leader; raises InvalidRemote."""
        leader = validators.leader(proposal.height, proposal.view)
        if not 0 <= proposal.height - running <= 1 or leader != proposal.vote.signer:
            return
        if block_id(body) != proposal.block_id:
            raise InvalidContent("proposal: the body beside it is another block")
        self.put(leader, proposal.height, proposal.block_id, body)

    def get_beside(self, message: Message) -> bytes:
        """What goes out with a message: a proposal carries its body the first time; who missed it asks by id."""
        if not isinstance(message, Proposal) or (message.height, message.view) in self._sent:
            return b""
        self._sent.add((message.height, message.view))
        return self.get(message.height, message.block_id) or b""

    def start_height(self, height: int) -> None:
        """Forget everything below."""
        self._sent.clear()
        self._pinned = {key: body for key, body in self._pinned.items() if key[0] >= height}
        for source, rows in list(self._loose.items()):
            kept = OrderedDict((key, body) for key, body in rows.items() if key[0] >= height)
            if kept:
                self._loose[source] = kept
            else:
                del self._loose[source]
