"""js-libp2p and helia for the interop tests: installed from npm, once per lock file, into the user's cache."""

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "interop" / "js"
FILES = ("package.json", "package-lock.json", ".npmrc", "absent.mjs", "nothing.mjs", "dial.mjs")
INSTALL_SECONDS = 300
OLDEST_NODE = 20


def install() -> Path:
    """Where `dial.mjs` can be run. Skips the test, with the reason, where node or the registry is not to be had."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed (Debian: apt-get install nodejs npm)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {version} is too old for js-libp2p 3; {OLDEST_NODE} is the oldest that was tried")
    name = sha256(b"".join((FOLDER / file).read_bytes() for file in FILES) + version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flock-interop"
    target = cache / name
    if not target.exists():
        part = cache / f"{name}.{os.getpid()}"
        part.mkdir(parents=True)
        for file in FILES:
            shutil.copy(FOLDER / file, part / file)
        done = subprocess.run(
            [npm, "ci", "--prefer-offline"],
            cwd=part,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(part)
            pytest.skip(f"npm could not install js-libp2p: {done.stderr.strip()[-300:]}")
        part.rename(target)
    return target / "dial.mjs"
