"""Seeded schedules of the real core, signer and logs: safety before GST, progress after it."""

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from flock_chain.consensus.core import MAX_BUFFERED_PER_SENDER
from flock_p2p.simulate.campaign import run_schedule
from flock_p2p.simulate.cheap_keys import CheapKey
from flock_p2p.simulate.disk import MemoryLog
from flock_p2p.simulate.members import Members
from flock_p2p.simulate.scenario import FAULTS, NAMES, SINS, Scenario, draw_scenario
from flock_p2p.simulate.simulator import Simulator
from flock_peers.store.record_log import CorruptLog, scan

SCHEDULES = 500  # in CI; a release runs 100,000
BATCHES = 10
QUIET = Scenario(seed=1, byzantine=0, gst=1)


def _run_for(scenario: Scenario, end: int) -> Simulator:
    return Simulator(scenario).run_until(end)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_drawn_schedules_agree_convict_nobody_honest_and_make_progress(batch: int) -> None:
    size = SCHEDULES // BATCHES
    outcomes = [
        run_schedule(draw_scenario(seed), twice=seed % 25 == 0) for seed in range(batch * size, (batch + 1) * size)
    ]
    assert sum(outcome.crashes for outcome in outcomes)
    assert sum(outcome.accused for outcome in outcomes)  # the faults really happened


def test_the_drawn_schedules_have_every_fault_and_every_sin() -> None:
    scenarios = [draw_scenario(seed) for seed in range(SCHEDULES)]
    for fault in FAULTS:
        assert any(getattr(scenario, fault.field) != fault.off for scenario in scenarios), fault.name
    assert {scenario.sin for scenario in scenarios if scenario.byzantine} == set(SINS)


def test_wherever_logs_may_go_bad_somebody_is_there_whose_logs_can() -> None:
    """In a quarter of such schedules nobody was: the misbehaving had taken all the room, or nobody ever crashed."""
    accounts = [CheapKey(index).account for index in range(9)]
    drawn = [draw_scenario(seed) for seed in range(SCHEDULES)]
    bad = [scenario for scenario in drawn if scenario.corrupt or scenario.lost_signer]
    assert len(bad) > SCHEDULES // 20
    for scenario in bad:
        members = Members(scenario, accounts)
        assert members.unlucky and scenario.crash and not members.unlucky & members.byzantine
        weights = scenario.weights or (1,) * scenario.n
        assert sum(weights[index] for index in members.unlucky | members.byzantine) <= members.at(1).max_byzantine


@pytest.mark.parametrize("name", NAMES)
def test_each_fault_alone_changes_nothing(name: str) -> None:
    for seed in range(2):
        Simulator(draw_scenario(seed, None, {name})).run()


def test_liars_that_vote_for_their_lies_and_lost_kinds_of_message_change_nothing() -> None:
    for seed in range(25):
        scenario = replace(draw_scenario(seed, None, {"liar"}), byzantine=2, kind_fault=0.6, weights=None)
        Simulator(scenario).run()


def test_a_fork_by_colluders_convicts_more_than_the_bound_and_nobody_honest() -> None:
    outcomes = [Simulator(draw_scenario(seed, None, {"colluders", "split"})).run() for seed in range(12)]
    convicted = [outcome.convicted for outcome in outcomes if outcome.convicted]
    assert len(convicted) >= 4 and min(convicted) >= 2


def test_the_same_seed_gives_the_same_log_whatever_python_hashes() -> None:
    command = [sys.executable, "-m", "flock_p2p", "simulate", "--log", "--schedules", "6", "--seed", "11"]
    logs = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=120
        ).stdout
        for seed in ("1", "2")
    ]
    assert logs[0] == logs[1] and logs[0].count(b"digest") == 6


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_a_healthy_network_decides_every_height_in_its_first_view(n: int) -> None:
    simulator = _run_for(replace(QUIET, seed=n, n=n, work_delay=10), 15_000)
    heights = min(len(node.chain) for node in simulator.nodes)
    assert heights > 75
    assert all(block.certificate.view == 1 for node in simulator.nodes for block in node.chain)
    assert simulator.sent["Certificate"] == 0  # nobody relays what everybody forms alone
    assert simulator.sent["Vote"] <= 2 * n * (n - 1) * (heights + 2)


