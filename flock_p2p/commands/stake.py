"""`stake`: what a running peer has at stake in consensus, and orders to change it."""

import argparse
import json
import time
from typing import Any

from flock_chain.errors import Misuse
from flock_p2p.cli import parse_coins
from flock_peers.control import request_control
from flock_peers.home import Home

AMOUNTS = ("add", "remove", "admit")  # take --amount


def run(arguments: argparse.Namespace) -> int:
    action = arguments.action
    if (action in AMOUNTS) != (arguments.amount is not None) or (action == "admit") != (arguments.account is not None):
        raise Misuse(f"stake: {', '.join(AMOUNTS)} take --amount COINS; admit takes --account ACCOUNT too")
    path = Home(arguments.home).control_path
    params: dict[str, Any] = {"action": action}
    if arguments.amount is not None:
        params["amount"] = str(parse_coins(arguments.amount))
    if arguments.account is not None:
        params["account"] = arguments.account
    answer = request_control(path, "stake", **params)
    if action != "status":
        print("sent; it is final in a moment" if answer["sent"] else "the same order is under way already")
        time.sleep(arguments.wait)
        answer = request_control(path, "stake", action="status")
    print(json.dumps(answer, indent=2) if arguments.json else format_stake(answer))
    return 0


def format_stake(row: dict[str, Any]) -> str:
    coins = {name: f"{int(row[name]) / 1e18:.4f}" for name in ("stake", "serving_weight", "next_weight", "unbonding")}
    lines = [
        f"account    {row['account']}",
        f"stake      {coins['stake']} coins, {coins['unbonding']} more unbonding",
        f"weight     {coins['serving_weight']} in epoch {row['epoch']}, {coins['next_weight']} in the next",
        f"set        {row['validators']} validators; the epoch began at height {row['first_height']}",
        f"missed     {row['missed']} of the last 100 heights",
    ]
    if not row["open_staking"]:
        lines.append(f"granted    {int(row['granted_weight']) / 1e18:.4f}: here two thirds of the set grant weight")
    if int(row["unbonding"]):
        free = row["release_at"]
        when = "when it secures no set any more" if free is None else f"in {max(0, free - row['chain_time'])} s"
        lines.append(f"withdraw   {when}, of chain time")
    if row["tombstoned_at"]:
        lines.append("convicted  this key signed against itself; it is never a validator again")
    elif row["jailed_until"]:
        wait = max(0, row["jailed_until"] - row["chain_time"])
        lines.append(f"jailed     for absence; `stake unjail` is possible in {wait} s of chain time")
    return "\n".join(lines)
