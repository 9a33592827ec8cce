"""`stake`: what a running peer has at stake in consensus, and orders to change it."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flock_chain.errors import Misuse
from flock_p2p.cli import parse_account, parse_coins
from flock_peers.coins import count_coins, format_exact
from flock_peers.control import request_control
from flock_peers.home import Home
from flock_peers.plural import plural

AMOUNTS = ("add", "remove", "admit", "terms", "delegate", "undelegate", "share")  # take --amount
DELEGATIONS = ("delegate", "undelegate", "withdraw-delegation", "claim-delegation", "share")  # with --account
ACCOUNTS = ("admit", "settle", *DELEGATIONS)  # take --account; so does status, for what is bonded there
CLAIMS = ("claim", "claim-delegation")
POLL_SECONDS = 0.3


def run(arguments: argparse.Namespace) -> int:
    action = arguments.action
    if action == "claim" and arguments.account is not None:
        action = "claim-delegation"  # which pays both
    _check(action, "--amount COINS", AMOUNTS, arguments.amount)
    if action != "status":
        _check(action, "--account ACCOUNT", ACCOUNTS, arguments.account)
    _check(action, "--commission BPS", ("terms",), arguments.commission)
    path = Home(arguments.home).control_path
    params: dict[str, Any] = {"action": action}
    if arguments.amount is not None:
        params["amount"] = str(parse_coins(arguments.amount))
    if arguments.account is not None:
        params["account"] = "0x" + parse_account(arguments.account).hex()
    if arguments.commission is not None:
        params["commission"] = arguments.commission
    due = _read_due(path, params) if action in CLAIMS else None
    answer = request_control(path, "stake", **params)
    if action != "status":
        said = "sent" if answer["sent"] else "the same order is under way already"
        named = {"account": params["account"]} if action in DELEGATIONS else {}
        if action == "terms":  # what it has set shows as the terms of its own account
            named = {"account": request_control(path, "stake", action="status")["account"]}
        answer = _wait(path, arguments.wait, named)
        said += "; not final yet: `stake` shows when it is" if answer["under_way"] else "; it is final"
        said += "" if due is None or answer["under_way"] else f", and paid {count_coins(due)}"
        print(said, file=sys.stderr if arguments.json else sys.stdout)
    print(json.dumps(answer, indent=2) if arguments.json else format_stake(answer))
    return 0


def _read_due(path: Path, params: dict[str, Any]) -> int:
    """What a claim pays: it asks for all that was earned until then."""
    row = request_control(path, "stake", **params | {"action": "status"})
    return int(row["reward"]) + int(row.get("delegation", {}).get("reward", 0))


def _check(action: str, option: str, actions: Sequence[str], value: object) -> None:
    if action in actions and value is None:
        raise Misuse(f"{action} needs {option}")
    if action not in actions and value is not None:
        raise Misuse(f"{action} takes no {option.split()[0]}; only {', '.join(actions)}")


def _wait(path: Path, seconds: float, named: dict[str, Any]) -> dict[str, Any]:
    """The status once what was ordered is final, or has had so long."""
    deadline = time.monotonic() + seconds
    while True:
        answer: dict[str, Any] = request_control(path, "stake", action="status", **named)
        if not answer["under_way"] or time.monotonic() > deadline:
            return answer
        time.sleep(POLL_SECONDS)


def format_stake(row: dict[str, Any]) -> str:
    names = ("stake", "serving_weight", "next_weight", "unbonding", "granted_weight", "reward")
    coins = {name: format_exact(int(row[name])) for name in names}
    lines = [
        f"account    {row['account']}",
        f"stake      {count_coins(int(row['stake']))}, {coins['unbonding']} more unbonding",
        f"weight     {coins['serving_weight']} in epoch {row['epoch']}, {coins['next_weight']} in the next",
        f"set        {plural(row['validators'], 'validator')}; the epoch began at height {row['first_height']}",
        f"missed     {row['missed']} of the last 100 heights",
    ]
    lines += _format_seat(row)
    if not row["open_staking"]:
        lines.append(f"granted    {coins['granted_weight']}: here two thirds of the set grant weight")
    if int(row["unbonding"]):
        lines.append(f"withdraw   {_format_free(row['release_at'], row['chain_time'])}")
    if int(row["reward"]):
        lines.append(f"reward     {count_coins(int(row['reward']))}; `stake claim` pays them out")
    if int(row["delegated"]):
        lines.append(f"delegated  {count_coins(int(row['delegated']))} of others, bonded with this validator")
    if "delegation" in row:
        named = row["delegation"]["validator"]
        lines += format_delegation(row["delegation"], row["chain_time"], is_own=named == row["account"])
    if row["tombstoned_at"]:
        lines.append("convicted  this key signed against itself; it is never a validator again")
    elif row["jailed_until"]:
        wait = max(0, row["jailed_until"] - row["chain_time"])
        lines.append(f"jailed     for absence; `stake unjail` is possible in {wait} s of chain time")
    return "\n".join(lines)


def _format_seat(row: dict[str, Any]) -> list[str]:
    """Of a stake that is too little for one: until when it lasts, what goes with it, and what brings it back."""
    stake, seat = int(row["stake"]), int(row.get("seat_stake", 0))  # 0: of a peer that an older release started
    serving, following = int(row["serving_weight"]), int(row["next_weight"])
    if stake >= seat or row["tombstoned_at"] or not (stake or serving or following):
        return []
    epoch, until, back = row["epoch"], "none", "gives it back two epochs later"
    if following:  # what others take out of the set may come first
        until = f"until epoch {epoch + 1} ends, at the earliest"
        back = f"before epoch {epoch} ends keeps it; after that it comes back two epochs later"
    elif serving:
        until = f"until epoch {epoch} ends"
    others = int(row["delegated"])
    idle = f"; {count_coins(others)} of others weigh nothing here either" if others else ""
    if int(row["unbonding"]):
        back += ", with other coins than those that unbond"
    if row["jailed_until"]:
        back += ", once `stake unjail` has ended its jail"
    if not row["open_staking"] and int(row["granted_weight"]) < seat:
        back += ", once two thirds of the set grant that weight"
    return [
        f"seat       {until}: it takes {count_coins(seat)} of the account's own, "
        f"{format_exact(seat - stake)} more than are bonded",
        f"without    no vote on blocks, admissions or rules, and no tips{idle}",
        f"back       `stake add --amount {format_exact(seat - stake)}` {back}",
    ]


def format_delegation(row: dict[str, Any], now: int, *, is_own: bool = False) -> list[str]:
    """What this account has with the validator that was named; of itself, what others may bond with it."""
    coins = {name: format_exact(int(row[name])) for name in ("leaving", "reward")}
    with_it = f"{count_coins(int(row['stake']))}, {coins['leaving']} more leaving, {coins['reward']} earned"
    terms = f"keeps {row['commission'] / 100:.2f} % of rewards, has room for {count_coins(int(row['room']))} more"
    lines = [f"own terms  {terms}"] if is_own else [f"with       {row['validator']}: {with_it}", f"its terms  {terms}"]
    if row["next_commission"] != row["commission"]:
        wait = max(0, row["next_commission_at"] - now)
        lines.append(f"from then  {row['next_commission'] / 100:.2f} %, in {wait} s of chain time")
    if int(row["leaving"]):
        lines.append(f"free       {_format_free(row['release_at'], now)}")
    return lines


def _format_free(at: int | None, now: int) -> str:
    return "when it secures no set any more" if at is None else f"in {max(0, at - now)} s of chain time"
