"""What of MetaMask is on npm, its controllers, on a peer of this process: adds the network, asks for fees, sends coins.

    python benchmarks/metamask.py [--patience SECONDS]

npm installs them, as they were on one day, into a cache. Says what they found, which methods they called and which
calls failed; the exit status is 1 where one did, or the transaction was not confirmed, and 3 where they cannot be
fetched. The extension itself is not run.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import trio
from private_venv import CACHE, INSTALL_SECONDS, NotInstalled, install

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from rpc_support import USER, serving  # noqa: E402 - a whole peer, the only validator of its chain

PACKAGES = (
    "@metamask/base-controller@8.4.1", "@metamask/network-controller@23.6.0", "@metamask/gas-fee-controller@23.0.0",
    "@metamask/transaction-controller@57.3.0", "deepmerge@4.3.1", "@babel/runtime@7.28.4",
)  # fmt: skip
DAY = "2025-12-01"  # of what these depend on
SECONDS = 180.0
SCRIPT = Path(__file__).with_suffix(".mjs")


def fetch(seconds: float) -> Path:
    """The script beside its packages."""
    folder = CACHE / "metamask"
    mark, wanted = folder / "packages.txt", "\n".join([*PACKAGES, DAY])
    if not mark.exists() or mark.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true}')
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps", f"--before={DAY}"]
        install("npm", "install", *options, *PACKAGES, folder=folder, seconds=seconds)
        mark.write_text(wanted)
    return Path(shutil.copy(SCRIPT, folder))


async def use(script: Path, folder: Path) -> bool:
    async with serving(folder / "home") as served:
        command = ["node", str(script), served.url, "0x" + USER.secret.hex(), "0x" + USER.account.hex()]
        with trio.fail_after(SECONDS):
            done = await trio.run_process(command, capture_stdout=True)
    said = json.loads(done.stdout)
    for name, value in said.items():
        print(f"{name:<12} {json.dumps(value)}")
    return said["status"] == "confirmed" and not said["failed"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--patience", type=float, default=INSTALL_SECONDS, help="seconds for npm, at most (default: %(default)s)"
    )
    options = parser.parse_args()
    try:
        script = fetch(options.patience)
    except NotInstalled as error:
        print(f"nothing was tried, npm cannot fetch it: {error}", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="flock-metamask-") as folder:
        return 0 if trio.run(use, script, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
