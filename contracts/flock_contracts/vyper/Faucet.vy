# pragma version 0.4.3
# pragma evm-version cancun
"""
@title The faucet of a test network
@notice A newcomer has no gas, so any peer may ask for it. Whoever asks has a deposit locked for a while, and has at
        most one such deposit: that limits the rate. An account is served once.

        Who is served can pay a deposit and serve the next, so accounts that serve each other would double with each
        call and empty the faucet within a lock. Therefore no more than a sixteenth of what is there goes out in one
        lock's time, whoever asks: the faucet gets slower. Once a sixteenth is less than a newcomer's part, one newcomer
        is served in each such time, until it is empty. Whoever asks first takes what there is.
@dev Placed at genesis without a constructor. No faucet coin buys consensus weight (see Stake).
"""

import IBeacon

SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
BEACON: constant(address) = 0x0000000000000000000000000000000000f10c01

PART: constant(uint256) = 16  # of what is there goes out in one window of a lock's length, or one drip

event Dripped:
    newcomer: indexed(address)
    submitter: indexed(address)
    amount: uint256
    left: uint256  # wei that newcomers may get in the present window

event Refunded:
    submitter: indexed(address)
    amount: uint256

initialized: public(bool)
amount: public(uint256)
deposit: public(uint256)
deposit_lock: public(uint256)
deposits: public(uint256)  # wei owed to submitters
dripped: public(HashMap[address, bool])
release_at: public(HashMap[address, uint256])  # chain time; 0 = no live deposit
window: uint256  # the number of the lock's length of chain time in which the last drip was
left_in_window: uint256  # wei


@external
@payable
def initialize(amount: uint256, deposit: uint256, lock: uint256):
    """
    @notice Called once at genesis by the system, with the faucet's funds as value.
    @param amount What a newcomer gets, in wei.
    @param deposit What a submitter has locked, in wei.
    @param lock For how long, in seconds of chain time.
    """
    assert msg.sender == SYSTEM, "faucet: only the system may call"
    assert not self.initialized, "faucet: already initialized"
    assert lock > 0, "faucet: a lock of no time limits nothing"
    self.initialized = True
    self.amount = amount
    self.deposit = deposit
    self.deposit_lock = lock
    self.window = max_value(uint256)  # none yet


@external
@payable
@nonreentrant
def drip(newcomer: address):
    """
    @notice Send the amount to a newcomer; the value is locked as the submitter's deposit.
    """
    assert self.initialized, "faucet: not initialized"
    assert newcomer != empty(address), "faucet: no newcomer is named"
    assert msg.value == self.deposit, "faucet: the value is not the deposit"
    assert self.release_at[msg.sender] == 0, "faucet: the submitter has a live deposit"
    assert not self.dripped[newcomer], "faucet: the newcomer was served before"
    assert self.balance - msg.value >= self.deposits + self.amount, "faucet: empty"
    now: uint256 = staticcall IBeacon(BEACON).chain_time()
    left: uint256 = self._left(now, self.balance - msg.value)
    assert left >= self.amount, "faucet: this window's coins are given; later there are more"
    self.window = now // self.deposit_lock
    self.left_in_window = left - self.amount
    self.dripped[newcomer] = True
    self.deposits += msg.value
    self.release_at[msg.sender] = now + self.deposit_lock
    log Dripped(newcomer=newcomer, submitter=msg.sender, amount=self.amount, left=self.left_in_window)
    # No gas beyond the stipend: the newcomer can take the coins, and nothing else.
    raw_call(newcomer, b"", value=self.amount, gas=0)


@view
@internal
def _left(now: uint256, held: uint256) -> uint256:
    if now // self.deposit_lock == self.window:
        return self.left_in_window
    return max((held - self.deposits) // PART, self.amount)


@view
@external
def left() -> uint256:
    """
    @notice Wei that newcomers may get in the present window.
    """
    return min(self._left(staticcall IBeacon(BEACON).chain_time(), self.balance), self.balance - self.deposits)


@external
@nonreentrant
def refund():
    """
    @notice Return the submitter's deposit when its lock is over.
    """
    release_at: uint256 = self.release_at[msg.sender]
    assert release_at > 0, "faucet: no live deposit"
    assert staticcall IBeacon(BEACON).chain_time() >= release_at, "faucet: the deposit is still locked"
    self.release_at[msg.sender] = 0
    self.deposits -= self.deposit
    log Refunded(submitter=msg.sender, amount=self.deposit)
    raw_call(msg.sender, b"", value=self.deposit)
