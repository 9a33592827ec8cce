"""How little of the bitswap gateway one asker may take, one network, and all of them, in virtual time."""

from contextlib import suppress

import pytest
import trio
import trio.testing
from bitswap_support import PROTOCOL, FakeLink, FakeStream, wants
from network_support import key

from flock_chain.errors import InvalidRemote, Unavailable
from flock_peers.network import bitswap
from flock_peers.network.bitswap import BitswapGateway


async def give_a_megabyte(_digest: bytes) -> bytes:
    return bytes(1 << 20)


async def give_little(_digest: bytes) -> bytes:
    return b"a block"


def test_one_asker_gets_a_megabyte_a_second_and_then_nothing() -> None:
    """In virtual time: what is above the rate waits, what is far above it is refused."""

    async def main() -> None:
        gateway = BitswapGateway(give_a_megabyte, trio.current_time)
        started = trio.current_time()
        for _ in range(14):
            await gateway.serve(PROTOCOL, FakeStream(FakeLink(), wants(bytes(32))))  # type: ignore[arg-type]
        assert 9 < trio.current_time() - started < 12
        outcomes: list[str] = []

        async def ask() -> None:
            try:
                await gateway.serve(PROTOCOL, FakeStream(FakeLink(), wants(bytes(32))))  # type: ignore[arg-type]
                outcomes.append("given")
            except InvalidRemote as error:
                outcomes.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(ask)
        assert 10 < outcomes.count("given") < 25
        assert all("its share" in outcome for outcome in outcomes if outcome != "given")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_askers_that_take_nothing_hold_a_few_blocks_in_memory_and_not_for_long() -> None:
    holding, most = 0, 0

    class NeverTaken(FakeStream):
        async def write(self, data: bytes) -> None:
            nonlocal holding, most
            if len(data) < 1 << 20:
                return
            holding += 1
            most = max(most, holding)
            try:
                await trio.sleep_forever()
            finally:
                holding -= 1

    class SlowLink(FakeLink):
        async def open(self, _protocol: str) -> FakeStream:
            return NeverTaken(self, b"")

    async def main() -> None:
        begun, given_up, told = trio.current_time(), 0, set[bytes]()
        gateway = BitswapGateway(
            give_a_megabyte, trio.current_time, on_lost=lambda account, _seconds: told.add(account)
        )  # fmt: skip

        async def ask(number: int) -> None:
            nonlocal given_up
            stream = FakeStream(SlowLink(), wants(bytes(32)))
            stream.account = key(number).account
            with pytest.raises(Unavailable, match="not taken in time"):
                await gateway.serve(PROTOCOL, stream)  # type: ignore[arg-type]
            given_up += 1

        async with trio.open_nursery() as nursery:
            for number in range(1, 21):
                nursery.start_soon(ask, number)
        assert (most, holding, given_up, len(told)) == (8, 0, 20, 20) and trio.current_time() - begun < 120

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_one_asker_that_takes_nothing_holds_one_turn_and_the_next_asker_does_not_wait_for_it() -> None:
    class NeverTaken(FakeStream):
        async def write(self, _data: bytes) -> None:
            await trio.sleep_forever()

    class SlowLink(FakeLink):
        async def open(self, _protocol: str) -> FakeStream:
            return NeverTaken(self, b"")

    async def main() -> None:
        gateway, given_up = BitswapGateway(give_little, trio.current_time), 0

        async def hold() -> None:
            nonlocal given_up
            with pytest.raises(Unavailable, match="not taken in time"):
                await gateway.serve(PROTOCOL, FakeStream(SlowLink(), wants(bytes(32))))  # type: ignore[arg-type]
            given_up += 1

        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(hold)
            await trio.sleep(1)
            honest = FakeStream(FakeLink(), wants(bytes(32)))
            honest.account = key(3).account
            begun = trio.current_time()
            await gateway.serve(PROTOCOL, honest)  # type: ignore[arg-type]
            assert trio.current_time() - begun < 1 and given_up == 0
        assert given_up == 16 and trio.current_time() - begun > 400  # one after the other

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Unread(FakeStream):
    """Nobody takes what is written to it."""

    async def write(self, _data: bytes) -> None:
        await trio.sleep_forever()


class UnreadLink(FakeLink):
    async def open(self, _protocol: str) -> FakeStream:
        return Unread(self, b"")


def from_host(number: int, host: str, link: FakeLink, *digests: bytes) -> FakeStream:
    stream = FakeStream(link, wants(*digests or [bytes(32)]))
    stream.account, stream.remote_host = key(number).account, host
    return stream


