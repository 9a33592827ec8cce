"""Single rules of the core, one height, by hand: what it answers, refuses, ignores, and takes from its logs."""

from dataclasses import replace
from typing import Any

import pytest
from consensus_support import DOMAIN, CheapKey, block_id, certify, cheap_recover, cheap_set, sign_vote

from flock_chain.codec import encode
from flock_chain.consensus import certificates
from flock_chain.consensus.certificates import SignatureChecker
from flock_chain.consensus.core import (
    MAX_ANSWERED_STRANGERS,
    MAX_BUFFERED_BYTES_PER_SENDER,
    MAX_BUFFERED_PER_SENDER,
    Core,
)
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.events import (
    BlockBuilt,
    BlockChecked,
    Broadcast,
    BuildBlock,
    CatchUp,
    Decide,
    Effect,
    PersistSigned,
    Received,
    Send,
    SetTimer,
    SignerRefused,
    StartHeight,
    Timer,
    TimerFired,
    Work,
)
from flock_chain.consensus.records import RecordType, decode_signer_record, decode_wal_record
from flock_chain.consensus.rules import CoreConfig
from flock_chain.consensus.signer import MarkRecord, Signer, SignRecord
from flock_chain.consensus.types import Kind, Proposal, Status, Vote
from flock_chain.consensus.wire import decode_certificate, encode_message, message_bytes
from flock_chain.errors import InvalidBlock, InvalidEncoding, Misuse, Refused

KEYS, MEMBERS = cheap_set(4)
X, Y = block_id("x"), block_id("y")
FIRST_LEADER = 2  # of height 1, view 1; then 3, 0, 1


def _core(index: int = 0, signer: Signer | None = None, **start: Any) -> Core:
    signer = signer or Signer(KEYS[index], DOMAIN)
    core = Core(CoreConfig(), DOMAIN, KEYS[index].account, signer, recover_signer=cheap_recover)
    core.handle(StartHeight(1, MEMBERS, **start))
    return core


def _votes(effects: list[Effect]) -> list[tuple[Kind, int]]:
    sent = [effect.message for effect in effects if isinstance(effect, Broadcast)]
    return [(message.kind, message.view) for message in sent if isinstance(message, Vote)]


def test_nothing_is_handled_before_a_height_is_started() -> None:
    core = Core(CoreConfig(), DOMAIN, KEYS[0].account, None)
    assert (core.height, core.view, core.is_idle, core.is_voting) == (0, 0, False, False)
    with pytest.raises(Misuse, match="StartHeight"):
        core.handle(Work(1))


def test_a_height_that_is_over_is_not_started_again() -> None:
    core = _core()
    core.handle(StartHeight(2, MEMBERS))
    assert core.handle(StartHeight(1, MEMBERS)) == [] and core.height == 2


def test_a_restart_takes_only_the_certificates_of_its_own_height() -> None:
    old = certify(KEYS[1:], MEMBERS, Kind.NOTARIZE, 9, 5, X)
    final = certify(KEYS[1:], MEMBERS, Kind.FINALIZE, 1, 5, X)
    assert _core(certificates=(old, final)).view == 1
    assert _core(certificates=(certify(KEYS[1:], MEMBERS, Kind.NULLIFY, 1, 1), old)).view == 2


def test_a_certificate_that_a_proposal_carries_twice_counts_once() -> None:
    nullified = certify(KEYS[1:], MEMBERS, Kind.NULLIFY, 1, 1)
    notarized = certify(KEYS[1:], MEMBERS, Kind.NOTARIZE, 1, 1, X)
    core = _core()
    core.handle(Received(KEYS[3].account, Proposal(sign_vote(KEYS[3], Kind.PROPOSE, 1, 2, Y), (nullified, nullified))))
    assert core.view == 2
    again = Proposal(sign_vote(KEYS[3], Kind.PROPOSE, 1, 2, X, 1), (notarized, notarized))
    effects = core.handle(Received(KEYS[3].account, again))
    assert core.view == 2 and Decide not in map(type, effects)


