"""The properties that hold on every schedule, whatever happens. Watches; changes nothing."""

from collections import defaultdict
from collections.abc import Iterable

from flock_chain.consensus.certificates import MAX_CHECKED_SIGNATURES, votes_of
from flock_chain.consensus.core import MAX_BUFFERED_BYTES_PER_SENDER, MAX_BUFFERED_PER_SENDER
from flock_chain.consensus.events import Evidence
from flock_chain.consensus.evidence import is_slashable
from flock_chain.consensus.signer import SignRecord
from flock_chain.consensus.types import VIEW_WINDOW, Certificate, Kind, Message, Proposal, Vote
from flock_chain.consensus.wire import message_bytes
from flock_chain.crypto import Account
from flock_p2p.simulate.disk import EXAGGERATION
from flock_p2p.simulate.members import Members
from flock_p2p.simulate.node import Node
from flock_peers.driver.bodies import MAX_BODIES_PER_SOURCE
from flock_peers.store.signer_file import COMPACT_BYTES as SIGNER_BYTES
from flock_peers.store.wal import COMPACT_BYTES as WAL_BYTES

AGREEMENT = "one block per height"
VALIDITY = "only valid blocks become final"
INNOCENCE = "no honest validator signs a slashable pair"
FAIRNESS = "no honest validator is accused"
DURABILITY = "nothing is sent before it is durable"
REFUSAL = "no honest message is refused"
ROOT = "the same state root everywhere"
MEMORY = "memory stays bounded"
ACCOUNTABILITY = "a fork convicts more than the bound, and nobody honest"
PROGRESS = "everybody finalizes once the network is well"
IDLENESS = "an idle network sends nothing but heartbeats"
PROPERTIES = (
    AGREEMENT, VALIDITY, INNOCENCE, FAIRNESS, DURABILITY, REFUSAL, ROOT, MEMORY, ACCOUNTABILITY, PROGRESS, IDLENESS,
)  # fmt: skip

LOG_SLACK_BYTES = 64 << 10  # of one height, above the size at which a log is compacted


class Violation(AssertionError):
    """A property that must hold did not."""

    def __init__(self, broken: str, detail: str) -> None:
        super().__init__(f"{broken}: {detail}")
        self.property, self.detail = broken, detail


class Forked(Exception):
    """More than the bound collude, two blocks are final, and the votes convict who did it: the schedule is over."""


