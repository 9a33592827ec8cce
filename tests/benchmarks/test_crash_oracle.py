"""The judge of the crash campaign must be able to say no: each record here is broken in one way, and it is found."""

from pathlib import Path

import pytest
from consensus_support import DOMAIN, certify, real_key, sign_vote
from crash_oracle import Recoveries, SignerMemory, Statements, read_signer_log

from flock_chain.consensus.records import encode_signer_record
from flock_chain.consensus.signer import MarkRecord, SignerRecord, SignRecord
from flock_chain.consensus.types import NO_BLOCK, Kind, Message, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_message
from flock_chain.errors import InvalidSignature
from flock_peers.store.record_log import CorruptLog, encode_record

KEYS = [real_key(index) for index in range(4)]
LIAR, HONEST, ONE, OTHER = (key.account for key in KEYS)
SET = ValidatorSet(tuple((key.account, 1) for key in KEYS))
X, Y = b"\x01" * 32, b"\x02" * 32


def make_judge() -> Statements:
    return Statements(DOMAIN, SET)


def hear(judge: Statements, message: Message, *, listener: bytes = ONE, sender: bytes = LIAR) -> list[Vote]:
    return judge.hear(listener, sender, encode_message(message))  # type: ignore[arg-type]


def vote(kind: Kind, block: bytes = X, *, height: int = 5, view: int = 1, signer: int = 0) -> Vote:
    return sign_vote(KEYS[signer], kind, height, view, block)


def record_of(vote: Vote) -> SignRecord:
    return SignRecord(vote.kind, vote.height, vote.view, vote.block_id, vote.parent_view)


def write_log(path: Path, *rows: SignerRecord) -> bytes:
    data = b"".join(encode_record(*encode_signer_record(row)) for row in rows)
    path.write_bytes(data)
    return data


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (vote(Kind.NOTARIZE, X), vote(Kind.NOTARIZE, Y)),
        (vote(Kind.FINALIZE, X), vote(Kind.FINALIZE, Y)),
        (vote(Kind.FINALIZE, X), vote(Kind.NULLIFY, NO_BLOCK)),
        (vote(Kind.NULLIFY, NO_BLOCK), vote(Kind.FINALIZE, X)),
    ],
)
def test_two_statements_that_exclude_each_other_are_found_whoever_heard_them(first: Vote, second: Vote) -> None:
    judge = make_judge()
    hear(judge, first, listener=ONE)
    assert not judge.violations
    hear(judge, second, listener=OTHER)
    assert len(judge.violations) == 1 and LIAR.hex() in judge.violations[0]


def test_statements_that_may_stand_beside_each_other_are_no_violation() -> None:
    judge = make_judge()
    for row in (vote(Kind.NOTARIZE, X), vote(Kind.FINALIZE, Y), vote(Kind.NOTARIZE, Y, view=2), vote(Kind.NOTARIZE, X)):
        hear(judge, row)
    assert not judge.violations and judge.count == 3


def test_a_second_vote_is_found_inside_a_certificate_and_in_a_signers_file() -> None:
    judge = make_judge()
    hear(judge, vote(Kind.NOTARIZE, X))
    hear(judge, certify(KEYS[:3], SET, Kind.NOTARIZE, 5, 1, Y), sender=HONEST)
    assert len(judge.violations) == 1
    by_file = make_judge()
    hear(by_file, vote(Kind.NOTARIZE, X))
    records = frozenset({record_of(vote(Kind.NOTARIZE, X)), record_of(vote(Kind.NOTARIZE, Y))})
    by_file.check_memory(LIAR, SignerMemory(0, records))
    assert len(by_file.violations) == 1


def test_a_message_that_its_sender_did_not_sign_ends_the_campaign() -> None:
    with pytest.raises(InvalidSignature):
        hear(make_judge(), vote(Kind.NOTARIZE, signer=1), sender=LIAR)


