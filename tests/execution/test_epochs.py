"""Epochs in blocks: prescribed calls, the set of each height, attendance that every peer checks, an agreed restart."""

from dataclasses import replace

import pytest
from execution_support import ETHER, KEYS, USERS, VALIDATORS, Chain, make_genesis, with_parameters

from flock_chain import ecvrf
from flock_chain.consensus.attendance import AttendanceRule, make_attendance
from flock_chain.consensus.certificates import make_certificate
from flock_chain.consensus.digest import ChainDomain, make_domain
from flock_chain.consensus.types import NO_BLOCK, Kind, Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import encode_certificate
from flock_chain.crypto import Key
from flock_chain.errors import InvalidBlock, InvalidRemote, Misuse
from flock_chain.execution import schedule, validators
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.blocks import Block
from flock_chain.execution.executor import Executor
from flock_chain.execution.records import certificate_key
from flock_chain.execution.transactions import SYSTEM_TYPE, decode_system_transaction
from flock_chain.restart import Restart
from flock_contracts import loader
from flock_contracts.addresses import STAKE
from flock_peers.ledger.builder import Builder

CONTRACT = loader.load("Stake")
NEWCOMER = USERS[0]
SHORT = {"epoch_blocks": 3, "epoch_seconds": 0, "open_staking": 1, "absence_limit": 3}
SELECTORS = {CONTRACT.encode(name, *args)[:4]: name for name, args in (
    ("end_epoch", ()), ("on_attendance", (0, b"")), ("on_restart", (bytes(32), []))
)}  # fmt: skip


def new_chain(restarts: tuple[Restart, ...] = (), **changes: int) -> Chain:
    chain = Chain(make_genesis(with_parameters(**(SHORT | changes))))
    rule = AttendanceRule(make_domain(chain.genesis, restarts))
    chain.executor = Executor(chain.genesis, chain.store, attendance=rule, restarts=restarts)
    return chain


def calls(candidate: Candidate) -> list[str]:
    """The staking contract's calls in a block."""
    found = [decode_system_transaction(raw) for raw in candidate.block.transactions if raw[0] == SYSTEM_TYPE]
    return [SELECTORS[call.data[:4]] for call in found if call.to == STAKE]


def members(chain: Chain) -> set[bytes]:
    return {row.account for row in chain.executor.served().rows}


def bond(chain: Chain, key: Key, amount: int = 32 * ETHER) -> object:
    data = CONTRACT.encode("bond_validator", ecvrf.public_key(ecvrf.derive_seed(key)))
    return chain.call(key, STAKE, data, value=amount)


def votes(chain: Chain, keys: list[Key], kind: Kind = Kind.FINALIZE, domain: ChainDomain | None = None) -> list[Vote]:
    """For the head."""
    head, domain = chain.executor.head, domain or make_domain(chain.genesis)
    block_id = NO_BLOCK if kind == Kind.NULLIFY else head.id
    digest = domain.digest(kind, head.height, 1, block_id)
    return [Vote(kind, head.height, 1, block_id, 0, key.account, key.sign(digest)) for key in keys]


def before(chain: Chain) -> ValidatorSet:
    return ValidatorSet(tuple((row.account, row.weight) for row in chain.executor.served().before))


def show(chain: Chain, found: list[Vote]) -> bytes:
    return make_attendance(chain.executor.head.height, found, before(chain), make_domain(chain.genesis))


def build(chain: Chain, attendance: bytes) -> Candidate:
    head = chain.executor.head
    return chain.executor.execute(
        head, (), timestamp=head.timestamp + 1, proposer=VALIDATORS[0].account, vrf_proof=chain.prove(VALIDATORS[0]),
        strict=True, attendance=attendance,
    )  # fmt: skip


def test_a_validator_that_bonds_proposes_from_its_epoch_on_and_one_that_left_does_not():
    chain, leaver = new_chain(), VALIDATORS[3]
    chain.add(bond(chain, NEWCOMER), chain.call(leaver, STAKE, CONTRACT.encode("unbond", 32 * ETHER)))
    seen = []
    for _ in range(14):
        seen.append((NEWCOMER.account in members(chain), leaver.account in members(chain)))
        for key, is_in in zip((NEWCOMER, leaver), seen[-1], strict=True):
            if is_in:
                chain.build(proposer=key)
            else:
                with pytest.raises(InvalidBlock, match="is no validator"):
                    chain.build(proposer=key)
        built = chain.build()
        assert chain.executor.verify(built.block.encoded) == built
        chain.commit(built)
        fresh = Executor(chain.genesis, chain.store).served()
        assert fresh == chain.executor.served()  # what is carried from block to block is what the state says
    # One change an epoch: who leaves comes first.
    assert seen == [(False, True)] * 5 + [(False, False)] * 3 + [(True, False)] * 6