class Judge:
    def __init__(self, members: Members, accounts: list[Account], genesis: bytes, *, colluders: bool) -> None:
        self._members, self._colluders = members, colluders
        self._identity = {account: index for index, account in enumerate(accounts)}
        self.agreed: dict[int, bytes] = {0: genesis}
        self.made: dict[bytes, tuple[int, bytes | None, bool]] = {}  # block: height, parent, valid
        self._roots: dict[int, bytes] = {}
        self._said: dict[Account, dict[tuple[int, int], list[Vote]]] = defaultdict(lambda: defaultdict(list))
        self._heard: dict[tuple[Account, int, int], set[Vote]] = defaultdict(set)
        self.accused: set[int] = set()
        self.convicted = 0

    # ---------------------------------------------------------------- messages

    def on_sent(self, node: Node, message: Message) -> None:
        """Of an honest node, once a message."""
        vote = message.vote if isinstance(message, Proposal) else message
        if not isinstance(vote, Vote):
            return
        record = SignRecord(vote.kind, vote.height, vote.view, vote.block_id, vote.parent_view)
        if record in node.pending:
            raise Violation(DURABILITY, f"node {node.name} sent {show(vote)} before its record was synced")
        if vote.block_id in node.unsynced_bodies:
            raise Violation(DURABILITY, f"node {node.name} sent {show(vote)} before the block's bytes were synced")
        earlier = self._said[vote.signer][(vote.height, vote.view)]
        if vote in earlier:
            return
        for other in earlier:
            if is_slashable(other, vote):
                raise Violation(INNOCENCE, f"node {node.name} signed {show(other)} and {show(vote)}")
        earlier.append(vote)

    def on_heard(self, message: Message, height_of: Members) -> None:
        """By an honest node, in a schedule with colluders: what could go before a court."""
        votes: Iterable[Vote] = ()
        if isinstance(message, Vote):
            votes = (message,)
        elif isinstance(message, Certificate):
            votes = votes_of(message, height_of.at(message.height))
        elif isinstance(message, Proposal):
            votes = (message.vote, *(v for c in message.certificates for v in votes_of(c, height_of.at(c.height))))
        for vote in votes:
            self._heard[(vote.signer, vote.height, vote.view)].add(vote)

    def on_refused(self, sender: Account, error: str) -> None:
        if self._identity[sender] not in self._members.byzantine:
            raise Violation(REFUSAL, f"a message of node {self._identity[sender]}: {error}")

    def on_evidence(self, effect: Evidence) -> None:
        first, second = effect.first, effect.second
        index = self._identity[first.signer]
        if not is_slashable(first, second) or index not in self._members.byzantine:
            raise Violation(FAIRNESS, f"node {index} by {show(first)} and {show(second)}")
        self.accused.add(index)

    # ---------------------------------------------------------------- blocks

    def on_decided(self, node: Node, height: int, name: bytes, certificate: Certificate) -> None:
        if not node.honest:
            return
        if self._colluders:
            self.on_heard(certificate, self._members)
        agreed = self.agreed.setdefault(height, name)
        if agreed != name:
            self._judge_fork(height, agreed, name)
        if self.made.get(name) != (height, self.agreed.get(height - 1), True):
            raise Violation(VALIDITY, f"block {name.hex()[:6]} at height {height}, decided by node {node.name}")

    def _judge_fork(self, height: int, first: bytes, second: bytes) -> None:
        text = f"{first.hex()[:6]} and {second.hex()[:6]} are final at height {height}"
        if not self._colluders:
            raise Violation(AGREEMENT, text)
        convicted = {
            self._identity[signer]
            for (signer, _, _), votes in self._heard.items()
            if any(is_slashable(one, other) for one in votes for other in votes)
        }
        if not convicted <= self._members.byzantine:
            raise Violation(ACCOUNTABILITY, f"{text}: {sorted(convicted)} convicted, among them honest ones")
        if len(convicted) <= self._members.at(height).max_byzantine:  # weights are 1 here
            raise Violation(ACCOUNTABILITY, f"{text}: only {sorted(convicted)} convicted")
        self.convicted = len(convicted)
        raise Forked

    def on_executed(self, node: Node, height: int, root: bytes) -> None:
        if node.honest and self._roots.setdefault(height, root) != root:
            raise Violation(ROOT, f"node {node.name} has another one at height {height}")

    # ---------------------------------------------------------------- memory

    def check_memory(self, node: Node) -> None:
        """Reads the core's tables: what a flood could fill."""
        core = node.core
        if core is None or core._state is None:
            return
        s = core._state
        n, views = len(s.validators), s.view + VIEW_WINDOW
        rows = [
            ("votes", len(s.tally._first), len(Kind) * n * views),
            ("as the highest view of a vote", max((view for _, view, _ in s.tally._first), default=0), views),
            ("statements", len(s.tally._signatures), len(Kind) * n * views),
            ("proposals", len(s.proposals), views),
            ("certificates", len(s.notarized) + len(s.nullified), 2 * views),
            ("checked blocks", len(s.valid) + len(s.checking), 4 * views),
            ("own votes", len(s.mine), len(Kind) * s.view),
            ("answers", len(s.answered), 2 * n * views),
            ("buffered senders", len(core._future), n),
            ("buffered messages", max(map(len, core._future.values()), default=0), MAX_BUFFERED_PER_SENDER),
            (
                "buffered bytes of a sender",
                max((sum(map(message_bytes, messages)) for messages in core._future.values()), default=0),
                MAX_BUFFERED_BYTES_PER_SENDER,
            ),
            ("checked signatures", len(core._checker._checked), MAX_CHECKED_SIGNATURES),
            ("bodies", sum(map(len, node.bodies._loose.values())), MAX_BODIES_PER_SOURCE * n * 2),
            ("write-ahead log", len(node.disk.wal_log.data), WAL_BYTES // EXAGGERATION + LOG_SLACK_BYTES),
        ]
        if node.disk.signer_log is not None:
            rows.append(("signer file", len(node.disk.signer_log.data), SIGNER_BYTES // EXAGGERATION + LOG_SLACK_BYTES))
        for what, size, limit in rows:
            if size > limit:
                raise Violation(MEMORY, f"node {node.name} holds {size} {what}, at most {limit} are right")


def show(message: Message) -> str:
    if isinstance(message, Vote):
        again = f" again from view {message.parent_view}" if message.parent_view else ""
        block = f" {message.block_id.hex()[:6]}" if message.kind != Kind.NULLIFY else ""
        return f"{message.kind.name}{block}{again} (height {message.height}, view {message.view})"
    if isinstance(message, Proposal):
        return show(message.vote)
    if isinstance(message, Certificate):
        signers = int.from_bytes(message.bitmap, "little").bit_count()
        block = f" {message.block_id.hex()[:6]}" if message.kind != Kind.NULLIFY else ""
        return f"{message.kind.name}{block} by {signers} (height {message.height}, view {message.view})"
    return f"STATUS (height {message.height}, view {message.view})"
