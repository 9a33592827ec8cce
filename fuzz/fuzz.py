"""Coverage-guided fuzzing of every decoder that reads bytes of strangers.

    python fuzz/fuzz.py --target NAME,...|all --seconds N [--slice S] [--state FOLDER] [--json] [--merge]

Needs the extra `fuzz` (atheris). A fuzzer drives the decoders of one protocol (fuzz_groups.py), and `all` is all
fuzzers; a single decoder runs alone by its own name, and what it found is a seed of its fuzzer. Each runs in a process
of its own, in slices of S seconds, those with the fewest CPU seconds first, until N seconds are spent altogether;
corpus, crashes and sums stay in the state's folder, so the next call goes on where this one ended, also after a kill.
With --seconds 0 the table is printed, nothing runs. With --merge what the state holds is noted in
docs/reliability/fuzzing.json, where the campaigns of all machines add up, and the table of docs/reliability/network.md
is made of that; a state that was merged before is counted once.
A finding is any exception that is not the protocol's own, a broken property, an input that takes ten seconds (also
alone: on a machine that stands still any input does), or 1 GiB of memory; its bytes are kept beside the corpus, and
the exit status is 1 while there is any.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
for folder in ("fuzz", "", "chain", "contracts", "peers"):
    sys.path.insert(0, str(ROOT / folder))

from fuzz_counts import add_up, format_table, load, merge, name_campaign, replace_table  # noqa: E402 - by that path
from fuzz_groups import GROUPS  # noqa: E402
from fuzz_pauses import leave_out_pauses  # noqa: E402

COUNTS, PAGE = ROOT / "docs" / "reliability" / "fuzzing.json", ROOT / "docs" / "reliability" / "network.md"
INPUT_SECONDS = 10  # for one input of a few KB: all of them take milliseconds
MEMORY_MB = 1_024
LIMITS = (f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MB}")  # of every run, a repeated one too
INSTRUMENTED = [  # where decoders are: everything would take half a minute at each start
    *(f"flock_chain.{name}" for name in ("codec", "canonical_json", "bounded_json", "consensus", "aggregation")),
    *(f"flock_chain.{name}" for name in ("content", "proposal", "genesis", "parameters", "restart", "upgrades")),
    *(f"flock_chain.execution.{name}" for name in ("blocks", "transactions", "snapshot", "strict_rlp", "sorted_trie")),
    *(f"flock_peers.{name}" for name in ("network", "driver.sync", "snapshots", "courier", "training.document")),
    "flock_chain.ecvrf", "flock_p2p.rpc.endpoint", "flock_p2p.web", "flock_p2p.provenance",
    *(f"flock_chain.execution.{name}" for name in ("proof", "state_trie", "account_database", "validators")),
    "libp2p.relay.circuit_v2.protocol", "libp2p.relay.circuit_v2.utils",
    "libp2p.kad_dht.peer_routing", "libp2p.kad_dht.provider_store",
    "libp2p.pubsub.pubsub", "libp2p.pubsub.gossipsub", "libp2p.security.noise", "libp2p.protocol_muxer",
]  # fmt: skip
_STATUS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_DONE = re.compile(r"^Done \d+ runs in (\d+) second", re.MULTILINE)
_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s+(\d+)|^#(\d+)\s", re.MULTILINE)


def run_child(name: str, engine_arguments: list[str]) -> None:
    """Never returns: the engine ends the process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz_table import load_target
        from fuzz_target import use_one_run

        target = load_target(name)
    use_one_run()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        return target.mutate(data, random)[:max_size]

    atheris.Setup([sys.argv[0], *engine_arguments], target.check, custom_mutator=mutate)
    atheris.Fuzz()