def test_a_certificate_inside_a_proposal_may_decide_the_height() -> None:
    core = _core(3)
    for key in KEYS[1:3]:
        core.handle(Received(key.account, sign_vote(key, Kind.FINALIZE, 1, 1, X)))
    inside = (certify(KEYS[1:], MEMBERS, Kind.NOTARIZE, 1, 1, X), certify(KEYS[1:], MEMBERS, Kind.NULLIFY, 1, 2))
    proposal = Proposal(sign_vote(KEYS[0], Kind.PROPOSE, 1, 3, X, 1), inside)
    effects = core.handle(Received(KEYS[0].account, proposal))
    assert [effect.block_id for effect in effects if isinstance(effect, Decide)] == [X]
    assert _votes(effects) == [(Kind.FINALIZE, 1)]
    assert core.handle(TimerFired(Timer.VIEW, 1, 1)) == []


def test_a_block_that_was_built_without_being_asked_for_is_proposed_to_nobody() -> None:
    core = _core()  # leads view 3
    core.handle(Received(KEYS[1].account, certify(KEYS[1:], MEMBERS, Kind.NULLIFY, 1, 2)))
    assert core.view == 3
    assert core.handle(BlockBuilt(1, 3, X)) == []  # view 1 has no certificate yet
    effects = core.handle(Received(KEYS[1].account, certify(KEYS[1:], MEMBERS, Kind.NULLIFY, 1, 1)))
    assert any(isinstance(effect, BuildBlock) for effect in effects)
    assert core.handle(BlockBuilt(1, 2, X)) == []
    assert _votes(core.handle(BlockBuilt(1, 3, X))) == [(Kind.NOTARIZE, 3)]


def test_a_signer_that_refuses_ends_the_votes_of_a_height() -> None:
    signer = Signer(KEYS[FIRST_LEADER], DOMAIN)
    core = _core(FIRST_LEADER, signer)
    core.handle(Work(1))
    signer.sign(Kind.PROPOSE, 1, 1, Y)  # behind the core's back
    effects = core.handle(BlockBuilt(1, 1, X))
    assert [type(effect) for effect in effects] == [SignerRefused] and not core.is_voting
    assert _votes(core.handle(TimerFired(Timer.VIEW, 1, 1))) == []
    core.handle(StartHeight(2, MEMBERS))
    assert core.is_voting


def test_a_statement_that_is_signed_already_is_sent_without_another_record() -> None:
    signer = Signer(KEYS[0], DOMAIN)
    core = _core(0, signer)
    core.handle(Work(1))
    signer.sign(Kind.NULLIFY, 1, 1)
    effects = core.handle(TimerFired(Timer.VIEW, 1, 1))
    assert _votes(effects) == [(Kind.NULLIFY, 1)]
    assert not any(isinstance(effect, PersistSigned) for effect in effects)


def test_a_signer_that_was_stopped_signs_nothing_more() -> None:
    signer = Signer(KEYS[0], DOMAIN)
    core = _core(0, signer)
    core.handle(Work(1))
    assert not signer.stopped
    signer.stop("a copy of this home runs elsewhere")
    assert _votes(core.handle(TimerFired(Timer.VIEW, 1, 1))) == [] and not core.is_voting
    with pytest.raises(Refused, match="a copy"):
        signer.sign(Kind.NULLIFY, 1, 1)


def test_the_timer_of_a_late_view_stops_growing_at_its_cap() -> None:
    core = _core()
    effects = core.handle(Received(KEYS[1].account, certify(KEYS[1:], MEMBERS, Kind.NULLIFY, 1, 40)))
    delays = [effect.delay_ms for effect in effects if isinstance(effect, SetTimer) and effect.timer == Timer.VIEW]
    assert core.view == 41 and delays == [CoreConfig().view_timeout_cap_ms]


