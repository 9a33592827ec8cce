"""Validator sets, digests, certificates, evidence and the bytes on the wire."""

from dataclasses import replace

import pytest
from consensus_support import DOMAIN, CheapKey, block_id, certify, cheap_recover, cheap_set, real_key, sign_vote
from execution_support import make_genesis
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.codec import decode, encode
from flock_chain.consensus.certificates import SignatureChecker, make_certificate, verify_certificate, verify_finality
from flock_chain.consensus.core import Core
from flock_chain.consensus.digest import DOMAIN as VOTE_DOMAIN
from flock_chain.consensus.digest import ChainDomain, make_domain
from flock_chain.consensus.events import Received, StartHeight, Work
from flock_chain.consensus.evidence import Tally, is_slashable
from flock_chain.consensus.records import BodyRecord, decode_wal_record, encode_wal_record
from flock_chain.consensus.rules import CoreConfig
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import NO_BLOCK, Certificate, Kind, Message, Proposal, Status, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate, decode_message, encode_certificate, encode_message
from flock_chain.crypto import Account, keccak256
from flock_chain.errors import InvalidBlock, InvalidEncoding, InvalidRemote, InvalidSignature, Misuse
from flock_chain.restart import Restart

KEYS, VALIDATORS = cheap_set(4)
X, Y = block_id("x"), block_id("y")


def test_the_digest_is_eight_words_of_abi_encoding() -> None:
    words = [VOTE_DOMAIN, (7).to_bytes(32, "big"), DOMAIN.genesis_hash]
    words += [number.to_bytes(32, "big") for number in (5, 3, 4)] + [X, (2).to_bytes(32, "big")]
    assert DOMAIN.digest(Kind.PROPOSE, 5, 3, X, 2) == keccak256(*words)
    assert sum(map(len, words)) == 256
    assert ChainDomain(8, DOMAIN.genesis_hash).digest(Kind.PROPOSE, 5, 3, X, 2) != keccak256(*words)


@pytest.mark.parametrize(
    ("n", "byzantine", "quorum"), [(1, 0, 1), (3, 0, 3), (4, 1, 3), (5, 1, 4), (6, 1, 5), (7, 2, 5)]
)
def test_a_quorum_is_all_but_a_third(n: int, byzantine: int, quorum: int) -> None:
    _, validators = cheap_set(n)
    assert (validators.max_byzantine, validators.quorum) == (byzantine, quorum)
    assert {validators.leader(9, view) for view in range(n)} == set(validators.accounts)


def test_a_quorum_counts_weight() -> None:
    keys, validators = cheap_set(4, [10, 1, 1, 1])
    assert validators.quorum == 9
    verify_certificate(certify(keys[:1], validators, Kind.NULLIFY, 1, 1), validators, DOMAIN, cheap_recover)
    with pytest.raises(InvalidBlock, match="quorum"):
        verify_certificate(certify(keys[1:], validators, Kind.NULLIFY, 1, 1), validators, DOMAIN, cheap_recover)


@pytest.mark.parametrize("rows", [(), ((KEYS[0].account, 0),), ((KEYS[0].account, 1),) * 2, ((Account(b"short"), 1),)])
def test_a_set_that_is_none_is_refused(rows: tuple[tuple[Account, int], ...]) -> None:
    with pytest.raises(Misuse):
        ValidatorSet(rows)


def test_a_certificate_of_real_signatures_is_verified() -> None:
    keys = [real_key(index) for index in range(4)]
    validators = ValidatorSet(tuple((key.account, 1) for key in keys))
    certificate = certify(keys[1:], validators, Kind.FINALIZE, 3, 1, X)
    verify_finality(certificate, height=3, block_id=X, validators=validators, domain=DOMAIN)
    for wrong in (dict(height=4, block_id=X), dict(height=3, block_id=Y)):
        with pytest.raises(InvalidBlock):
            verify_finality(certificate, validators=validators, domain=DOMAIN, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidSignature):
        verify_certificate(replace(certificate, view=2), validators, DOMAIN)
    with pytest.raises(InvalidSignature):
        verify_certificate(replace(certificate, signatures=certificate.signatures[::-1]), validators, DOMAIN)


