"""The faucet helper against fake final state: one drip at a time, and never at the cost of own round work."""

from typing import Any

import pytest
import trio
import trio.testing

from flock_chain.crypto import Account, Key
from flock_chain.errors import Refused, Unavailable
from flock_chain.execution.transactions import decode_transaction, sign_call
from flock_contracts.loader import load
from flock_peers.roles.faucet import ACCEPTED, ROLE_SLOTS, FaucetHelper
from flock_peers.roles.sender import MAX_PENDING, Sender

KEY = Key(b"\x07" * 32)
ONE, TWO = Account(b"\x01" * 20), Account(b"\x02" * 20)
CHAIN_ID, COIN = 7, 10**18
DEPOSIT, AMOUNT = COIN, 10 * COIN


class FakeState:
    """What the helper and its sender read, and where transactions go."""

    def __init__(self) -> None:
        self.final = 0
        self.coins = 100 * COIN
        self.dripped: set[bytes] = set()
        self.release_at = 0
        self.submitted: list[bytes] = []
        self.refuses = False
        self.views_seconds = 0.0
        self.left = 100 * COIN

    async def submit(self, raw: bytes) -> bytes:
        if self.refuses:
            raise Refused("mempool: not now")
        self.submitted.append(raw)
        return raw

    async def nonce(self, _account: Account) -> int:
        return self.final

    async def balance(self, _account: Account) -> int:
        return self.coins

    def height(self) -> int:
        return self.final

    async def view(self, contract: str, function: str, *args: Any, height: int | None = None) -> Any:
        assert height is None
        await trio.sleep(self.views_seconds)
        if (contract, function) == ("Faucet", "dripped"):
            return args[0] in self.dripped
        return {"release_at": self.release_at, "chain_time": 1_000, "amount": AMOUNT, "left": self.left}[function]

    def functions(self) -> list[str]:
        """What was sent, by the selector of its data."""
        faucet = load("Faucet")
        names = {faucet.encode("drip", ONE)[:4]: "drip", faucet.encode("refund")[:4]: "refund"}
        return [names.get(decode_transaction(raw, CHAIN_ID).data[:4], "other") for raw in self.submitted]


def make(state: FakeState) -> tuple[FaucetHelper, Sender]:
    async def gossip(_raw: bytes) -> None:
        await trio.lowlevel.checkpoint()

    sender = Sender(KEY, CHAIN_ID, 1, state, sign_call, gossip)
    return FaucetHelper(sender, state, DEPOSIT), sender


def run(test: Any) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_newcomer_is_served_once() -> None:
    async def main() -> None:
        state = FakeState()
        helper, _ = make(state)
        assert await helper.on_request(ONE, b"") == ACCEPTED
        assert state.functions() == ["drip"]
        state.final, state.dripped = 1, {ONE}
        with pytest.raises(Refused, match="served before"):
            await helper.on_request(ONE, b"")
        with pytest.raises(Refused, match="carries nothing"):
            await helper.on_request(TWO, b"x")

    run(main)


def test_a_second_newcomer_is_not_told_ok_while_a_drip_is_pending() -> None:
    async def main() -> None:
        state = FakeState()
        helper, _ = make(state)
        await helper.on_request(ONE, b"")
        with pytest.raises(Unavailable, match="not final yet"):
            await helper.on_request(TWO, b"")
        assert state.functions() == ["drip"]
        state.final = 1
        with pytest.raises(Unavailable, match="still locked"):
            state.release_at = 1_001
            await helper.on_request(TWO, b"")
        state.release_at = 999
        assert await helper.on_request(TWO, b"") == ACCEPTED
        assert state.functions() == ["drip", "refund", "drip"]

    run(main)


def test_of_many_requests_at_once_all_but_one_are_turned_away_at_once() -> None:
    async def main() -> None:
        state = FakeState()
        state.views_seconds = 1.0
        helper, _ = make(state)
        answers: list[tuple[float, object]] = []

        async def ask(index: int) -> None:
            try:
                answer: object = await helper.on_request(Account(bytes([index]) * 20), b"")
            except Unavailable as error:
                answer = str(error)
            answers.append((trio.current_time() - start, answer))

        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for index in range(1, 21):
                nursery.start_soon(ask, index)
        assert [answer for _, answer in answers].count(ACCEPTED) == 1 and state.functions() == ["drip"]
        assert all(seconds == 0 for seconds, answer in answers if answer != ACCEPTED)

    run(main)


def test_nothing_is_promised_that_was_not_sent_and_the_next_one_is_served() -> None:
    async def main() -> None:
        state = FakeState()
        helper, sender = make(state)
        state.refuses = True
        with pytest.raises(Refused, match="not now"):
            await helper.on_request(ONE, b"")
        assert sender.free_slots == MAX_PENDING
        state.refuses = False
        assert await helper.on_request(ONE, b"") == ACCEPTED

    run(main)


def test_coins_for_an_own_bond_are_kept() -> None:
    async def main() -> None:
        state = FakeState()
        helper, sender = make(state)
        state.coins = DEPOSIT + AMOUNT - 1
        with pytest.raises(Unavailable, match="own bonds"):
            await helper.on_request(ONE, b"")
        state.coins = 20 * COIN
        await sender.call("join 1", "TaskBoard", "poke", 1, value=AMOUNT)  # not final yet, so still in the balance
        with pytest.raises(Unavailable, match="own bonds"):
            await helper.on_request(ONE, b"")
        assert "drip" not in state.functions()

    run(main)


def test_slots_are_kept_for_the_transactions_of_the_roles() -> None:
    async def main() -> None:
        state = FakeState()
        helper, sender = make(state)
        for task in range(MAX_PENDING - ROLE_SLOTS):
            await sender.call(f"poke {task}", "TaskBoard", "poke", task)
        with pytest.raises(Unavailable, match="too much to send"):
            await helper.on_request(ONE, b"")
        state.final = 1
        assert await helper.on_request(ONE, b"") == ACCEPTED

    run(main)


def test_where_the_faucet_has_given_its_part_for_now_nothing_is_sent() -> None:
    async def test() -> None:
        state = FakeState()
        state.left = AMOUNT - 1
        helper, _ = make(state)
        with pytest.raises(Unavailable, match="ask later"):
            await helper.on_request(ONE, b"")
        assert state.submitted == []

    run(test)
