"""Convictions: which pairs of signed statements cost a stake, what they cost, and what convicts nobody."""

from itertools import permutations

import pytest
from contracts_support import CHAIN_ID, ETHER, GENESIS_HASH, RICH
from hypothesis import given, settings
from hypothesis import strategies as st
from stake_support import (
    DOMAIN,
    FOUNDERS,
    REPORTER,
    make_statement,
    make_statements,
    next_epoch,
    staking_world,
    weights,
)

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import NO_BLOCK, Kind, Vote
from flock_chain.errors import Refused
from flock_contracts.addresses import STAKE, SYSTEM

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
A, B, C, D = FOUNDERS
ONE, TWO = b"\1" * 32, b"\2" * 32
STAKE_OF_EACH = 40 * ETHER


def statement(kind, block_id=ONE, *, key=D, height=1, view=1, parent_view=0, domain=None):
    extra = {} if domain is None else {"domain": domain}
    return make_statement(key, kind, height, view, block_id, parent_view, **extra)


def report(world, a, b, epoch=0):
    return world.act(REPORTER.account, "Stake", "report", a, b, epoch)


def pay_out(world, key):
    """Blocks until the convicted key's rest can be had, and what it gets."""
    while not (outcome := world.act(key.account, "Stake", "withdraw")).ok:
        assert outcome.reason in ("stake: it still secures a set", "stake: still unbonding")
        world.next_block(10, pokes=False)
    return world.balance(key.account) - RICH


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (statement(Kind.NOTARIZE), statement(Kind.NOTARIZE, TWO)),
        (statement(Kind.FINALIZE), statement(Kind.FINALIZE, TWO)),
        (statement(Kind.PROPOSE), statement(Kind.PROPOSE, TWO)),
        (statement(Kind.PROPOSE, view=3, parent_view=1), statement(Kind.PROPOSE, view=3, parent_view=2)),
        (statement(Kind.NULLIFY, NO_BLOCK), statement(Kind.FINALIZE)),
        (statement(Kind.FINALIZE), statement(Kind.NULLIFY, NO_BLOCK)),
    ],
)
def test_two_statements_of_which_an_honest_validator_signs_one_convict(a, b):
    world = staking_world()
    assert report(world, a, b).ok
    assert world.view("Stake", "tombstoned_at", D.account) > 0
    assert world.view("Stake", "unbonding_of", D.account) == STAKE_OF_EACH
    next_epoch(world, 2)
    assert D.account not in weights(world)
    for pair in ((a, b), (b, a)):
        assert report(world, *pair).reason == "stake: convicted before"


@pytest.mark.parametrize("other", [statement(Kind.NOTARIZE, TWO), statement(Kind.NOTARIZE)], ids=["guilty", "honest"])
def test_no_pair_with_any_bit_flipped_convicts(other):
    """Of every byte of either statement, in either order; also where the flipped one is to pass for a second one."""
    world = staking_world()
    one = statement(Kind.NOTARIZE)
    for changed, kept in ((one, other), (other, one)):
        for field, value in changed.items():
            for byte in range(32):
                flipped = value_with(value, byte, 1 << byte % 8)
                for pair in ((changed | {field: flipped}, kept), (kept, changed | {field: flipped})):
                    assert not report(world, *pair).ok, (field, byte)
    assert world.view("Stake", "tombstoned_at", D.account) == 0 == world.view("Stake", "offence_count")
    assert report(world, one, statement(Kind.NOTARIZE, TWO)).ok


def value_with(value, byte, bits):
    if isinstance(value, bytes):
        return bytes(old ^ bits * (index == byte) for index, old in enumerate(value))
    return value ^ bits << 8 * byte


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from(Kind), st.integers(1, 2), st.integers(1, 2), st.sampled_from((ONE, TWO)), st.integers(0, 1)
        ),
        max_size=24,
    )
)
def test_nothing_that_an_honest_signer_ever_gives_out_convicts_it(asked):
    """Whatever it is asked to sign, in whatever order; each two of what it signed, in either order."""
    world = staking_world()
    world.next_block(1, pokes=False)
    signer, signed = Signer(D, DOMAIN), []
    for kind, height, view, block_id, parent_view in asked:
        try:
            vote, _ = signer.sign(
                kind,
                height,
                view,
                NO_BLOCK if kind == Kind.NULLIFY else block_id,
                parent_view if kind == Kind.PROPOSE else 0,
            )
        except Refused:
            continue
        signed.append(as_statement(vote))
    for pair in permutations(signed, 2):
        assert not report(world, *pair).ok, pair
    assert world.view("Stake", "stake_of", D.account) == STAKE_OF_EACH