@pytest.mark.parametrize(
    "change",
    [
        dict(bitmap=b"\x17"),
        dict(bitmap=b"\x07\x00"),
        dict(bitmap=b""),
        dict(bitmap=b"\x03"),
        dict(kind=Kind.PROPOSE),
        dict(kind=Kind.NULLIFY),
        dict(block_id=NO_BLOCK),
    ],
)
def test_a_misshapen_certificate_is_refused(change: dict[str, object]) -> None:
    certificate = certify(KEYS[:3], VALIDATORS, Kind.NOTARIZE, 1, 1, X)
    with pytest.raises(InvalidBlock):
        verify_certificate(replace(certificate, **change), VALIDATORS, DOMAIN, cheap_recover)  # type: ignore[arg-type]


def test_a_signature_is_recovered_once() -> None:
    calls: list[bytes] = []

    def recover(digest: bytes, signature: bytes) -> Account:
        calls.append(digest)
        return cheap_recover(digest, signature)

    checker = SignatureChecker(DOMAIN, recover)
    vote = sign_vote(KEYS[0], Kind.NOTARIZE, 1, 1, X)
    checker.check(vote)
    checker.check(vote)
    checker.check_certificate(certify(KEYS[:3], VALIDATORS, Kind.NOTARIZE, 1, 1, X), VALIDATORS)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("first", "second", "slashable"),
    [
        ((Kind.NOTARIZE, X), (Kind.NOTARIZE, Y), True),
        ((Kind.FINALIZE, X), (Kind.FINALIZE, Y), True),
        ((Kind.NULLIFY, NO_BLOCK), (Kind.FINALIZE, X), True),
        ((Kind.PROPOSE, X), (Kind.PROPOSE, Y), True),
        ((Kind.NOTARIZE, X), (Kind.FINALIZE, Y), False),
        ((Kind.NOTARIZE, X), (Kind.NULLIFY, NO_BLOCK), False),
        ((Kind.NOTARIZE, X), (Kind.NOTARIZE, X), False),
    ],
)
def test_what_convicts_and_what_does_not(
    first: tuple[Kind, bytes], second: tuple[Kind, bytes], slashable: bool
) -> None:
    one, two = (sign_vote(KEYS[0], kind, 1, 1, block) for kind, block in (first, second))
    assert is_slashable(one, two) == is_slashable(two, one) == slashable
    assert not is_slashable(one, replace(two, view=2))
    assert not is_slashable(one, replace(two, signer=KEYS[1].account))
    tally = Tally(VALIDATORS)
    assert tally.add(one) == (True, [])
    assert tally.add(two)[1] == ([(one, two)] if slashable else [])
    assert tally.add(two)[1] == []  # each pair once


def test_a_second_vote_of_one_signer_does_not_count() -> None:
    tally = Tally(VALIDATORS)
    for block in (X, X, Y):
        tally.add(sign_vote(KEYS[0], Kind.NOTARIZE, 1, 1, block))
    assert tally.weight(Kind.NOTARIZE, 1, X) == 1 and tally.weight(Kind.NOTARIZE, 1, Y) == 0


def _messages() -> list[tuple[Message, bytes]]:
    notarized = certify(KEYS[:3], VALIDATORS, Kind.NOTARIZE, 9, 1, X)
    nullified = certify(KEYS[1:], VALIDATORS, Kind.NULLIFY, 9, 2)
    return [
        (sign_vote(KEYS[0], Kind.NULLIFY, 9, 2), b""),
        (Proposal(sign_vote(KEYS[0], Kind.PROPOSE, 9, 3, X, 1), (notarized, nullified)), b"body"),
        (notarized, b""),
        (Status(9, 3), b""),
    ]


@pytest.mark.parametrize(("message", "body"), _messages())
def test_a_message_survives_the_wire(message: Message, body: bytes) -> None:
    assert decode_message(encode_message(message, body), KEYS[0].account) == (message, body)


def test_a_certificate_survives_its_own_bytes_and_the_log() -> None:
    certificate = certify(KEYS[:3], VALIDATORS, Kind.FINALIZE, 9, 1, X)
    assert decode_certificate(encode_certificate(certificate)) == certificate
    for record in (certificate, BodyRecord(4, X, b"body")):
        assert decode_wal_record(*encode_wal_record(record)) == record


