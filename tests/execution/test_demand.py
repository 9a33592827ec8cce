"""When a block is wanted: the rule of each cause, with own time."""

from collections.abc import Callable, Collection, Set
from dataclasses import asdict, replace

import pytest
import trio
import trio.testing
from execution_support import ETHER, KEYS, Chain

from flock_chain.crypto import Account
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.blocks import Header
from flock_chain.execution.transactions import SystemTransaction
from flock_chain.parameters import DEFAULT
from flock_contracts.addresses import BOARD
from flock_contracts.loader import load
from flock_peers.ledger.demand import NOTHING_DUE, Awaited, Moment, compute_delay, estimate_chain_time, is_all_here
from flock_peers.ledger.pacing import Pacing
from flock_peers.tasks import Terms

FindSenders = Callable[[Collection[Account]], Set[Account]]
STAGE = (1, 2)  # round and phase
QUIET = Moment(timestamp=1_000, chain_time=900, wakeup=NOTHING_DUE, failed_pokes=0)


def delay(
    moment: Moment = QUIET,
    *,
    now: float = 1_000.0,
    waited: float = 100.0,
    has_executable: bool = False,
    have_all_voted: bool = False,
    is_complete: bool = False,
) -> float:
    return compute_delay(
        moment,
        DEFAULT,
        now=now,
        waited=waited,
        has_executable=has_executable,
        have_all_voted=have_all_voted,
        is_complete=is_complete,
    )


def test_an_idle_chain_wants_its_heartbeat() -> None:
    assert delay() == 60.0
    assert delay(now=1_045.5) == 14.5
    assert delay(now=2_000.0) == 0.0


def test_a_transaction_wants_a_block_now_but_not_before_the_interval() -> None:
    assert delay(has_executable=True) == 0.0
    assert delay(has_executable=True, waited=0.25) == 0.75
    assert delay(now=2_000.0, waited=0.25) == 0.75


def test_something_due_wants_a_block_now() -> None:
    assert delay(replace(QUIET, wakeup=0)) == 0.0
    assert delay(replace(QUIET, wakeup=0), waited=0.4) == 0.6


def test_a_block_that_ends_a_phase_in_which_everybody_has_acted_comes_early() -> None:
    due = replace(QUIET, wakeup=0, is_due=True)
    for has_executable in (False, True):
        assert delay(due, waited=0.0, has_executable=has_executable, have_all_voted=True) == 0.25
        assert delay(due, waited=0.0, has_executable=has_executable) == 1.0
    assert delay(due, waited=0.25, have_all_voted=True) == 0.0
    assert delay(QUIET, waited=0.0, has_executable=True, have_all_voted=True) == 1.0
    failing = replace(due, failed_pokes=1)  # not again and again for one that cannot be ended
    assert delay(failing, waited=0.0, has_executable=True, have_all_voted=True) == 1.0


def test_a_block_with_all_that_a_phase_waits_for_comes_early() -> None:
    assert delay(waited=0.0, has_executable=True, have_all_voted=True, is_complete=True) == 0.25
    assert delay(waited=0.0, has_executable=True, is_complete=True) == 1.0
    assert delay(waited=0.0, have_all_voted=True, is_complete=True) == 60.0  # nothing to put into one
    failing = replace(QUIET, failed_pokes=1)
    assert delay(failing, waited=0.0, has_executable=True, have_all_voted=True, is_complete=True) == 1.0


def test_all_that_is_awaited_is_here_once_enough_of_those_who_may_act_have_sent_something() -> None:
    alice, bob, carol = (key.account for key in KEYS[:3])
    both, either, nobody = (
        Awaited(STAGE, frozenset({alice, bob}), 2),
        Awaited(STAGE, frozenset({alice, bob}), 1),
        Awaited(STAGE, frozenset(), 0),
    )
    for senders, expected in [
        (set(), (False, False, True)),
        ({carol}, (False, False, True)),
        ({alice, carol}, (False, True, True)),
        ({alice, bob}, (True, True, True)),
    ]:
        assert tuple(is_all_here(awaited, senders) for awaited in (both, either, nobody)) == expected


def test_a_deadline_in_chain_time_is_met_on_the_clock() -> None:
    assert delay(replace(QUIET, wakeup=910)) == 10.0
    assert delay(replace(QUIET, wakeup=910), now=1_009.5) == 0.5
    assert delay(replace(QUIET, wakeup=899)) == 0.0


def test_a_deadline_beyond_the_gap_waits_for_the_heartbeat_first() -> None:
    assert delay(replace(QUIET, wakeup=900 + 91)) == 60.0
    assert delay(replace(QUIET, wakeup=900 + 10_000)) == 60.0