def test_a_leader_that_lacks_a_certificate_asks_for_it_once_a_view() -> None:
    core = _core()  # leads view 3
    effects = core.handle(Received(KEYS[1].account, certify(KEYS[1:], MEMBERS, Kind.NULLIFY, 1, 2)))
    assert [effect.message for effect in effects if isinstance(effect, Broadcast)][-1] == Status(1, 1)
    assert not any(isinstance(effect, Broadcast) for effect in core.handle(TimerFired(Timer.PROPOSE, 1, 3)))


def test_a_verdict_about_another_height_is_ignored() -> None:
    core = _core()
    proposal = Proposal(sign_vote(KEYS[FIRST_LEADER], Kind.PROPOSE, 1, 1, X), ())
    core.handle(Received(KEYS[FIRST_LEADER].account, proposal))
    assert core.handle(BlockChecked(2, X, True)) == []
    assert _votes(core.handle(BlockChecked(1, X, True))) == [(Kind.NOTARIZE, 1)]


def test_a_provably_invalid_block_is_complained_about_at_once() -> None:
    core = _core()
    proposal = Proposal(sign_vote(KEYS[FIRST_LEADER], Kind.PROPOSE, 1, 1, X), ())
    core.handle(Received(KEYS[FIRST_LEADER].account, proposal))
    assert _votes(core.handle(BlockChecked(1, X, False))) == [(Kind.NULLIFY, 1)]


# ---------------------------------------------------------------- sets change: strangers and listeners


def test_who_validated_an_earlier_height_and_is_behind_is_told_so_once_between_retries() -> None:
    core = _core()
    core.handle(StartHeight(2, MEMBERS))
    left = CheapKey(9).account
    assert core.handle(Received(left, Status(1, 1))) == [Send(left, Status(2, 1))]
    assert core.handle(Received(left, Status(1, 1))) == []
    core.handle(TimerFired(Timer.RETRY, 2, 1))
    assert core.handle(Received(left, Status(1, 1))) == [Send(left, Status(2, 1))]


def test_only_so_many_strangers_are_answered() -> None:
    core = _core()
    core.handle(StartHeight(2, MEMBERS))
    answered = [core.handle(Received(CheapKey(index).account, Status(1, 1))) for index in range(10, 110)]
    assert sum(map(len, answered)) == MAX_ANSWERED_STRANGERS


def test_a_stranger_is_an_offender_only_where_it_votes_at_this_height() -> None:
    core, stranger = _core(), CheapKey(9)
    for message in (sign_vote(stranger, Kind.NULLIFY, 2, 1), Status(1, 1)):
        assert core.handle(Received(stranger.account, message)) == []
    assert core.handle(Received(CheapKey(8).account, Status(5, 1))) == [CatchUp(CheapKey(8).account, 5)]
    with pytest.raises(InvalidBlock, match="no validator"):
        core.handle(Received(stranger.account, sign_vote(stranger, Kind.NULLIFY, 1, 1)))


def test_a_listener_says_nothing_to_the_validators() -> None:
    core = Core(CoreConfig(), DOMAIN, CheapKey(9).account, None, recover_signer=cheap_recover)
    core.handle(StartHeight(1, MEMBERS))
    effects = core.handle(TimerFired(Timer.RETRY, 1, 1))
    assert not any(isinstance(effect, Broadcast) for effect in effects)
    assert core.handle(Received(KEYS[1].account, Status(4, 1))) == [CatchUp(KEYS[1].account, 4)]


# ---------------------------------------------------------------- limits and bad bytes


def test_the_memory_of_checked_signatures_starts_anew_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "MAX_CHECKED_SIGNATURES", 2)
    checker = SignatureChecker(DOMAIN, cheap_recover)
    for view in range(1, 6):
        checker.check(sign_vote(KEYS[0], Kind.NOTARIZE, 1, view, X))
        assert len(checker._checked) <= 2


