"""The votes that validators sent for the running height and its neighbours, for the next leader to show. Unverified."""

from flock_chain.consensus.types import Kind, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account

KEPT_HEIGHTS = 2  # one vote of each validator in each: slow ones are still heard while the next block is made
HEIGHTS_AHEAD = 1  # others vote for the next block while this peer stores the last


class VoteBook:
    """One vote of each validator and height, the last: whoever sends a bad one spoils its own.

    Of a height that this peer came into late (it started, or caught up) nothing is shown: it would name absent who
    voted before, and a leader that starts again and again would have honest validators jailed.
    """

    def __init__(self) -> None:
        self._running = -1  # no height's predecessor
        self._whole_from = 0
        self._rows: dict[int, dict[Account, Vote]] = {}

    def note(self, vote: Vote, running: int, validators: ValidatorSet | None) -> None:
        """`running`: the height that is being decided, and its set."""
        is_near = running - KEPT_HEIGHTS < vote.height <= running + HEIGHTS_AHEAD
        if vote.kind != Kind.PROPOSE and is_near and validators is not None and vote.signer in validators:
            self._rows.setdefault(vote.height, {})[vote.signer] = vote

    def start_height(self, height: int) -> None:
        if height != self._running + 1:
            self._whole_from = height + 1
        self._running = height
        self._rows = {at: rows for at, rows in self._rows.items() if at > height - KEPT_HEIGHTS}

    def votes(self, height: int) -> tuple[Vote, ...]:
        """Empty where this peer cannot know who voted."""
        return tuple(self._rows.get(height, {}).values()) if height >= self._whole_from else ()