def test_pokes_that_fail_again_and_again_are_tried_less_and_less() -> None:
    due = replace(QUIET, wakeup=0)
    assert [delay(replace(due, failed_pokes=n), waited=1.0) for n in (0, 1, 2, 3)] == [0.0, 0.0, 2.0, 6.0]
    assert delay(replace(due, failed_pokes=1_000), waited=0.0) == 60.0


def test_a_standstill_counts_as_the_gap() -> None:
    assert estimate_chain_time(QUIET, 1_030.0, 90) == 930.0
    assert estimate_chain_time(QUIET, 99_999.0, 90) == 990.0
    assert estimate_chain_time(QUIET, 500.0, 90) == 900.0


def final(chain: Chain, *pokes: bool) -> Candidate:
    """A block in which the pokes went so."""
    candidate = chain.build()
    call = SystemTransaction(chain_id=1, height=1, index=1, to=BOARD, gas=1, data=b"")
    receipts = tuple(replace(candidate.receipts[0], status=status) for status in pokes)
    block = replace(candidate.block, transactions=(*candidate.block.transactions, *(call.raw for _ in pokes)))
    return replace(candidate, block=block, receipts=(*candidate.receipts, *receipts))


def test_heights_whose_pokes_all_fail_are_counted_until_one_works() -> None:
    async def main() -> None:
        chain = Chain()
        pacing = Pacing(chain.executor, None, chain.genesis.parameters)  # type: ignore[arg-type] # nothing is read
        for pokes, counted in [((), 0), ((False,), 1), ((False, False), 2), ((False, True), 0), ((False,), 1), ((), 0)]:
            pacing.on_commit(final(chain, *pokes))
            assert pacing._failed_pokes == counted

    trio.run(main)


class Halted(Pacing):
    """With a moment of its own; nothing is read."""

    def __init__(self, chain: Chain, moment: Moment, find_senders: FindSenders = lambda _: frozenset()) -> None:
        super().__init__(chain.executor, None, chain.genesis.parameters, find_senders)  # type: ignore[arg-type]
        self._read_moment = moment

    async def _get_moment(self) -> Moment:
        return self._read_moment


