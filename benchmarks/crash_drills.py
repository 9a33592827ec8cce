"""Accidents of disks, homes and clocks on real validators: does each say what is wrong, and is nothing damaged?

    python benchmarks/crash_drills.py [--only NAME] [--json]

Four real peers, one of which meets the accident; the others must go on. A full disk is a small tmpfs where mounting is
permitted, else a limit on the size of files. Judged as in crash_campaign.py.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crash_campaign import Campaign, Tally

from flock_chain.errors import FlockError, Unavailable
from flock_peers.store import record_log

WAIT_SECONDS = 120.0  # an interpreter that starts on a busy machine has taken one of these minutes
TMPFS_MIB = 48


class Drill:
    """One network, and the peer (the last) that accidents happen to."""

    def __init__(self, folder: Path) -> None:
        self.campaign = Campaign(folder, Tally(seed=5), power_loss=0)
        self.network = self.campaign.network
        self.victim = self.network.peers[-1]
        self.folder = folder

    def begin(self) -> None:
        for peer in self.network.peers:
            self.campaign.expect(peer, 0)
            self.network.start(peer)
        self.campaign.settle(WAIT_SECONDS)
        self.campaign.watch(3.0)

    def until(self, what: str, check: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.campaign.watch(0.1)
            try:
                if value := check():
                    return value
            except Unavailable:
                pass
        raise Unavailable(f"not within {seconds:.0f} s: {what}")

    def others_advance(self, blocks: int = 3) -> None:
        start = self.campaign.report_head(self.network.peers[0])
        self.until("the others go on", lambda: self.campaign.report_head(self.network.peers[0]) >= start + blocks)

    def ends(self) -> tuple[int, str]:
        """The exit code and the last line of a victim that ends by itself."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            self.campaign.watch(0.2)
            try:
                return self.network.wait_end(self.victim, 0.05), self.network.last_words(self.victim).split(" | ")[-1]
            except Unavailable:
                pass
        raise Unavailable("the victim did not end")

    def restart(self, prepare: Callable[[], None] | None = None) -> None:
        self.campaign.drain()
        self.campaign.expect(self.victim, self.campaign.top)
        self.network.start(self.victim, prepare=prepare)

    def recovers(self) -> float:
        """Seconds until it signs at the head again."""
        self.campaign.settle(WAIT_SECONDS)
        return self.campaign.tally.recovery_s[-1]

    def crash(self) -> None:
        self.campaign.crash([self.victim])
        self.campaign.drain()

    def silence(self) -> str:
        return str(self.network.ask(self.victim, "status")["not_signing"])

    def first_new_vote(self) -> int:
        """The height of the first statement that nobody had heard from the victim before."""
        statements, account = self.campaign.statements, self.victim.account
        before = statements.said_by(account)

        def find() -> int:
            return min((height for height, _, _ in statements.said_by(account) - before), default=0)

        return int(self.until("the victim signs again", find))


# ---- the accidents; each returns what the victim said


def full_disk(drill: Drill) -> str:
    mounted = move_to_tmpfs(drill)
    filler = drill.victim.home / "filler"
    if mounted:
        drill.restart()
        drill.recovers()
        fill(filler)
    else:
        limit = (drill.victim.home / "chain" / "chain.mdb").stat().st_size + (64 << 10)
        drill.restart(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    code, said = drill.ends()
    expect(code == 3 and ("disk is full" in said or "free some" in said or "ulimit" in said), f"{code}: {said}")
    drill.restart()
    code_again, said_again = (3, "") if not mounted else drill.ends()  # still full: it says so at the start as well
    expect(code_again == 3, said_again)
    drill.others_advance()
    filler.unlink(missing_ok=True)
    if mounted:
        drill.restart()
    return f"{said}  [{'tmpfs' if mounted else 'limit'}; signed again {drill.recovers():.1f} s after there was room]"


def move_to_tmpfs(drill: Drill) -> bool:
    """The victim is stopped and its home copied to a small disk of its own, where this user may mount one."""
    drill.crash()
    home, aside = drill.victim.home, drill.victim.home.with_name("aside")
    home.rename(aside)
    home.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m", "tmpfs", str(home)], capture_output=True, check=False
    )
    if done.returncode:
        home.rmdir()
        aside.rename(home)
        return False
    shutil.copytree(aside, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
    return True


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError:
            pass


def read_only_disk(drill: Drill) -> str:
    """Set read-only under the running peer (injected: a mounted one is busy), then at the start (a real mount)."""
    drill.crash()
    flag = drill.folder / "read-only"
    drill.restart(lambda: inject_read_only(flag))
    drill.recovers()
    flag.touch()
    code, said = drill.ends()
    expect(code == 3 and "read-only" in said, f"{code}: {said}")
    home = drill.victim.home
    if subprocess.run(["mount", "--bind", home, home], capture_output=True, check=False).returncode == 0:
        subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)
        drill.network.start(drill.victim)
        code, at_start = drill.ends()
        subprocess.run(["umount", home], check=True)
        expect(code == 3 and "read-only" in at_start, f"{code}: {at_start}")
    drill.restart()
    return f"{said}  [signed again after {drill.recovers():.1f} s]"