def as_statement(vote: Vote):
    r, s = (int.from_bytes(vote.signature[at : at + 32], "big") for at in (0, 32))
    return {
        "kind": int(vote.kind), "height": vote.height, "view": vote.view, "block_id": vote.block_id,
        "parent_view": vote.parent_view, "v": vote.signature[64] + 27, "r": r, "s": s,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (statement(Kind.NOTARIZE), statement(Kind.NOTARIZE), "the same statement twice"),
        (statement(Kind.NULLIFY, NO_BLOCK), statement(Kind.NULLIFY, ONE), "the same statement twice"),
        (statement(Kind.NOTARIZE), statement(Kind.FINALIZE, TWO), "may both be signed"),
        (statement(Kind.NOTARIZE), statement(Kind.NULLIFY, NO_BLOCK), "may both be signed"),
        (statement(Kind.PROPOSE), statement(Kind.NOTARIZE, TWO), "may both be signed"),
        (statement(Kind.NOTARIZE), statement(Kind.NOTARIZE, TWO, view=2), "two views"),
        (statement(Kind.NOTARIZE), statement(Kind.NOTARIZE, TWO, height=2), "two views"),
        (statement(Kind.NOTARIZE), statement(Kind.NOTARIZE, TWO, key=C), "two signers"),
        (statement(Kind.NOTARIZE) | {"kind": 5}, statement(Kind.NOTARIZE, TWO) | {"kind": 5}, "no such kind"),
        (statement(Kind.NOTARIZE, key=REPORTER), statement(Kind.NOTARIZE, TWO, key=REPORTER), "has no stake"),
        (statement(Kind.NOTARIZE, height=9), statement(Kind.NOTARIZE, TWO, height=9), "a height to come"),
        (statement(Kind.NOTARIZE, height=0), statement(Kind.NOTARIZE, TWO, height=0), "not of this epoch"),
    ],
)
def test_what_convicts_nobody_is_refused_by_name(a, b, reason):
    world = staking_world()
    outcome = report(world, a, b)
    assert not outcome.ok and outcome.reason.startswith("stake: ") and reason in outcome.reason
    assert world.view("Stake", "stake_of", D.account) == STAKE_OF_EACH


def test_a_signature_counts_in_its_one_canonical_form_and_for_this_chain_alone():
    world = staking_world()
    a, b = make_statements(D, 1)
    high = b | {"s": ORDER - b["s"], "v": 55 - b["v"]}
    assert report(world, a, high).reason == "stake: not the canonical signature"
    assert report(world, a, b | {"v": b["v"] - 27}).reason == "stake: v is neither 27 nor 28"
    assert report(world, a, b | {"r": 0}).reason == "stake: not the canonical signature"
    assert report(world, a, b | {"r": 1}).reason in ("stake: two signers", "stake: nobody's signature")
    for other in (ChainDomain(CHAIN_ID + 1, GENESIS_HASH), ChainDomain(CHAIN_ID, bytes(32))):
        pair = [statement(Kind.NOTARIZE, block_id, domain=other) for block_id in (ONE, TWO)]
        outcome = report(world, *pair)
        assert outcome.reason in ("stake: two signers", "stake: nobody's signature")


def test_votes_after_a_restart_are_judged_by_its_document_and_those_before_by_genesis():
    world = staking_world()
    world.next_block(1, pokes=False)
    world.must(SYSTEM, "Stake", "on_restart", b"d" * 32, sorted(key.account for key in FOUNDERS))
    restarted = ChainDomain(CHAIN_ID, GENESIS_HASH, ((1, b"d" * 32),))
    old = make_statements(D, 2)
    assert report(world, *old).reason in ("stake: two signers", "stake: nobody's signature")
    new = [statement(Kind.NOTARIZE, block_id, height=2, domain=restarted) for block_id in (ONE, TWO)]
    assert report(world, *new).ok
    assert report(world, *make_statements(C, 1)).ok


