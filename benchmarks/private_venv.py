"""A virtual environment of pinned packages for a program that this project does not depend on, kept between runs."""

import subprocess
import sys
from pathlib import Path

CACHE = Path.home() / ".cache" / "flock-benchmarks"
INSTALL_SECONDS = 1_800.0
ERROR_LINES = 3  # of pip's, in the message


class NotInstalled(Exception):
    """The packages cannot be had here; the text says what pip said."""


def open_venv(name: str, packages: tuple[str, ...]) -> Path:
    """The folder of its programs."""
    folder, wanted = CACHE / name, "\n".join(packages)
    mark = folder / "packages.txt"
    if not mark.exists() or mark.read_text() != wanted:
        mark.unlink(missing_ok=True)
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages)
        mark.write_text(wanted)
    return folder / "bin"


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"{' '.join(command[:4])}: {error}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
        raise NotInstalled(" ".join(lines[-ERROR_LINES:]))
