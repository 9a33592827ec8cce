"""Every program beside the product that the pages name (benchmarks, campaigns, fuzzers) runs here at its shortest, or
stands here with the reason why it does not; and each understands what each page tells it, option by option. What it
measures is not looked at: that it runs, ends and prints is.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rehearsal_support
from documented_support import PROGRAM, ROOT, Runner, all_pages, find_program, open_runner
from rehearsal_support import as_typed, find_late_imports

pytestmark = pytest.mark.early(3)
SHORTEST = {
    "benchmarks/consensus.py": "--validators 2 --rates 5 --seconds 1",
    "benchmarks/crash_campaign.py": "--kills 0",
    "benchmarks/contract_mutants.py": "--count 2 --list",
    "benchmarks/earlier_cosines.py": "--parameters 10000 --proposals 2 --rounds 2",
    "benchmarks/execution_fuzz.py": "--scenarios 1",
    "benchmarks/ledger.py": "--transactions 1 --repeats 1 --no-stall",
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
REHEARSED = {  # started as it stands there, but stopped at its parser; for the figures beside it, it is run by hand
    "benchmarks/blobs.py": "40 MB go over links of 4 MB/s, once alone and once in three",
    "benchmarks/compression.py": "real trainings, and the libraries that they need",
    "benchmarks/contract_rows.py": "the tests of a contract for each row that is broken",
    "benchmarks/crash_drills.py": "networks of validators that are killed and started again",
    "benchmarks/detection.py": "hundreds of real trainings; the table that it wrote has a test",
    "benchmarks/evasion.py": "real trainings and audits of them",
    "benchmarks/hostile_proposers.py": "a network of peers with trainers for each kind",
    "benchmarks/kill_peers.py": "a network of peers with trainers, and a kill in each phase",
    "benchmarks/metamask.py": "npm fetches 153 packages for it",
    "benchmarks/rounds.py": "networks of peers with trainers, and those of other projects",
    "benchmarks/same_rounds.py": "a demo, and its rounds once more",
    "benchmarks/sync.py": "seven networks of processes, at any length",
    "benchmarks/wire_costs.py": "half a minute of connections and messages, for their CPU alone",
    "benchmarks/training.py": "real trainings, three ways in turns",
}
NAMES = {  # what stands for something else on a page, by program
    "benchmarks/attacks.py": {"NAME": "muxer_pings"},
    "benchmarks/crash_drills.py": {"NAME": "full_disk"},
    "benchmarks/upstream.py": {"NAME": "short_bytes32"},
}


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with open_runner() as opened:
        yield opened


_GOES_ON = re.compile(r"`[^`]+`|\\\n|\n {20,}(?=\[--)")  # a command of several lines


def find_lines() -> set[tuple[str, str]]:
    """Programs that the pages name, each with what is told to it; also where they name it alone."""
    paragraphs = [text for path in all_pages() for text in path.read_text().split("\n\n")]
    texts = [_GOES_ON.sub(lambda found: found[0].replace("\\\n", " ").replace("\n", " "), text) for text in paragraphs]
    typed = {(module or script, rest.strip()) for text in texts for module, script, rest in PROGRAM.findall(text)}
    named = {name for text in texts for name in re.findall(r"(?<![\w/])(?:benchmarks|fuzz)/\w+\.py", text)}
    programs = {name for name in named if "\nif __name__ ==" in find_program(name).read_text()}
    return typed | {(name, "") for name in programs - {name for name, _ in typed}}


def test_every_program_that_a_page_names_is_run_or_has_a_reason_not_to_be() -> None:
    named = {name for name, _ in find_lines()}
    listed = [*SHORTEST, *TESTED, *REHEARSED]
    assert len(set(listed)) == len(listed)
    assert named - {*listed} == set(), "no test runs these"
    assert {*listed} - named == set(), "no page has these any more"
    for name, (path, text) in TESTED.items():
        assert text in (ROOT / path).read_text(), name
    for name in listed:
        assert find_program(name).is_file()


@pytest.mark.process
def test_every_program_takes_what_a_page_tells_it(tmp_path: Path) -> None:
    """With every option and its value, up to where the work would begin."""
    rows = [(name, as_typed(rest, NAMES.get(name, {}))) for name, rest in sorted(find_lines())]
    wrong = ("benchmarks/rounds.py", ["--only", "lunch"]), ("benchmarks/metamask.py", ["--quick"])
    done = subprocess.run(
        [sys.executable, rehearsal_support.__file__], input=json.dumps([*rows, *wrong]), text=True, capture_output=True,
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    failures = json.loads(done.stdout.splitlines()[-1])
    for (name, words), why in zip(wrong, ("no lunch; there are rounds", "takes no options"), strict=True):
        assert why in failures.pop(" ".join([name, *words]))  # so that a rehearsal that sees nothing is noticed
    assert failures == {} and list(tmp_path.iterdir()) == []


def test_what_a_program_imports_while_it_runs_is_looked_for_too() -> None:
    assert find_late_imports("import os\n\ndef main():\n    from a.b import c\n    import d\n") == {"a.b", "d"}


@pytest.mark.process
@pytest.mark.parametrize("name", SHORTEST)
def test_a_program_at_its_shortest_ends_well_and_says_something(runner: Runner, tmp_path: Path, name: str) -> None:
    run = runner.run(tmp_path, SHORTEST[name], program=name)
    assert run.wait_over() == 0, run.said()
    assert run.said().strip() and "Traceback" not in run.said()
