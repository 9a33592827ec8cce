"""What validators do with each other: messages, the blocks that they build and check, and catching up."""

from flock_chain.consensus.certificates import verify_finality
from flock_chain.consensus.events import (
    BlockBuilt,
    BlockChecked,
    Broadcast,
    BuildBlock,
    CatchUp,
    CheckBlock,
    Decide,
    Received,
    Send,
)
from flock_chain.consensus.types import Message, Proposal, Status
from flock_chain.crypto import Account
from flock_chain.errors import InvalidContent, InvalidRemote
from flock_p2p.simulate.chance import Chance
from flock_p2p.simulate.ledgers import BAD_BLOCK, Body
from flock_p2p.simulate.machines import Machines
from flock_p2p.simulate.node import Final, Node
from flock_p2p.simulate.scenario import Scenario
from flock_p2p.simulate.sins import FLUSH_BURSTS, FLUSH_MS, MUTATED, Forger
from flock_p2p.simulate.worlds import Variant
from flock_peers.driver.catch_up import CAUGHT_UP_BLOCKS
from flock_peers.store.signer_file import WAITING_HEIGHTS

BLOCK_MS = 30  # to build or check a block, at most
COMMIT_MS = 20
BODY_RETRY_MS = 300
FETCH_MS = 40
FOLLOW_MS = 250


