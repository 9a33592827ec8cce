"""Programs beside the product that start networks of peers, at their shortest, as the others of
test_documented_programs.py: in a file of their own, for they have deadlines of real time.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from documented_support import Runner, open_runner

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.early(5)]
NETWORKS = {  # what is told to it, and what it then says
    "benchmarks/crash_drills.py": ("--only copy_on_this_machine", r"^copy_on_this_machine +ok +.*same key"),
    "benchmarks/hostile_proposers.py": (
        "--kinds nan --steps 1 --audit-rounds 0",
        r"^nan +round +\d+ .* INVALID .* bond 8 -> 0 +named by",
    ),
    "benchmarks/kill_peers.py": (
        "--phases REVEAL --steps 8 --audit-rounds 0",
        r"^state_roots_equal: True; not_as_promised: \[\]",
    ),
    "benchmarks/rounds.py": (
        "--peers 2 --rounds 1 --repeats 1 --only rounds --others hivemind",
        r"^hivemind is left out: \S.*\n\n2 peers: [\d.]+ s a round",
    ),
    "benchmarks/upgrade_drill.py": ("", r"^ok +True"),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with open_runner() as opened:
        yield opened


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_at_its_shortest_ends_well_and_says_what_it_is_for(runner: Runner, tmp_path: Path, name: str) -> None:
    runner.check_program(tmp_path, name, *NETWORKS[name])
