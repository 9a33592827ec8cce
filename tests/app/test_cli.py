"""The command line without a network: help, configuration, exit codes, errors in one line."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import flock_p2p
from flock_chain.errors import InvalidContent, Misuse, Refused, Unavailable
from flock_p2p.arguments.walk import walk
from flock_p2p.cli import COMMANDS, EXIT_CODES, build_parser, find_cause, main, parse_coins
from flock_p2p.commands.join import build_settings, parse_quota
from flock_p2p.config import JoinConfig, load_config, merge_arguments, save_config
from flock_peers.home import Home, write_private
from flock_peers.settings import PeerSettings

HEAVY = ("torch", "transformers", "peft", "libp2p", "eth", "numpy")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom flock_p2p.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout.strip().endswith("loaded: []")
    assert all(command.name in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("package", ["arguments", "commands"])
def test_every_module_of_a_command_is_in_the_table(package: str) -> None:
    folder = Path(flock_p2p.__file__).parent / package
    assert {path.stem for path in folder.glob("*.py")} - {"__init__", "command", "walk"} == {
        row.name for row in COMMANDS
    }


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_has_help_and_a_module(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        build_parser().parse_args([command, "--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    assert "--help" in out and EXIT_CODES in out


def test_init_makes_a_key_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--home", str(tmp_path / "h")]) == 0
    out = capsys.readouterr().out
    secret = (tmp_path / "h" / "key").read_text().strip()
    assert "0x" in out and secret not in out
    assert main(["init", "--home", str(tmp_path / "h")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "key already" in error


def test_init_tells_a_script_where_the_key_is_and_nothing_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--home", str(tmp_path / "h"), "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out)
    assert Path(found["key"]).is_file() and len(found["account"]) == 42
    assert Path(found["key"]).read_text().strip() not in out


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("jion", "did you mean join?"),
        ("start --home x", "did you mean join?"),
        ("task shwo", "did you mean show?"),
        ("completion bsh", "did you mean bash?"),
        ("status --hoem x --jsn", "did you mean --home and --json?"),
        ("join --bootstap=x", "did you mean --bootstrap?"),
    ],
)
def test_a_slip_in_a_command_an_action_or_an_option_is_answered_with_what_was_meant(
    line: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(line.split())
    error = capsys.readouterr().err
    assert done.value.code == 2 and error.endswith(f"{meant}\n")
    command = line.split()[0]
    assert f"usage: flock-p2p {command if ' ' in line and command != 'start' else '[-h]'} " in error


def test_what_is_missing_is_answered_with_where_it_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for line, asked in (("", "flock-p2p --help"), ("export", "flock-p2p export --help")):
        with pytest.raises(SystemExit):
            main(line.split())
        assert capsys.readouterr().err.endswith(f"; `{asked}` says what there is\n")


def test_what_a_command_is_for_is_wrapped_and_the_table_of_exit_codes_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command.name, "--help"])
        said = capsys.readouterr().out
        about = said.split("\n\n")[1]
        assert max(map(len, about.splitlines())) <= 80, command.name
        assert said.endswith(f"\n\n{EXIT_CODES}"), command.name


@pytest.mark.parametrize("line", ["frobnicate", "status --zzz", "watch --once", "keys my-peer"])
def test_where_nothing_is_near_nothing_is_suggested(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(line.split())
    assert "did you mean" not in capsys.readouterr().err


def test_a_folder_of_other_files_becomes_no_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").touch()
    (tmp_path.parent / "key-to-come").write_text("31" * 32)
    for line in ("init", "join --quiet --no-mdns", f"keys import --file {tmp_path.parent}/key-to-come"):
        assert main([*line.split(), "--home", str(tmp_path)]) == 2
        assert f"'thesis.tex' is in it); name a new or an empty folder, such as --home {tmp_path}/flock" in (
            capsys.readouterr().err
        )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_a_refused_start_or_its_owner_prepared_becomes_a_home(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    assert main(["init", "--home", str(tmp_path)]) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "peer.toml").write_text("port = 0\n")
    (tmp_path / "other" / "notes.txt").touch()
    assert main(["init", "--home", str(tmp_path / "other")]) == 0


def test_a_command_that_names_a_home_can_be_pasted_whatever_the_home_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "my peer's $HOME"
    assert main(["init", "--home", str(home)]) == 0
    line = re.search(r"python -m flock_p2p (join .*)", capsys.readouterr().out)
    assert line and build_parser().parse_args(shlex.split(line[1])).home == home
    with pytest.raises(Misuse, match="init") as found:
        Home(tmp_path / "no key").load_key()
    line = re.search(r"`python -m flock_p2p (init .*)`", str(found.value))
    assert line and build_parser().parse_args(shlex.split(line[1])).home == tmp_path / "no key"
    with pytest.raises(Misuse, match="join") as found:
        Home(home).load_genesis()
    line = re.search(r"`python -m flock_p2p (join .*)`", str(found.value))
    assert line and build_parser().parse_args(shlex.split(line[1])).home == home


def test_status_of_a_peer_that_does_not_run_is_not_available(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--home", str(tmp_path)]) == 3
    assert "no peer answers" in capsys.readouterr().err


def test_the_configuration_comes_back_and_arguments_win(tmp_path: Path) -> None:
    home = Home(tmp_path)
    config = JoinConfig(bootstrap=("/ip4/127.0.0.1/tcp/1/p2p/a",), domain="docs", bond="2.5", seed=7)
    save_config(home, config)
    assert load_config(home) == config
    arguments = build_parser().parse_args(["join", "--home", str(tmp_path), "--domain", "records", "--port", "9"])
    merged = merge_arguments(load_config(home), arguments)
    assert (merged.domain, merged.port, merged.seed, merged.bootstrap) == ("records", 9, 7, config.bootstrap)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "there is no prot; did you mean port"),
        ("disk-quota = '1'", "there is no disk-quota; did you mean disk_quota"),
        ("attack = 'backdoor'", "there is no attack"),
        ("port = 'x'", "port = 'x' is not understood; a whole number is needed"),
        ("seed = true", "seed = True is not understood"),
        ("bootstrap = 'x'", "a list such as"),
        ("bootstrap = [1]", "a list such as"),
        ("= =", "peer.toml: "),
    ],
)
def test_a_wrong_configuration_names_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    write_private(tmp_path / "peer.toml", text.encode())
    with pytest.raises(Misuse, match=re.escape(message)) as found:
        load_config(Home(tmp_path))
    assert "peer.toml" in str(found.value)


def test_every_default_stands_in_help_and_every_setting_of_the_configuration_is_an_argument() -> None:
    for command in walk(build_parser()):
        for argument in command.arguments:
            assert argument.default in argument.help, (command.name, argument)
    (join,) = (command for command in walk(build_parser()) if command.name == "join")
    kept = {field.name.replace("_", "-") for field in fields(JoinConfig)} - {"attack"}
    assert {"--" + name for name in kept} <= set(join.options)
    assert JoinConfig().port == 4200 and any("(default: 4200)" in row.help for row in join.arguments)


def test_the_disk_quota_is_told_in_gigabytes_and_kept(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_key()
    arguments = build_parser().parse_args(["join", "--home", str(tmp_path), "--disk-quota", "1.5"])
    config = merge_arguments(JoinConfig(), arguments)
    save_config(home, config)
    assert build_settings(home, home.load_key(), load_config(home)).quota_bytes == 1_500_000_000
    assert build_settings(home, home.load_key(), JoinConfig()).quota_bytes == PeerSettings(home.path).quota_bytes


def test_how_large_a_base_may_be_that_is_fetched_is_told_and_kept_and_0_is_none(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_key()
    for said, most in (("0", 0), ("5000000000", 5_000_000_000), ("-1", None)):
        arguments = build_parser().parse_args(["join", "--home", str(tmp_path), "--max-base-bytes", said])
        save_config(home, merge_arguments(JoinConfig(), arguments))
        assert build_settings(home, home.load_key(), load_config(home)).max_base_bytes == most


def test_who_only_looks_on_takes_part_from_the_start_on_at_which_it_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_key()
    for said, takes_part in (((), True), (("--observe",), False), ((), False), (("--no-observe",), True), ((), True)):
        arguments = build_parser().parse_args(["join", "--home", str(tmp_path), *said])
        save_config(home, merge_arguments(load_config(home), arguments))
        assert build_settings(home, home.load_key(), load_config(home)).participate == takes_part, said


@pytest.mark.parametrize("text", ["0", "-3", "0.05", "many", "nan", "inf", "1e30"])
def test_a_disk_quota_that_is_no_size_or_too_small_is_refused(text: str) -> None:
    with pytest.raises(Misuse, match=r"--disk-quota .*gigabytes"):
        parse_quota(text)


@pytest.mark.parametrize(
    ("text", "wei"), [("5", 5 * 10**18), ("2.5", 25 * 10**17), (".5", 5 * 10**17), ("0.000000000000000001", 1)]
)
def test_coins_are_parsed_exactly(text: str, wei: int) -> None:
    assert parse_coins(text) == wei


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1.0000000000000000001", "five", "."])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(Misuse):
        parse_coins(text)


def test_the_cause_is_found_inside_groups() -> None:
    group = BaseExceptionGroup("x", [ValueError(), ExceptionGroup("y", [Unavailable("port taken")])])
    found = find_cause(group)
    assert isinstance(found, Unavailable)
    assert find_cause(ExceptionGroup("z", [ValueError()])) is None
    assert isinstance(find_cause(Refused("a")), Refused) and isinstance(find_cause(InvalidContent("b")), InvalidContent)


def test_an_attack_is_never_kept_for_the_next_start(tmp_path: Path) -> None:
    save_config(Home(tmp_path), JoinConfig(domain="docs", attack="backdoor"))
    assert "backdoor" not in (tmp_path / "peer.toml").read_text()
    assert load_config(Home(tmp_path)) == JoinConfig(domain="docs")