def test_an_idle_network_sends_only_statuses() -> None:
    simulator = _run_for(replace(QUIET, work_delay=10**9), 300_000)
    assert set(simulator.sent) == {"Status"}
    assert simulator.sent["Status"] <= 4 * 3 * 61  # one in five seconds, from each to each
    assert all(len(node.chain) == 0 for node in simulator.nodes)


def test_a_network_that_wakes_up_for_one_transaction_decides_one_block() -> None:
    simulator = _run_for(replace(QUIET, work_delay=10**9), 1)
    leader = simulator.nodes[simulator.accounts.index(simulator.validators(1).leader(1, 1))]
    simulator.at(30_000, simulator._work, leader, leader.life, 1)
    simulator.run_until(60_000)
    assert [len(node.chain) for node in simulator.nodes] == [1, 1, 1, 1]


def test_a_dead_leader_costs_one_view() -> None:
    simulator = Simulator(replace(QUIET, seed=3, n=6, work_delay=10))
    simulator.start()
    simulator.silence(simulator.nodes[2])
    simulator.run_until(30_000)
    alive = [node for node in simulator.nodes if node.up]
    assert min(len(node.chain) for node in alive) > 30
    assert {block.certificate.view for block in alive[0].chain} == {1, 2}


def test_a_network_without_a_quorum_stops_and_sends_little() -> None:
    simulator = Simulator(replace(QUIET, seed=3, work_delay=10))
    simulator.start()
    for node in simulator.nodes[:2]:
        simulator.silence(node)
    simulator.run_until(10_000)
    height = max(len(node.chain) for node in simulator.nodes)
    before = sum(simulator.sent.values())
    simulator.run_until(110_000)
    assert max(len(node.chain) for node in simulator.nodes) == height
    assert sum(simulator.sent.values()) - before < 100 * 2 * 3 * 4  # four messages to each in a second, at most
    assert all(
        len(messages) <= MAX_BUFFERED_PER_SENDER
        for node in simulator.nodes
        if node.core
        for messages in node.core._future.values()
    )


def test_the_whole_cluster_crashes_again_and_again_and_goes_on() -> None:
    for seed in range(10):
        Simulator(Scenario(seed=seed, byzantine=1, sin="silent", crash=0.01, crash_all=6, gst=6_000)).run()


def test_a_single_validator_makes_blocks() -> None:
    assert len(_run_for(replace(QUIET, n=1, work_delay=10), 10_000).nodes[0].chain) > 100


def test_a_new_validator_that_was_cut_off_is_not_missing_when_another_falls_silent() -> None:
    """It once waited for two heights without its vote, for ever where they needed it."""
    simulator = Simulator(Scenario(seed=2, byzantine=0, gst=60_000, work_delay=10))
    for node in simulator.nodes:
        node.disk.signer_log = None  # the network is as new as its files
    simulator.run_until(2_000)
    simulator.network.cut_off = 0
    simulator.run_until(5_000)
    simulator.network.heal()
    simulator.run_until(5_500)
    simulator.silence(simulator.nodes[1])
    height = simulator.nodes[2].height
    simulator.run_until(20_000)
    assert simulator.nodes[2].height > height + 10


def test_a_log_that_is_damaged_twice_before_anybody_looks_is_still_only_damaged() -> None:
    chance, log = random.Random(1), MemoryLog()
    for number in range(5):
        log.append(7, bytes([number]))
    log.sync()
    for _ in range(3):
        log.flip_bit(chance)
    with pytest.raises(CorruptLog):
        log.open(scan)


def test_blocks_of_the_real_executor_and_contracts_have_the_same_state_root_everywhere() -> None:
    simulator = Simulator(
        Scenario(seed=5, byzantine=1, sin="silent", crash=0.01, drop=0.05, gst=1_000, heights=3, executor=True)
    )
    outcome = simulator.run()
    roots = {tuple(block.root for block in node.chain[:3]) for node in simulator.honest}
    assert outcome.heights >= 3 and len(roots) == 1
    assert any(node.ledger.included for node in simulator.honest)
