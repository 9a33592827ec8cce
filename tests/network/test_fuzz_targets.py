"""Every decoder of strangers' bytes, on its seeds and on what becomes of them: nothing but the protocol's own errors.

Short and the same each time; `python fuzz/fuzz.py` goes on for hours, guided by coverage.
"""

import json
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest
import trio
from fuzz_counts import add_up, format_table, load, merge, name_campaign, replace_table
from fuzz_groups import GROUPS, make_group
from fuzz_loop import Loop
from fuzz_mutators import mutate_bytes
from fuzz_pauses import leave_out_pauses
from fuzz_table import load_target, load_targets
from fuzz_target import Target
from hypothesis import given, settings
from hypothesis import strategies as st

from flock_chain.errors import InvalidRemote
from flock_peers.network import relay

TARGETS = load_targets()
SLOW = {"noise_handshake", "noise_payload", "gossip", "proof_of_an_adapter"}  # keys, signatures, the EVM
NEVER_ACCEPTED = {"noise_handshake"}  # its seeds are strangers


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_takes_its_seeds_and_survives_their_mutations(name: str) -> None:
    target, random = TARGETS[name], Random(name)
    seeds = target.seeds()
    accepted = [target.check(seed) for seed in seeds]
    assert any(accepted) or name in NEVER_ACCEPTED, "no seed gets through"
    for number in range(12 if name in SLOW else 80):
        mutate = target.mutate if number % 2 else mutate_bytes
        data = random.choice(seeds)
        for _ in range(1 + number % 3):
            data = mutate(data, random)
        target.check(data)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(set(TARGETS) - SLOW)), data=st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(name: str, data: bytes) -> None:
    TARGETS[name].check(data)


def test_every_decoder_belongs_to_one_fuzzer() -> None:
    members = [name for names in GROUPS.values() for name in names]
    assert sorted(members) == sorted(TARGETS) and not set(GROUPS) & set(TARGETS)


@pytest.mark.parametrize("name", ["documents", "discovery"])
def test_the_first_byte_of_an_input_chooses_the_decoder(name: str) -> None:
    group, random = load_target(name), Random(name)
    for number, member in enumerate(GROUPS[name]):
        for seed in TARGETS[member].seeds():
            assert bytes([number]) + seed in group.seeds()
            data = group.mutate(bytes([number]) + seed, random)
            assert data[0] < len(GROUPS[name]) and group.check(data)


def test_what_one_decoder_finds_is_a_finding_of_its_fuzzer() -> None:
    def fail(data: bytes) -> None:
        raise ZeroDivisionError(data)

    def refuse(_data: bytes) -> None:
        raise InvalidRemote("no")

    rows = [Target(name, run, list, mutate_bytes) for name, run in (("refuses", refuse), ("fails", fail))]
    group = make_group("both", rows)
    assert group.check(b"") and group.check(b"\0x") and group.check(b"\2x")
    with pytest.raises(ZeroDivisionError, match="x"):
        group.check(b"\1x")


def test_one_run_of_trio_takes_input_after_input_and_says_of_each_what_came_of_it() -> None:
    seen: list[str] = []

    def drive() -> None:
        loop = Loop()
        for number in range(3):

            async def script(number: int = number) -> None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep, 0.01)
                seen.append(f"{number} done")
                if number == 1:
                    raise ZeroDivisionError

            try:
                loop.run(script)
            except ZeroDivisionError:
                seen.append("raised")
        loop.close()

    thread = Thread(target=drive)
    thread.start()
    thread.join()
    assert seen == ["0 done", "1 done", "raised", "2 done"]


PAGES = Path(__file__).resolve().parents[2] / "docs" / "reliability"


def _state(executions: int, crashes: int = 0) -> dict[str, dict[str, Any]]:
    row = {
        "seconds": 10.5,
        "cpu_seconds": 9.5,
        "edges": executions,
        "features": 1,
        "corpus": 7,
        "executions": executions,
    }
    return {"muxer": {**row, "crashes": ["x"] * crashes}, "codec": {**row, "crashes": []}}


def test_campaigns_of_lost_states_add_up_and_one_that_is_merged_again_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    first, second = name_campaign(tmp_path / "one"), name_campaign(tmp_path / "two")
    assert first != second and first == name_campaign(tmp_path / "one")
    for campaign, executions in ((first, 100), (first, 300), (second, 50), (first, 300)):
        merge(path, campaign, _state(executions, crashes=executions // 50 - 1))
    merge(path, "nothing was run", {"muxer": {"executions": 0}})
    total = add_up(load(path))
    assert total["muxer"] == {
        "executions": 350, "seconds": 21.0, "cpu_seconds": 19.0, "findings": 5, "edges": 300, "corpus": 7,
    }  # fmt: skip
    assert total["pubsub"]["executions"] == 0 and set(load(path)) == {first, second}
    assert "codec" not in total and "codec" not in load(path)[first]  # its fuzzer's counts are what it is for
    assert "| muxer: yamux, frames | 350 | 21 | 19 | 300 | 7 | 5 |" in format_table(total)


def test_what_was_slow_while_the_machine_stood_still_is_no_finding_and_what_is_slow_alone_is_one() -> None:
    tried: list[str] = []

    def run_alone(name: str) -> int:
        tried.append(name)
        return {"timeout-paused": 0, "timeout-slow": 70, "timeout-killed": -9}[name]

    found = ["crash-1", "oom-2", "timeout-paused", "timeout-slow", "timeout-killed"]
    assert leave_out_pauses(found, run_alone) == {"timeout-paused"}
    assert tried == ["timeout-paused", "timeout-slow", "timeout-killed"]  # a crash needs no second look


def test_what_a_fuzzer_did_with_other_decoders_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    merge(path, "then", _state(100))
    campaigns = load(path)
    campaigns["then"]["muxer"]["decoders"].append("one that is gone")
    path.write_text(json.dumps(campaigns))
    merge(path, "now", _state(20))
    assert add_up(load(path))["muxer"]["executions"] == 20


def test_the_table_of_the_page_is_made_of_the_counts() -> None:
    page = (PAGES / "network.md").read_text()
    table = format_table(add_up(load(PAGES / "fuzzing.json")))
    assert table in page and replace_table(page, table) == page
    with pytest.raises(ValueError, match="not found"):
        replace_table("no table", table)


def test_a_circuit_of_the_targets_gets_as_far_as_a_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library swallows what goes wrong on the way, so that a target may have stopped at its first step."""
    named: list[str] = []
    stock = relay._name_of

    def name_of(peer_id: bytes) -> str:
        named.append(stock(peer_id))
        return named[-1]

    monkeypatch.setattr(relay, "_name_of", name_of)
    target = load_target("relay_stop")
    for seed in target.seeds():
        target.check(seed)
    assert named and named[0].startswith("0x")
