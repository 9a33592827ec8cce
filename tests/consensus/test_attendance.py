"""The votes that a block shows of its parent's height: who is named absent, and what is no attendance at all."""

from dataclasses import dataclass, replace

import pytest

from flock_chain.codec import encode
from flock_chain.consensus.attendance import MAX_ATTENDANCE_BYTES, AttendanceRule, make_attendance
from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.core import Core
from flock_chain.consensus.digest import ChainDomain, make_domain
from flock_chain.consensus.events import StartHeight
from flock_chain.consensus.rules import CoreConfig
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import NO_BLOCK, Kind, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import certificate_fields
from flock_chain.crypto import Account, Key, keccak256
from flock_chain.errors import InvalidBlock, InvalidEncoding, InvalidRemote, InvalidSignature, Misuse
from flock_chain.genesis import Genesis, GenesisValidator
from flock_chain.parameters import DEMO
from flock_chain.restart import Restart

KEYS = [Key(keccak256(b"attendance", bytes([index]))) for index in range(5)]
DOMAIN = ChainDomain(7, b"g" * 32)
HEIGHT, BLOCK = 9, b"b" * 32


@dataclass(frozen=True)
class Row:
    account: Account
    weight: int


ROWS = [Row(key.account, weight) for key, weight in zip(KEYS, (5, 1, 1, 1, 2))]
SET = ValidatorSet(tuple((row.account, row.weight) for row in ROWS))  # quorum 7 of 10
RULE = AttendanceRule(DOMAIN)


def vote(index: int, kind: Kind = Kind.FINALIZE, *, height: int = HEIGHT, view: int = 1, block: bytes = BLOCK) -> Vote:
    block = NO_BLOCK if kind == Kind.NULLIFY else block
    signature = KEYS[index].sign(DOMAIN.digest(kind, height, view, block))
    return Vote(kind, height, view, block, 0, KEYS[index].account, signature)


def show(*votes: Vote) -> bytes:
    return make_attendance(HEIGHT, votes, SET, DOMAIN)


def group(kind: Kind, *indexes: int, height: int = HEIGHT, view: int = 1) -> list[object]:
    votes = [vote(index, kind, height=height, view=view) for index in indexes]
    signatures = {row.signer: row.signature for row in votes}
    block = NO_BLOCK if kind == Kind.NULLIFY else BLOCK
    return certificate_fields(make_certificate(kind, height, view, block, signatures, SET))


@pytest.mark.parametrize(
    ("votes", "absent"),
    [
        ([vote(0), vote(1), vote(2), vote(3)], {4}),
        ([vote(0), vote(4)], {1, 2, 3}),
        ([vote(0), vote(4, Kind.NULLIFY), vote(1, Kind.NOTARIZE, view=3, block=b"c" * 32)], {2, 3}),
        ([vote(0), vote(4), vote(4, Kind.NULLIFY)], {1, 2, 3}),
    ],
)
def test_any_vote_of_the_height_is_presence_and_the_others_are_absent(votes: list[Vote], absent: set[int]) -> None:
    payload = show(*votes)
    assert RULE(payload, HEIGHT, ROWS) == sum(1 << index for index in absent)
    assert len(payload) < MAX_ATTENDANCE_BYTES // 20


def test_nothing_is_shown_where_all_are_there_or_less_than_a_quorum_is_known() -> None:
    everybody = [vote(index) for index in range(5)]
    assert show(*everybody) == show(*everybody[:2]) == show() == b""


def test_votes_that_are_not_good_are_left_out() -> None:
    good = [vote(0), vote(4)]
    for bad in (
        vote(1, height=HEIGHT + 1),
        replace(vote(1), signature=vote(2).signature),
        replace(vote(1), signature=b"\xff" * 65),
        replace(vote(1), block_id=NO_BLOCK),
        replace(vote(1), kind=Kind.PROPOSE),
        replace(vote(1), signer=Account(b"s" * 20)),
    ):
        assert show(*good, bad) == show(*good)
    spoiled = replace(vote(4), signature=vote(3).signature)
    assert show(vote(0), spoiled, vote(4)) == show(*good)  # a later good one counts


