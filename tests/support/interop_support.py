"""js-libp2p, helia, ethers and viem for the interop tests: installed from npm, once per lock file, in a cache."""

import fcntl
import json
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio

FOLDER = Path(__file__).parent.parent / "interop" / "js"
FILES = ("package.json", "package-lock.json", ".npmrc")
SCRIPTS = ("absent.mjs", "nothing.mjs", "dial.mjs", "ethers.mjs", "viem.mjs")
INSTALL_SECONDS = 300
SECONDS = 90.0
OLDEST_NODE = 20


def install(script: str = "dial.mjs") -> Path:
    """Where it can be run. Skips the test, with the reason, where node or the registry is not to be had."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed (Debian: apt-get install nodejs npm)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {version} is too old for them; {OLDEST_NODE} is the oldest that was tried")
    name = sha256(b"".join((FOLDER / file).read_bytes() for file in FILES) + version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flock-interop"
    target = cache / name
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:  # tests of several processes want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _install(npm, cache / f"{name}.{os.getpid()}", target)
    for each in SCRIPTS:  # beside node_modules, where their imports are looked up
        fresh = target / f"{each}.{os.getpid()}"
        shutil.copy(FOLDER / each, fresh)
        fresh.replace(target / each)
    return target / script


def _install(npm: str, part: Path, target: Path) -> None:
    part.mkdir()
    for file in FILES:
        shutil.copy(FOLDER / file, part / file)
    command = [npm, "ci", "--prefer-offline"]
    done = subprocess.run(command, cwd=part, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        shutil.rmtree(part)
        pytest.skip(f"npm could not install them: {done.stderr.strip()[-300:]}")
    part.rename(target)


async def run_node(script: Path, *arguments: str) -> list[dict[str, Any]]:
    """What it reported, a JSON object a line; it must have ended well."""
    with trio.fail_after(SECONDS):
        done = await trio.run_process(
            ["node", str(script), *arguments], capture_stdout=True, capture_stderr=True, check=False
        )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (reports, done.stderr.decode()[-2_000:])
    return reports
