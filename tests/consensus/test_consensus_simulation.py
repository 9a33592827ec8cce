"""Seeded schedules of the real core, signer and logs: safety before GST, progress after it."""

from dataclasses import replace

import pytest
from consensus_simulator import Scenario, Simulator, draw_scenario

from flock_chain.consensus.core import MAX_BUFFERED_PER_SENDER

SCHEDULES = 700  # in CI; a release runs 100,000
BATCHES = 14


@pytest.mark.parametrize("batch", range(BATCHES))
def test_drawn_schedules_agree_convict_nobody_honest_and_make_progress(batch: int) -> None:
    size = SCHEDULES // BATCHES
    crashes = accused = 0
    for seed in range(batch * size, (batch + 1) * size):
        simulator = Simulator(draw_scenario(seed)).run()
        crashes += simulator.crashes
        accused += len(simulator.accused)
    assert crashes and accused  # the faults really happened


def test_liars_that_vote_for_their_lies_and_lost_kinds_of_message_change_nothing() -> None:
    for seed in range(80):
        scenario = replace(draw_scenario(seed), sin="liar", byzantine=2, kind_fault=0.6, weights=None)
        Simulator(scenario).run()


def test_the_same_seed_gives_the_same_run() -> None:
    scenario = replace(draw_scenario(11), crash=0.02, crash_all=2, drop=0.2, sin="twins", byzantine=1)
    first, second = Simulator(scenario).run(), Simulator(scenario).run()
    assert first.trace == second.trace
    assert (first.events, first.sent) == (second.events, second.sent)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_a_healthy_network_decides_every_height_in_its_first_view(n: int) -> None:
    simulator = Simulator(Scenario(seed=n, n=n, byzantine=0, gst=0, work_delay=10))
    simulator.run_until(20_000)
    heights = min(len(node.chain) for node in simulator.nodes)
    assert heights > 100
    assert all(certificate.view == 1 for node in simulator.nodes for _, certificate in node.chain)
    assert simulator.sent["Certificate"] == 0  # nobody relays what everybody forms alone
    assert simulator.sent["Vote"] <= 2 * n * (n - 1) * (heights + 2)


def test_an_idle_network_sends_only_statuses() -> None:
    simulator = Simulator(Scenario(seed=1, n=4, byzantine=0, gst=0, work_delay=10**9))
    simulator.run_until(300_000)
    assert set(simulator.sent) == {"Status"}
    assert simulator.sent["Status"] <= 4 * 3 * 61  # one in five seconds, from each to each
    assert all(len(node.chain) == 0 for node in simulator.nodes)


def test_a_network_that_wakes_up_for_one_transaction_decides_one_block() -> None:
    simulator = Simulator(Scenario(seed=1, n=4, byzantine=0, gst=0, work_delay=10**9))
    leader = simulator.nodes[simulator.validators.index(simulator.validators.leader(1, 1))]
    simulator._at(30_000, simulator._work, leader, leader.life, 1)
    simulator.run_until(60_000)
    assert [len(node.chain) for node in simulator.nodes] == [1, 1, 1, 1]


def test_a_dead_leader_costs_one_view() -> None:
    simulator = Simulator(Scenario(seed=3, n=6, byzantine=0, gst=0, work_delay=10))
    simulator._silence(simulator.nodes[2])
    simulator.run_until(60_000)
    alive = [node for node in simulator.nodes if node.up]
    assert min(len(node.chain) for node in alive) > 60
    assert {certificate.view for _, certificate in alive[0].chain} == {1, 2}


def test_a_network_without_a_quorum_stops_and_sends_little() -> None:
    simulator = Simulator(Scenario(seed=3, n=4, byzantine=0, gst=0, work_delay=10))
    for node in simulator.nodes[:2]:
        simulator._silence(node)
    simulator.run_until(10_000)
    height = max(len(node.chain) for node in simulator.nodes)
    before = sum(simulator.sent.values())
    simulator.run_until(110_000)
    assert max(len(node.chain) for node in simulator.nodes) == height
    assert sum(simulator.sent.values()) - before < 100 * 2 * 3 * 4  # four messages to each in a second, at most
    assert all(
        len(messages) <= MAX_BUFFERED_PER_SENDER for node in simulator.nodes for messages in node.core._future.values()
    )


def test_the_whole_cluster_crashes_again_and_again_and_goes_on() -> None:
    for seed in range(20):
        Simulator(Scenario(seed=seed, n=4, byzantine=1, sin="silent", crash=0.01, crash_all=6, gst=6_000)).run()


def test_a_single_validator_makes_blocks() -> None:
    simulator = Simulator(Scenario(seed=1, n=1, byzantine=0, gst=0, work_delay=10))
    simulator.run_until(10_000)
    assert len(simulator.nodes[0].chain) > 100