def test_a_set_whose_votes_are_all_different_shows_no_more_than_fits() -> None:
    keys = [Key(keccak256(b"many", index.to_bytes(2, "big"))) for index in range(150)]
    rows = ValidatorSet(tuple((key.account, 1) for key in keys))

    def votes(spread: int) -> list[Vote]:
        found = []
        for index, key in enumerate(keys[:149]):
            view = 1 + index % spread
            signature = key.sign(DOMAIN.digest(Kind.NULLIFY, HEIGHT, view, NO_BLOCK))
            found.append(Vote(Kind.NULLIFY, HEIGHT, view, NO_BLOCK, 0, key.account, signature))
        return found

    assert 0 < len(make_attendance(HEIGHT, votes(4), rows, DOMAIN)) < MAX_ATTENDANCE_BYTES
    assert make_attendance(HEIGHT, votes(149), rows, DOMAIN) == b""


@pytest.mark.parametrize(
    ("payload", "error", "reason"),
    [
        (b"", InvalidEncoding, ""),
        (b"\xff" * 9, InvalidRemote, ""),
        (encode([2, []]), InvalidBlock, "version 1"),
        (encode([1]), InvalidBlock, "version 1"),
        (encode([1, 5]), InvalidBlock, "version 1"),
        (encode([1, [[1, 2]]]), InvalidEncoding, "fields"),
        (encode([1, []]), InvalidBlock, "a quorum's votes"),
        (encode([1, [group(Kind.FINALIZE, 0)]]), InvalidBlock, "a quorum's votes"),
        (encode([1, [group(Kind.FINALIZE, 0, 1, 2, 3, 4)]]), InvalidBlock, "somebody is missing"),
        (encode([1, [group(Kind.FINALIZE, 0, 4, height=8)]]), InvalidBlock, "height 8"),
        (encode([1, [group(Kind.FINALIZE, 0, 4), group(Kind.NOTARIZE, 4)]]), InvalidBlock, "shown twice"),
        (encode([1, [[*group(Kind.FINALIZE, 0, 4)[:5], bytes(130)]]]), InvalidSignature, ""),
    ],
)
def test_what_a_leader_may_not_show(payload: bytes, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason or None):
        RULE(payload, HEIGHT, ROWS)


def test_votes_of_another_chain_or_from_before_a_restart_show_nobody() -> None:
    payload = show(vote(0), vote(4))
    for other in (ChainDomain(8, b"g" * 32), ChainDomain(7, b"h" * 32), ChainDomain(7, b"g" * 32, ((8, b"r" * 32),))):
        with pytest.raises(InvalidSignature):
            AttendanceRule(other)(payload, HEIGHT, ROWS)
    assert AttendanceRule(ChainDomain(7, b"g" * 32, ((HEIGHT, b"r" * 32),)))(payload, HEIGHT, ROWS)


def test_each_height_is_signed_for_the_last_restart_below_it() -> None:
    domain = ChainDomain(7, b"g" * 32, ((3, b"r" * 32), (6, b"s" * 32)))
    networks = [b"g" * 32] * 3 + [b"r" * 32] * 3 + [b"s" * 32] * 2
    for height, network in enumerate(networks, start=1):
        plain = ChainDomain(7, network).digest(Kind.FINALIZE, height, 1, BLOCK)
        assert domain.digest(Kind.FINALIZE, height, 1, BLOCK) == plain
    with pytest.raises(Misuse):
        ChainDomain(7, b"g" * 32, ((3, b"short"),))


def test_a_listener_that_becomes_a_validator_signs_from_the_next_height_on() -> None:
    core = Core(CoreConfig(), DOMAIN, KEYS[0].account, None)
    core.handle(StartHeight(1, SET))
    assert not core.is_voting
    core.use_signer(Signer(KEYS[0], DOMAIN))
    core.handle(StartHeight(2, SET))
    assert core.is_voting


def test_the_domain_of_a_network_orders_its_restarts_by_height() -> None:
    genesis = Genesis("test", 7, 1, DEMO, (), (GenesisValidator(KEYS[0].account, 1, b"v" * 32),), ())
    restarts = [Restart(bytes(genesis.hash), height, BLOCK, (KEYS[0].account,)) for height in (6, 3)]
    domain = make_domain(genesis, restarts)
    assert domain.restarts == ((3, restarts[1].hash), (6, restarts[0].hash))
    with pytest.raises(Misuse):
        domain.digest(Kind.FINALIZE, 1, 1, b"short")
