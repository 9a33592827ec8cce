# pragma version 0.4.3
"""
@title Evidence: two signed statements that convict their signer, and what that costs
@notice The slashable pairs are those of flock_chain.consensus.evidence: two different NOTARIZE, FINALIZE or PROPOSE of
        one height and view, or a NULLIFY and a FINALIZE. All that is bonded with the signer starts to unbond and its
        key is tombstoned. What it loses is known when the unbonding ends: a twentieth, or three times the share of the weight
        that was convicted less than one delay before or after it, so the order of the evidence does not matter. Coins
        that never weighed count for nothing in that share: who buys them cannot make others' offences dearer.

        Delegators lose the same share, all of it burned: the reporter's part comes from the signer's own stake alone,
        or a validator of little stake and large delegations would gain by reporting itself.
"""

import epochs
import exits
import rewards
import stakes

uses: stakes
uses: epochs
uses: exits
uses: rewards

DOMAIN: constant(bytes32) = keccak256(b"flock-p2p consensus vote 1")
NOTARIZE: constant(uint256) = 1
NULLIFY: constant(uint256) = 2
FINALIZE: constant(uint256) = 3
PROPOSE: constant(uint256) = 4
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168  # secp256k1
ONE: constant(uint256) = 10**18  # shares are fractions of it
LEAST_SLASH: constant(uint256) = 20  # a twentieth
REWARD: constant(uint256) = 20  # the reporter's part of what is slashed: a twentieth; reporting oneself must lose
MAX_RESTARTS: constant(uint256) = 16

struct Statement:
    kind: uint256
    height: uint256
    view: uint256
    block_id: bytes32
    parent_view: uint256
    v: uint256
    r: uint256
    s: uint256

struct Offence:
    at: uint256  # chain time of the report
    shares: uint256  # of this one and of all before it: parts of ONE of the weight of their sets

event Convicted:
    account: indexed(address)
    reporter: indexed(address)
    height: uint256
    shares: uint256  # convicted until now, with this one: parts of 10**18 of the weight of their sets

event Slashed:
    account: indexed(address)
    owner: indexed(address)
    amount: uint256
    reward: uint256

evidence_window: public(uint256)
genesis_hash: public(bytes32)
restarts: DynArray[uint256, MAX_RESTARTS]  # the last height of the old rules of each
restart_hashes: DynArray[bytes32, MAX_RESTARTS]
offence_count: public(uint256)
offences: HashMap[uint256, Offence]  # in the order of their times
reporter_of: public(HashMap[address, address])


@view
@internal
def _network(height: uint256) -> bytes32:
    """
    @notice What the votes of a height are signed for: the genesis document, or that of the last restart before it.
    """
    found: bytes32 = self.genesis_hash
    for index: uint256 in range(len(self.restarts), bound=MAX_RESTARTS):
        if self.restarts[index] < height:
            found = self.restart_hashes[index]
    return found


@view
@internal
def _signer(one: Statement) -> address:
    """
    @notice Whoever signed it; reverts for a signature in any but its one canonical form.
    """
    assert one.v == 27 or one.v == 28, "stake: v is neither 27 nor 28"
    assert one.s > 0 and one.s <= HALF_ORDER and one.r > 0, "stake: not the canonical signature"
    digest: bytes32 = keccak256(
        abi_encode(
            DOMAIN,
            chain.id,
            self._network(one.height),
            one.height,
            one.view,
            one.kind,
            one.block_id,
            one.parent_view,
        )
    )
    signer: address = ecrecover(digest, one.v, one.r, one.s)
    assert signer != empty(address), "stake: nobody's signature"
    return signer


@pure
@internal
def _check_pair(a: Statement, b: Statement):
    assert a.height == b.height and a.view == b.view, "stake: statements of two views"
    assert a.kind >= NOTARIZE and a.kind <= PROPOSE and b.kind >= NOTARIZE and b.kind <= PROPOSE, "stake: no such kind"
    if a.kind == b.kind:
        differ: bool = a.block_id != b.block_id or a.parent_view != b.parent_view
        assert differ and a.kind != NULLIFY, "stake: the same statement twice"
    else:
        opposite: bool = (a.kind == NULLIFY and b.kind == FINALIZE) or (a.kind == FINALIZE and b.kind == NULLIFY)
        assert opposite, "stake: these two may both be signed"