def test_the_end_of_an_epoch_is_prescribed_and_neither_left_out_nor_added():
    chain = new_chain(absence_limit=50)
    ends = []
    for _ in range(7):
        built = chain.build()
        ends.append("end_epoch" in calls(built))
        raws, header = built.block.transactions, built.block.header
        if ends[-1]:
            changed = tuple(raw for raw in raws if decode_system_transaction(raw).to != STAKE)
        else:
            call = decode_system_transaction(raws[0])
            changed = (*raws, replace(call, index=1, to=STAKE, data=CONTRACT.encode("end_epoch")).raw)
        with pytest.raises(InvalidBlock, match="transactions"):
            chain.executor.verify(Block(header, changed).encoded)
        chain.commit(built)
    assert ends == [False, False, True, False, False, True, False]


def test_a_header_commits_to_the_set_that_its_parent_was_certified_by():
    chain = new_chain()
    chain.add(bond(chain, NEWCOMER))
    commitments = {}
    while NEWCOMER.account not in members(chain):
        chain.add()
    old_rows, new_rows = chain.executor.served().before, chain.executor.served().rows
    for rows in (old_rows, new_rows):
        parent = chain.executor.head.id
        header = chain.add().block.header
        commitments[header.height] = header.certificate_commitment
        assert header.certificate_commitment == schedule.compute_certificate_commitment(parent, rows)
    assert len(old_rows) == 4 and len(new_rows) == 5 and len(set(commitments.values())) == 2


def test_votes_are_shown_only_where_somebody_is_missing_and_then_a_quorum():
    chain = new_chain()
    chain.add()
    assert show(chain, votes(chain, VALIDATORS)) == b""
    assert show(chain, votes(chain, VALIDATORS[:2])) == b""  # nobody can say who was absent
    assert show(chain, votes(chain, VALIDATORS[:3])) != b""
    stranger, forged = votes(chain, [NEWCOMER])[0], replace(votes(chain, VALIDATORS[3:])[0], signature=bytes(65))
    assert show(chain, [*votes(chain, VALIDATORS[:3]), stranger, forged]) == show(chain, votes(chain, VALIDATORS[:3]))
    mixed = votes(chain, VALIDATORS[:1], Kind.NULLIFY) + votes(chain, VALIDATORS[1:3], Kind.NOTARIZE)
    built = build(chain, show(chain, mixed))
    assert chain.executor.verify(built.block.encoded) == built and calls(built) == ["on_attendance"]


def test_whoever_is_absent_is_counted_jailed_and_leaves_with_the_snapshot():
    chain = new_chain(epoch_blocks=6)
    lost = VALIDATORS[3]
    chain.add()
    while lost.account in members(chain):
        built = build(chain, show(chain, votes(chain, VALIDATORS[:3])))
        assert all(row.status for row in built.receipts)
        chain.commit(chain.executor.verify(built.block.encoded))
    assert chain.executor.head.height == 12
    assert chain.executor.view("Stake", "jailed_until", lost.account) > 0
    assert chain.executor.view("Stake", "jailed_until", VALIDATORS[0].account) == 0
    # The set that is asked about is the parent's: in the first block of the new epoch that is the old one.
    assert len(chain.executor.served().before) == 4
    chain.commit(build(chain, show(chain, votes(chain, VALIDATORS[:3]))))
    assert show(chain, votes(chain, VALIDATORS[:3])) == b""  # nobody is missing any more


def test_attendance_that_is_not_true_makes_the_block_invalid():
    chain = new_chain()
    chain.add()
    good = votes(chain, VALIDATORS[:3])
    payload = show(chain, good)
    other_domain = make_domain(make_genesis())
    rows = before(chain)
    false_signature = make_attendance(1, votes(chain, VALIDATORS[:3], domain=other_domain), rows, other_domain)
    chain_height = make_attendance(
        2,
        [replace(vote, height=2, signature=sign_at(chain, vote, 2)) for vote in good],
        rows,
        make_domain(chain.genesis),
    )
    for bad, reason in (
        (false_signature, "signed by another account"),
        (chain_height, "votes of height 2"),
        (payload[:-1], "bytes|msgpack|codec|decode"),
        (b"\x92\x02\x90", "version 1"),
        (b"\x92\x01\x90", "a quorum's votes"),
    ):
        with pytest.raises(InvalidRemote, match=reason):
            build(chain, bad)
    built = build(chain, payload)
    beacon, attendance = built.block.transactions
    call = decode_system_transaction(attendance)
    lie = replace(call, data=CONTRACT.encode("on_attendance", 1, payload))
    for raws in ((beacon, lie.raw), (beacon, attendance, replace(call, index=2).raw)):
        with pytest.raises(InvalidBlock, match="transactions"):
            chain.executor.verify(Block(built.block.header, raws).encoded)


