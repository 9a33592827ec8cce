"""Samples of what a peer and its owner say to each other, and of the home's small files. Part of the golden vectors."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from golden_sample_support import Sample

from flock_chain.crypto import Key
from flock_chain.tally import Verdict
from flock_p2p.config import JoinConfig, load_config, save_config
from flock_p2p.demo.audit import Losses, Outcome, Standing
from flock_p2p.demo.outcome import to_report
from flock_p2p.demo.plan import DemoPeer, Plan
from flock_p2p.demo.watch import Watched
from flock_p2p.verify.report import VerifyReport
from flock_peers.control import encode_answer, encode_request
from flock_peers.home import Home
from flock_peers.network.addresses import AddressBook
from flock_peers.network.identity import make_address, peer_id_of
from flock_peers.network.limits import Limits
from flock_peers.roles.board import RoundResult
from flock_peers.tasks import COIN, Terms

KEYS = [Key(bytes([index]) * 32) for index in (1, 2, 3, 4)]
CONFIG = JoinConfig(
    bootstrap=("/ip4/192.0.2.7/tcp/4200", 'quoted " and \\'), listen="0.0.0.0", port=4_300, data="/rows",
    domain="prose", domain_slice=3, bond="5.5", observe=True, seed=7,
)  # fmt: skip


def _redo_request(data: bytes) -> bytes:
    request = json.loads(data)
    assert request.pop("version") == 1
    return encode_request(request["method"], request["params"])


def _config(config: JoinConfig) -> bytes:
    with TemporaryDirectory() as folder:
        save_config(Home(Path(folder)), config)
        return (Path(folder) / "peer.toml").read_bytes()


def _redo_config(data: bytes) -> bytes:
    with TemporaryDirectory() as folder:
        (Path(folder) / "peer.toml").write_bytes(data)
        return _config(load_config(Home(Path(folder))))


def _peers() -> bytes:
    def fill(book: AddressBook) -> None:
        for index, key in enumerate(KEYS[1:3]):
            address = make_address("192.0.2.7", 4_200 + index, peer_id_of(key))
            book.add(address, is_confirmed=True)

    return _save_book(None, fill)


def _save_book(data: bytes | None, change: Callable[[AddressBook], None]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "peers.json"
        if data is not None:
            path.write_bytes(data)
        book = AddressBook(KEYS[0].account, Limits(), path)
        change(book)
        book.save()
        return path.read_bytes()


def _verify_report() -> VerifyReport:
    report = VerifyReport(
        "/home", "flock", "01" * 32, blocks=9, head="02" * 32, state_root="03" * 32, tasks=1, rounds=2, proposals=4
    )
    report.add_adapter(1, 2, bytes(32), "votes")
    report.fail("block 3: header")
    report.skip("round 1: a manifest")
    report.remarks.append("round 2: a vote lost")
    return report


def _outcome() -> Outcome:
    peers = tuple(
        DemoPeer(number, Path(f"/demo/{number}"), key, "prose", 0, 5 * COIN, 7, "backdoor" if number == 3 else "")
        for number, key in enumerate(KEYS)
    )  # fmt: skip
    plan = Plan(7, 1, Path("/demo"), peers, None, Terms())  # type: ignore[arg-type] # no genesis
    result = RoundResult(
        task=1, round=1, proposers=(KEYS[0].account, KEYS[3].account), voters=(KEYS[1].account,),
        manifests=(bytes(32), bytes(32)), held_set=3, verdicts=(Verdict.ACCEPTED, Verdict.ACCUSED_NORM),
        medians=(-5_000, 90_000), scores_revealed=1, adapter_before=bytes(32), adapter_after=bytes(32),
    )  # fmt: skip
    statuses = [
        {"height": 90, "state_root": "00" * 32, "account": f"0x{key.account.hex()}", "bytes_by_round": {"1": 1_000},
         "finality_samples": [0.5, 1.0]}
        for key in KEYS
    ]  # fmt: skip
    standings = [Standing(peer, peer.bond, peer.bond // (2 if peer.attack else 1), 900 * COIN) for peer in peers]
    return Outcome(
        plan, Watched(statuses, rounds=1, seconds=90.5, are_heads_equal=True), [result], standings,
        Path("/demo/0/adapters"), bytes(32), _losses(3.5), _losses(2.5), _losses(2.75),
        {number: _losses(3 + number / 8) for number in range(3)}, 0.0, 0.0, 1.0, frozenset({(1, KEYS[3].account)}),
    )  # fmt: skip


def _losses(mean: float) -> Losses:
    return Losses(mean, {"prose": mean - 0.25, "python": mean + 0.25})


def owner() -> dict[str, Sample]:
    return {
        "control request": Sample(encode_request("open_task", {"rounds": 3}), _redo_request),
        "control request: without parameters": Sample(encode_request("status", {}), _redo_request),
        "control answer": Sample(encode_answer({"result": {"height": 9}})),
        "control answer: an error": Sample(encode_answer({"error": "no method 'sing'"})),
        "configuration: as it is made": Sample(_config(JoinConfig()), _redo_config),
        "configuration": Sample(_config(CONFIG), _redo_config),
        "known peers": Sample(_peers(), _redo_peers),
        "report of verify": Sample(json.dumps(_verify_report().to_dict(), indent=2).encode()),
        "report of demo": Sample(json.dumps(to_report(_outcome()), indent=2).encode()),
    }


def _redo_peers(data: bytes) -> bytes:
    def do_nothing(_book: AddressBook) -> None:
        return

    return _save_book(data, do_nothing)