def inject_read_only(flag: Path) -> None:
    write = record_log._write_all

    def refuse(descriptor: int, data: bytes) -> None:
        if flag.exists():
            raise OSError(30, "Read-only file system")
        write(descriptor, data)

    record_log._write_all = refuse


def corrupt_wal(drill: Drill) -> str:
    drill.crash()
    data = bytearray(drill.victim.wal_log.read_bytes())
    data[12] ^= 1
    drill.victim.wal_log.write_bytes(data)
    return follows_until_moved(drill, drill.victim.wal_log)


def corrupt_signer(drill: Drill) -> str:
    drill.crash()
    data = bytearray(drill.victim.signer_log.read_bytes())
    data[10] ^= 1
    drill.victim.signer_log.write_bytes(data)
    return follows_until_moved(drill, drill.victim.signer_log)


def follows_until_moved(drill: Drill, log: Path) -> str:
    drill.restart()
    said = str(drill.until("it says why it does not sign", drill.silence))
    expect(str(log) in said and "away" in said, said)
    head = drill.campaign.report_head(drill.network.peers[0])
    drill.until("it follows", lambda: drill.campaign.report_head(drill.victim) >= head + 5)
    expect(drill.victim.account in drill.campaign.recoveries, "it signed although a log is damaged")
    drill.crash()
    log.rename(log.with_suffix(".damaged"))
    drill.restart()
    return f"{said}  [followed; after the move signed again in {drill.recovers():.1f} s]"


def deleted_signer_file(drill: Drill) -> str:
    drill.crash()
    head = drill.campaign.top
    drill.victim.signer_log.unlink()
    drill.restart()
    first = drill.first_new_vote()
    expect(first >= head + 2, f"signed at {first}, the head was {head}")
    log = (drill.victim.home / "peer.log").read_text()
    said = [line for line in log.splitlines() if "signing from height" in line][-1].split(": ", 1)[1]
    return f"{said}  [first vote at {first}; height {head} was running]"


def old_copy_of_the_home(drill: Drill) -> str:
    """As from a back-up: chain, logs and key of some blocks ago."""
    drill.crash()
    copy = drill.folder / "back-up"
    shutil.copytree(drill.victim.home, copy, ignore=shutil.ignore_patterns("*.sock"))
    drill.restart()
    drill.recovers()
    drill.others_advance(12)
    drill.crash()
    head = drill.campaign.top
    drill.campaign.statements.excuse(drill.victim.account, head + 1)
    shutil.rmtree(drill.victim.home)
    copy.rename(drill.victim.home)
    drill.restart()
    first = drill.first_new_vote()
    expect(first > head, f"signed at {first}, the head was {head}")
    return f"first vote at height {first}; it had voted up to {head} since the copy"


def copy_on_this_machine(drill: Drill) -> str:
    code, said, copy = run_copy(drill, {})
    shutil.rmtree(copy)
    expect(code == 4 and "same key" in said, f"{code}: {said}")
    return said