def sign_at(chain: Chain, vote: Vote, height: int) -> bytes:
    key = next(key for key in KEYS if key.account == vote.signer)
    return key.sign(make_domain(chain.genesis).digest(vote.kind, height, vote.view, vote.block_id))


def test_an_agreed_restart_gives_the_next_height_to_who_is_left():
    chain = new_chain()
    for _ in range(4):
        chain.add()
    halted = chain.executor.head
    keep = tuple(sorted(key.account for key in VALIDATORS[:2]))
    restart = Restart(chain.genesis.hash, halted.height, halted.id, keep)
    with_document = Executor(chain.genesis, chain.store, restarts=(restart,))
    without = chain.executor
    chain.executor = with_document
    assert members(chain) == set(keep)
    with pytest.raises(InvalidBlock, match="is no validator"):
        chain.build(proposer=VALIDATORS[2])
    built = chain.build()
    assert calls(built) == ["on_restart"] and all(row.status for row in built.receipts)
    with pytest.raises(InvalidBlock, match="transactions"):
        without.verify(built.block.encoded)
    with pytest.raises(InvalidBlock, match="after a restart shows none"):
        build(chain, b"votes")
    chain.commit(with_document.verify(built.block.encoded))
    for _ in range(9):
        chain.add()
        assert members(chain) == set(keep)
        assert Executor(chain.genesis, chain.store, restarts=(restart,)).served() == chain.executor.served()
    assert chain.executor.view("Stake", "jailed_until", VALIDATORS[3].account) > 0


def test_who_installs_a_restart_below_the_halt_follows_it_once_that_block_is_there():
    chain, behind = new_chain(), new_chain()
    blocks = [chain.add().block.encoded for _ in range(4)]
    halted, keep = chain.executor.head, tuple(sorted(key.account for key in VALIDATORS[:2]))
    restart = Restart(chain.genesis.hash, halted.height, halted.id, keep)
    chain.executor = Executor(chain.genesis, chain.store, restarts=(restart,))
    behind.executor = Executor(behind.genesis, behind.store, restarts=(restart,))
    for encoded in (*blocks, chain.add().block.encoded):
        behind.commit(behind.executor.verify(encoded))
        assert (members(behind) == set(keep)) == (behind.executor.head.height >= halted.height)


def test_where_a_restarts_call_fails_every_peer_reads_the_set_that_the_state_still_has(monkeypatch: pytest.MonkeyPatch):
    chain = new_chain()
    chain.add()
    halted, keep = chain.executor.head, tuple(sorted(key.account for key in VALIDATORS[:2]))
    restart = Restart(chain.genesis.hash, halted.height, halted.id, keep)
    chain.executor = Executor(chain.genesis, chain.store, restarts=(restart,))
    monkeypatch.setattr(validators, "RESTART_GAS", 50_000)
    built = chain.add()
    assert calls(built) == ["on_restart"] and not built.receipts[1].status
    started_anew = Executor(chain.genesis, chain.store, restarts=(restart,))
    assert chain.executor.served() == started_anew.served()


def test_a_restart_document_for_another_block_or_other_people_is_refused():
    chain = new_chain()
    chain.add()
    head = chain.executor.head
    other_block = Restart(chain.genesis.hash, 1, bytes(32), (VALIDATORS[0].account,))
    with pytest.raises(Misuse, match="block 1 is 0000"):
        Executor(chain.genesis, chain.store, restarts=(other_block,)).served()
    stranger = Restart(chain.genesis.hash, 1, head.id, (NEWCOMER.account,))
    with pytest.raises(Misuse, match="is not in the set at height 1"):
        Executor(chain.genesis, chain.store, restarts=(stranger,)).served()


def test_a_failing_end_of_epoch_gets_a_failed_receipt_and_the_old_set_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(validators, "END_EPOCH_GAS", 50_000)
    chain = new_chain()
    for _ in range(5):
        built = chain.build()
        chain.commit(chain.executor.verify(built.block.encoded))
    assert calls(built) == ["end_epoch"] and not built.receipts[1].status
    assert len(members(chain)) == 4 and chain.executor.served().epoch == 0


def test_a_leader_that_heard_no_votes_of_the_head_names_nobody_absent():
    """The certificate alone lacks whoever was slower than the first quorum."""
    chain = new_chain()
    chain.add()
    made = votes(chain, VALIDATORS[:3])
    head, rows = chain.executor.head, before(chain)
    signatures = {vote.signer: vote.signature for vote in made}
    certificate = make_certificate(Kind.FINALIZE, head.height, 1, head.id, signatures, rows)
    chain.store.commit({certificate_key(head.height): encode_certificate(certificate)})
    domain = make_domain(chain.genesis)
    builder = Builder(chain.executor, chain.store, domain, VALIDATORS[0], lambda: head.timestamp + 1)
    assert calls(builder.build(head.height + 1, (), ())) == []
    assert calls(builder.build(head.height + 1, (), made[:1])) == ["on_attendance"]
