"""How a demo is judged from what one peer stores."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from app_support import Script, play, small_document

from flock_chain.aggregation import add_contribution, encode_delta, quantise
from flock_chain.aggregation.measure import ONE
from flock_chain.content import object_digest
from flock_chain.crypto import Account, keccak256
from flock_chain.execution.executor import Executor
from flock_chain.proposal import Manifest
from flock_chain.tally import Verdict
from flock_p2p.commands.join import format_join
from flock_p2p.demo.audit import average_all, read_standings, was_slashed
from flock_p2p.demo.watch import Watched
from flock_peers.contents import Contents
from flock_peers.home import Home
from flock_peers.roles.board import RoundResult, as_account
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.document import compute_initial_adapter


def test_a_proposal_that_the_judged_peer_does_not_hold_is_left_out_of_the_average(tmp_path: Path) -> None:
    document, store = small_document(), BlobStore(tmp_path)
    vector = np.full(document.layout.parameters, 0.01, np.float32)
    delta = quantise(vector, document.layout, document.format)
    data = encode_delta(delta)
    manifest = Manifest(
        chain=keccak256(b"chain"), task=1, round=1, account=Account(bytes(20)), parent=keccak256(b"parent"),
        delta=Contents(store, None).put_bytes(data), delta_bytes=len(data), steps=1, tokens=1,  # type: ignore[arg-type]
    ).encode()  # fmt: skip
    store.put_object(manifest)
    result = RoundResult(
        task=1, round=1, proposers=(), voters=(), manifests=(object_digest(manifest), keccak256(b"never came")),
        held_set=0b11, verdicts=(Verdict.ACCEPTED,) * 2, medians=(), scores_revealed=0, adapter_before=b"",
        adapter_after=b"",
    )  # fmt: skip
    initial = compute_initial_adapter(document)
    found = average_all(store, document, initial, [result])
    assert (found.grid == add_contribution(initial, delta, ONE, 1).grid).all()


def test_who_takes_a_bond_back_while_the_network_stays_up_was_not_slashed(tmp_path: Path) -> None:
    """What holds is the height at which the task was seen to end; here that is looked at the other way round."""
    played = play(tmp_path / "home", Script(rounds=1))
    with ChainStore(Home(played.home).folder("chain")) as store:
        executor = Executor(played.genesis, store)
        rows: Any = executor.view("TaskBoard", "participants", 1)
        peers = [SimpleNamespace(account=as_account(row["account"]), bond=int(row["bond"])) for row in rows]
        plan: Any = SimpleNamespace(peers=peers)
        found = []
        for height in (executor.head.height, 1):  # nobody has bonded yet in the first block
            statuses = [{"height": height, "balance": str(height)} for _ in peers]
            found.append(read_standings(plan, Watched(statuses), executor))
    ended, before = found
    assert ended and not any(map(was_slashed, ended)) and all(map(was_slashed, before))
    assert {row.balance_after for row in ended} == {ended[0].balance_after} != {before[0].balance_after}


def test_the_command_to_join_takes_another_port_where_this_peers_own_is_on_the_same_machine() -> None:
    assert format_join("ADDRESS", "127.0.0.1") == "python -m flock_p2p join --home NEW --port 0 --bootstrap ADDRESS"
    assert "--port" not in format_join("ADDRESS", "0.0.0.0")
