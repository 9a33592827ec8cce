"""When a peer is level with the network, and whom a newcomer asks for coins."""

import time
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from flock_chain.codec import decode, encode
from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.arrival import FAUCET_SECONDS, MAX_HELPERS, YOUNG_SECONDS, Arrival

HEIGHT = 7


class Peers:
    """Connected peers, by the head that each claims; None: no answer."""

    def __init__(self, *heads: int | None) -> None:
        self.heads = {Account(bytes([number + 1]) * 20): head for number, head in enumerate(heads)}
        self.asked_for_coins: list[Account] = []
        self.declining, self.answer_seconds = 0, 0.0  # how many decline before one gives, each after so long

    def peers(self) -> list[Account]:
        return list(self.heads)

    async def request(self, account: Account, payload: bytes, timeout: float, _most: int) -> bytes:
        assert decode(payload) == ["head"]
        head = self.heads[account]
        if head is None:
            await trio.sleep(timeout)
            raise Unavailable("no answer")
        return encode([1, head])

    async def ask_faucet(self, account: Account) -> None:
        await trio.sleep(self.answer_seconds)
        self.asked_for_coins.append(account)
        if len(self.asked_for_coins) <= self.declining:
            raise Unavailable("not today")


def make_arrival(peers: Peers, age: float) -> Arrival:
    chain = SimpleNamespace(head=SimpleNamespace(timestamp=time.time() - age), height=lambda: HEIGHT)
    return Arrival(chain, peers, peers.ask_faucet)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("heads", "is_level"),
    [((HEIGHT,), True), ((HEIGHT + 1,), False), ((HEIGHT + 1, HEIGHT, 0), True),
     ((HEIGHT + 1, HEIGHT + 9, HEIGHT), False), ((), False), ((None, HEIGHT), True), ((None,), False)],
)  # fmt: skip
def test_most_of_the_connected_peers_say_whether_the_chain_goes_on(heads: tuple[int | None], is_level: bool) -> None:
    async def main() -> None:
        assert await make_arrival(Peers(*heads), 2 * YOUNG_SECONDS).is_level() is is_level
        assert await make_arrival(Peers(*heads), YOUNG_SECONDS / 2).is_level(), "liars cannot deny a block of just now"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_peers_that_do_not_answer_cost_one_wait_together() -> None:
    async def main() -> None:
        began = trio.current_time()
        assert await make_arrival(Peers(None, None, None, HEIGHT), 2 * YOUNG_SECONDS).is_level()
        assert trio.current_time() - began <= 5

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_newcomer_asks_its_peers_one_after_the_other_until_one_gives_and_not_too_often() -> None:
    async def main() -> None:
        peers = Peers(HEIGHT, HEIGHT, HEIGHT)
        peers.declining = 1
        arrival = make_arrival(peers, 0)
        for _ in range(3):
            await arrival.ask_for_coins()
        assert len(set(peers.asked_for_coins)) == 2, "who declines costs no time; who gives is the last one asked"
        await trio.sleep(FAUCET_SECONDS)
        await arrival.ask_for_coins()
        assert len(set(peers.asked_for_coins)) == 3, "the next search begins with another peer"
        await make_arrival(Peers(), 0).ask_for_coins()  # nobody to ask

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_search_for_coins_asks_so_many_peers_and_waits_for_so_long_at_most(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def main() -> None:
        crowd = Peers(*[HEIGHT] * (3 * MAX_HELPERS))
        crowd.declining = len(crowd.heads)
        await make_arrival(crowd, 0).ask_for_coins()
        assert len(set(crowd.asked_for_coins)) == MAX_HELPERS
        assert [record.getMessage() for record in caplog.records] == [
            "asking 8 peers for faucet coins", "faucet: nobody submits for this account now; the last one: not today",
        ]  # fmt: skip
        silent = Peers(*[HEIGHT] * MAX_HELPERS)
        silent.declining, silent.answer_seconds = MAX_HELPERS, FAUCET_SECONDS * 0.6
        began = trio.current_time()
        await make_arrival(silent, 0).ask_for_coins()
        assert trio.current_time() - began <= 2 * FAUCET_SECONDS

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
