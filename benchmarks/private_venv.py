"""Pinned packages of programs that this project does not depend on, fetched by pip or npm and kept between runs."""

import subprocess
import sys
from pathlib import Path

CACHE = Path.home() / ".cache" / "flock-benchmarks"
INSTALL_SECONDS = 1_800.0
ERROR_LINES = 3  # of what an installer says, in the message


class NotInstalled(Exception):
    """The packages cannot be had here; the text says what the installer said."""


def open_venv(name: str, packages: tuple[str, ...]) -> Path:
    """The folder of its programs."""
    folder, wanted = CACHE / name, "\n".join(packages)
    mark = folder / "packages.txt"
    if not mark.exists() or mark.read_text() != wanted:
        mark.unlink(missing_ok=True)
        install(sys.executable, "-m", "venv", "--clear", str(folder))
        install(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages)
        mark.write_text(wanted)
    return folder / "bin"


def install(*command: str, folder: Path | None = None, seconds: float = INSTALL_SECONDS) -> None:
    """Runs one installer, in that folder."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"{' '.join(command[:4])}: {error}") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).splitlines()  # venv says on standard output that ensurepip is not there
        lines = [line for line in said if "error" in line.lower()] or said
        raise NotInstalled(" ".join(lines[-ERROR_LINES:]))