@internal
def _convict(reporter: address, a: Statement, b: Statement, epoch: uint256):
    """
    @param epoch Of the height, which must lie in it.
    """
    self._check_pair(a, b)
    signer: address = self._signer(a)
    assert signer == self._signer(b), "stake: two signers"
    now: uint256 = stakes._now()
    current: uint256 = epochs.epoch
    assert epoch <= current and a.height >= epochs.first_height_of[epoch], "stake: the height is not of this epoch"
    if epoch < current:
        assert a.height < epochs.first_height_of[epoch + 1], "stake: the height is not of this epoch"
        assert now <= epochs.ended_at[epoch] + self.evidence_window, "stake: the evidence is too old"
    assert a.height <= block.number, "stake: a height to come"
    assert stakes.tombstoned_at[signer] == 0, "stake: convicted before"
    stake: uint256 = stakes.staked_with[signer]
    at_risk: uint256 = stake + stakes.leaving_with[signer]
    assert at_risk > 0, "stake: the signer has no stake"
    weight: uint256 = min(stakes.peak_weight_of[signer], at_risk)
    assert weight > 0, "stake: the signer never had a seat"
    stakes.tombstoned_at[signer] = now
    stakes._take_leave(signer, stake)
    count: uint256 = self.offence_count
    shares: uint256 = weight * ONE // epochs.total_weight_of[epoch]
    if count > 0:
        shares += self.offences[count - 1].shares
    self.offences[count] = Offence(at=now, shares=shares)
    self.offence_count = count + 1
    self.reporter_of[signer] = reporter
    log Convicted(account=signer, reporter=reporter, height=a.height, shares=shares)


@view
@internal
def _convicted_share(at: uint256) -> uint256:
    """
    @notice The share of the weight that was convicted less than one delay before or after; complete a delay later.
    """
    delay: uint256 = stakes.unbonding_delay
    return self._shares_until(at + delay - 1) - self._shares_until(at - min(at, delay))


@view
@internal
def _shares_until(time: uint256) -> uint256:
    """
    @notice The shares of all offences up to a time, that time included, found by halving: however many there are.
    """
    low: uint256 = 0
    high: uint256 = self.offence_count
    for _: uint256 in range(256):
        if low == high:
            break
        middle: uint256 = (low + high) // 2
        if self.offences[middle].at <= time:
            low = middle + 1
        else:
            high = middle
    return self.offences[low - 1].shares if low > 0 else 0


@internal
def _settle(account: address, owner: address):
    """
    @notice Take the penalty from one bond, once, when its unbonding has ended. What was free before the conviction
            is out of reach.
    """
    bond: stakes.Bond = stakes.bonds[account][owner]
    assert not bond.is_settled, "stake: settled before"
    at: uint256 = stakes.tombstoned_at[account]
    release_at: uint256 = exits._released_from_conviction(account)
    assert release_at < max_value(uint256), "stake: it still secures a set"
    assert stakes._now() >= release_at, "stake: still unbonding"
    amount: uint256 = bond.stake + exits._held(account, bond)
    assert amount > 0, "stake: nothing to settle"
    rewards._accrue(account, owner)
    share: uint256 = min(ONE, max(ONE // LEAST_SLASH, 3 * self._convicted_share(at)))
    slashed: uint256 = (amount * share + ONE - 1) // ONE  # rounded against whoever takes the rest out
    reward: uint256 = slashed // REWARD if owner == account else 0
    stakes.bonds[account][owner].is_settled = True
    stakes.bonds[account][owner].stake = 0
    stakes.bonds[account][owner].leaving = bond.stake + bond.leaving - slashed
    stakes._take_out(account, slashed)
    stakes.burned += slashed - reward
    rewards._grant(self.reporter_of[account], reward)
    log Slashed(account=account, owner=owner, amount=slashed, reward=reward)
