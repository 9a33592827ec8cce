"""The completion scripts, in the shells that are here."""

import shutil
import subprocess

import pytest

from flock_p2p.arguments.walk import walk
from flock_p2p.cli import COMMANDS, build_parser, main
from flock_p2p.completion import SHELLS, render


def script(shell: str) -> str:
    return render(shell, walk(build_parser()))


def complete_in_bash(*words: str) -> list[str]:
    """What bash offers for the last word, which may be empty."""
    typed = " ".join(f"'{word}'" for word in ("flock-p2p", *words))
    ask = f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _flock_p2p\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    code = f"{script('bash')}\n{ask}"
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert not done.stderr
    return done.stdout.split()


def test_bash_offers_commands_options_choices_and_actions() -> None:
    assert {command.name for command in COMMANDS} <= set(complete_in_bash(""))
    assert complete_in_bash("joi") == ["join"]
    assert complete_in_bash("join", "--disk") == ["--disk-quota"]
    assert complete_in_bash("merge", "--precision", "") == ["base", "float32"]
    assert complete_in_bash("task", "lea") == ["leave"]
    assert complete_in_bash("abi", "Ta") == ["TaskBoard"]
    assert complete_in_bash("join", "--port", "") == []
    assert "--attack" not in complete_in_bash("join", "--")


def test_bash_offers_files_where_a_path_is_wanted() -> None:
    assert "/etc/passwd" in complete_in_bash("join", "--data", "/etc/passw")
    assert "/etc/passwd" in complete_in_bash("protection", "export", "--file", "/etc/passw")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_script_names_every_command_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for command in walk(build_parser()):
        assert command.name in text
        for option in command.options:
            assert (f"-l {option[2:]} " if shell == "fish" and option.startswith("--") else option[1:]) in text


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself_reads_its_script_without_complaint(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    load = {"bash": "", "zsh": "autoload -U compinit && compinit -u -D\n", "fish": ""}[shell]
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [shell, *options, "-c", load + script(shell)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed here")
def test_fish_offers_commands_and_choices() -> None:
    code = script("fish") + "complete -C 'flock-p2p merge --precision '\ncomplete -C 'flock-p2p jo'"
    done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, check=True, timeout=180)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["base", "float32", "join"]