def test_a_lone_offender_loses_three_times_its_share_and_a_twentieth_of_that_is_the_reporters():
    world = staking_world((1_000 * ETHER, 40 * ETHER, 40 * ETHER, 40 * ETHER))
    assert report(world, *make_statements(D, 1)).ok
    share = 40 * 10**18 // 1_120
    slashed = 40 * ETHER * (3 * share) // 10**18
    assert pay_out(world, D) == 40 * ETHER - slashed
    world.must(REPORTER.account, "Stake", "claim_reward")
    assert world.balance(REPORTER.account) == RICH + slashed // 20
    assert world.view("Stake", "burned") == slashed - slashed // 20 == world.balance(STAKE) - 1_080 * ETHER
    assert world.act(REPORTER.account, "Stake", "claim_reward").reason == "stake: no reward"


def test_no_conviction_costs_less_than_a_twentieth():
    world = staking_world((10_000 * ETHER, 40 * ETHER, 40 * ETHER, 40 * ETHER))
    assert report(world, *make_statements(D, 1)).ok
    assert pay_out(world, D) == 38 * ETHER


@pytest.mark.parametrize("order", [(C, D), (D, C)])
def test_convicted_together_costs_more_whichever_evidence_comes_first(order):
    world = staking_world((1_000 * ETHER, 40 * ETHER, 40 * ETHER, 40 * ETHER))
    for key in order:
        assert report(world, *make_statements(key, 1), epoch=0).ok
        world.next_block(40, pokes=False)  # the second is convicted later, and costs the first as much
    share = 40 * 10**18 // 1_120
    for key in (C, D):
        assert pay_out(world, key) == 40 * ETHER - 40 * ETHER * (6 * share) // 10**18


def test_reporting_oneself_loses_and_the_convicted_cannot_come_back():
    world = staking_world()
    world.must(D.account, "Stake", "report", *make_statements(D, 1), 0)
    outcome = world.act(D.account, "Stake", "bond_validator", b"k" * 32, value=ETHER)
    assert outcome.reason == "stake: tombstoned"
    refused = world.act(D.account, "Stake", "settle", D.account, D.account)
    assert refused.reason == "stake: it still secures a set"
    got = pay_out(world, D)
    world.must(D.account, "Stake", "claim_reward")
    assert world.balance(D.account) - RICH < got + STAKE_OF_EACH // 20 < STAKE_OF_EACH
    assert world.act(D.account, "Stake", "settle", D.account, D.account).reason == "stake: settled before"


def test_a_stake_on_its_way_out_is_still_slashed_and_evidence_ages():
    world = staking_world(unbonding_delay=90, evidence_window=60)
    world.must(D.account, "Stake", "unbond", STAKE_OF_EACH)
    next_epoch(world, 2)
    assert D.account not in weights(world)
    assert report(world, *make_statements(D, 1), epoch=1).reason == "stake: the height is not of this epoch"
    assert report(world, *make_statements(D, 1), epoch=0).ok
    for _ in range(4):
        world.next_block(20, pokes=False)
    assert report(world, *make_statements(C, 1), epoch=0).reason == "stake: the evidence is too old"
    assert world.act(REPORTER.account, "Stake", "settle", C.account, C.account).reason == "stake: not convicted"
    while not world.act(REPORTER.account, "Stake", "settle", D.account, D.account).ok:
        world.next_block(20, pokes=False)
    world.must(REPORTER.account, "Stake", "claim_reward")
    assert 0 < pay_out(world, D) < STAKE_OF_EACH


def test_convicted_with_more_than_a_third_of_the_weight_loses_everything_and_no_more():
    world = staking_world()
    for key in (C, D):
        assert report(world, *make_statements(key, 1)).ok
    assert pay_out(world, C) == pay_out(world, D) == 0
    assert world.view("Stake", "burned") == 76 * ETHER