class State:
    """One file of sums, replaced whole after each slice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "state.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, dict[str, Any]] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def row(self, name: str) -> dict[str, Any]:
        empty = {
            "seconds": 0.0,
            "cpu_seconds": 0.0,
            "executions": 0,
            "edges": 0,
            "features": 0,
            "corpus": 0,
            "crashes": [],
        }
        return self.rows.setdefault(name, empty)

    def find_next(self, names: list[str]) -> str:
        """By processor time: on a busy machine seconds on the clock say little."""
        return min(names, key=lambda name: self.row(name)["cpu_seconds"])

    def save(self) -> None:
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self.rows, indent=1, sort_keys=True))
        os.replace(part, self._path)


def merge_corpora(name: str, folder: Path) -> None:
    """What a decoder found alone, with the byte in front that chooses it in its fuzzer."""
    for number, member in enumerate(GROUPS.get(name, ())):
        for path in sorted((folder / member / "corpus").glob("*")):
            merged = folder / name / "corpus" / f"{member}-{path.name}"
            if not merged.exists():
                merged.write_bytes(bytes([number]) + path.read_bytes())


def run_slice(name: str, seconds: int, state: State, seeds: list[bytes], max_bytes: int) -> None:
    corpus, crashes = state.folder / name / "corpus", state.folder / name / "crashes"
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    merge_corpora(name, state.folder)
    arguments = [
        str(corpus), *LIMITS, f"-max_total_time={seconds}",
        f"-max_len={max(max_bytes, *(2 * len(seed) for seed in seeds))}", f"-artifact_prefix={crashes}/",
        "-print_final_stats=1", "-use_value_profile=1", "-reload=0",
    ]  # fmt: skip
    before, start, cpu = set(crashes.iterdir()), time.monotonic(), _children_cpu()
    log = state.folder / name / "log"
    with log.open("wb") as file:
        command = [sys.executable, __file__, "--child", name, *arguments]
        code = subprocess.run(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL).returncode
    text = log.read_text(errors="replace")
    found = sorted(path.name for path in set(crashes.iterdir()) - before)
    row = state.row(name)
    done = _DONE.search(text)  # without the start of the process, which takes up to twenty
    row["seconds"] = round(row["seconds"] + (int(done[1]) if done else time.monotonic() - start), 1)
    row["cpu_seconds"] = round(row["cpu_seconds"] + _children_cpu() - cpu, 1)
    row["executions"] += max((int(a or b) for a, b in _EXECUTIONS.findall(text)), default=0)
    for edges, features, size in _STATUS.findall(text):
        row["edges"], row["features"] = max(row["edges"], int(edges)), max(row["features"], int(features))
        row["corpus"] = int(size)
    log_name = f"failure-{int(time.time())}.log"
    paused = leave_out_pauses(found, lambda file: _run_alone(name, crashes / file))
    found = [file for file in found if file not in paused]
    row["crashes"] += found or ([log_name] if code > 0 and not paused else [])  # below zero: ended from outside
    if found or (code and not paused):
        (state.folder / name / log_name).write_text(text)
        print(f"{name}: status {code}, {', '.join(found) or 'see the log'}", file=sys.stderr, flush=True)
    state.save()


def _run_alone(name: str, path: Path) -> int:
    """The exit status of a process that gets this one input."""
    command = [sys.executable, __file__, "--child", name, str(path), *LIMITS]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def merge_counts(state: State) -> None:
    merge(COUNTS, name_campaign(state.folder), state.rows)
    PAGE.write_text(replace_table(PAGE.read_text(), format_table(add_up(load(COUNTS)))))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        run_child(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="all", help="fuzzers or decoders, with commas between; or all fuzzers")
    parser.add_argument("--seconds", type=int, default=600, help="altogether, over all targets")
    parser.add_argument("--slice", type=int, default=60, help="seconds of one target before the next has its turn")
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--merge", action="store_true", help="note the state's sums in the repository")
    options = parser.parse_args()
    from fuzz_table import load_target, load_targets

    known = [*GROUPS, *load_targets()]
    names = list(GROUPS) if options.target == "all" else options.target.split(",")
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(known)}")
    if options.seconds and find_spec("atheris") is None:
        parser.error("no atheris here; the extra `fuzz` has it")
    targets = {name: load_target(name) for name in names}
    state = State(options.state)
    end = time.monotonic() + options.seconds
    while (left := end - time.monotonic()) >= 1:
        name = state.find_next(names)
        target = targets[name]
        run_slice(name, min(options.slice, max(1, int(left))), state, target.seeds(), target.max_bytes)
    rows = {name: state.row(name) for name in names}
    if options.merge:
        merge_counts(state)
    counted = {name: {**row, "findings": len(row["crashes"])} for name, row in rows.items()}
    print(json.dumps(rows) if options.json else format_table(counted))
    sys.exit(any(row["crashes"] for row in rows.values()))


if __name__ == "__main__":
    main()
