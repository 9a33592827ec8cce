"""`send`: coins from a running peer's account to another one."""

import argparse
import json
import sys
import time
from typing import Any

from flock_p2p.cli import parse_account, parse_coins
from flock_peers.coins import count_coins
from flock_peers.control import request_control
from flock_peers.home import Home

POLL_SECONDS = 0.3


def run(arguments: argparse.Namespace) -> int:
    path = Home(arguments.home).control_path
    params: dict[str, Any] = {
        "to": "0x" + parse_account(arguments.to).hex(),
        "amount": str(parse_coins(arguments.amount)),
    }
    answer = request_control(path, "send", **params)
    said = "sent" if answer["sent"] else "the same transfer is under way already"
    deadline = time.monotonic() + arguments.wait
    while (answer := request_control(path, "sent", **params))["under_way"] and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    said += "; not final yet" if answer["under_way"] else "; it is final"
    print(said, file=sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        print(json.dumps(answer, indent=2))
    else:
        print(f"to         {params['to']}: {count_coins(int(answer['their_balance']))}")
        print(f"left       {count_coins(int(answer['balance']))}")
    return 0
