"""What a peer decides at its edges: what it relays, and which bootstrap addresses it starts with."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from execution_support import CHAIN_ID, KEYS, make_genesis

from flock_chain.crypto import Key
from flock_chain.errors import FlockError, InvalidRemote, Misuse, Unavailable
from flock_chain.execution.transactions import MAX_TRANSACTION_BYTES, sign_call
from flock_peers.baseline import Baseline
from flock_peers.bootstrap import check_bootstrap, connect_bootstrap
from flock_peers.home import Home
from flock_peers.peer import is_transaction
from flock_peers.settings import DataSettings, PeerSettings

RAW = sign_call(KEYS[0], chain_id=CHAIN_ID, nonce=0, to=bytes(20), gas=21_000, fee=1)


def test_only_signed_transactions_of_this_chain_are_relayed() -> None:
    assert is_transaction(RAW, CHAIN_ID)
    big = sign_call(
        KEYS[0], chain_id=CHAIN_ID, nonce=0, to=bytes(20), data=bytes(MAX_TRANSACTION_BYTES), gas=10**7, fee=1
    )
    for junk in (b"", b"junk", bytes(50_000), RAW[:-1], RAW + b"\0", RAW[:-32] + b"\xff" * 32, big):
        assert not is_transaction(junk, CHAIN_ID)
    assert not is_transaction(RAW, CHAIN_ID + 1)


@pytest.mark.parametrize(("rows", "label"), [(None, "python"), (Path("mine.jsonl"), "own rows")])
def test_an_owners_rows_are_not_said_to_be_text_that_every_machine_has(rows: Path | None, label: str) -> None:
    assert DataSettings(rows=rows).label == label.encode().ljust(32, b"\0")


class FakeHost:
    def __init__(self, **answers: FlockError | None) -> None:
        self.answers, self.asked = answers, list[str]()

    async def connect(self, address: str) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(address)
        error = self.answers[address]
        if error is not None:
            raise error


def start(host: FakeHost, *, knows_others: bool = False) -> None:
    async def main() -> None:
        await connect_bootstrap(host, list(host.answers), knows_others=knows_others)  # type: ignore[arg-type]

    trio.run(main)


FOREIGN = InvalidRemote("peer is on another network: its genesis hash is another")


def test_an_address_that_belongs_to_another_network_now_does_not_hide_the_next_one() -> None:
    host = FakeHost(a=FOREIGN, b=Unavailable("no answer"), c=None)
    start(host)
    assert host.asked == ["a", "b", "c"]


def test_only_foreign_addresses_and_no_other_peer_known_is_an_error_in_words() -> None:
    with pytest.raises(InvalidRemote, match="another network"):
        start(FakeHost(a=Unavailable("no answer"), b=FOREIGN))
    start(FakeHost(a=FOREIGN), knows_others=True)


def test_addresses_that_do_not_answer_are_waited_for() -> None:
    start(FakeHost(a=Unavailable("no answer"), b=Unavailable("no answer")))


def test_of_addresses_that_do_not_answer_each_is_named_once_whatever_its_error_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    start(FakeHost(a=Unavailable("a: nobody answers there"), b=Unavailable("0x5b is banned for 9 s more")))
    assert caplog.messages == ["bootstrap a: nobody answers there", "bootstrap b: 0x5b is banned for 9 s more"]


def test_a_peer_that_knows_nobody_and_that_nobody_looks_for_is_told_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings, genesis = PeerSettings(tmp_path), make_genesis()
    stranger = Key(b"\x55" * 32)
    with pytest.raises(Misuse, match="--bootstrap"):
        check_bootstrap(settings, genesis, stranger, knows_others=False)
    check_bootstrap(settings, genesis, stranger, knows_others=True)
    check_bootstrap(replace(settings, bootstrap=("/ip4/...",)), genesis, stranger, knows_others=False)
    check_bootstrap(settings, genesis, KEYS[0], knows_others=False)  # the first validator of a new network
    caplog.set_level("INFO")
    check_bootstrap(replace(settings, mdns=True), genesis, stranger, knows_others=False)
    (said,) = caplog.records  # of a first join by multicast DNS, too: nothing to be warned of
    assert said.levelname == "INFO" and "looking for one on the local network" in said.getMessage()


def test_a_baseline_that_fails_ends_nothing(tmp_path: Path) -> None:
    class Part:
        library, trainer = None, None  # the task was left in between

    baseline = Baseline(Home(tmp_path), seed=0)
    trio.run(baseline.run, Part(), 1)
    assert not baseline.is_running and baseline.result is None