def run_copy(drill: Drill, environment: dict[str, str], seconds: float = 0) -> tuple[int | None, str, Path]:
    copy = drill.folder / f"copy{time.monotonic_ns()}"
    shutil.copytree(drill.victim.home, copy, ignore=shutil.ignore_patterns("*.sock"))
    command = [sys.executable, "-m", "flock_p2p", "join", "--quiet", "--observe", "--home", str(copy), "--port", "0"]
    process = subprocess.Popen(
        command, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + (seconds or WAIT_SECONDS)
    while process.poll() is None and time.monotonic() < deadline:
        drill.campaign.watch(0.2)
    code = process.poll()
    if code is None:
        process.terminate()
    _, errors = process.communicate(timeout=20)
    return code, errors.strip().splitlines()[-1] if errors.strip() else "", copy


def copy_elsewhere(drill: Drill) -> str:
    """As on another machine: nothing but the network can tell."""
    statements = drill.campaign.statements
    before = len(statements.violations)
    with tempfile.TemporaryDirectory() as other:
        _, _, copy = run_copy(drill, {"TMPDIR": other}, seconds=45)
    drill.until("one of the two stops signing", lambda: find_stop(copy, drill.victim.home))
    stopped = find_stop(copy, drill.victim.home)
    double = statements.violations[before:]
    del statements.violations[before:]  # what this drill is about; reported in its own row
    shutil.rmtree(copy)
    drill.crash()
    statements.excuse(drill.victim.account, drill.campaign.top + 1)  # the copy's votes are in the copy's file
    drill.restart()
    drill.recovers()
    return f"{stopped}  [slashable pairs before one of the two stopped: {len(double)}]"


def find_stop(*homes: Path) -> str:
    for home in homes:
        for line in (home / "peer.log").read_text().splitlines():
            if "signing nothing more" in line:
                return f"{home.name}: {line.split(': ', 1)[1]}"
    return ""


def clock_of_one(drill: Drill, step: float) -> str:
    """Its own clock is wrong by this much for 20 s, then right again."""
    start = drill.campaign.report_head(drill.network.peers[0])
    drill.network.step_clock(drill.victim, step)
    drill.campaign.watch(20.0)
    blocks = drill.campaign.report_head(drill.network.peers[0]) - start
    expect(blocks >= 5, f"only {blocks} blocks in 20 s")
    drill.until("it follows", lambda: drill.campaign.report_head(drill.victim) >= start + blocks)
    log = (drill.victim.home / "peer.log").read_text()
    said = next((line.split(": ", 1)[1] for line in reversed(log.splitlines()) if "this machine's clock" in line), "")
    drill.network.step_clock(drill.victim, 0)
    drill.campaign.expect(drill.victim, drill.campaign.top + 1)
    seconds = drill.recovers()
    expect("check the clock" in said, "it said nothing of its clock")
    return f"{said}  [{blocks} blocks in 20 s; signed {seconds:.1f} s after the clock was right]"


def clock_forward(drill: Drill) -> str:
    return clock_of_one(drill, 3_600)


def clock_backward(drill: Drill) -> str:
    return clock_of_one(drill, -3_600)


def clocks_of_all_backward(drill: Drill) -> str:
    """As when a virtual machine with the whole network is resumed: chain time does not run backwards, so it waits."""
    step = 15.0
    for peer in drill.network.peers:
        drill.network.step_clock(peer, -step)
    began = time.monotonic()
    start = drill.campaign.report_head(drill.network.peers[0])
    drill.until("blocks again", lambda: drill.campaign.report_head(drill.network.peers[0]) >= start + 3)
    seconds = time.monotonic() - began
    for peer in drill.network.peers:
        drill.network.step_clock(peer, 0)
    drill.others_advance()
    return f"{step:.0f} s back everywhere: three more blocks after {seconds:.1f} s"


def everybody_is_well(drill: Drill) -> str:
    drill.campaign.prove_well(WAIT_SECONDS)
    return "every peer signs something new and holds all that was called final"


def expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Unavailable(otherwise)


DRILLS: tuple[Callable[[Drill], str], ...] = (
    read_only_disk, corrupt_wal, corrupt_signer, deleted_signer_file, old_copy_of_the_home, copy_on_this_machine,
    copy_elsewhere, clock_forward, clock_backward, clocks_of_all_backward, full_disk,
)  # fmt: skip


def run_drills(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    drill = Drill(folder)
    try:
        drill.begin()
        for action in [*(action for action in DRILLS if not names or action.__name__ in names), everybody_is_well]:
            began = time.monotonic()
            row: dict[str, Any] = {"drill": action.__name__}
            try:
                row |= {"ok": True, "said": action(drill)}
                drill.others_advance()
            except FlockError as error:
                row |= {"ok": False, "said": str(error)}
            rows.append(row | {"seconds": round(time.monotonic() - began, 1)})
            show(rows[-1])
            if not row["ok"]:
                break
    finally:
        drill.network.stop_all()
        rows.append(judge(drill))
        show(rows[-1])
        subprocess.run(["umount", drill.victim.home], capture_output=True, check=False)
    return rows


def show(row: dict[str, Any]) -> None:
    print(f"{row['drill']:<24}{'ok' if row['ok'] else 'FAILED'}  {row['said']}", file=sys.stderr, flush=True)


def judge(drill: Drill) -> dict[str, Any]:
    result = drill.campaign.judge()
    wrong = result["violations"] + drill.campaign.statements.unheard(peer.account for peer in drill.network.peers)
    return {"drill": "judged at the end", "ok": not wrong, "said": str(wrong)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], choices=[drill.__name__ for drill in DRILLS])
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flock-drills-") as folder:
        rows = run_drills(Path(folder), options.only)
    if options.json:
        print(json.dumps({"drills": rows}))
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