class Exchange(Machines):
    def __init__(self, scenario: Scenario, variant: Variant, chance: Chance, *, record: bool) -> None:
        super().__init__(scenario, variant, chance, record=record)
        self._handlers.update({
            Broadcast: self._on_broadcast, Send: self._on_send, BuildBlock: self._on_build, CheckBlock: self._on_check,
            Decide: self._on_decide, CatchUp: self._on_catch_up,
        })  # fmt: skip

    def boot(self, node: Node) -> None:
        super().boot(node)
        if self.scenario.set_change:
            self._follow(node, node.life)

    # ---------------------------------------------------------------- the network

    def _on_broadcast(self, node: Node, effect: Broadcast) -> None:
        message = effect.message
        body = self._body_beside(node, message)
        if node.honest:
            self.judge.on_sent(node, message)
            self._note("node %s: %s", node, message)
        for account in self.validators(node.core.height if node.core else node.height).accounts:
            if account != node.key.account:
                self.transmit(node, account, message, body)
        if self.scenario.flush and not node.honest and body is not None and self.chance.allow():
            for number in range(FLUSH_BURSTS):
                self.at(number * FLUSH_MS, self._flush, node, message)

    def _flush(self, node: Node, message: Message) -> None:
        """As many bodies beside proposals of its later views as push the one out that others check right now."""
        if node.up and message.height == node.height and isinstance(message, Proposal):
            members = self.validators(node.height)
            for proposal in self.forger(node).flush(node.height, message.view, members):
                body = Body(proposal.block_id, BAD_BLOCK)
                for account in members.accounts:
                    if account != node.key.account:
                        self.transmit(node, account, proposal, body)

    @staticmethod
    def _body_beside(node: Node, message: Message) -> Body | None:
        data = node.bodies.get_beside(message)
        return Body(message.block_id, data) if data and isinstance(message, Proposal) else None

    def _on_send(self, node: Node, effect: Send) -> None:
        if node.honest:
            self.judge.on_sent(node, effect.message)
        self.transmit(node, effect.account, effect.message, None)

    def transmit(self, source: Node, account: Account, message: Message, body: Body | None) -> None:
        if source.honest:
            self.sent[type(message).__name__] += 1
        elif self.scenario.sin == "mutate" and self.chance.fault(MUTATED):
            message = self.forger(source).mutate(message)
        network = self.network
        for target in self._by_account[account]:
            for _ in range(network.copies()):
                if self.is_well or not network.is_blocked(source, target, message):
                    self.at(network.delay(self.is_well), self._deliver, source, target, message, body)

    def forger(self, node: Node) -> Forger:
        return Forger(node.key, self.world.domain, self.random)

    def _deliver(self, source: Node, target: Node, message: Message, body: Body | None) -> None:
        if not target.up:
            return
        if body is not None and isinstance(message, Proposal):
            try:
                target.bodies.put_beside(
                    message, body.data, lambda _: body.id, target.height, self.validators(target.height)
                )
            except InvalidContent:
                return
        if self.scenario.colluders and target.honest:
            self.judge.on_heard(message, self.members)
        self.input(target, Received(source.key.account, message))

    # ---------------------------------------------------------------- blocks

    def _on_build(self, node: Node, effect: BuildBlock) -> None:
        self.at(self.random.randrange(BLOCK_MS), self._built, node, node.life, effect)

    def _built(self, node: Node, life: int, effect: BuildBlock) -> None:
        if node.life != life or node.height != effect.height:
            return
        good = node.honest or not self.chance.fault(self.scenario.bad_blocks)
        salt = self.random.randrange(1 << 30)
        parent = node.ledger.head
        body = node.ledger.build(effect.view, salt, good, node.transactions[:8], self.now)
        self.judge.made[body.id] = (effect.height, parent, good)
        node.bodies.put(node.key.account, effect.height, body.id, body.data)
        self.input(node, BlockBuilt(effect.height, effect.view, body.id))

    def _on_check(self, node: Node, effect: CheckBlock) -> None:
        self._check(node, node.life, effect)

    def _check(self, node: Node, life: int, effect: CheckBlock) -> None:
        if node.life != life or node.height != effect.height:
            return
        body = self._find_body(node, effect.height, effect.block_id)
        if body is None:
            self.at(BODY_RETRY_MS, self._check, node, life, effect)
        else:
            self.at(self.random.randrange(BLOCK_MS), self._checked, node, life, effect, body)

    def _checked(self, node: Node, life: int, effect: CheckBlock, body: bytes) -> None:
        if node.life != life or node.height != effect.height:
            return
        valid = node.ledger.check(body)
        if valid and self.variant.pins:
            node.bodies.pin(effect.height, effect.block_id, body)
        self.input(node, BlockChecked(effect.height, effect.block_id, valid))

    def _find_body(self, node: Node, height: int, name: bytes) -> bytes | None:
        """Here, or for the asking from an honest peer that runs (a misbehaving one would not answer)."""
        found = node.bodies.get(height, name)
        if found is None:
            for other in self.honest:
                if other.up and (found := _stored_body(other, height, name)) is not None:
                    node.bodies.put(other.key.account, height, name, found)
                    return found
        return found

    def _on_decide(self, node: Node, effect: Decide) -> None:
        self.trace.append((self.now, node.name, effect.height, effect.block_id))
        self._note("node %s decides %s at height %s", node, effect.block_id, effect.height)
        self.judge.on_decided(node, effect.height, effect.block_id, effect.certificate)
        self.at(self.random.randrange(COMMIT_MS), self._commit, node, node.life, effect)

    def _commit(self, node: Node, life: int, effect: Decide) -> None:
        if node.life != life or node.height != effect.height:
            return
        body = self._find_body(node, effect.height, effect.block_id)
        if body is None:
            self.at(BODY_RETRY_MS, self._commit, node, life, effect)
            return
        self._make_final(node, Final(effect.block_id, effect.certificate, body, b""))
        if node.disk.signer:
            node.disk.signer.settle()
        if self._is_risky(node) and self.chance.fault(self.scenario.crash):
            self.crash(node)
            return
        self._start_height(node)

    def _make_final(self, node: Node, block: Final) -> None:
        root = node.ledger.commit(block.body)
        self.judge.on_executed(node, node.height, root)
        node.chain.append(Final(block.block_id, block.certificate, block.body, root))
        if node.transactions:
            node.transactions = [row for row in node.transactions if row not in node.ledger.included]
        self.committed += 1

    # ---------------------------------------------------------------- catching up

    def _on_catch_up(self, node: Node, effect: CatchUp) -> None:
        source = self._by_account[effect.account][0]
        if source.honest:
            self._fetch(node, source)

    def _fetch(self, node: Node, source: Node) -> None:
        if node.fetching or not source.up:
            return
        if self.is_well or not self.network.is_blocked(source, node, Status(node.height, 1)):
            node.fetching = True
            self.at(FETCH_MS, self._fetched, node, node.life, source)

    def _follow(self, node: Node, life: int) -> None:
        """A machine that is in no set asks somebody now and then."""
        if node.life != life:
            return
        if node.key.account not in self.validators(node.height):
            self._fetch(node, self.random.choice(self.honest))
        self.at(FOLLOW_MS, self._follow, node, life)

    def _fetched(self, node: Node, life: int, source: Node) -> None:
        if node.life != life:
            return
        node.fetching = False
        missing = source.chain[len(node.chain) :]
        for block in missing:
            height = node.height
            if not self._is_final(block, height):
                self.judge.on_refused(source.key.account, f"its block of height {height} has no valid certificate")
                return
            self.judge.on_decided(node, height, block.block_id, block.certificate)
            self._close_below(node, height + 1)
            self._make_final(node, block)
        if len(missing) >= CAUGHT_UP_BLOCKS and node.disk.signer and node.disk.signer.is_doubtful:
            self._close_below(node, node.height + WAITING_HEIGHTS)
        if missing:
            self._note("node %s catches up to height %s", node, len(node.chain))
            self._start_height(node)

    def _is_final(self, block: Final, height: int) -> bool:
        try:
            verify_finality(
                block.certificate,
                height=height,
                block_id=block.block_id,
                validators=self.validators(height),
                domain=self.world.domain,
                recover_signer=self.world.recover,
            )
        except InvalidRemote:
            return False
        return True

    def _close_below(self, node: Node, height: int) -> None:
        """Nothing at a final height is signed any more; also what the core has not synced yet is on disk then."""
        file = node.disk.signer
        record = file.signer.advance(height) if file and not node.disk.is_damaged else None
        if record and file:
            node.pending.append(record)
            if node.disk.wal:
                node.disk.wal.sync()
                node.unsynced_bodies.clear()
            self._write_signed(node)
            file.sync(file.signer.records())
            node.pending.clear()


def _stored_body(node: Node, height: int, name: bytes) -> bytes | None:
    if len(node.chain) >= height and node.chain[height - 1].block_id == name:
        return node.chain[height - 1].body
    return node.bodies.get(height, name)
