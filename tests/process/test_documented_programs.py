"""Every program beside the product that the pages name (benchmarks, campaigns, fuzzers) runs here at its shortest, or
stands here with the reason why it does not. What it measures is not looked at: that it runs, ends and prints is.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from documented_support import PROGRAM, ROOT, Runner, all_pages, find_program, open_runner

pytestmark = pytest.mark.early(3)
SHORTEST = {
    "benchmarks/consensus.py": "--validators 2 --rates 5 --seconds 1",
    "benchmarks/contract_mutants.py": "--count 2 --list",
    "benchmarks/earlier_cosines.py": "--parameters 10000 --proposals 2 --rounds 2",
    "benchmarks/execution_fuzz.py": "--scenarios 1",
    "benchmarks/gossip.py": "--hosts 2 --sizes 1024 --seconds 1 --rate 5 --no-stock",
    "benchmarks/token_dynamics.py": "--rules ours --shares 40 --seeds 1 --rounds 3 --participants 8 --voters 4",
    "benchmarks/transport.py": "--megabytes 1 --repeats 1 --streams 1",
    "benchmarks/upgrade_drill.py": "",
    "benchmarks/upstream.py": "short_bytes32",
    "fuzz/fuzz.py": "--target all --seconds 0 --state state",
    "flock_peers.training.base_model": "--out my-model --miniature",
}
TESTED = {  # not started, but what it consists of is run by another test; and what stands there of it
    "benchmarks/attacks.py": ("tests/network/test_attacks_on_a_peer.py", "ATTACKS"),
    "benchmarks/canaries.py": ("tests/benchmarks/test_canaries.py", "from canaries import"),
    "benchmarks/contract_gas.py": ("tests/contracts/test_board_gas.py", "contract_gas"),
    "benchmarks/contract_soak.py": ("tests/contracts/test_calldata_fuzz.py", "contract_soak.py calldata"),
    "benchmarks/same_decisions.py": ("tests/experiment/test_same_draws.py", "same_decisions"),
    "benchmarks/same_draws.py": ("tests/experiment/test_same_draws.py", "same_draws.replay"),
    "benchmarks/token_rules.py": ("tests/benchmarks/test_token_rules.py", "from token_rules import"),
    "flock_contracts.build_artifacts": ("tests/contracts/test_artifacts.py", "from flock_contracts.build_artifacts"),
    "flock_contracts.check_sources": ("tests/contracts/test_contract_sources.py", "main("),
    "flock_p2p.reference": ("tests/app/test_readme.py", "render()"),
    "tests/support/golden_support.py": ("tests/foundation/test_golden_vectors.py", "from golden_support import"),
}
BY_HAND = {  # for the figures that stand beside it: at its shortest it takes many seconds of both cores, or minutes
    "benchmarks/blobs.py": "40 MB go over links of 4 MB/s, once alone and once in three",
    "benchmarks/compression.py": "real trainings, and the libraries that they need",
    "benchmarks/contract_rows.py": "the tests of a contract for each row that is broken",
    "benchmarks/crash_campaign.py": "networks of validators that are killed; its judge has tests of its own",
    "benchmarks/crash_drills.py": "networks of validators that are killed and started again",
    "benchmarks/evasion.py": "real trainings and audits of them",
    "benchmarks/hostile_proposers.py": "a network of peers with trainers for each kind",
    "benchmarks/kill_peers.py": "a network of peers with trainers, and a kill in each phase",
    "benchmarks/ledger.py": "a chain of stock py-evm beside the product's",
    "benchmarks/metamask.py": "npm fetches 153 packages for it",
    "benchmarks/rounds.py": "networks of peers with trainers, and those of other projects",
    "benchmarks/same_rounds.py": "a demo, and its rounds once more",
    "benchmarks/sync.py": "seven networks of processes, at any length",
    "benchmarks/training.py": "real trainings, three ways in turns",
}


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with open_runner() as opened:
        yield opened


def test_every_program_that_a_page_names_is_run_or_has_a_reason_not_to_be() -> None:
    named = {script or module for path in all_pages() for module, script, _ in PROGRAM.findall(path.read_text())}
    listed = [*SHORTEST, *TESTED, *BY_HAND]
    assert len(set(listed)) == len(listed)
    assert named - {*listed} == set(), "no test runs these"
    assert {*listed} - named == set(), "no page has these any more"
    for name, (path, text) in TESTED.items():
        assert text in (ROOT / path).read_text(), name
    for name in listed:
        assert find_program(name).is_file()


@pytest.mark.process
@pytest.mark.parametrize("name", SHORTEST)
def test_a_program_at_its_shortest_ends_well_and_says_something(runner: Runner, tmp_path: Path, name: str) -> None:
    run = runner.run(tmp_path, SHORTEST[name], program=name)
    assert run.wait_over() == 0, run.said()
    assert run.said().strip() and "Traceback" not in run.said()