@settings(max_examples=400, deadline=None, database=None)
@given(st.sampled_from(_messages()), st.data())
def test_a_changed_message_is_refused_or_another_message(message: tuple[Message, bytes], data: st.DataObject) -> None:
    payload = bytearray(encode_message(*message))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed, body = decode_message(bytes(payload), KEYS[0].account)
    except InvalidRemote:
        return
    assert encode_message(changed, body) == bytes(payload)


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.recursive(
        st.none() | st.integers(-(2**63), 2**63) | st.binary(max_size=70), lambda inner: st.lists(inner, max_size=8)
    )
)
def test_arbitrary_values_raise_only_what_a_remote_is_blamed_for(value: object) -> None:
    for prefix in ([], [1], [1, 1], [1, 2], [1, 3], [1, 4], [2]):
        try:
            decode_message(encode([*prefix, *(value if isinstance(value, list) else [value])]), KEYS[0].account)
        except InvalidEncoding:
            continue


def test_bounds_of_the_wire_are_refused() -> None:
    vote = sign_vote(KEYS[0], Kind.NOTARIZE, 9, 1, X)
    fields = decode(encode_message(vote))
    wrongs = [(0, 2), (0, True), (1, 5), (1, True), (2, 5), (2, True), (3, 0), (3, 1 << 53), (4, 0), (4, 1 << 31)]
    for position, wrong in [*wrongs, (5, b"x"), (6, b"x")]:
        changed = [*fields]
        changed[position] = wrong
        with pytest.raises(InvalidEncoding):
            decode_message(encode(changed), KEYS[0].account)
    with pytest.raises(InvalidEncoding, match="version 2, this peer speaks 1"):
        decode_message(encode([2, *fields[1:]]), KEYS[0].account)
    with pytest.raises(InvalidEncoding):
        decode_message(bytes(2 << 20), KEYS[0].account)


def _core(index: int = 0) -> Core:
    signer = Signer(KEYS[index], DOMAIN)
    core = Core(CoreConfig(), DOMAIN, KEYS[index].account, signer, recover_signer=cheap_recover)
    core.handle(StartHeight(1, VALIDATORS))
    return core


def _bad_messages() -> list[tuple[CheapKey, Message]]:
    vote = sign_vote(KEYS[1], Kind.NOTARIZE, 1, 1, X)
    leader = KEYS[2]  # of height 1, view 1
    proposal = Proposal(sign_vote(leader, Kind.PROPOSE, 1, 1, X), ())
    weak = make_certificate(Kind.NOTARIZE, 1, 1, X, {vote.signer: vote.signature}, VALIDATORS)
    return [
        (KEYS[2], vote),
        (CheapKey(9), sign_vote(CheapKey(9), Kind.NOTARIZE, 1, 1, X)),
        (KEYS[1], replace(vote, block_id=Y)),
        (KEYS[1], replace(vote, kind=Kind.PROPOSE)),
        (KEYS[1], sign_vote(KEYS[1], Kind.NULLIFY, 1, 1, X)),
        (KEYS[1], Proposal(sign_vote(KEYS[1], Kind.PROPOSE, 1, 1, X), ())),
        (leader, replace(proposal, certificates=(certify(KEYS[:3], VALIDATORS, Kind.NULLIFY, 1, 1),))),
        (leader, replace(proposal, vote=replace(proposal.vote, block_id=Y))),
        (KEYS[1], weak),
    ]


@pytest.mark.parametrize(("sender", "message"), _bad_messages())
def test_a_bad_message_raises_and_leaves_the_core_as_it_was(sender: CheapKey, message: Message) -> None:
    core = _core()
    with pytest.raises(InvalidRemote):
        core.handle(Received(sender.account, message))
    assert (core.height, core.view) == (1, 1)
    assert not any(isinstance(effect, Vote | Certificate) for effect in core.handle(Work(1)))


def test_a_core_without_a_signer_decides_but_signs_nothing() -> None:
    core = Core(CoreConfig(), DOMAIN, KEYS[0].account, None, recover_signer=cheap_recover)
    core.handle(StartHeight(1, VALIDATORS))
    assert not core.is_voting
    certificate = certify(KEYS[1:], VALIDATORS, Kind.FINALIZE, 1, 1, X)
    names = [type(effect).__name__ for effect in core.handle(Received(KEYS[1].account, certificate))]
    assert names == ["Decide"]


def test_votes_after_a_restart_document_are_for_that_document() -> None:
    genesis = make_genesis()
    restart = Restart(genesis.hash, 4, X, tuple(key.account for key in KEYS[:3]))
    before, after = make_domain(genesis), make_domain(genesis, [restart])
    assert before.digest(Kind.FINALIZE, 4, 1, X) == after.digest(Kind.FINALIZE, 4, 1, X)
    assert before.digest(Kind.FINALIZE, 5, 1, X) != after.digest(Kind.FINALIZE, 5, 1, X)
