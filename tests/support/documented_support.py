"""The commands that the documents tell people to type, and processes that run them: forks of one that has imported all.

A real process for each command, with a session, a folder and a home of its own, for a tenth of what a start takes.
"""

import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from flock_p2p.cli import COMMANDS, main
from flock_p2p.loading import load_peer

ROOT = Path(__file__).parents[2]
NAMES = {command.name for command in COMMANDS}
_COMMAND = re.compile(r"(?:python -m flock_p2p|flock-p2p) ((?:\w|-)[^`\n#|()]*)")
PROGRAM = re.compile(r"python (?:-m (?!flock_p2p(?![.\w]))(flock_[\w.]+)|([\w/]+\.py))([^`\n#]*)")  # and its options
SOURCE_ROOTS = (".", "chain", "contracts", "peers")
PRELOADED = ("join", "task", "status", "keys", "watch", "doctor", "verify", "export")
POLL_SECONDS = 0.02
SECONDS = 180.0  # for what takes one or two on an idle machine
PROGRAM_SECONDS = 600.0  # for a program, which may take a minute there
OFFLINE = {"PIP_NO_INDEX": "1", "npm_config_offline": "true"}  # what a program fetches is not there


def find_commands(text: str) -> list[str]:
    """In lines of code and between backticks; a word after the program that is no command is prose."""
    found = _COMMAND.findall(text)
    return [line.strip() for line in found if line.split()[0] in NAMES or line.startswith("-")]


def all_pages() -> list[Path]:
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "contracts" / "README.md"]


def find_program(name: str) -> Path:
    """Its source: `name` is a path, or a module."""
    path = name if name.endswith(".py") else name.replace(".", "/") + ".py"
    (source,) = (ROOT / root / path for root in SOURCE_ROOTS if (ROOT / root / path).is_file())
    return source


class Runner:
    """Made by `open_runner`."""

    def __init__(self, requests: Any) -> None:
        self._requests, self._count = requests, 0

    def run(
        self,
        folder: Path,
        line: str,
        *,
        typed: str = "",
        program: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> "Run":
        """`folder`: in which it is typed, and the user's own. `typed`: at the terminal, where it asks. `program`: where
        `line` is told to another one than the product. `environment`: more of it than there is."""
        self._count += 1
        run = Run(line, folder / f"{self._count}.output")
        request = {
            "words": shlex.split(line), "folder": str(folder), "output": str(run.output), "typed": typed,
            "program": program, "environment": dict(environment or {}),
        }  # fmt: skip
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()
        return run

    def check_program(self, folder: Path, name: str, line: str, what: str) -> None:
        """It ends well, and says what the expression `what` matches."""
        run = self.run(folder, line, program=name, environment=OFFLINE)
        assert run.wait_over(PROGRAM_SECONDS) == 0, run.said()
        assert re.search(what, run.said(), re.MULTILINE) and "Traceback" not in run.said(), run.said()


class Run:
    """One command: `output` is what it prints, and beside it lie its process id and, when it is over, its exit code."""

    def __init__(self, line: str, output: Path) -> None:
        self.line, self.output = line, output

    def said(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def find_code(self) -> int | None:
        path = self.output.with_suffix(".code")
        return int(path.read_text()) if path.exists() else None

    def wait_said(self, pattern: str) -> re.Match[str]:
        """Until it has printed what matches, and runs on."""
        compiled = re.compile(pattern, re.MULTILINE)

        def look() -> re.Match[str] | None:
            assert self.find_code() is None, (self.line, self.said())
            return compiled.search(self.said())

        found: re.Match[str] = self._wait(look)
        return found

    def wait_over(self, seconds: float = SECONDS) -> int:
        self._wait(lambda: self.find_code() is not None, seconds)
        return self.find_code() or 0

    def end(self) -> int:
        """Ctrl-C."""
        os.kill(int(self.output.with_suffix(".pid").read_text()), signal.SIGINT)
        return self.wait_over()

    def _wait(self, look: Callable[[], Any], seconds: float = SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, (self.line, self.said())
            time.sleep(POLL_SECONDS)
        return found


@contextmanager
def open_runner() -> Iterator[Runner]:
    server = subprocess.Popen(
        [sys.executable, "-c", "from documented_support import serve; serve()"],
        stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    try:
        yield Runner(server.stdin)
    finally:
        assert server.stdin is not None
        server.stdin.close()
        try:
            server.wait(SECONDS)
        except subprocess.TimeoutExpired:
            _kill_forks(server.pid)
            raise
        finally:
            server.kill()


def _kill_forks(parent: int) -> None:
    """They lead sessions of their own, so the end of who forked them is not theirs."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):  # it ended meanwhile
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                os.killpg(int(folder.name), signal.SIGKILL)


# In the process that forks


def serve() -> None:
    """Until nobody asks any more; whatever still runs then is killed."""
    load_peer()
    for name in PRELOADED:
        import_module(f"flock_p2p.commands.{name}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who runs the tests; each fork has its own way of it
    pids = []  # none is waited for: what has ended keeps its number until all is over, so no other process is killed
    for request in sys.stdin:
        pids.append(os.fork())
        if pids[-1] == 0:
            _run(**json.loads(request))
    for pid in pids:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _run(words: list[str], folder: str, output: str, typed: str, program: str, environment: dict[str, str]) -> None:
    """In the fork."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests are a job in the background
    os.chdir(folder)
    os.environ.update(environment, HOME=folder)
    written, given = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600), os.open(os.devnull, os.O_RDONLY)
    if typed:
        terminal, given = os.openpty()
        os.close(os.open(os.ttyname(given), os.O_RDWR))  # the session's own from here on
        threading.Thread(target=_type, args=(terminal, typed.encode().splitlines(keepends=True)), daemon=True).start()
    for number, descriptor in enumerate((given, written, written)):
        os.dup2(descriptor, number)
    Path(output).with_suffix(".pid").write_text(str(os.getpid()))
    code = 1
    try:
        code = run_program(find_program(program), words) if program else main(words)
    except SystemExit as error:
        code = exit_code(error)
    except BaseException:  # noqa: BLE001 - as the interpreter would end
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    done = Path(output).with_suffix(".done")
    done.write_text(str(code))
    done.rename(Path(output).with_suffix(".code"))
    os._exit(code)


def run_program(source: Path, words: list[str]) -> int:
    sys.argv = [str(source), *words]
    sys.path.insert(0, str(source.parent))
    runpy.run_path(str(source), run_name="__main__")
    return 0


def exit_code(error: SystemExit) -> int:
    """As the interpreter would end; it prints a text, too."""
    if isinstance(error.code, str):
        print(error.code, file=sys.stderr)
    return int(error.code) if isinstance(error.code, int) else int(error.code is not None)


def _type(terminal: int, lines: list[bytes]) -> None:
    """Each when it is asked for: what was typed before is thrown away."""
    for line in lines:
        while not os.read(terminal, 1_024).endswith(b": "):
            pass
        os.write(terminal, line)