@pytest.mark.parametrize(
    ("is_due", "votes_after", "expected"), [(True, 0.0, 0.25), (True, 0.6, 0.6), (True, 9.0, 1.0), (False, 0.0, 1.0)]
)
def test_a_block_that_may_come_early_waits_for_the_votes_of_the_slow(
    is_due: bool, votes_after: float, expected: float
) -> None:
    async def main() -> None:
        chain = Chain()
        pacing = Halted(chain, replace(QUIET, wakeup=0, is_due=is_due))
        pacing.parameters = replace(chain.genesis.parameters, block_interval=1_000)
        began = pacing.on_commit(final(chain))
        await pacing.wait_interval(lambda: trio.current_time() - began >= votes_after)
        assert trio.current_time() - began == pytest.approx(expected, abs=0.051)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("leads", "votes_after", "expected"), [(True, 0.0, 0.25), (True, 0.6, 0.6), (True, 9.0, 1.0), (False, 0.0, 1.0)]
)
def test_only_the_leader_wants_a_block_early_so_that_nobodys_timer_runs_for_one_that_waits(
    leads: bool, votes_after: float, expected: float
) -> None:
    async def main() -> None:
        chain = Chain()
        pacing = Halted(chain, replace(QUIET, wakeup=0, is_due=True))
        pacing.parameters = replace(chain.genesis.parameters, block_interval=1_000)
        began = pacing.on_commit(final(chain))

        def have_all_voted() -> bool:
            return trio.current_time() - began >= votes_after

        while (wait := await pacing.work(1_000.0, lambda: False, have_all_voted if leads else None)) > 0:
            await trio.sleep(wait)
        assert trio.current_time() - began == pytest.approx(expected, abs=0.051)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("sent_after", "voted_after", "expected"), [(0.0, 0.0, 0.25), (0.5, 0.0, 0.5), (0.0, 0.6, 0.6), (9.0, 0.0, 1.0)]
)
def test_the_leader_s_block_comes_as_soon_as_everybody_awaited_has_sent_something_and_everybody_has_voted(
    sent_after: float, voted_after: float, expected: float
) -> None:
    async def main() -> None:
        chain, (alice, bob) = Chain(), (key.account for key in KEYS[:2])

        def find_senders(among: Collection[Account]) -> set[Account]:
            return set(among) & ({alice, bob} if trio.current_time() - began >= sent_after else {alice})

        pacing = Halted(chain, QUIET, find_senders)
        pacing.parameters = replace(chain.genesis.parameters, block_interval=1_000)
        began = pacing.on_commit(final(chain))
        pacing.expect(1, Awaited(STAGE, frozenset({alice, bob}), 2))
        await pacing.wait_interval(lambda: trio.current_time() - began >= voted_after)
        assert trio.current_time() - began == pytest.approx(expected, abs=0.051)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_what_a_phase_waits_for_is_forgotten_with_the_next_block_and_told_to_whoever_waits() -> None:
    async def main() -> None:
        chain = Chain()
        pacing = Halted(chain, replace(QUIET, wakeup=0))
        pacing.parameters = replace(chain.genesis.parameters, block_interval=1_000)
        pacing.on_commit(final(chain))
        assert await pacing.work(1_000.0, lambda: False, lambda: True) == pytest.approx(1.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pacing.wait_work)
            await trio.testing.wait_all_tasks_blocked()
            pacing.expect(1, Awaited(STAGE, frozenset(), 0))  # a draw's seed
        assert 0 < await pacing.work(1_000.0, lambda: False, lambda: True) <= 0.25
        pacing.on_commit(final(chain))
        assert await pacing.work(1_000.0, lambda: False, lambda: True) == pytest.approx(1.0)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_who_is_awaited_and_sends_something_else_hurries_one_block_and_no_more() -> None:
    """Its transactions for the board may all be refused there: at a wei each it would set the pace of the chain."""

    async def main() -> None:
        chain, (alice, bob) = Chain(), (key.account for key in KEYS[:2])
        pacing = Halted(chain, QUIET, frozenset)
        pacing.parameters = replace(chain.genesis.parameters, block_interval=1_000)

        async def measure(stage: tuple[int, int], *accounts: Account, enough: int = 1) -> float:
            began = pacing.on_commit(final(chain))
            pacing.expect(1, Awaited(stage, frozenset(accounts), enough))
            await pacing.wait_interval(lambda: True)
            return round(trio.current_time() - began, 2)

        assert await measure((1, 2), alice, bob) == 0.25
        assert await measure((1, 2), alice, bob) == 1.0
        assert await measure((1, 2), bob) == 0.25  # somebody has acted
        assert await measure((1, 2), bob) == 1.0
        assert await measure((1, 4), bob) == 0.25  # another phase
        for _ in range(3):  # a draw waits for blocks alone
            assert await measure((2, 1), enough=0) == 0.25

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_no_two_early_blocks_follow_each_other() -> None:
    """Many tasks could have a phase end in each."""

    async def main() -> None:
        chain = Chain()
        pacing = Pacing(chain.executor, Always(chain.executor.head), chain.genesis.parameters)  # type: ignore[arg-type]
        assert (await pacing._get_moment()).is_due
        pacing.on_commit(final(chain, True))
        assert not (await pacing._get_moment()).is_due
        pacing.on_commit(final(chain))
        assert (await pacing._get_moment()).is_due

    trio.run(main)


class Always:
    """An EVM in which something is always due."""

    def __init__(self, head: Header) -> None:
        self._head = head

    async def run(self, _work: object) -> tuple[Header, int, int, bool]:
        return self._head, 900, 0, True


class Inline:
    """The EVM's thread, without one."""

    async def run(self, work: Callable[[], object]) -> object:
        return work()


def test_only_a_block_that_pokes_is_due_and_none_that_waits_for_a_seed() -> None:
    """By the contract itself: all have joined, then the draw's seed is two heights away."""
    chain = Chain()

    def look() -> tuple[bool, bool]:
        pacing = Pacing(chain.executor, Inline(), chain.genesis.parameters)  # type: ignore[arg-type]
        moment = trio.run(pacing._get_moment)
        return moment.wakeup == 0, moment.is_due

    assert look() == (False, False)
    open_task(chain)
    assert look() == (True, True)
    chain.add()  # ends the wait
    assert look() == (True, False)
    chain.add()
    assert look() == (True, False)
    chain.add()  # draws, for the seed is the mix of this very block
    assert look() == (False, False)


def open_task(chain: Chain) -> None:
    board, terms = load("TaskBoard"), asdict(Terms(min_bond=ETHER))
    opening = board.encode("open_task", b"d" * 32, b"a" * 32, terms)
    chain.add(chain.call(KEYS[7], BOARD, opening, value=2 * ETHER, gas=2_000_000))
    joining = board.encode("join_task", 1, b"domain".ljust(32))
    chain.add(*(chain.call(key, BOARD, joining, value=ETHER) for key in KEYS[:4]))
