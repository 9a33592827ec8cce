"""Which chunks are asked of which provider. Pure: no socket, and the clock is given; a chunk counts once somebody
verified it.

At the end, when everything is asked of somebody, an idle provider is asked for single chunks that a slower one has owed
for a while: a file of three chunks is all end, and would come from three providers at once otherwise, three times.
A chunk is asked of three at most, and one is in flight at a time where a provider overtakes: so the double cost is at
most what the slow ones were asked for.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence

from flock_chain.crypto import Account

MAX_COPIES = 3  # of one chunk in flight: two slow providers cannot hold a file up together

Range = tuple[int, int]  # first chunk, number of chunks


class Schedule:
    def __init__(
        self, missing: Sequence[int], range_chunks: int, ranges_in_flight: int, overtake_seconds: float = 0.0,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:  # fmt: skip
        """`overtake_seconds`: since a chunk was last asked of anybody, before it is asked of another."""
        self._range_chunks, self._ranges_in_flight = range_chunks, ranges_in_flight
        self._overtake_seconds, self._clock = overtake_seconds, clock
        self._asked_at: dict[int, float] = {}  # the last time
        self._todo: deque[int] = deque(missing)  # asked of nobody; some may have come from elsewhere meanwhile
        self._left = set(missing)
        self._asked: dict[Account, deque[int]] = {}  # in the order of the answers
        self._copies: Counter[int] = Counter()

    @property
    def left(self) -> int:
        return len(self._left)

    def is_needed(self, index: int) -> bool:
        return index in self._left

    def in_flight(self, provider: Account) -> int:
        return len(self._asked.get(provider, ()))

    def has_work(self, provider: Account) -> bool:
        """Whether `ask` would find something, with nothing in flight."""
        return any(index in self._left for index in self._todo) or self._find_late(provider) is not None

    def ask(self, provider: Account) -> Range | None:
        """The next range for this provider, noted as asked of it; None where it has enough, or nothing is left."""
        mine = self._asked.setdefault(provider, deque())
        if len(mine) > (self._ranges_in_flight - 1) * self._range_chunks:
            return None
        found = self._take_todo()
        if found is None and not mine:
            late = self._find_late(provider)
            found = None if late is None else (late, 1)
        if found is not None:
            first, count = found
            for index in range(first, first + count):
                mine.append(index)
                self._copies[index] += 1
                self._asked_at[index] = self._clock()
        return found

    def _take_todo(self) -> Range | None:
        """A run of neighbours that nobody has in flight."""
        while self._todo and self._todo[0] not in self._left:
            self._todo.popleft()
        if not self._todo:
            return None
        first, count = self._todo.popleft(), 1
        while self._todo and self._todo[0] == first + count and count < self._range_chunks:
            if self._todo[0] not in self._left:
                break
            self._todo.popleft()
            count += 1
        return first, count

    def _find_late(self, provider: Account) -> int | None:
        """What will come last as things are: the end of what the provider owes that owes most."""
        asked_until = self._clock() - self._overtake_seconds
        late = [
            (len(asked), place, index) for other, asked in self._asked.items() if other != provider
            for place, index in enumerate(asked)
            if index in self._left and self._asked_at[index] <= asked_until
            and self._copies[index] < MAX_COPIES and index not in self._asked.get(provider, ())
        ]  # fmt: skip
        if not late:
            return None
        fewest = min(self._copies[index] for _, _, index in late)
        return max(row for row in late if self._copies[row[2]] == fewest)[2]

    def on_verified(self, provider: Account, index: int) -> bool:
        """False where it had come from another one before. Answers come in the order of the requests."""
        self._asked[provider].popleft()
        self._forget_copy(index)
        is_new = index in self._left
        self._left.discard(index)
        return is_new

    def give_up(self, provider: Account) -> None:
        """What it still owes is for the others, first of all; chunks that another has in flight stay with that one."""
        owed = self._asked.pop(provider, deque())
        for index in owed:
            self._forget_copy(index)
        self._todo.extendleft(i for i in reversed(owed) if i in self._left and not self._copies[i])

    def _forget_copy(self, index: int) -> None:
        self._copies[index] -= 1
        if not self._copies[index]:
            del self._copies[index]
