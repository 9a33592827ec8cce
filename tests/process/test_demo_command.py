"""The main job as a user runs it, shortened: the demo command with a poisoner, its report, and a home verified."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from process_support import run_cli, wait_until
from secret_support import find_secrets, secrets_of

from flock_peers.home import Home

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.early(4)]

SAME_ROUNDS = Path(__file__).parents[2] / "benchmarks" / "same_rounds.py"
KEYS = {
    "peers", "rounds", "height", "state_roots_equal", "finality_seconds", "loss", "attack_success", "proposals",
    "stakes", "bytes_per_peer_round", "adapter",
}  # fmt: skip


def test_a_demo_refuses_the_poisoner_slashes_it_and_every_home_tells_the_same(tmp_path: Path) -> None:
    """With deltas of four bits, so that a demo of them is run, too; of eight bits are all other networks here."""
    report_path, home = tmp_path / "report.json", tmp_path / "homes"
    options = ("--seed", "5", "--bits", "4", "--home", str(home), "--report", str(report_path))
    said = run_demo(tmp_path / "demo.log", *options)
    assert report_path.exists(), said
    report = json.loads(report_path.read_text())
    assert set(report) >= KEYS
    assert report["peers"] == 6 and report["state_roots_equal"] and 1 <= report["rounds"] <= 3
    assert 0 < report["finality_seconds"]["p50"] <= report["finality_seconds"]["p95"]
    # So few rounds may be too few to beat a specialist; everything else is promised of any demo.
    assert set(report["failures"]) <= {"the global adapter is no better than training alone"}, said
    assert report["taught"] and report["loss"]["global"] < report["loss"]["base"]
    malicious = [row for row in report["proposals"] if row["malicious"]]
    assert all(row["verdict"] == "accused_norm" for row in malicious)
    for row in report["stakes"]:
        assert (int(row["after"]) < int(row["before"])) == (row["malicious"] and bool(malicious))
    assert {name for name in os.listdir(report["adapter"])} >= {"adapter_model.safetensors", "adapter_config.json"}
    verified = run_cli("verify", "--home", str(home / "peer5"), "--json", timeout=300)
    assert verified.returncode == 0, verified.stdout
    assert json.loads(verified.stdout)["ok"]
    (tmp_path / "said").write_text(said + verified.stdout + verified.stderr)
    check_secrets(tmp_path, home)
    check_same_rounds(home)


def run_demo(output: Path, *options: str) -> str:
    """As it is started in the background to have a network to join: until its rounds are over, and `kill` then, for a
    shell without job control keeps Ctrl-C from it. What it says."""
    with output.open("wb") as file:
        demo = subprocess.Popen(
            [sys.executable, "-m", "flock_p2p", "demo", "--rounds", "1", "--keep-running", *options],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )  # fmt: skip
    try:
        wait_until("its rounds are over", 900, lambda: demo.poll() is not None or "still running" in output.read_text())
        demo.send_signal(signal.SIGTERM)
        demo.wait(300)
    finally:
        demo.kill()
        demo.wait(60)
    return output.read_text()


def check_secrets(everything: Path, homes: Path) -> None:
    """Of what a run leaves (logs, report, status, chain, contents, what was printed) the key files alone hold a key."""
    keys = [Home(path).load_key() for path in sorted(homes.glob("peer*"))]
    assert len(keys) == 6
    for key in keys:
        assert len(find_secrets(homes, [key.secret])) == 1  # so that what finds nothing is noticed
    assert find_secrets(everything, [each for key in keys for each in secrets_of(key)], apart_from=("key",)) == []


def check_same_rounds(homes: Path) -> None:
    """benchmarks/same_rounds.py, as documented: its rounds once more, without network and chain."""
    command = [sys.executable, str(SAME_ROUNDS), "--home", str(homes), "--seed", "5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert rows["accepted set"]["of"] >= 1 and rows["proposal"]["of"] >= 1 and rows["whom an auditor names"]["of"] >= 1


def test_a_demo_of_the_papers_rule_plays_its_round_and_killed_then_leaves_no_peer_behind(tmp_path: Path) -> None:
    home, log = tmp_path / "homes", tmp_path / "demo.log"
    least = ("--peers", "4", "--poisoners", "0", "--rounds", "1")
    with log.open("wb") as file:
        demo = subprocess.Popen(
            [sys.executable, "-m", "flock_p2p", "demo", "--voting-rule", "paper", *least, "--home", str(home)],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        wait_until("its round is over", 300, lambda: demo.poll() is not None or "the task has ended" in log.read_text())
    finally:
        demo.send_signal(signal.SIGKILL)
        demo.wait(60)
    assert demo.returncode == -signal.SIGKILL, log.read_text()
    status = log.read_text()
    assert "round 1 of 1   SCORE_REVEAL" in status or "round 1 of 1   SCORE_COMMIT" in status, status
    assert "TALLY" not in status and "AUDIT" not in status, status  # as that rule has it

    def is_quiet() -> bool:
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        return not any(str(home) in line and "flock_p2p" in line for line in listing.splitlines())

    wait_until("no peer is left", 180, is_quiet)
