"""Misbehaving validators: cores that break rules on purpose, messages that are changed, invented or too many."""

import random
from dataclasses import replace

from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.core import Core
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import Signer, SigningKey, SignRecord
from flock_chain.consensus.types import NO_BLOCK, VIEW_WINDOW, Certificate, Kind, Message, Proposal, Status, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.crypto import Account
from flock_p2p.simulate.cheap_keys import block_id
from flock_peers.driver.bodies import MAX_BODIES_PER_SOURCE

MUTATED = 0.3  # of a mutator's messages
FLOOD_INTERVAL_MS = 120
FLOOD_MESSAGES = 6  # at once
FORGE_INTERVAL_MS = 300
FLUSH_BURSTS = 4
FLUSH_MS = 8  # between bursts: some fall into the check of the block before them


class ForgetfulSigner(Signer):
    """Signs whatever it is asked to: what a twin uses, and what shows whether the core alone is safe."""

    def _refuse_conflict(self, record: SignRecord) -> None:
        self.advance(record.height)


class LyingCore(Core):
    """A leader that ignores the notarized parent, and votes for its own lie."""

    def _find_parent(self, _view: int) -> tuple[int, bytes] | None:
        return 0, NO_BLOCK

    def _gap_is_nullified(self, _proposal: Proposal) -> bool:
        return True

    def _parent_is_notarized(self, _proposal: Proposal) -> bool:
        return True

    def _is_checked(self, _proposal: Proposal) -> bool:
        return True


class FakingCore(LyingCore):
    """Proposes again what nobody notarized."""

    def _find_parent(self, view: int) -> tuple[int, bytes] | None:
        return (view - 1, block_id(("fake", self.height, view))) if view > 1 else (0, NO_BLOCK)


class Forger:
    """Says anything with one key: statements out of turn, floods, certificates that are none."""

    def __init__(self, key: SigningKey, domain: ChainDomain, chance: random.Random) -> None:
        self._key, self._domain, self._random = key, domain, chance

    def _say(self, kind: Kind, height: int, view: int, block: bytes, parent: int = 0) -> Vote:
        signer = ForgetfulSigner(self._key, self._domain)
        return signer.sign(kind, height, view, NO_BLOCK if kind == Kind.NULLIFY else block, parent)[0]

    def mutate(self, message: Message) -> Message:
        r = self._random
        if isinstance(message, Vote):
            kind = r.choice((Kind.NOTARIZE, Kind.NULLIFY, Kind.FINALIZE))
            view = max(1, message.view + r.choice((-1, 0, 0, 1)))
            evil = block_id(("evil", message.height, r.randrange(2)))
            block = r.choice((evil, message.block_id if message.block_id != NO_BLOCK else evil))
            return self._say(kind, message.height, view, block)
        if isinstance(message, Proposal):
            evil = block_id(("evil", message.height, r.randrange(2)))
            parent = max(0, min(message.view - 1, message.parent_view + r.choice((-1, 0, 1))))
            vote = self._say(Kind.PROPOSE, message.height, message.view, r.choice((evil, message.block_id)), parent)
            return replace(message, vote=vote)
        return message

    def flood(self, height: int, view: int, validators: ValidatorSet) -> list[Message]:
        """Valid signatures over statements that nobody can use."""
        r = self._random
        found: list[Message] = [Status(height + r.randrange(1_000), 1 + r.randrange(50))]
        for number in range(FLOOD_MESSAGES):
            at, far = height + r.choice((0, 0, 1, 2)), view + r.randrange(2 * VIEW_WINDOW)
            name = block_id(("flood", at, far, r.randrange(1 << 30)))
            kind = r.choice((Kind.NOTARIZE, Kind.NULLIFY, Kind.FINALIZE))
            found.append(self._say(kind, at, far, name))
            if validators.leader(at, far) == self._key.account and number % 2:
                found.append(Proposal(self._say(Kind.PROPOSE, at, far, name), ()))
        return found

    def flush(self, height: int, view: int, validators: ValidatorSet) -> list[Proposal]:
        """One after the other leads a later view, so that a body beside each is kept."""
        later = range(view + 1, view + 1 + MAX_BODIES_PER_SOURCE * len(validators))
        return [
            Proposal(self._say(Kind.PROPOSE, height, at, block_id(("flush", at, self._random.randrange(1 << 30)))), ())
            for at in later
            if validators.leader(height, at) == self._key.account
        ]

    def forge(self, height: int, view: int, validators: ValidatorSet) -> list[Message]:
        """A certificate of its own signature alone, and one in which everybody seems to have signed."""
        r = self._random
        name = block_id(("forged", height, r.randrange(3)))
        kind = r.choice((Kind.NOTARIZE, Kind.NULLIFY, Kind.FINALIZE))
        own = self._say(kind, height, view, name)
        alone = {own.signer: own.signature}
        everybody = {account: own.signature for account in validators.accounts}
        return [self._certificate(own, signatures, validators) for signatures in (alone, everybody)]

    @staticmethod
    def _certificate(vote: Vote, signatures: dict[Account, bytes], validators: ValidatorSet) -> Certificate:
        return make_certificate(vote.kind, vote.height, vote.view, vote.block_id, signatures, validators)