def test_a_domain_and_a_vote_of_the_wrong_size_are_misuse() -> None:
    with pytest.raises(Misuse, match="genesis hash"):
        ChainDomain(7, b"short")
    with pytest.raises(Misuse, match="block id"):
        DOMAIN.digest(Kind.NOTARIZE, 1, 1, b"short")


def test_a_signer_file_may_repeat_itself_and_hold_what_is_below_its_mark() -> None:
    record = SignRecord(Kind.NOTARIZE, 3, 1, X, 0)
    old = SignRecord(Kind.NOTARIZE, 2, 1, Y, 0)
    signer = Signer(KEYS[0], DOMAIN, [MarkRecord(3), record, record, old, MarkRecord(1)])
    assert signer.mark == 3 and signer.records() == [MarkRecord(3), record]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (RecordType.SIGNED, [9, 1, 1, X, 0]),
        (RecordType.SIGNED, [1, 1, 1, X]),
        (RecordType.MARK, [b"1"]),
        (RecordType.MARK, [True]),
        (RecordType.BODY, [1]),
        (77, []),
    ],
)
def test_a_record_that_the_signer_never_writes_is_refused(kind: int, fields: list[object]) -> None:
    with pytest.raises(InvalidEncoding):
        decode_signer_record(kind, encode(fields))


@pytest.mark.parametrize(
    ("kind", "fields"), [(RecordType.SIGNED, []), (RecordType.BODY, [1, X]), (RecordType.BODY, [1, X, 5])]
)
def test_a_record_that_the_write_ahead_log_never_holds_is_refused(kind: int, fields: list[object]) -> None:
    with pytest.raises(InvalidEncoding):
        decode_wal_record(kind, encode(fields))


@pytest.mark.parametrize(
    "fields",
    [
        [1, 1, 1, X, b"", b""],
        [1, 1, 1, X, bytes(20), b""],
        [1, 1, 1, X, b"\x01", b"half a signature"],
        [1, 1, 1, X, b"\x01", 5],
        [1, 1, 1, X, 5, b""],
    ],
)
def test_bytes_that_are_no_certificate_are_refused(fields: list[object]) -> None:
    with pytest.raises(InvalidEncoding):
        decode_certificate(encode(fields))


def test_of_the_next_height_little_is_kept_of_a_sender_in_number_and_in_bytes() -> None:
    """Sixteen proposals full of certificates once were 16 MiB of each misbehaving validator."""
    core, sender = _core(), KEYS[1]
    permit = certify(KEYS[:1], MEMBERS, Kind.NULLIFY, 2, 1)
    permit = replace(permit, signatures=permit.signatures * 100)
    large = Proposal(sign_vote(sender, Kind.PROPOSE, 2, 50, X), (permit,) * 4)
    for _ in range(20):
        core.handle(Received(sender.account, large))
    kept = core._future[sender.account]
    assert 0 < sum(len(encode_message(message)) for message in kept) <= MAX_BUFFERED_BYTES_PER_SENDER
    assert len(kept) == MAX_BUFFERED_BYTES_PER_SENDER // message_bytes(large)
    for _ in range(20):
        core.handle(Received(KEYS[2].account, sign_vote(KEYS[2], Kind.NOTARIZE, 2, 1, X)))
    assert len(core._future[KEYS[2].account]) == MAX_BUFFERED_PER_SENDER


@pytest.mark.parametrize("signers", [1, 4])
def test_the_size_of_a_message_is_known_without_encoding_it(signers: int) -> None:
    permit = certify(KEYS[:signers], MEMBERS, Kind.NULLIFY, 1 << 50, 1 << 30)
    vote = sign_vote(KEYS[0], Kind.PROPOSE, 1 << 50, (1 << 30) + 3, X, 1 << 30)
    for message in (permit, vote, Proposal(vote, ()), Proposal(vote, (permit, permit)), Status(1 << 50, 1 << 30)):
        wire = replace(message, kind=Kind.NOTARIZE, parent_view=0) if isinstance(message, Vote) else message
        assert len(encode_message(wire)) <= message_bytes(message) <= len(encode_message(wire)) + 400
