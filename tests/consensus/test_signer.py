"""The signer's promise, searched by Hypothesis across crashes: what left this machine holds no slashable pair."""

import pytest
from consensus_support import DOMAIN, CheapKey, block_id, real_key
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flock_chain.consensus.evidence import is_slashable
from flock_chain.consensus.records import decode_signer_record, encode_signer_record
from flock_chain.consensus.signer import MarkRecord, Signer, SignerRecord, SignRecord
from flock_chain.consensus.types import NO_BLOCK, Kind, Vote
from flock_chain.crypto import recover
from flock_chain.errors import Refused

BLOCKS = [block_id(name) for name in "xy"]
SMALL = st.integers(1, 3)


class SignerMachine(RuleBasedStateMachine):
    """The file is a list; a vote leaves only after its record is in it; a crash loses what is not."""

    def __init__(self) -> None:
        super().__init__()
        self.file: list[SignerRecord] = []
        self.buffer: list[SignerRecord] = []
        self.waiting: list[Vote] = []
        self.left: set[Vote] = set()
        self.signer = Signer(CheapKey(0), DOMAIN)

    @rule(
        kind=st.sampled_from(list(Kind)),
        height=SMALL,
        view=SMALL,
        block=st.sampled_from(BLOCKS),
        parent=st.integers(0, 1),
    )
    def sign(self, kind: Kind, height: int, view: int, block: bytes, parent: int) -> None:
        block = NO_BLOCK if kind == Kind.NULLIFY else block
        try:
            vote, record = self.signer.sign(kind, height, view, block, parent if kind == Kind.PROPOSE else 0)
        except Refused:
            return
        if record:
            self.buffer.append(record)
        self.waiting.append(vote)

    @rule(height=SMALL)
    def advance(self, height: int) -> None:
        record = self.signer.advance(height)
        if record:
            self.buffer.append(record)

    @rule()
    def sync_and_send(self) -> None:
        self.file += self.buffer
        self.left |= set(self.waiting)
        self.buffer, self.waiting = [], []

    @rule(kept=st.integers(0, 8))
    def crash(self, kept: int) -> None:
        self.file += self.buffer[:kept]
        self.buffer, self.waiting = [], []
        self.signer = Signer(CheapKey(0), DOMAIN, self.file)

    @rule()
    def compact(self) -> None:
        self.file = self.signer.records()
        self.buffer = []

    @invariant()
    def nothing_that_left_is_slashable(self) -> None:
        votes = list(self.left)
        assert not any(is_slashable(one, other) for one in votes for other in votes if one is not other)


SignerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None, database=None)
test_a_signer_never_signs_a_slashable_pair_across_restarts = SignerMachine.TestCase


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((Kind.NOTARIZE, 1, 1, BLOCKS[0]), (Kind.NOTARIZE, 1, 1, BLOCKS[1])),
        ((Kind.FINALIZE, 1, 1, BLOCKS[0]), (Kind.FINALIZE, 1, 1, BLOCKS[1])),
        ((Kind.FINALIZE, 1, 1, BLOCKS[0]), (Kind.NULLIFY, 1, 1, NO_BLOCK)),
        ((Kind.NULLIFY, 1, 1, NO_BLOCK), (Kind.FINALIZE, 1, 1, BLOCKS[0])),
        ((Kind.PROPOSE, 1, 2, BLOCKS[0], 0), (Kind.PROPOSE, 1, 2, BLOCKS[0], 1)),
        ((Kind.NOTARIZE, 2, 1, BLOCKS[0]), (Kind.NOTARIZE, 1, 1, BLOCKS[0])),
    ],
)
def test_a_second_statement_that_convicts_is_refused(first: tuple, second: tuple) -> None:
    signer = Signer(CheapKey(0), DOMAIN)
    signer.sign(*first)
    with pytest.raises(Refused):
        signer.sign(*second)


def test_signing_the_same_again_gives_the_same_bytes_and_no_new_record() -> None:
    signer = Signer(real_key(0), DOMAIN)
    vote, record = signer.sign(Kind.NOTARIZE, 5, 2, BLOCKS[0])
    again, nothing = signer.sign(Kind.NOTARIZE, 5, 2, BLOCKS[0])
    assert record is not None and nothing is None
    assert again == vote
    assert recover(DOMAIN.digest(Kind.NOTARIZE, 5, 2, BLOCKS[0]), vote.signature) == real_key(0).account
    assert signer.votes(5) == [vote] and signer.votes(4) == []


def test_notarizing_one_block_and_finalizing_another_is_legal() -> None:
    signer = Signer(CheapKey(0), DOMAIN)
    first, _ = signer.sign(Kind.NOTARIZE, 1, 1, BLOCKS[0])
    second, _ = signer.sign(Kind.FINALIZE, 1, 1, BLOCKS[1])
    assert not is_slashable(first, second)


@pytest.mark.parametrize("record", [MarkRecord(9), SignRecord(Kind.PROPOSE, 3, 2, BLOCKS[0], 1)])
def test_signer_records_survive_their_encoding(record: SignerRecord) -> None:
    kind, payload = encode_signer_record(record)
    assert decode_signer_record(kind, payload) == record