def test_a_vote_that_was_heard_and_is_not_in_its_signers_file_is_found_below_newer_ones_too(tmp_path: Path) -> None:
    path = tmp_path / "signer.log"
    votes = [vote(Kind.NOTARIZE, height=height) for height in (5, 6, 7)]
    for lost in votes:
        judge = make_judge()
        for row in votes:
            hear(judge, row)
        write_log(path, *(record_of(row) for row in votes if row is not lost), MarkRecord(8))
        judge.check_memory(LIAR, read_signer_log(path))
        assert len(judge.violations) == 1 and f"height {lost.height}" in judge.violations[0]
        judge.check_memory(HONEST, SignerMemory(0, frozenset()))
        assert len(judge.violations) == 1, "nothing was heard of the other one"


def test_a_torn_or_a_missing_file_holds_only_what_is_whole_in_it(tmp_path: Path) -> None:
    path = tmp_path / "signer.log"
    data = write_log(path, record_of(vote(Kind.NOTARIZE)), record_of(vote(Kind.FINALIZE)))
    path.write_bytes(data[:-1])
    assert read_signer_log(path) == SignerMemory(0, frozenset({record_of(vote(Kind.NOTARIZE))}))
    judge = make_judge()
    hear(judge, vote(Kind.FINALIZE))
    judge.check_memory(LIAR, read_signer_log(path))
    judge.check_memory(LIAR, read_signer_log(tmp_path / "none"))
    assert len(judge.violations) == 2
    path.write_bytes(data[:12] + bytes([data[12] ^ 1]) + data[13:])
    with pytest.raises(CorruptLog):
        read_signer_log(path)


def test_what_a_file_lost_before_anybody_heard_it_is_no_violation() -> None:
    judge = make_judge()
    judge.check_memory(LIAR, SignerMemory(0, frozenset({record_of(vote(Kind.NOTARIZE))})))
    judge.check_memory(LIAR, SignerMemory(0, frozenset()))
    assert not judge.violations
    assert hear(judge, vote(Kind.NOTARIZE)) and not hear(judge, vote(Kind.NOTARIZE)), "it is new to whoever listens"
    judge.check_memory(LIAR, SignerMemory(0, frozenset()))
    assert len(judge.violations) == 1


def test_a_file_that_was_rewritten_is_asked_for_nothing_below_its_first_mark(tmp_path: Path) -> None:
    judge = make_judge()
    for height in (5, 6, 7):
        hear(judge, vote(Kind.NOTARIZE, height=height))
    write_log(tmp_path / "signer.log", MarkRecord(6), record_of(vote(Kind.NOTARIZE, height=7)))
    judge.check_memory(LIAR, read_signer_log(tmp_path / "signer.log"))
    assert len(judge.violations) == 1 and "height 6" in judge.violations[0]


def test_a_drill_that_takes_a_file_away_excuses_only_what_was_said_before() -> None:
    judge = make_judge()
    for height in (5, 6):
        hear(judge, vote(Kind.NOTARIZE, height=height))
    judge.excuse(LIAR, 6)
    judge.check_memory(LIAR, SignerMemory(0, frozenset()))
    assert len(judge.violations) == 1 and "height 6" in judge.violations[0]


def test_a_peer_whose_tape_is_empty_is_named() -> None:
    judge = make_judge()
    for listener in SET.accounts:
        for signer, key in enumerate(KEYS):
            if listener not in (OTHER, key.account):
                hear(judge, vote(Kind.NOTARIZE, signer=signer), listener=listener, sender=key.account)
    assert judge.unheard(SET.accounts) == [
        f"0x{OTHER.hex()} heard nothing of 0x{account.hex()}" for account in sorted({LIAR, HONEST, ONE})
    ]


def test_only_a_new_vote_of_its_own_at_the_running_height_ends_a_recovery() -> None:
    samples: list[float] = []
    waiting = Recoveries(samples)
    waiting.expect(LIAR, 10.0, 5)
    waiting.hear(vote(Kind.NOTARIZE), HONEST, 11.0)  # in a certificate, which somebody else sent
    waiting.hear(vote(Kind.NOTARIZE, height=4), LIAR, 12.0)
    waiting.hear(vote(Kind.NOTARIZE), LIAR, 9.0)  # before it was started
    waiting.hear(vote(Kind.NOTARIZE, signer=1), HONEST, 12.0)  # nobody waits for this one
    assert waiting and LIAR in waiting and not samples and LIAR.hex() in waiting.describe(13.0)
    waiting.hear(vote(Kind.NOTARIZE), LIAR, 13.0)
    assert not waiting and samples == [3.0]
