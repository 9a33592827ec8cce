"""When a block is wanted: the rule of each cause, with own time."""

from dataclasses import replace

import trio
from execution_support import Chain

from flock_chain.execution.block_run import Candidate
from flock_chain.execution.transactions import SystemTransaction
from flock_chain.parameters import DEFAULT
from flock_contracts.addresses import BOARD
from flock_peers.ledger.demand import NOTHING_DUE, Moment, compute_delay, estimate_chain_time
from flock_peers.ledger.pacing import Pacing

QUIET = Moment(timestamp=1_000, chain_time=900, wakeup=NOTHING_DUE, failed_pokes=0)


def delay(
    moment: Moment = QUIET, *, now: float = 1_000.0, waited: float = 100.0, has_executable: bool = False
) -> float:
    return compute_delay(moment, DEFAULT, now=now, waited=waited, has_executable=has_executable)


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
