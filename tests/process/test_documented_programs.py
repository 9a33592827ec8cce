"""Every program beside the product that the pages name (benchmarks, campaigns, fuzzers) runs here at its shortest, or
stands here with where it is run; and each understands what each page tells it, option by option. What it measures is
not looked at: that it runs, ends well and says what it is there to say is.
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
from documented_support import OFFLINE, PROGRAM, PROGRAM_SECONDS, ROOT, Runner, all_pages, find_program, open_runner
from rehearsal_support import as_typed, find_late_imports

pytestmark = pytest.mark.early(3)
SHORTEST = {  # what is told to it, and what it then says
    "benchmarks/blobs.py": ("--sizes 1 --linked 2 --repeats 1", r"^2 MB over links of 4 MB/s: [\d.]+ MB/s from one"),
    "benchmarks/compression.py": ("--seeds 1 --rounds 1 --ways int4_feedback --json", r'"int4_feedback": \{"mean": '),
    "benchmarks/consensus.py": ("--validators 2 --rates 5 --seconds 1", r"^ +2 +5 +[1-9]"),
    "benchmarks/contract_mutants.py": ("--count 2 --list", r"^[0-9a-f]{8} \w+:\d+ "),
    "benchmarks/contract_rows.py": ("--only 'scores bounded'", r"^failed +packing +scores bounded +test_\w+\.py::"),
    "benchmarks/crash_campaign.py": ("--kills 0", r"^violations +\[\]"),
    "benchmarks/detection.py": ("--rounds 1 --averages 1 --steps 1 --windows 1", r'"scores_by_voter": \[\[-?\d'),
    "benchmarks/earlier_cosines.py": (
        "--parameters 10000 --proposals 2 --rounds 2",
        r"^ratio_to_within_a_round +[\d.]+$",
    ),
    "benchmarks/evasion.py": ("--only 'one word'", r"^one word +all -?[\d.]+ .*guilty '\d+ of 10'"),
    "benchmarks/execution_fuzz.py": ("--scenarios 1", r"^differences +0$"),
    "benchmarks/gossip.py": ("--hosts 2 --sizes 1024 --seconds 1 --rate 5 --no-stock", r"^ours \| 2 \| .* \| 1024 \| "),
    "benchmarks/ledger.py": ("--transactions 1 --repeats 1 --no-stall", r"^vote +\d+ +\d+ +\d"),
    "benchmarks/sync.py": (
        "--blocks 3 --transactions 1 --repeats 1 --entries 100 --near",
        r"^ +1 transactions a block, providers near +\d",
    ),
    "benchmarks/token_dynamics.py": (
        "--rules ours --shares 40 --seeds 1 --rounds 3 --participants 8 --voters 4",
        r"^ours +matched +40 +1 ",
    ),
    "benchmarks/training.py": ("--models base --rounds 1 --steps 1", r'"ratio_to_trainer": [\d.]+'),
    "benchmarks/transport.py": ("--megabytes 1 --repeats 1 --streams 1", r"^ours +\d+ +[\d.]+ +1\.00"),
    "benchmarks/upstream.py": ("short_bytes32", r"^short_bytes32: .*\n +(?!not seen)\S"),
    "benchmarks/wire_costs.py": ("--count 10 --seconds 1", r"^busy: [1-9]\d+ frames a second, with [1-9]"),
    "flock_peers.training.base_model": ("--out my-model --miniature", r"^\d+ parameters, last loss \d"),
    "fuzz/fuzz.py": ("--target all --seconds 0 --state state", r"^\| consensus: .* \| 0 \| 0 \| "),
}
METAMASK = "benchmarks/metamask.py"  # fetches 153 packages
TESTED = {  # what it consists of is run by another test, or it is itself; and what stands there of it
    "benchmarks/attacks.py": ("tests/network/test_attacks_on_a_peer.py", "ATTACKS"),
    "benchmarks/audit_costs.py": ("tests/benchmarks/test_audit_costs.py", "from audit_costs import"),
    "benchmarks/canaries.py": ("tests/benchmarks/test_canaries.py", "from canaries import"),
    "benchmarks/contract_gas.py": ("tests/contracts/test_board_gas.py", "contract_gas"),
    "benchmarks/contract_soak.py": ("tests/contracts/test_calldata_fuzz.py", "contract_soak.py calldata"),
    "benchmarks/crash_drills.py": ("tests/process/test_documented_networks.py", "benchmarks/crash_drills.py"),
    "benchmarks/hostile_proposers.py": ("tests/process/test_documented_networks.py", "benchmarks/hostile_proposers.py"),
    "benchmarks/kill_peers.py": ("tests/process/test_documented_networks.py", "benchmarks/kill_peers.py"),
    "benchmarks/rounds.py": ("tests/process/test_documented_networks.py", "benchmarks/rounds.py"),
    "benchmarks/same_decisions.py": ("tests/experiment/test_same_draws.py", "same_decisions"),
    "benchmarks/same_draws.py": ("tests/experiment/test_same_draws.py", "same_draws.replay"),
    "benchmarks/same_rounds.py": ("tests/process/test_demo_command.py", "same_rounds.py"),
    "benchmarks/token_rules.py": ("tests/benchmarks/test_token_rules.py", "from token_rules import"),
    "benchmarks/upgrade_drill.py": ("tests/process/test_documented_networks.py", "benchmarks/upgrade_drill.py"),
    "flock_contracts.build_artifacts": ("tests/contracts/test_artifacts.py", "from flock_contracts.build_artifacts"),
    "flock_contracts.check_sources": ("tests/contracts/test_contract_sources.py", "main("),
    "flock_p2p.reference": ("tests/app/test_readme.py", "render()"),
    "tests/support/golden_support.py": ("tests/foundation/test_golden_vectors.py", "from golden_support import"),
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


def test_every_program_that_a_page_names_is_run() -> None:
    named = {name for name, _ in find_lines()}
    listed = [*SHORTEST, METAMASK, *TESTED]
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
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        timeout=PROGRAM_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    failures = json.loads(done.stdout.splitlines()[-1])
    for (name, words), why in zip(
        wrong, ("no lunch; there are rounds", "unrecognized arguments: --quick"), strict=True
    ):
        assert why in failures.pop(" ".join([name, *words]))  # so that a rehearsal that sees nothing is noticed
    assert failures == {} and list(tmp_path.iterdir()) == []


def test_what_a_program_imports_while_it_runs_is_looked_for_too() -> None:
    assert find_late_imports("import os\n\ndef main():\n    from a.b import c\n    import d\n") == {"a.b", "d"}


@pytest.mark.process
@pytest.mark.patient
@pytest.mark.parametrize("name", SHORTEST)
def test_a_program_at_its_shortest_ends_well_and_says_what_it_is_for(runner: Runner, tmp_path: Path, name: str) -> None:
    runner.check_program(tmp_path, name, *SHORTEST[name])


@pytest.mark.process
def test_what_a_wallet_consists_of_works_on_a_peer_where_it_can_be_fetched(runner: Runner, tmp_path: Path) -> None:
    """Within a time that fits the others'; it may be fetched in ten seconds, or in a hundred."""
    run = runner.run(tmp_path, "--patience 40", program=METAMASK, environment={"npm_config_fetch_retries": "0"})
    if run.wait_over(PROGRAM_SECONDS) == 3:
        pytest.skip(run.said().strip())
    assert run.find_code() == 0, run.said()
    assert re.search(r'^status +"confirmed"$', run.said(), re.MULTILINE), run.said()


@pytest.mark.process
def test_where_it_cannot_be_fetched_that_is_said_in_a_line(runner: Runner, tmp_path: Path) -> None:
    run = runner.run(tmp_path, "", program=METAMASK, environment=OFFLINE)
    assert run.wait_over(PROGRAM_SECONDS) == 3 and run.said().startswith("nothing was tried, npm cannot fetch it: "), (
        run.said()
    )
    assert run.said().count("\n") == 1, run.said()
