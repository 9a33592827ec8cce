"""A small object from whoever is first: who is silent is not waited for, and who fails not a moment."""

import pytest
import trio
import trio.testing

from flock_chain.crypto import Account
from flock_chain.errors import Unavailable
from flock_peers.network.blob_hedge import first_object

A, B, C, D = (Account(bytes([n]) * 20) for n in range(1, 5))


def test_the_next_is_asked_a_moment_after_a_silent_one_at_once_after_a_failure_and_nobody_after_an_answer() -> None:
    asked: list[tuple[Account, float]] = []

    async def main() -> None:
        begun = trio.current_time()

        async def ask(account: Account) -> bytes | None:
            asked.append((account, trio.current_time() - begun))
            if account == A:
                await trio.sleep_forever()
            if account == B:
                raise Unavailable("gone")
            return b"here"

        with trio.fail_after(60):
            assert await first_object([A, B, C, D], ask, 2.0) == (C, b"here")
        assert trio.current_time() - begun == pytest.approx(2.0)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert asked == [(A, 0.0), (B, pytest.approx(2.0)), (C, pytest.approx(2.0))]


def test_a_slow_answer_wins_where_nobody_else_has_it_and_all_reasons_are_told_where_nobody_has() -> None:
    async def main() -> None:
        async def ask(account: Account) -> bytes | None:
            if account == A:
                await trio.sleep(10)
                return b"late"
            return None

        assert await first_object([A, B], ask, 1.0) == (A, b"late")
        with pytest.raises(Unavailable, match=f"0x{B.hex()}: does not have it; 0x{C.hex()}: does not have it"):
            await first_object([B, C], ask, 1.0)
        with pytest.raises(Unavailable, match="nobody is connected"):
            await first_object([], ask, 1.0)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
