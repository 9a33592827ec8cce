"""What is read and kept of packets: little of strangers, one vote of each member, bodies of leaders alone."""

import pytest
from consensus_support import DOMAIN, certify, real_key, sign_vote
from driver_support import CONFIG, FakeLedger, on_mock_clock

from flock_chain.codec import encode
from flock_chain.consensus.core import Core
from flock_chain.consensus.events import Effect, Send, StartHeight
from flock_chain.consensus.types import NO_BLOCK, Kind, Message, Proposal, Status
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_message
from flock_chain.crypto import Account, keccak256
from flock_peers.driver.attendance import HEIGHTS_AHEAD, KEPT_HEIGHTS, VoteBook
from flock_peers.driver.bodies import Bodies
from flock_peers.driver.current import Current
from flock_peers.driver.inbox import Packet
from flock_peers.driver.journal import Journal
from flock_peers.driver.level import Level
from flock_peers.driver.offences import Offences
from flock_peers.driver.reception import Reception
from flock_peers.driver.signing import Signing

KEYS = [real_key(index) for index in range(4)]
SET = ValidatorSet(tuple((key.account, 1) for key in KEYS))
STRANGER = real_key(9)
RUNNING = 5


def _no_level() -> Level:
    raise AssertionError("nobody becomes level here")


class Desk:
    """A listener's reception at a height, with what it keeps."""

    def __init__(self) -> None:
        ledger, me = FakeLedger(SET), real_key(8).account
        core = Core(CONFIG, DOMAIN, me, None)
        core.handle(StartHeight(RUNNING, SET))
        current = Current(core, ledger, me)
        current.validators = SET
        self.bodies, self.votes, self.offences = Bodies(), VoteBook(), Offences()
        signing = Signing(current, DOMAIN, Journal(), _no_level, None)
        self.reception = Reception(current, self.bodies, self.votes, self.offences, signing)

    def hear(self, account: Account, message: Message, body: bytes = b"") -> list[Effect]:
        return self.reception.handle(Packet(account, encode_message(message, body)))


@on_mock_clock
async def test_a_stranger_is_heard_where_it_says_how_far_it_is_and_costs_nothing_else() -> None:
    desk = Desk()
    [answer] = desk.hear(STRANGER.account, Status(RUNNING - 1, 1))
    assert isinstance(answer, Send) and answer.account == STRANGER.account
    certificate = certify(KEYS[:3], SET, Kind.NULLIFY, RUNNING, 1, NO_BLOCK)
    assert desk.hear(STRANGER.account, certificate) == []
    assert desk.hear(KEYS[0].account, certificate) != []
    for _ in range(30):
        desk.reception.handle(Packet(STRANGER.account, bytes(1_000)))
    assert not desk.offences.is_ignored(STRANGER.account)  # an honest one, of a set that is over, may say much


@on_mock_clock
async def test_a_crowd_of_which_each_breaks_one_rule_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    for number in range(1_000):
        desk.reception.handle(Packet(Account(number.to_bytes(20, "big")), b"\xc1"))
    assert len(caplog.messages) == 60 and "dropped a message of 0x" in caplog.messages[0]


@on_mock_clock
async def test_the_vote_book_holds_members_and_near_heights_alone() -> None:
    book = VoteBook()
    for key in (*KEYS, STRANGER):
        for height in range(RUNNING - 3, RUNNING + 4):
            book.note(sign_vote(key, Kind.NULLIFY, height, 1), RUNNING, SET)
            book.note(sign_vote(key, Kind.PROPOSE, height, 1, bytes([1]) * 32), RUNNING, SET)
    kept = {height: len(book.votes(height)) for height in range(RUNNING + 5) if book.votes(height)}
    assert kept == dict.fromkeys(range(RUNNING - KEPT_HEIGHTS + 1, RUNNING + HEIGHTS_AHEAD + 1), len(KEYS))
    assert all(vote.kind == Kind.NULLIFY for vote in book.votes(RUNNING))
    for height in range(RUNNING, RUNNING + KEPT_HEIGHTS + 1):
        book.start_height(height)
    assert sorted(height for height in kept if book.votes(height)) == [RUNNING + 1]


@on_mock_clock
async def test_a_body_is_kept_of_the_leader_alone_and_of_near_heights() -> None:
    desk = Desk()
    for height in range(RUNNING - 1, RUNNING + 3):
        for view in range(1, 5):
            for key in KEYS:
                body = encode([height, view, bytes(32), key.account, []])
                vote = sign_vote(key, Kind.PROPOSE, height, view, keccak256(body))
                desk.hear(key.account, Proposal(vote, ()), body)
                is_right = SET.leader(height, view) == key.account and height in (RUNNING, RUNNING + 1)
                assert (desk.bodies.get(height, vote.block_id) == body) == is_right
