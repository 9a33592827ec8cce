"""Every command that README.md and the other pages tell people to type is run here, or stands here with the reason.

As it is written, but for the words that stand for something: addresses, hashes, accounts. An evening of two: a
network that is there (one validator), somebody who joins it, a stranger with a model; then a home that was stopped.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from app_support import Script, play
from documented_support import ROOT, Run, Runner, all_pages, exit_code, find_commands, open_runner
from execution_support import VALIDATORS, Chain, make_genesis
from rpc_support import USER, VALIDATOR, make_rpc_genesis

from flock_chain.crypto import Key
from flock_chain.errors import Misuse
from flock_chain.genesis import Genesis
from flock_chain.upgrades import Schedule
from flock_p2p.cli import build_parser
from flock_p2p.commands.experiment import _plan as plan_experiment
from flock_peers.home import Home, write_private
from flock_peers.store.chain_store import ChainStore
from flock_peers.training.client import BASE_FOLDER

pytestmark = pytest.mark.process
EPOCH_BLOCKS = 4  # a snapshot is made in each

# A peer of this home runs from here on (and the one before it ends); it is asked; it is followed for a line; Ctrl-C.
START, ASK, FOLLOW, STOP = "start", "ask", "follow", "stop"
LIVE = (
    (ASK, "doctor"),
    (ASK, "status --home flock-demo/TIME/peer0"),
    (START, "join --home my-peer --bootstrap ADDRESS --port 0"),
    (FOLLOW, "watch --home my-peer"),
    (ASK, "peers --home my-peer"),
    (ASK, "task list --home my-peer"),
    (ASK, "stake --home my-peer"),
    (ASK, "status --home my-peer --json"),
    (START, "join --home my-peer"),
    (START, "join --home my-peer --data rows.jsonl"),
    (START, "join --home my-peer --rpc"),
    (START, "join --home my-peer --rpc --rpc-origin http://localhost:5173"),
    (START, "join --home my-peer --bootstrap /ip4/127.0.0.1/tcp/4200/p2p/16Uiu2... --port 0"),
    (START, "join --home stranger --bootstrap ADDRESS --port 0 --observe"),
    (ASK, "send --home flock-demo/TIME/peer0 --to ACCOUNT --amount 60"),
    (
        ASK,
        "task create --home stranger --model my-model --data-format text --rounds 2 --pot 40 --name \"our own model\"",
    ),
    (ASK, "task show --home stranger"),
    (ASK, "task create --home my-peer --pot 20 --rounds 5 --name \"our logs\""),
    (
        ASK,
        "task create --home my-peer --model my-model --data-format text --rounds 3 --pot 40 --name \"our logs\"",
    ),
    (ASK, "task create --home my-peer --pot 20 --audit-rounds 2 --reference rows-of-all.txt"),
    (ASK, "task reference --home my-peer"),
    (STOP, "my-peer"),
    (START, "join --home my-peer --bootstrap ADDRESS --checkpoint 1234:HASH"),
)  # fmt: skip
FOUNDED = 'init --home my-peer --new-network "our lan"'  # and then `join --home my-peer`
FOUNDED_BY_THREE = f"{FOUNDED} --founder ACCOUNT:VRFKEY --founder ACCOUNT:VRFKEY"
STOPPED = (
    "verify --home my-peer",
    "verify --home flock-demo/TIME/peer0",
    "upgrade --home HOME --install FILE",
    "keys export --home my-peer --file back-up.json",
    "protection export --home my-peer --file signed.json",
    "keys import --home moved --file back-up.json",
    "protection import --home moved --file signed.json",
    "keys lock --home my-peer",
    "restart propose --document restart.json --without ACCOUNT --without ACCOUNT",
    "restart apply --document restart.json --hash HASH",
    "abi",
    "abi TaskBoard",
    "demo --help",
    "--help",
)
SYNOPSIS = "simulate [--seed S] [--schedules N] [--validators n] [--faults LIST] [--jobs J] [--json]"
SHORTER = {  # as it is written, it takes minutes
    "simulate --schedules 1000": "simulate --schedules 4",
    "simulate --faults crash,liar,rounds --validators 5": "simulate --faults crash,liar,rounds --schedules 1",
    SYNOPSIS: "simulate --seed 7 --schedules 2 --validators 4 --faults crash --jobs 1 --json",
}
EXPERIMENTS = {  # as they are written, they train for minutes or hours; the second finds the first one's row done
    "experiment --quick": "experiment --quick --methods fedavg --attacks none --rounds 1",
    "experiment": "experiment --methods fedavg --attacks none --rounds 1 --json",
}
DEMO, EXPORT = "tests/process/test_demo_command.py", "tests/app/test_export_adapter.py"
ELSEWHERE = {  # run by another test, which takes long enough; and what stands there of it
    "export --home my-peer --out adapter": (EXPORT, '"export --home my-peer --out adapter"'),
    "verify --provenance adapter --genesis HASH": (EXPORT, '"verify --provenance adapter --genesis HASH"'),
    "verify --provenance FOLDER --genesis HASH": (EXPORT, '"verify --provenance adapter --genesis HASH"'),
    "merge --adapter adapter --out model": (EXPORT, '"merge --adapter adapter --out model"'),
    "simulate --prove": ("tests/app/test_simulate_command.py", '_run(capsys, "--prove")'),
    "simulate --mutants": ("tests/consensus/test_consensus_mutants.py", "def test_the_campaign_tells_who_was_killed"),
    "demo --rounds 10 --keep-running": (DEMO, '"demo", "--rounds", "1", "--keep-running"'),
    "demo --seed 812 --bits 4 --home /tmp/demo812": (DEMO, '"--seed", "5", "--bits", "4", "--home"'),
    "demo --voting-rule paper": (DEMO, '"demo", "--voting-rule", "paper", *least'),
}
SHOWN = {  # what a command has printed in a run, with that run's names
    "verify --home flock-demo/20261122-125929/peer0",
    "join --home NEW --bootstrap /ip4/192.0.2.2/tcp/41669/p2p/16Uiu2HAm85FoMDTFxJb7g4nbqKPLhLXEJ8KKhBCTf6qVbxQVo6cP",
}
HOURS = re.compile(r"experiment --methods ")  # of one core each: how the figures beside them were made
PASSPHRASE = "a passphrase of nine odd words\n" * 2


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with open_runner() as opened:
        yield opened


def test_every_command_of_the_pages_is_run_or_has_a_reason_not_to_be() -> None:
    pages = [page for page in all_pages() if page != ROOT / "docs" / "cli.md"]  # which shows what the parsers say
    written = {line for page in pages for line in find_commands(page.read_text())}
    run = {line for how, line in LIVE if how != STOP} | {*STOPPED, *SHORTER, *EXPERIMENTS, FOUNDED, FOUNDED_BY_THREE}
    listed = run | {*ELSEWHERE} | SHOWN
    assert {line for line in written - listed if not HOURS.match(line)} == set(), "no test runs these"
    assert listed - written == set(), "no page has these any more"
    for command, shorter in (SHORTER | EXPERIMENTS).items():
        assert shorter.split()[0] == command.split()[0]
    for path, text in ELSEWHERE.values():
        assert text in (ROOT / path).read_text(), (path, text)


@pytest.mark.parametrize("line", sorted({*EXPERIMENTS, *ELSEWHERE}))
def test_what_is_run_with_other_options_is_understood_as_it_is_written(line: str) -> None:
    assert build_parser().parse_args(shlex.split(line)).command == line.split()[0]


def test_what_takes_hours_names_methods_attacks_and_seeds_that_there_are() -> None:
    lines = {line for page in all_pages() for line in find_commands(page.read_text()) if HOURS.match(line)}
    assert len(lines) > 5
    for line in lines:
        assert plan_experiment(build_parser().parse_args(shlex.split(line))), line
    with pytest.raises(Misuse, match="fedbest"):
        plan_experiment(build_parser().parse_args(["experiment", "--methods", "fedbest"]))


def test_a_run_ends_with_the_code_that_the_interpreter_would_give() -> None:
    assert [exit_code(SystemExit(code)) for code in (None, 0, 3, "one line")] == [0, 0, 3, 1]


def test_what_has_ended_keeps_its_number_so_that_no_other_process_is_killed_for_it(
    runner: Runner, tmp_path: Path
) -> None:
    run = runner.run(tmp_path, "abi")
    assert run.wait_over() == 0
    state = Path("/proc", run.output.with_suffix(".pid").read_text(), "stat")
    run._wait(lambda: ") Z " in state.read_text())  # it is over, and there is nobody else of that number


def prepare(home: Path, key: Key | None = None, genesis: Genesis | None = None) -> None:
    """On this machine alone, at no fixed port, and with no trainer, which other tests start."""
    write_private(home / "peer.toml", b'listen = "127.0.0.1"\nport = 0\nhttp = 0\nobserve = true\n')
    if key is not None:
        write_private(home / "key", key.secret.hex().encode() + b"\n")
    if genesis is not None:
        write_private(home / "genesis.json", genesis.encode())


class Evening:
    """The folder in which somebody types, and what runs there."""

    def __init__(self, runner: Runner, folder: Path) -> None:
        self.runner, self.folder, self.running = runner, folder, dict[str, Run]()
        self.words: dict[str, str] = {}

    def start(self, line: str) -> str:
        """What it prints when it is ready."""
        home = line.split("--home ")[1].split()[0]
        self.stop(home)
        self.running[home] = run = self.runner.run(self.folder, self.fill_in(line))
        run.wait_said(r"^to join  (.+)$")
        return run.said()

    def stop(self, home: str) -> None:
        if home in self.running:
            run = self.running.pop(home)
            assert run.end() == 0, run.said()

    def ask(self, line: str) -> str:
        run = self.runner.run(self.folder, self.fill_in(line))
        code = run.wait_over()
        assert code == 0 or (line == "doctor" and code == 1), (line, run.said())
        assert "Traceback" not in run.said()
        return run.said()

    def follow(self, line: str) -> None:
        run = self.runner.run(self.folder, self.fill_in(line))
        run.wait_said("height [0-9]+")
        assert run.end() == 0

    def fill_in(self, line: str) -> str:
        for word, meaning in self.words.items():
            line = line.replace(word, meaning)
        return line


def test_what_is_typed_beside_a_running_network_works_as_it_is_written(runner: Runner, tmp_path: Path) -> None:
    evening, here = Evening(runner, tmp_path), "flock-demo/TIME/peer0"
    genesis = make_rpc_genesis()
    genesis = replace(genesis, parameters=replace(genesis.parameters, epoch_blocks=EPOCH_BLOCKS, epoch_seconds=0))
    prepare(tmp_path / here, VALIDATOR, genesis)
    prepare(tmp_path / "my-peer", USER)
    prepare(tmp_path / "stranger")
    shutil.copytree(BASE_FOLDER, tmp_path / "my-model")  # one that opens: a task on another one is refused
    (tmp_path / "rows-of-all.txt").write_text("How many?\n\x1b[2J\u2028\u202eAs many as before.\n")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": f"row {n} of mine"}) + "\n" for n in range(20)))
    try:
        said = evening.start(f"join --home {here}")
        address = re.search(r"^address  (\S+)$", said, re.MULTILINE)
        assert address is not None
        evening.words = {"ADDRESS": address[1], "/ip4/127.0.0.1/tcp/4200/p2p/16Uiu2...": address[1]}
        for how, line in LIVE:
            if how == STOP:
                evening.stop(line)
                (tmp_path / line).rename(tmp_path / "before")
                prepare(tmp_path / line)
                status = json.loads(evening.ask(f"status --home {here} --json"))
                evening.words["1234:HASH"] = f"{status['height']}:{status['block']}"
            elif how == START:
                said = evening.start(line)
                if "stranger" in line:
                    evening.words["ACCOUNT"] = re.findall(r"^account  (\S+)$", said, re.MULTILINE)[0]
            elif how == ASK:
                said = evening.ask(line)
                if "--reference" in line:
                    assert "reference  0.0 kB of text that audits blame nobody for" in said
                if "task reference" in line:
                    assert said == "How many?\n?[2J\n?As many as before.\n"  # and nothing in it moves the cursor
            else:
                evening.follow(line)
    finally:
        for home in list(evening.running):
            evening.stop(home)


@pytest.mark.parametrize("others", [(), ("second", "third")], ids=["alone", "with two others"])
def test_a_network_of_ones_own_is_started_as_it_is_written(
    runner: Runner, tmp_path: Path, others: tuple[str, ...]
) -> None:
    evening, line = Evening(runner, tmp_path), FOUNDED_BY_THREE if others else FOUNDED
    for name in others:
        evening.ask(f"init --home {name}")
        found = re.search(r"^founder +(\S+)", evening.ask(f"keys --home {name}"), re.MULTILINE)
        assert found is not None
        line = line.replace("ACCOUNT:VRFKEY", found[1], 1)
    prepare(tmp_path / "my-peer")
    digest = re.search(r"^network +our lan, genesis (\w{64})$", evening.ask(line), re.MULTILINE)
    try:
        said = evening.start("join --home my-peer")
        assert digest is not None and f"genesis  {digest[1]}\n" in said
    finally:
        evening.stop("my-peer")


def test_what_is_typed_at_a_stopped_home_works_as_it_is_written(runner: Runner, tmp_path: Path) -> None:
    evening = Evening(runner, tmp_path)
    played = play(tmp_path / "my-peer", Script(rounds=1))
    (tmp_path / "flock-demo" / "TIME").mkdir(parents=True)
    (tmp_path / "flock-demo" / "TIME" / "peer0").symlink_to(played.home)
    (tmp_path / "schedule.json").write_bytes(Schedule(played.genesis.hash).encode())
    lay_out_halted_chain(Home(tmp_path / ".flock"))
    (Home(played.home).folder("consensus") / "signer.log").touch()  # of a validator that has signed nothing yet
    evening.words = {"HOME": "my-peer", "FILE": "schedule.json"}
    for line in STOPPED:
        if line.startswith("restart propose"):
            for key in VALIDATORS[2:]:
                line = line.replace("ACCOUNT", key.account.hex(), 1)
        run = runner.run(tmp_path, evening.fill_in(line), typed=PASSPHRASE if asks_for_passphrase(line) else "")
        assert run.wait_over() == 0, (line, run.said())
        if line.startswith("restart propose"):
            evening.words["HASH"] = re.findall(r"^hash +(\S+)$", run.said(), re.MULTILINE)[0]


def asks_for_passphrase(line: str) -> bool:
    return line.startswith("keys") or line == "protection import --home moved --file signed.json"


def lay_out_halted_chain(home: Home) -> None:
    chain = Chain(make_genesis())
    write_private(home.genesis_path, chain.genesis.encode())
    chain.add()
    with ChainStore(home.folder("chain")) as store:
        store.commit(dict(chain.store.rows))


@pytest.mark.parametrize("line", sorted(SHORTER.values()))
def test_what_takes_long_works_shorter(runner: Runner, tmp_path: Path, line: str) -> None:
    run = runner.run(tmp_path, line)
    assert run.wait_over() == 0, run.said()


def test_an_experiment_trains_as_quickly_as_it_is_told_and_trains_nothing_twice(runner: Runner, tmp_path: Path) -> None:
    quick = runner.run(tmp_path, EXPERIMENTS["experiment --quick"])
    assert quick.wait_over() == 0 and re.search(r"^fedavg +none +0 +1 +1 ", quick.said(), re.MULTILINE), quick.said()
    assert "fedavg, none, seed 1: begins; " in quick.said() and "fedavg, none, seed 1: done; " in quick.said()
    assert "Loading weights" not in quick.said() and "FutureWarning" not in quick.said()  # what libraries say
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "flock-experiment").glob("*.json*")}
    whole = runner.run(tmp_path, EXPERIMENTS["experiment"])
    assert whole.wait_over() == 0, whole.said()
    (row,) = json.loads(whole.said()[whole.said().index("[{") :].splitlines()[0])
    assert row["method"] == "fedavg" and row["rounds"] == 1
    assert written and all(
        (tmp_path / "flock-experiment" / name).stat().st_mtime_ns == at for name, at in written.items()
    )
