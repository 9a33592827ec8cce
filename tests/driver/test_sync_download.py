"""Catching up from several peers at once: the chain comes whole, and whoever spoils it is named and left."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import trio
from consensus_support import DOMAIN
from driver_support import on_mock_clock
from sync_support import (
    Boaster,
    FakeSyncPort,
    Newcomer,
    Provider,
    SilentAfter,
    Spoiler,
    SwitchingLedger,
    account,
    make_chain,
)

from flock_chain.errors import Refused, Unavailable
from flock_peers.driver.catch_up import FLUSH_BLOCKS, Committer, Follower
from flock_peers.driver.download import HEDGE_SECONDS, MAX_PROVIDERS, MAX_SLOTS
from flock_peers.driver.journal import Journal
from flock_peers.driver.offences import DROP_SECONDS
from flock_peers.driver.progress import SyncProgress
from flock_peers.driver.sync import MAX_RANGE_BLOCKS

BLOCKS = 150
CHAIN = make_chain(BLOCKS)


@on_mock_clock
async def test_three_peers_share_the_ranges_and_every_block_comes_once_and_in_order() -> None:
    newcomer = Newcomer(*(Provider(CHAIN) for _ in range(5)))
    await newcomer.catch_up()
    assert tuple(newcomer.ledger.chain) == CHAIN
    asked = [provider for provider in newcomer.providers if provider.ranges]
    assert len(asked) == MAX_PROVIDERS
    blocks = [request[2] for provider in asked for request in provider.asked if request[0] == "range"]
    assert sum(blocks) == BLOCKS and max(blocks) <= MAX_RANGE_BLOCKS


@on_mock_clock
async def test_what_is_adopted_is_made_durable_in_bundles_and_the_core_is_told_afterwards() -> None:
    newcomer = Newcomer(Provider(CHAIN))
    await newcomer.catch_up()
    assert newcomer.ledger.adopted == BLOCKS
    assert BLOCKS / FLUSH_BLOCKS <= newcomer.ledger.flushes <= BLOCKS / FLUSH_BLOCKS + 12
    assert newcomer.told[-1] == BLOCKS and newcomer.told == sorted(newcomer.told)


SINS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "blocks that another set made final": (
        lambda request, rows: list(make_chain(BLOCKS, switch=1)[request[1] - 1 : request[1] - 1 + len(rows)]),
        "signed by another account",
    ),
    "a body that is not the certificate's": (
        lambda _request, rows: [[make_chain(BLOCKS, extra=b"!")[0][0], rows[0][1]], *rows[1:]],
        "does not finalize this block",
    ),
    "a certificate of another height": (
        lambda _request, rows: [[block, rows[-1][1]] for block, _ in rows],
        "does not finalize this block",
    ),
    "a certificate with a flipped signature": (
        lambda _request, rows: [[block, certificate[:-9] + bytes([certificate[-9] ^ 1]) + certificate[-8:]]
                                for block, certificate in rows],
        "signature|signed by another account",
    ),
    "no certificate": (lambda _request, rows: [[block, b""] for block, _ in rows], "codec|certificate"),
    "rubbish": (lambda _request, _rows: [[b"no block", b"no certificate"]] * 64, "not a list of at most|codec"),
    "something else": (lambda _request, _rows: 7, "not a list"),
    "rows of three": (lambda _request, rows: [[*row, b""] for row in rows], "rows of a block and a certificate"),
    "more than was asked for": (lambda _request, rows: rows * 5, "not a list of at most"),
    "less than it has": (lambda _request, rows: rows[:1], "1 of .* blocks from .* although it says"),
    "nothing": (lambda _request, _rows: [], "0 of .* blocks from .* although it says"),
}  # fmt: skip


@pytest.mark.parametrize("sin", SINS)
@on_mock_clock
async def test_who_serves_wrong_data_is_dropped_by_name_and_the_chain_comes_from_the_others(
    sin: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, reason = SINS[sin]
    bad, good = Spoiler(CHAIN, spoil), Provider(CHAIN)
    newcomer = Newcomer(bad, good)
    await newcomer.catch_up()
    assert tuple(newcomer.ledger.chain) == CHAIN
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(lines) == 1 and f"0x{account(1).hex()} is dropped for {DROP_SECONDS:.0f} s" in lines[0]
    assert re.search(reason, lines[0])


@on_mock_clock
async def test_a_peer_that_finds_everybody_wrong_is_told_which_documents_it_may_lack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoil, _ = SINS["blocks that another set made final"]
    newcomer = Newcomer(Spoiler(CHAIN, spoil), Spoiler(CHAIN, spoil))
    await newcomer.catch_up()
    await newcomer.catch_up()
    assert caplog.text.count("restart apply") == 1
    caplog.clear()
    await Newcomer(Spoiler(CHAIN, spoil), Provider(CHAIN)).catch_up()
    assert "restart apply" not in caplog.text


@on_mock_clock
async def test_a_dropped_peer_is_asked_again_only_after_its_time() -> None:
    bad = Spoiler(CHAIN, SINS["nothing"][0])
    newcomer = Newcomer(bad)
    await newcomer.catch_up()
    before = len(bad.asked)
    bad.spoil = lambda _request, rows: rows  # type: ignore[method-assign]
    await newcomer.catch_up()
    assert len(bad.asked) == before and newcomer.ledger.height() == 0
    await trio.sleep(DROP_SECONDS + 1)
    await newcomer.catch_up()
    assert newcomer.ledger.height() == BLOCKS


@on_mock_clock
async def test_a_height_that_nobody_proves_is_given_up_and_its_claimant_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    newcomer = Newcomer(Boaster(CHAIN[:50]), Provider(CHAIN))
    took = await newcomer.catch_up(1 << 40)
    assert newcomer.ledger.height() == BLOCKS and took < 60
    assert "although it says that it has up to 1099511627776" in caplog.text


@on_mock_clock
async def test_a_peer_that_falls_silent_is_replaced_and_costs_seconds_only() -> None:
    silent = SilentAfter(CHAIN, 1)
    newcomer = Newcomer(silent, Provider(CHAIN), Provider(CHAIN))
    took = await newcomer.catch_up()
    assert newcomer.ledger.height() == BLOCKS and took < HEDGE_SECONDS + 5
    assert silent.ranges <= 3


@on_mock_clock
async def test_silent_peers_do_not_hide_an_honest_one_behind_them() -> None:
    newcomer = Newcomer(*(SilentAfter(CHAIN, 0) for _ in range(4)), Provider(CHAIN))
    await newcomer.catch_up()
    assert newcomer.ledger.height() == BLOCKS


@on_mock_clock
async def test_a_slow_peer_alone_is_still_followed() -> None:
    newcomer = Newcomer(Provider(CHAIN, seconds=4))
    await newcomer.catch_up()
    assert newcomer.ledger.height() == BLOCKS


@on_mock_clock
async def test_what_waits_for_its_turn_is_bounded() -> None:
    newcomer = Newcomer(*(Provider(make_chain(3 * BLOCKS)) for _ in range(3)))
    goes_on = trio.Event()
    adopt = newcomer.ledger.adopt

    async def adopt_later(block: bytes, certificate: bytes) -> None:
        await goes_on.wait()
        await adopt(block, certificate)

    newcomer.ledger.adopt = adopt_later  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(newcomer.catch_up)
        await trio.sleep(60)
        assert sum(provider.ranges for provider in newcomer.providers) == MAX_SLOTS
        goes_on.set()
    assert newcomer.ledger.height() == 3 * BLOCKS


@on_mock_clock
async def test_a_final_block_that_does_not_execute_here_ends_the_follower_and_blames_no_peer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    newcomer = Newcomer(Provider(make_chain(BLOCKS, extra=b"!")))
    newcomer.ledger.chain = list(CHAIN[:1])
    with pytest.raises(ExceptionGroup) as caught:
        await newcomer.catch_up()
    assert caught.group_contains(Refused, match="more than a third of the weight misbehaves")
    assert "is dropped" not in caplog.text


@on_mock_clock
async def test_each_certificate_is_held_against_the_set_of_its_own_height() -> None:
    chain = make_chain(BLOCKS, switch=100)
    newcomer = Newcomer(Provider(chain), Provider(chain), ledger=SwitchingLedger(switch=100))
    await newcomer.catch_up()
    assert newcomer.ledger.height() == BLOCKS
    old = Newcomer(Provider(chain), ledger=SwitchingLedger())
    await old.catch_up()
    assert old.ledger.height() == 99


@on_mock_clock
async def test_a_listener_becomes_level_and_then_follows_block_by_block() -> None:
    provider = Provider(CHAIN)
    newcomer = Newcomer(provider)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(newcomer.follower.follow, lambda: False)
        await trio.sleep(5)
        assert newcomer.ledger.height() == BLOCKS and newcomer.follower.status is None
        provider.ledger.chain = list(make_chain(BLOCKS + 3))
        await trio.sleep(30)
        assert newcomer.ledger.height() == BLOCKS + 3
        nursery.cancel_scope.cancel()


@on_mock_clock
async def test_a_listener_hears_soon_of_a_block_though_most_whom_it_asks_are_listeners_that_wait_for_it_too() -> None:
    """Two that were idle for longer than a question is held asked each other, for 20 s, and heard of no block."""
    validator, others = Provider(CHAIN), [Provider(CHAIN) for _ in range(5)]
    newcomer = Newcomer(*others, validator)
    deciding = [who for who, provider in newcomer.port.providers.items() if provider is validator]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(newcomer.follower.follow, lambda: False, lambda: deciding)
        for height in range(BLOCKS + 1, BLOCKS + 8):
            await trio.sleep(61)
            assert newcomer.ledger.height() == height - 1
            validator.ledger.chain = list(make_chain(height))
            await trio.sleep(12)
            assert newcomer.ledger.height() == height
            for provider in others:
                provider.ledger.chain = list(make_chain(height))
        nursery.cancel_scope.cancel()
    asked = [provider.ranges for provider in others]
    assert min(asked) > 3 and sum(asked) > validator.ranges / 2  # and no validator is relied upon alone


@on_mock_clock
async def test_a_listener_whose_only_peer_began_with_a_snapshot_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Provider(CHAIN)
    provider.head = lambda: [200, BLOCKS]  # type: ignore[method-assign]
    newcomer = Newcomer(provider)
    await newcomer.catch_up()
    assert newcomer.ledger.height() == 0
    assert "the lowest served is 200" in caplog.text and "--checkpoint" in caplog.text


@on_mock_clock
async def test_while_it_catches_up_the_status_says_how_far_how_fast_and_how_long() -> None:
    newcomer = Newcomer(Provider(CHAIN), Provider(CHAIN))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(newcomer.catch_up)
        await trio.sleep(0.4)
        status = newcomer.follower.status
        assert status is not None and 0 < status.height < BLOCKS == status.target and status.providers == 2
        assert 100 < status.blocks_per_second <= 200  # the ledger takes 5 ms a block
        assert status.eta_seconds == pytest.approx((BLOCKS - status.height) / status.blocks_per_second)


def test_progress_is_logged_with_target_speed_and_time_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    progress = SyncProgress(0, lambda: now[0])
    progress.target, progress.providers = 1_000, 3
    for height in range(1, 601):
        now[0] = height / 50
        progress.tell(height)
    assert "height 250 of 1000, 50 blocks/s, 15 s left, from 3 peers" in caplog.text
    assert len(caplog.records) == 2
    progress.log_end()
    assert "at height 600 after 600 blocks in 12.0 s, 50/s" in caplog.text


@on_mock_clock
async def test_with_nobody_left_to_ask_the_target_is_not_forgotten() -> None:
    """Blocks that have come are executed on: "height 18 of 0, 0 s left" is no progress."""

    def leave(request: Any, rows: Any) -> Any:
        if request[1] > 1:
            raise Unavailable("it is gone")
        return rows

    newcomer, seen = Newcomer(Spoiler(CHAIN, leave)), list[tuple[int, int]]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(newcomer.catch_up)
        for _ in range(50):
            await trio.sleep(0.01)
            if (status := newcomer.follower.status) is not None and status.height:
                seen.append((status.providers, status.target))
    assert (0, BLOCKS) in seen and {target for _, target in seen} == {BLOCKS}


@on_mock_clock
async def test_consensus_and_catching_up_make_each_block_final_once() -> None:
    """The same heights from both sides at once: none twice, none out of order."""
    ledger = SwitchingLedger()
    told: list[int] = []
    committer = Committer(ledger, lambda: told.append(ledger.height()))
    port = FakeSyncPort({account(1): Provider(CHAIN)})
    follower = Follower(ledger, port, DOMAIN, Journal(), committer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.catch_up, account(1), BLOCKS + 1)
        while ledger.height() < BLOCKS:
            height = ledger.height() + 1
            await committer.commit(height, *CHAIN[height - 1])
            await trio.sleep(0.017)
    assert tuple(ledger.chain) == CHAIN


@on_mock_clock
async def test_who_is_further_than_the_three_that_are_asked_is_asked_in_the_end() -> None:
    """Heads are of different moments; a run once waited for ever where somebody in reserve knew one block more."""
    newcomer = Newcomer(*(Provider(CHAIN[:100]) for _ in range(MAX_PROVIDERS)), Provider(CHAIN))
    with trio.fail_after(60):
        await newcomer.catch_up()
    assert newcomer.ledger.height() == BLOCKS


@on_mock_clock
async def test_a_boast_of_somebody_in_reserve_does_not_hold_a_run_up(caplog: pytest.LogCaptureFixture) -> None:
    newcomer = Newcomer(*(Provider(CHAIN) for _ in range(MAX_PROVIDERS)), Boaster(CHAIN[:50]))
    with trio.fail_after(60):
        await newcomer.catch_up(BLOCKS + 1)
    assert newcomer.ledger.height() == BLOCKS and "although it says that it has" in caplog.text


@on_mock_clock
async def test_a_boast_of_somebody_who_serves_everything_leaves_no_range_that_nobody_has() -> None:
    newcomer = Newcomer(Boaster(CHAIN), Provider(CHAIN), *(Provider(CHAIN[:120]) for _ in range(3)))
    with trio.fail_after(60):
        await newcomer.catch_up(BLOCKS + 1)
    assert newcomer.ledger.height() == BLOCKS