@pytest.mark.parametrize(
    ("crowd", "asker", "is_favoured", "seconds"),
    [
        (["8.8.8.8"] * 9, "9.9.9.9", False, 0),
        (["8.8.8.8"] * 9, "8.8.8.8", True, 0),
        ([f"8.8.{number}.8" for number in range(9)], "9.9.9.9", False, 20),
        (["8.8.8.8"] * 9, "8.8.8.9", False, 20),
    ],
    ids=["of another network", "of the same, but no stranger", "of a tenth network", "of the same network"],
)
def test_a_crowd_of_accounts_that_take_nothing_does_not_hold_all_turns(
    crowd: list[str], asker: str, is_favoured: bool, seconds: float
) -> None:
    """Each with as many streams as it may have. An answer takes two turns: to look, and to give."""
    honest = key(99).account

    async def main() -> None:
        gateway = BitswapGateway(give_little, trio.current_time, lambda who: is_favoured and who == honest)

        async def hold(number: int, host: str) -> None:
            with suppress(Unavailable):
                await gateway.serve(PROTOCOL, from_host(number, host, UnreadLink()))  # type: ignore[arg-type]

        async with trio.open_nursery() as nursery:
            for number, host in enumerate(crowd):
                for _ in range(16):
                    nursery.start_soon(hold, 10 + number, host)
            await trio.sleep(1)
            begun = trio.current_time()
            await gateway.serve(PROTOCOL, from_host(99, asker, FakeLink()))  # type: ignore[arg-type]
            assert trio.current_time() - begun <= seconds
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_turn_is_sure_where_nobody_has_fewer_and_lasts_where_nobody_waits() -> None:
    async def main(others: int) -> list[float]:
        gateway, ended = BitswapGateway(give_little, trio.current_time), list[float]()

        async def hold(number: int) -> None:
            with pytest.raises(Unavailable):
                await gateway.serve(PROTOCOL, from_host(number, f"8.8.{number}.8", UnreadLink()))  # type: ignore[arg-type]
            ended.append(round(trio.current_time() - begun))

        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(1, 9 + others):
                nursery.start_soon(hold, number)
        return ended

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, 0, clock=clock) == [30] * 8
    assert trio.run(main, 1, clock=trio.testing.MockClock(autojump_threshold=0)) == [10] * 8 + [40]


def test_what_is_refused_is_nobodys_debt_and_a_network_has_its_share_whatever_others_ask_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bitswap, "_LONGEST_WAIT", 2.0)  # so that a test need not ask for a hundred

    async def main() -> None:
        gateway, refused = BitswapGateway(give_a_megabyte, trio.current_time), 0

        async def ask(number: int, host: str) -> None:
            nonlocal refused
            try:
                await gateway.serve(PROTOCOL, from_host(number, host, FakeLink()))  # type: ignore[arg-type]
            except InvalidRemote:
                refused += 1

        async with trio.open_nursery() as nursery:
            for number in range(1, 5):
                for _ in range(9):
                    nursery.start_soon(ask, number, "8.8.8.8")
            await trio.sleep(1)
            begun = trio.current_time()
            await gateway.serve(PROTOCOL, from_host(99, "9.9.9.9", FakeLink()))  # type: ignore[arg-type]
            assert trio.current_time() - begun < 1
        assert refused > 9
        await ask(98, "8.8.8.8")  # pays for what was given, not for what was refused
        assert refused < 24

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_fresh_networks_one_after_the_other_take_no_more_than_the_whole_rate_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody has a large block of addresses: each network has a share, and more of them come than are kept."""
    monkeypatch.setattr(bitswap, "_LONGEST_WAIT", 2.0)
    monkeypatch.setattr(bitswap, "_DEEPEST_DEBT", 3.0)
    monkeypatch.setattr(bitswap, "_TRACKED", 7)

    async def main() -> None:
        gateway, given = BitswapGateway(give_a_megabyte, trio.current_time), 0
        for number in range(60):
            with suppress(InvalidRemote):
                link = from_host(1 + number % 200, f"9.{number}.9.9", FakeLink())
                await gateway.serve(PROTOCOL, link)  # type: ignore[arg-type]
                given += 1
        seconds = trio.current_time()
        most = bitswap._ALL_BURST + (3.0 + seconds) * bitswap._ALL_RATE
        assert 8 <= given <= 1 + most / 2**20
        assert seconds < 60
        assert len(gateway._shares) == len(gateway._askers) == 7

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
