"""hivemind's averager on a tensor of 2.16 MB, each peer a process with a DHT of its own: what a round's averaging alone
takes. Installed into an environment of its own; nothing is committed to, voted on or checked there.

A group starts as soon as it is whole. Its times for matchmaking are longer here than by default (5 and 3 s), with which
eight peers on two cores found none within 300 s.
"""

import json
import os
import statistics
import subprocess
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from loopback import count_bytes
from private_venv import open_venv
from sessions import end_session

PACKAGES = ("torch==2.13.0", "hivemind==1.1.12")
LIMIT_SECONDS = 300.0
POLL_SECONDS = 0.1
AVERAGE = """
import json, sys, time
from pathlib import Path
import torch, hivemind

number, peers, rounds, place = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
began = time.time()
known = json.loads((place / "address").read_text()) if number else []
dht = hivemind.DHT(initial_peers=known, start=True)
joined = time.time()
averager = hivemind.averaging.DecentralizedAverager(
    [torch.full((540_000,), float(number))], dht, prefix="rounds", start=True, target_group_size=peers,
    min_group_size=peers, min_matchmaking_time=30.0, request_timeout=10.0,
)
if not number:
    (place / "address.new").write_text(json.dumps([str(one) for one in dht.get_visible_maddrs()]))
    (place / "address.new").rename(place / "address")
times, turn = [], 0
while len(times) <= rounds:
    (place / f"ready-{turn}-{number}").touch()
    while not all((place / f"ready-{turn}-{one}").exists() for one in range(peers)):
        time.sleep(0.002)
    at = time.time()
    if averager.step(timeout=120, allow_retries=True) is None:
        raise SystemExit("no group")
    times.append(time.time() - at)
    turn += 1
(place / f"times-{number}.new").write_text(json.dumps({"times": times, "join": joined - began}))
(place / f"times-{number}.new").rename(place / f"times-{number}")
time.sleep(3600)
"""


class Hivemind:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places = count()
        self._programs = open_venv("hivemind", PACKAGES)

    def measure(self, peers: int, rounds: int) -> dict[str, Any]:
        """The first averaging is left out; a round is as long as its slowest peer's."""
        place = self._folder / f"{peers}-{next(self._places)}"  # a repeat finds nothing of the one before
        place.mkdir(parents=True)
        before = count_bytes()
        with ExitStack() as stack:
            for number in range(peers):
                if number:
                    _wait_for(place, "address")
                with (place / "output.log").open("ab") as log:
                    command = [str(self._programs / "python"), "-c", AVERAGE, *map(str, (number, peers, rounds, place))]
                    process = subprocess.Popen(
                        command, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                        env=os.environ | {"OMP_NUM_THREADS": "1"},
                    )  # fmt: skip
                stack.callback(end_session, process)
            rows = [json.loads(_wait_for(place, f"times-{number}")) for number in range(peers)]
        seconds = [max(times) for times in zip(*(row["times"] for row in rows), strict=True)][1:]
        return {
            "peers": peers,
            "rounds": [round(value, 3) for value in seconds],
            "seconds": round(statistics.median(seconds), 3),
            "bytes_per_peer_and_round": round((count_bytes() - before) / peers / (rounds + 1)),
            "join_seconds": round(statistics.median(row["join"] for row in rows), 2),
        }


def _wait_for(place: Path, name: str) -> str:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if (place / name).exists():
            return (place / name).read_text()
        time.sleep(POLL_SECONDS)
    tail = (place / "output.log").read_text(errors="replace").strip()[-300:]
    raise TimeoutError(f"hivemind: no {name} within {LIMIT_SECONDS:.0f} s: {tail}")
